//! Control work: what an application asks of its engine through the control plane.

use nic_engine::engine::{Answer, ClientId, Refusal, Work};
use nic_kernels::Access;
use nic_shm::{Edge, FencedMemory, RacyMem};
use nic_wire::session::Geometry;
use nic_wire::{Rkey, Span};

use crate::session::AppSession;
use crate::world::{HostId, World};

impl World {
    /// Begins a piece of control work and returns its number.
    pub fn begin(&mut self, host: HostId, work: Work) -> u64 {
        self.next_work += 1;
        let (id, now) = (self.next_work, self.now());
        self.host(host).engine.control(now, id, work);
        self.host(host).woken = true;
        id
    }

    /// The answer to a piece of control work, if it has come.
    pub fn answer(&mut self, host: HostId, id: u64) -> Option<Answer> {
        let host = self.host(host);
        while let Some(answered) = host.engine.next_answer() {
            host.answers.push((answered.id, answered.answer));
        }
        let place = host.answers.iter().position(|(answered, _)| *answered == id)?;
        Some(host.answers.remove(place).1)
    }

    /// Has control work done and waits for the answer.
    pub fn control(&mut self, host: HostId, work: Work) -> Answer {
        let what = format!("{work:?}");
        let id = self.begin(host, work);
        let mut answer = None;
        self.run_until(&what, Span::from_ms(10_000), |world| {
            answer = answer.take().or_else(|| world.answer(host, id));
            answer.is_some()
        });
        answer.expect("run_until returns only with an answer")
    }

    /// Has control work done that must be refused.
    pub fn refused(&mut self, host: HostId, work: Work) -> Refusal {
        match self.control(host, work) {
            Answer::Refused(refusal) => refusal,
            other => panic!("{other:?} where a refusal was expected"),
        }
    }

    /// Has control work done that ends without a result.
    pub fn released(&mut self, host: HostId, work: Work) {
        match self.control(host, work) {
            Answer::Released(_) => {}
            other => panic!("{other:?} where Released was expected"),
        }
    }

    /// Connects an application.
    pub fn add_client(&mut self, host: HostId) -> ClientId {
        match self.control(host, Work::AddClient) {
            Answer::Client(client) => client,
            other => panic!("{other:?} where a client was expected"),
        }
    }

    /// Registers a memory as a region with base 0.
    pub fn register(&mut self, host: HostId, client: ClientId, memory: &RacyMem) -> u8 {
        match self.control(host, Work::Register { client, memory: memory.clone(), base: 0 }) {
            Answer::Region(region) => region,
            other => panic!("{other:?} where a region was expected"),
        }
    }

    /// Exports a region.
    pub fn export(
        &mut self,
        host: HostId,
        client: ClientId,
        region: u8,
        access: Access,
        follow: &[u8],
    ) -> Rkey {
        // Any number does where nobody guesses.
        let secret = 0x5ec2_e700_0000_0000 | self.next_work;
        let follow = follow.to_vec();
        match self.control(host, Work::Export { client, region, access, follow, secret }) {
            Answer::Exported(rkey) => rkey,
            other => panic!("{other:?} where an rkey was expected"),
        }
    }

    /// Registers and exports new memory. The application keeps the handle that is returned.
    pub fn exported_region(
        &mut self,
        host: HostId,
        client: ClientId,
        bytes: u64,
        access: Access,
    ) -> (RacyMem, Rkey) {
        let memory = fenced(bytes);
        let region = self.register(host, client, &memory);
        (memory, self.export(host, client, region, access, &[]))
    }

    /// Opens a session of an application.
    pub fn open_session(
        &mut self,
        host: HostId,
        client: ClientId,
        geometry: Geometry,
    ) -> AppSession {
        let total = geometry.places().unwrap().total;
        let memory = fenced(total);
        let work = Work::OpenSession { client, memory: memory.clone(), geometry, bells: None };
        match self.control(host, work) {
            Answer::Session(id) => AppSession::new(host, client, id, memory, geometry),
            other => panic!("{other:?} where a session was expected"),
        }
    }

    /// Opens a session of an application of its own.
    pub fn add_session(&mut self, host: HostId, geometry: Geometry) -> AppSession {
        let client = self.add_client(host);
        self.open_session(host, client, geometry)
    }

    /// Ends a session.
    pub fn close_session(&mut self, session: &AppSession) {
        let work = Work::CloseSession { client: session.client, session: session.id };
        self.released(session.host, work);
    }

    /// Opens a way from a session to a region of another host.
    pub fn connect(&mut self, session: &AppSession, target: HostId, rkey: Rkey) -> u16 {
        match self.control(session.host, self.connect_work(session, target, rkey)) {
            Answer::Connected(remote) => remote,
            other => panic!("{other:?} where a remote was expected"),
        }
    }

    /// The work that [`World::connect`] has done.
    pub fn connect_work(&self, session: &AppSession, target: HostId, rkey: Rkey) -> Work {
        let (client, session) = (session.client, session.id);
        Work::Connect { client, session, engine: self.address(target), rkey }
    }

    /// Ends an export and waits until nothing works under it any more.
    pub fn revoke(&mut self, host: HostId, client: ClientId, rkey: Rkey) {
        self.released(host, revoke_work(client, rkey));
    }
}

/// The work that [`World::revoke`] has done.
pub fn revoke_work(client: ClientId, rkey: Rkey) -> Work {
    Work::Revoke { client, export: rkey.export.get(), generation: rkey.generation.get() }
}

/// New memory whose last byte borders on a page that faults: no engine of any test reads or writes
/// a byte too many. Regions begin at multiples of 16.
pub fn fenced(bytes: u64) -> RacyMem {
    let edge = if bytes.is_multiple_of(16) { Edge::End } else { Edge::Start };
    FencedMemory::new(bytes, edge).expect("the machine has memory").memory()
}
