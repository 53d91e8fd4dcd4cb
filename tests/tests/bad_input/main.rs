//! Bad input, from the network and from applications: each kind has its own status or counter, and
//! nobody else notices.

#![allow(clippy::unwrap_used, clippy::panic)]

mod commands;
mod edges;
mod frames;
mod fuzz;
mod growth;
mod packets;
mod peers;
mod recorded;
mod requests;
mod rings;
mod vandal;

use std::net::SocketAddr;

use nic_engine::engine::{ClientId, Counters};
use nic_kernels::Access;
use nic_shm::RacyMem;
use nic_tests::{AppSession, Ask, HostId, World};
use nic_wire::session::Geometry;
use nic_wire::{Rkey, Span};

const REGION_BYTES: u64 = 64 << 10;

/// An honest initiator and its target, which somebody else molests.
struct Scene {
    world: World,
    initiator: HostId,
    target: HostId,
    owner: ClientId,
    memory: RacyMem,
    rkey: Rkey,
    honest: AppSession,
    remote: u16,
    ops: u64,
}

const GEOMETRY: Geometry =
    Geometry { depth: 8, arena_bytes: 8 * 16384, receive_buffers: 0, receive_buffer_bytes: 0 };

impl Scene {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let (initiator, target) = (world.add_host(), world.add_host());
        let owner = world.add_client(target);
        let (memory, rkey) = world.exported_region(target, owner, REGION_BYTES, Access::all());
        let honest = world.add_session(initiator, GEOMETRY);
        let remote = world.connect(&honest, target, rkey);
        let ops = 0;
        let mut scene =
            Scene { world, initiator, target, owner, memory, rkey, honest, remote, ops };
        scene.nobody_noticed();
        scene
    }

    /// Ops of the honest session go on as ever.
    fn nobody_noticed(&mut self) {
        let add = self.world.run(&mut self.honest, &Ask::fetch_add(self.remote, 0, 1));
        assert!(add.is_ok(), "{:?}", add.ended());
        assert_eq!(add.word(), self.ops, "each op ran once");
        self.ops += 1;
        let bytes = [self.ops as u8; 3000];
        let asks =
            [Ask::write(self.remote, 4096, &bytes), Ask::read(self.remote, 4096, 3000).fenced()];
        for ask in &asks {
            self.honest.submit(ask);
        }
        let done = self.world.wait(&mut self.honest);
        assert!(done.iter().all(|done| done.is_ok()), "{done:?}");
        assert!(done.iter().any(|done| done.reply == bytes));
        // The last ack has left, too.
        self.world.run_for(Span::from_ms(1));
    }

    /// What changed in the target's counters during `work`.
    fn counted(&mut self, work: impl FnOnce(&mut Scene)) -> Counters {
        let before = self.world.counters(self.target).values();
        work(self);
        let mut after = self.world.counters(self.target).values();
        for (after, before) in after.iter_mut().zip(before) {
            // Gauges may fall.
            *after = after.wrapping_sub(before);
        }
        Counters::from_values(after)
    }

    /// All of the region's bytes that the honest session does not write.
    fn untouched_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; REGION_BYTES as usize - 8192];
        self.memory.read(8192, &mut bytes).unwrap();
        bytes
    }

    fn target_address(&self) -> SocketAddr {
        self.world.address(self.target)
    }
}

/// An address that no engine has.
fn stranger(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 9, 9, number], 4791))
}
