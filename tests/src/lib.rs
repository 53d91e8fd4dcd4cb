//! Whole-system tests.
//!
//! The library is what the tests share: a [`World`] of engines on the simulated network, the
//! application's side of a session ([`AppSession`]), and a peer that breaks the rules ([`Rogue`]).
//! Nothing here sleeps or reads a clock: time is the simulator's, and a seed decides all that
//! chance decides, so a failing run can be run again.
//!
//! ```
//! use nic_kernels::Access;
//! use nic_tests::{Ask, World, small_session};
//!
//! let mut world = World::new(1);
//! let (initiator, target) = (world.add_host(), world.add_host());
//! let owner = world.add_client(target);
//! let (memory, rkey) = world.exported_region(target, owner, 4096, Access::all());
//! let mut session = world.add_session(initiator, small_session());
//! let remote = world.connect(&session, target, rkey);
//! let done = world.run(&mut session, &Ask::write(remote, 64, b"apple"));
//! assert!(done.is_ok());
//! let mut stored = [0; 5];
//! memory.read(64, &mut stored)?;
//! assert_eq!(&stored, b"apple");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// What tests share fails like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ask;
pub mod children;
mod control;
pub mod counting_allocator;
pub mod messages;
pub mod namespaces;
mod port;
pub mod racing;
mod rogue;
pub mod sample;
mod seeds;
mod session;
pub mod system_call_trap;
pub mod watched_port;
pub mod wire;
mod world;

pub use ask::Ask;
pub use control::{fenced, revoke_work};
pub use port::{Misdirection, TestPort};
pub use rogue::{Rogue, request_frame};
pub use seeds::{OnFailure, under_seeds};
pub use session::{AppSession, Done, Served, small_session};
pub use world::{HostId, SimHost, World, small_engine};
