//! Control work, carried out between turns' packets.

use std::net::SocketAddr;

use nic_kernels::KernelSet;
use nic_kernels::mapped::{Backing, ControlError, DomainId};
use nic_shm::RacyMem;
use nic_transport::ConnectError;
use nic_wire::session::{Geometry, REMOTES_MAX};
use nic_wire::{Rkey, Status};

use super::core::{Client, Core, Parked};
use super::links::LinkState;
use super::remotes::Remote;
use super::session::{Session, SessionError};
use super::work::{Answer, Answered, Bells, ClientId, Refusal, Released, SessionParts, Work};

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        Refusal::new(Status::BadCommand, error.to_string())
    }
}

/// Flows that are being opened for one application at a time. An engine that does not answer takes a
/// flow until the attempt is given up, and whoever opens ways need not wait for that.
const OPENING_MAX: usize = 8;

/// Work that is not done, and what came with it: the engine unmaps and closes nothing.
struct Refused {
    refusal: Refusal,
    returned: Vec<Released>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Refused { refusal, returned: Vec::new() }
    }
}

impl<K: KernelSet> Core<K> {
    /// Begins a piece of work; its answer comes now or later.
    pub(super) fn control(&mut self, id: u64, work: Work) {
        let answer = self.carry_out(id, work);
        match answer {
            Ok(None) => {}
            Ok(Some(answer)) => self.answers.push_back(Answered::new(id, answer)),
            Err(Refused { refusal, returned }) => {
                self.answers.push_back(Answered { id, answer: Answer::Refused(refusal), returned });
            }
        }
    }

    fn carry_out(&mut self, id: u64, work: Work) -> Result<Option<Answer>, Refused> {
        let answer = match work {
            Work::AddClient => self.add_client().map(Some),
            Work::RemoveClient { client } => self.remove_client(client),
            Work::OpenSession { client, memory, geometry, bells } => {
                return self.open_session(client, memory, geometry, bells).map(Some);
            }
            Work::CloseSession { client, session } => self.close_session(client, session).map(Some),
            Work::Register { client, memory, base } => {
                return self.register(client, memory, base, None).map(Some);
            }
            Work::RegisterBacked { client, memory, base, backing } => {
                return self.register(client, memory, base, Some(backing)).map(Some);
            }
            Work::Deregister { client, region } => self.deregister(client, region).map(Some),
            Work::Export { client, region, access, follow, secret } => self
                .domain(client)
                .and_then(|domain| {
                    Ok(self.memory.export(domain, region, access, &follow, secret)?)
                })
                .map(|rkey| Some(Answer::Exported(rkey))),
            Work::Revoke { client, export, generation } => {
                self.revoke(id, client, export, generation)
            }
            Work::Serve { client, session, service } => {
                self.serve(client, session, service).map(Some)
            }
            Work::Connect { client, session, engine, rkey } => {
                self.connect(Some(id), client, session, engine, rkey)
            }
            Work::Way { client, session, engine, rkey } => {
                self.connect(None, client, session, engine, rkey)
            }
            Work::Disconnect { client, session, remotes } => {
                self.disconnect(client, session, &remotes).map(Some)
            }
            Work::Drain { until } => {
                self.begin_drain(id, until);
                Ok(None)
            }
            Work::Look { mut live } => {
                self.look(&mut live);
                Ok(Some(Answer::Seen(live)))
            }
        };
        Ok(answer?)
    }

    fn add_client(&mut self) -> Result<Answer, Refusal> {
        let vacant = self.clients.iter().position(Option::is_none);
        let slot = vacant.ok_or_else(|| {
            let limit = self.clients.len();
            Refusal::new(Status::Busy, format!("{limit} applications are connected, the most that this engine takes; raise engine.clients"))
        })?;
        let domain = self.memory.add_domain()?;
        self.clients[slot] = Some(Client { domain, services: Vec::new() });
        Ok(Answer::Client(ClientId(slot as u16)))
    }

    fn client(&mut self, client: ClientId) -> Result<&mut Client, Refusal> {
        let found = self.clients.get_mut(usize::from(client.0)).and_then(Option::as_mut);
        found.ok_or_else(|| Refusal::new(Status::BadCommand, "this application is not connected"))
    }

