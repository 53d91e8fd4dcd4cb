//! What applications link: memory on other machines, in a few microseconds, without anyone there
//! lifting a finger.
//!
//! A *target* application makes regions, exports them, and goes to sleep. An *initiator* opens a
//! session, connects it with the target's ticket, and issues operations; the engine beside the
//! memory executes each one to its end in one round trip.
//!
//! ```
//! use nic_host::{Access, BucketTable, Geometry, Identity, InlineConfig, Lookup, Nic, RemoteTable};
//!
//! // The target: a table that spans two regions.
//! let nic = Nic::inline(InlineConfig::default())?; // or Nic::connect(Endpoint::default())?
//! let geometry = Geometry::for_entries(1000);
//! let index = nic.region(geometry.index_bytes()).create()?;
//! let entries = nic.region(Geometry::entries_bytes(1000, 16, 64)).create()?;
//! let identity = Identity { entries_region: entries.number(), ..Identity::default() };
//! let mut table = BucketTable::format(index.memory(), entries.memory(), geometry, identity)?;
//! table.insert(b"apple", b"red")?;
//! let export = index.export(Access::READ.follow(&entries))?;
//! let ticket = export.ticket().to_string();
//!
//! // The initiator: here in the same process and on the same engine.
//! let session = nic.session().depth(64).open()?;
//! let table = RemoteTable::open(&session, &ticket.parse()?)?;
//! match session.run(table.scan_and_read(b"apple"))? {
//!     Lookup::Hit(entry) => assert_eq!(entry.value(), b"red"),
//!     other => panic!("{other:?}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The lowest layer is submit, poll and wait: [`Session::submit`] never blocks and hands the op
//! back when the session is full; [`Session::poll`] reports what is over; [`Session::wait`] sleeps
//! or spins. [`Session::run`] and [`Session::issue`] (a future) are made of these.
//!
//! Every op completes exactly once, by its deadline, with a [`Status`] and, if it failed, its
//! [`Fate`]: only [`Fate::Unknown`] is unsafe to issue again.
#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("nic-host needs Linux 5.14 or newer");

mod backing;
mod error;
#[cfg_attr(not(feature = "embedded"), path = "no_inline.rs")]
mod inline;
pub mod messages;
mod nic;
mod operation;
pub mod ops;
mod process;
mod region;
mod remote;
pub mod rpc;
mod session;
mod table;

pub use error::{NicError, OpError, OpPart, SubmitError};
#[cfg(feature = "embedded")]
pub use inline::InlineConfig;
pub use nic::{Endpoint, Nic};
pub use nic_kernels::append::Appended;
pub use nic_kernels::bucket_table::{BucketTable, Geometry, Identity};
pub use nic_kernels::log;
pub use nic_kernels::{
    BadArguments, HOME_REGION, Pointer, chain_append, chain_read, consistent_read, indirect_read,
    partition_write, prism, scan, sketch_write, traverse, version_chain,
};
pub use nic_shm::{PageKind, Pages, RacyMem};
pub use nic_wire::ticket::{BadTicket, Ticket};
pub use nic_wire::{Fate, KernelId, Status};
pub use operation::{Ask, DEFAULT_DEADLINE, Facts, Judgement, Op, Operation, Reply};
pub use region::{Access, Export, Region, RegionBuilder};
pub use remote::RemoteRegion;
pub use session::{
    Answer, Completions, Deferred, Done, Issued, Pending, ServeError, Session, SessionBuilder,
    Token, Wait,
};
pub use table::{
    Entry, KEY_MAX, Lookup, OpenError, RemoteTable, ScanAndRead, answer_for_owner, owner_answer,
    owner_value,
};
