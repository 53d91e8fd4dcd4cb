//! Whole engines on the simulated network: what ops do, what they cost, in which order they run,
//! and how they end when something dies.
//!
//! Every test is a function of its seed. Those that leave something to chance run under several
//! and print the one that failed (`NIC_SEEDS=1000` runs so many more).

#![allow(clippy::unwrap_used, clippy::panic)]

mod calls;
mod cancels;
mod closings;
mod counts;
mod credits;
mod deadlines;
mod endings;
mod fairness;
mod fences;
mod lanes;
mod long_answers;
mod looks;
mod openings;
mod refusals;
mod relief;
mod revocations;
mod sizes;
mod streams;
mod tables;
mod ways;

use nic_kernels::Access;
use nic_shm::RacyMem;
use nic_tests::{AppSession, HostId, World, under_seeds};
use nic_wire::Rkey;
use nic_wire::session::Geometry;

/// An initiator with a session that has a way to a region of a target.
struct Pair {
    world: World,
    initiator: HostId,
    target: HostId,
    owner: nic_engine::engine::ClientId,
    memory: RacyMem,
    rkey: Rkey,
    session: AppSession,
    remote: u16,
}

impl Pair {
    /// Two hosts of a world, a region of `bytes` with all rights.
    fn new(world: World, bytes: u64, geometry: Geometry) -> Self {
        let mut world = world;
        let (initiator, target) = (world.add_host(), world.add_host());
        Pair::of(world, initiator, target, bytes, geometry)
    }

    /// The same between hosts that are there.
    fn of(
        mut world: World,
        initiator: HostId,
        target: HostId,
        bytes: u64,
        geometry: Geometry,
    ) -> Self {
        let owner = world.add_client(target);
        let (memory, rkey) = world.exported_region(target, owner, bytes, Access::all());
        let session = world.add_session(initiator, geometry);
        let remote = world.connect(&session, target, rkey);
        Pair { world, initiator, target, owner, memory, rkey, session, remote }
    }

    /// A word of the region.
    fn word(&self, address: u64) -> u64 {
        self.memory.load64(address).unwrap()
    }
}

/// `depth` ops with so much payload or reply each.
fn session_of(depth: u32, piece_bytes: u32) -> Geometry {
    let arena_bytes = depth * 2 * piece_bytes.next_multiple_of(4096);
    Geometry { depth, arena_bytes, receive_buffers: 0, receive_buffer_bytes: 0 }
}