    fn domain(&mut self, client: ClientId) -> Result<DomainId, Refusal> {
        Ok(self.client(client)?.domain)
    }

    fn session(&mut self, client: ClientId, session: u32) -> Result<&mut Session, Refusal> {
        let found = self.sessions.get_mut(session as usize).and_then(Option::as_deref_mut);
        found.filter(|session| session.client == client.0).ok_or_else(|| {
            Refusal::new(Status::BadCommand, format!("session {session} is not one of yours"))
        })
    }

    fn remove_client(&mut self, client: ClientId) -> Result<Option<Answer>, Refusal> {
        let domain = self.domain(client)?;
        let mut released = Vec::new();
        for slot in 0..self.sessions.len() as u32 {
            if self.session(client, slot).is_ok()
                && let Answer::Released(parts) = self.close_session(client, slot)?
            {
                released.extend(parts);
            }
        }
        for region in 0..=u8::MAX {
            if self.memory.region(domain, region).is_ok() {
                released.extend(self.release(domain, region)?);
            }
        }
        self.memory.remove_domain(domain)?;
        self.executor.release_revoked(&mut self.memory);
        self.clients[usize::from(client.0)] = None;
        Ok(Some(Answer::Released(released)))
    }

    fn open_session(
        &mut self,
        client: ClientId,
        memory: RacyMem,
        geometry: Geometry,
        bells: Option<Bells>,
    ) -> Result<Answer, Refused> {
        let opened = self.session_place(client).and_then(|slot| {
            let session = Session::format(client.0, &memory, geometry);
            let refused = |error: SessionError| Refusal::new(Status::BadCommand, error.to_string());
            Ok((slot, session.map_err(refused)?))
        });
        let (slot, session) = match opened {
            Ok(opened) => opened,
            Err(refusal) => {
                let bells = bells.map(Released::Bells);
                let returned = bells.into_iter().chain([Released::Memory(memory)]).collect();
                return Err(Refused { refusal, returned });
            }
        };
        self.sessions[slot] = Some(Box::new(session.with_bells(bells)));
        self.open_sessions.push(slot as u16);
        Ok(Answer::Session(slot as u32))
    }

    /// Where a new session can be.
    fn session_place(&mut self, client: ClientId) -> Result<usize, Refusal> {
        self.client(client)?;
        let vacant = self.sessions.iter().position(Option::is_none);
        vacant.ok_or_else(|| {
            let limit = self.sessions.len();
            Refusal::new(Status::Busy, format!("{limit} sessions are open, the most that this engine takes; close some or raise engine.sessions"))
        })
    }

    fn close_session(&mut self, client: ClientId, session: u32) -> Result<Answer, Refusal> {
        self.session(client, session)?;
        let slot = session as u16;
        self.drop_connects_of_session(session);
        self.drop_ops_of_session(slot);
        self.fail_calls_of_session(slot);
        self.client(client)?.services.retain(|(_, serving)| *serving != slot);
        self.open_sessions.retain(|open| *open != slot);
        self.dirty_sessions.retain(|dirty| *dirty != slot);
        let closed = self.sessions[usize::from(slot)].take();
        let parts = closed.map(|session| Released::Session(SessionParts(session)));
        Ok(Answer::Released(parts.into_iter().collect()))
    }

    fn register(
        &mut self,
        client: ClientId,
        memory: RacyMem,
        base: u64,
        backing: Option<Box<dyn Backing>>,
    ) -> Result<Answer, Refused> {
        // Another handle, so that refusing it unmaps nothing here.
        let handle = memory.clone();
        let registered = self.domain(client).and_then(|domain| {
            let region = self.memory.register(domain, memory, base)?;
            Ok((domain, region))
        });
        match (registered, backing) {
            (Ok((_, region)), None) => Ok(Answer::Region(region)),
            (Ok((domain, region)), Some(backing)) => {
                // It was registered just now.
                self.memory.back(domain, region, backing).map_err(Refusal::from)?;
                Ok(Answer::Region(region))
            }
            (Err(refusal), backing) => {
                let backing = backing.map(Released::Backing);
                let returned = backing.into_iter().chain([Released::Memory(handle)]).collect();
                Err(Refused { refusal, returned })
            }
        }
    }

