//! The application that owns an engine's regions and serves its calls.

use nic_engine::engine::{Answer, ClientId, Work};
use nic_kernels::Access;
use nic_ports::Random;
use nic_tests::{AppSession, HostId, Served, World, revoke_work};
use nic_wire::session::{Geometry, ReceiveFlags};
use nic_wire::{Rkey, Span, Status, Time};

use crate::deeds::SERVICE;
use crate::oracle::calls::{self, Calls};
use crate::oracle::{ENTRIES_REGION, Lookups, Region};

/// The right to a region.
#[derive(Clone, Copy, Debug)]
pub enum Right {
    Given(Rkey),
    /// This piece of work takes it back.
    Ending(u64),
    Ended,
}

/// See the module's description.
pub struct Owner {
    host: HostId,
    pub client: ClientId,
    server: AppSession,
    /// Calls that are answered later.
    slow: Vec<(Time, Served, Status)>,
    region: Option<u8>,
    /// The right to the plain region.
    pub plain: Right,
    /// The right to the table.
    pub table: Rkey,
}

impl Owner {
    /// Registers, exports and serves.
    pub fn start(world: &mut World, host: HostId, region: &Region, lookups: &Lookups) -> Self {
        let client = world.add_client(host);
        let plain = world.register(host, client, &region.memory);
        let index = world.register(host, client, &lookups.index);
        let entries = world.register(host, client, &lookups.entries);
        assert_eq!(entries, ENTRIES_REGION, "the table's header names the entries' region");
        let geometry = Geometry {
            depth: 8,
            arena_bytes: 4096,
            receive_buffers: 8,
            receive_buffer_bytes: 1024,
        };
        let server = world.open_session(host, client, geometry);
        world.released(host, Work::Serve { client, session: server.id, service: SERVICE });
        let right = world.export(host, client, plain, Access::all(), &[]);
        let table = world.export(host, client, index, Access::READ, &[entries]);
        let (region, plain) = (Some(plain), Right::Given(right));
        Owner { host, client, server, slow: Vec::new(), region, plain, table }
    }

    /// Takes calls and answers them, some later than others.
    pub fn serve(&mut self, random: &mut Random, patient: bool, calls: &mut Calls, now: Time) {
        for call in self.server.calls() {
            // Word that a caller has died is no call, and one that is in hand is answered all the same.
            if call.slot.flags.get() == ReceiveFlags::CANCELLED.bits() {
                continue;
            }
            calls.deliver(&call.request, now);
            let status = if random.below(20) == 0 { Status::ServiceFailed } else { Status::Ok };
            let delay = match random.below(10) {
                0 if !patient => Span::from_ms(20),
                0..3 => Span::from_ns(random.below(100_000)),
                _ => Span::ZERO,
            };
            self.slow.push((now + delay, call, status));
        }
        let Owner { slow, server, .. } = self;
        slow.retain(|(due, call, status)| {
            if *due <= now {
                server.answer(call, *status, &calls::answer(&call.request));
            }
            *due > now
        });
    }

    /// When the next call is answered.
    pub fn due(&self) -> Time {
        self.slow.iter().map(|(due, ..)| *due).min().unwrap_or(Time::NEVER)
    }

    /// Begins to take the right to the plain region back.
    pub fn revoke(&mut self, world: &mut World) {
        if let Right::Given(rkey) = self.plain {
            self.plain = Right::Ending(world.begin(self.host, revoke_work(self.client, rkey)));
        }
    }

    /// Gives the plain region up; the right to it ends with it.
    pub fn deregister(&mut self, world: &mut World) {
        if let (Right::Given(_), Some(region)) = (self.plain, self.region.take()) {
            let work = Work::Deregister { client: self.client, region };
            self.plain = Right::Ending(world.begin(self.host, work));
        }
    }

    /// Looks whether the right to the plain region has ended.
    pub fn settle(&mut self, world: &mut World, region: &mut Region) {
        let Right::Ending(id) = self.plain else { return };
        match world.answer(self.host, id) {
            None => {}
            Some(Answer::Released(_)) => {
                self.plain = Right::Ended;
                region.freeze();
            }
            Some(other) => panic!("{other:?} where a right was to end"),
        }
    }

    /// Gives a right to the plain region again, when the former has ended.
    pub fn export(&mut self, world: &mut World, region: &mut Region) {
        region.thaw();
        let number = match self.region {
            Some(number) => number,
            None => world.register(self.host, self.client, &region.memory),
        };
        self.region = Some(number);
        let all = Access::all();
        self.plain = Right::Given(world.export(self.host, self.client, number, all, &[]));
    }
}