    fn deregister(&mut self, client: ClientId, region: u8) -> Result<Answer, Refusal> {
        let domain = self.domain(client)?;
        let released = self.release(domain, region)?;
        self.executor.release_revoked(&mut self.memory);
        Ok(Answer::Released(released))
    }

    /// Takes a region from everyone; what it was made of is the asker's to drop.
    fn release(&mut self, domain: DomainId, region: u8) -> Result<Vec<Released>, Refusal> {
        let backing = self.memory.unback(domain, region).map(Released::Backing);
        let memory = Released::Memory(self.memory.deregister(domain, region)?);
        Ok(backing.into_iter().chain([memory]).collect())
    }

    fn revoke(
        &mut self,
        id: u64,
        client: ClientId,
        export: u16,
        generation: u16,
    ) -> Result<Option<Answer>, Refusal> {
        let domain = self.domain(client)?;
        if self.memory.domain_of(export) != Some(domain) {
            let reason = format!("export {export:04x}.{generation:04x} is not one of yours");
            return Err(Refusal::new(Status::BadRkey, reason));
        }
        self.memory.revoke(export, generation)?;
        // Replies that were ready to be sent and ops that wait for payload give the region up, and
        // end as revoked.
        self.executor.release_revoked(&mut self.memory);
        if self.memory.holds(export, generation) == 0 {
            return Ok(Some(Answer::Released(Vec::new())));
        }
        self.parked.push(Parked::Revoke { id, export, generation, released: Vec::new() });
        Ok(None)
    }

    fn serve(&mut self, client: ClientId, session: u32, service: u16) -> Result<Answer, Refusal> {
        if self.session(client, session)?.answer_bytes_max() == 0 {
            let reason = "a session that serves calls needs receive buffers; open it with some";
            return Err(Refusal::new(Status::BadCommand, reason));
        }
        let services = &mut self.client(client)?.services;
        if services.iter().any(|(number, _)| *number == service) {
            let reason = format!("service {service} is already served by a session of yours");
            return Err(Refusal::new(Status::BadCommand, reason));
        }
        services.push((service, session as u16));
        Ok(Answer::Released(Vec::new()))
    }

    /// Opens a way. Without an `id` nobody waits for its flow.
    fn connect(
        &mut self,
        id: Option<u64>,
        client: ClientId,
        session: u32,
        engine: SocketAddr,
        rkey: Rkey,
    ) -> Result<Option<Answer>, Refusal> {
        self.session(client, session)?;
        let link = self.link_to(engine, client.0);
        let link = link.map_err(|status| self.no_flow(engine, client.0, status))?;
        let epoch = self.links[usize::from(link)].epoch;
        let remote = Remote { engine, link, epoch, rkey };
        let remote = self.session(client, session)?.remotes.open(remote).ok_or_else(|| {
            let reason = format!(
                "{REMOTES_MAX} ways to other hosts are open, the most that a session has; \
                 drop some, or open another session"
            );
            Refusal::new(Status::Busy, reason)
        })?;
        match id {
            Some(id) if self.links[usize::from(link)].state != LinkState::Open => {
                self.parked.push(Parked::Connect { id, session, link, remote });
                Ok(None)
            }
            _ => Ok(Some(Answer::Connected(remote))),
        }
    }

    fn disconnect(
        &mut self,
        client: ClientId,
        session: u32,
        remotes: &[u16],
    ) -> Result<Answer, Refusal> {
        let open = &mut self.session(client, session)?.remotes;
        // All that can be closed are closed, whatever else is named.
        let unknown = remotes.iter().filter(|remote| !open.close(**remote)).count();
        if unknown > 0 {
            let reason = format!("{unknown} of {} ways are none of that session's", remotes.len());
            return Err(Refusal::new(Status::BadCommand, reason));
        }
        Ok(Answer::Released(Vec::new()))
    }

    fn no_flow(&self, engine: SocketAddr, client: u16, status: Status) -> Refusal {
        let reason = match status {
            Status::Busy if self.opening_for(client) >= OPENING_MAX => format!(
                "no flow to {engine}: {OPENING_MAX} flows of this application are being opened; \
                 try again when they are open"
            ),
            Status::Busy => format!(
                "no flow to {engine}: all {} are in use; close some or raise engine.flows",
                self.config.flows
            ),
            status => format!("no flow to {engine}: {status}"),
        };
        Refusal::new(status, reason)
    }

    /// How many flows are being opened for an application.
    fn opening_for(&self, client: u16) -> usize {
        let opened_for = self.links.iter().zip(&self.opened_for);
        opened_for.filter(|(link, by)| link.state == LinkState::Opening && **by == client).count()
    }

    /// The link on which this engine issues ops to `engine`, opened for an application if there is
    /// none.
    fn link_to(&mut self, engine: SocketAddr, client: u16) -> Result<u16, Status> {
        if let Some(found) = self.links.iter().position(|link| link.leads_to(engine)) {
            return Ok(found as u16);
        }
        if self.opening_for(client) >= OPENING_MAX {
            return Err(Status::Busy);
        }
        let opened = self.endpoint.connect(self.now, engine, None);
        let handle = opened.map_err(|error| match error {
            ConnectError::NoRoom { .. } => Status::Busy,
            ConnectError::NoAddress { .. } => Status::Unreachable,
        })?;
        let link = &mut self.links[usize::from(handle.slot())];
        link.begin(handle, true, engine);
        link.state = LinkState::Opening;
        link.since = self.now;
        self.opened_for[usize::from(handle.slot())] = client;
        Ok(handle.slot())
    }

    /// Opens the flow of a session's way anew.
    pub(super) fn reconnect(&mut self, session: u16, remote: u16) -> Result<u16, Status> {
        let slot = usize::from(session);
        let session = self.sessions[slot].as_ref().ok_or(Status::BadCommand)?;
        let engine = session.remotes.get(remote).ok_or(Status::BadCommand)?.engine;
        let link = self.link_to(engine, session.client)?;
        let epoch = self.links[usize::from(link)].epoch;
        let session = self.sessions[slot].as_mut();
        if let Some(way) = session.and_then(|session| session.remotes.get_mut(remote)) {
            (way.link, way.epoch) = (link, epoch);
        }
        Ok(link)
    }

    /// Answers the asks that waited for a flow. `failure`: why it did not open.
    pub(super) fn settle_connects(&mut self, flow: u16, failure: Option<(Status, &str)>) {
        let mut index = 0;
        while index < self.parked.len() {
            match self.parked[index] {
                Parked::Connect { id, session, link, remote } if link == flow => {
                    let answer = match failure {
                        None => Answer::Connected(remote),
                        Some((status, reason)) => {
                            // A way that leads nowhere is nobody's.
                            if let Some(session) = &mut self.sessions[session as usize] {
                                session.remotes.close(remote);
                            }
                            let asked = self.links[usize::from(flow)].asked;
                            Answer::Refused(Refusal::new(status, format!("{asked}: {reason}")))
                        }
                    };
                    self.answers.push_back(Answered::new(id, answer));
                    self.parked.swap_remove(index);
                }
                _ => index += 1,
            }
        }
    }

    /// Refuses what a closing session still waits for.
    fn drop_connects_of_session(&mut self, closing: u32) {
        let mut index = 0;
        while index < self.parked.len() {
            match self.parked[index] {
                Parked::Connect { id, session, .. } if session == closing => {
                    let refusal = Refusal::new(Status::Cancelled, "the session was closed");
                    self.answers.push_back(Answered::new(id, Answer::Refused(refusal)));
                    self.parked.swap_remove(index);
                }
                _ => index += 1,
            }
        }
    }

    /// Answers the revocations whose last access is over.
    pub(super) fn settle_revocations(&mut self) {
        let mut index = 0;
        while index < self.parked.len() {
            match &mut self.parked[index] {
                Parked::Revoke { id, export, generation, released }
                    if self.memory.holds(*export, *generation) == 0 =>
                {
                    let answer = Answer::Released(std::mem::take(released));
                    self.answers.push_back(Answered::new(*id, answer));
                    self.parked.swap_remove(index);
                }
                _ => index += 1,
            }
        }
    }
}
