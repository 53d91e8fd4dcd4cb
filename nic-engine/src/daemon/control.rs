//! The control thread: applications' messages in, engines' answers out.

mod events;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nic_shm::{ControlListener, ControlSocket, Doorbell, Incoming};
use nic_wire::control::{self, ControlReply, ControlRequest, MAX_CONTROL_BYTES};
use nic_wire::session::LAYOUT_VERSION;

use super::Answers;
use super::admission::Admission;
use super::config::QuotaSettings;
use super::connection::{Change, Connection, Looking, NAME_CHARS_MAX, Waiting};
use super::crowding;
use super::drain::Draining;
use super::engine_thread::{EngineLink, Post};
use super::hardening::Hardening;
use super::quota::{Quotas, Usage};
use super::status;
use crate::engine::{Answer, Answered, Live, Refusal, Work};
use crate::flusher::FlushLine;
use crate::plane::{self, Outgoing};
use nic_wire::{Span, Status};

/// Connections that a daemon keeps at once.
const CONNECTIONS_MAX: usize = 4096;

/// Why the control loop ends.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The system call that waits failed.
    #[error("waiting for applications failed: {0}")]
    Wait(#[from] rustix::io::Errno),
}

/// Work on its way, by number.
struct Sent {
    id: u64,
    /// The connection that asked; none for the clean-up after one that is gone.
    connection: Option<usize>,
    /// What is no longer booked for a user when it is done.
    ends: Option<(u32, Usage)>,
}

/// The state of the control thread.
pub(super) struct Control {
    links: Vec<EngineLink>,
    addresses: Vec<SocketAddr>,
    descriptions: Vec<String>,
    answers: Answers,
    bell: Arc<Doorbell>,
    connections: Vec<Option<Connection>>,
    /// Work that waits for an engine's mailbox.
    queued: Vec<(usize, Post)>,
    sent: Vec<Sent>,
    next_id: u64,
    /// What its operator should know, told with the status.
    warnings: Vec<String>,
    admission: Admission,
    quotas: Quotas,
    /// How regions come to their files, by engine; none if they may not.
    pub(super) lines: Vec<FlushLine>,
    pub(super) draining: Draining,
    /// What the process has given up, if it is a daemon's.
    pub(super) hardening: Option<Hardening>,
    /// How long a drain may take.
    pub(super) drain_timeout: Duration,
}

impl Control {
    pub(super) fn new(
        links: Vec<EngineLink>,
        addresses: Vec<SocketAddr>,
        descriptions: Vec<String>,
        answers: Answers,
        bell: Arc<Doorbell>,
    ) -> Self {
        Control {
            links,
            addresses,
            descriptions,
            answers,
            bell,
            connections: Vec::new(),
            queued: Vec::new(),
            sent: Vec::new(),
            next_id: 0,
            warnings: Vec::new(),
            admission: Admission::default(),
            quotas: Quotas::new(&QuotaSettings::default()),
            lines: Vec::new(),
            draining: Draining::default(),
            hardening: None,
            drain_timeout: Duration::ZERO,
        }
    }

    /// Who is let in, and how much each user may have.
    pub(super) fn admit(&mut self, admission: Admission, quota: &QuotaSettings) {
        self.admission = admission;
        self.quotas = Quotas::new(quota);
    }

    /// What is told with the status from now on.
    pub(super) fn warn(&mut self, warnings: Vec<String>) {
        self.warnings.extend(warnings);
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What wakes an engine.
    pub(super) fn engine_bell(&self, engine: usize) -> Arc<Doorbell> {
        Arc::clone(&self.links[engine].bell)
    }

    pub(super) fn engines(&self) -> usize {
        self.links.len()
    }

    pub(super) fn wake_engines(&self) {
        for link in &self.links {
            let _ = link.bell.ring();
        }
    }

    /// Serves until `shutdown` asks for the end and the engines have come to theirs.
    pub(super) fn serve(
        &mut self,
        listener: Option<ControlListener>,
        connected: Vec<ControlSocket>,
        shutdown: BorrowedFd<'_>,
    ) -> Result<(), ControlError> {
        for socket in connected {
            // Whoever handed it over has decided. Where there is no user, nobody's quota is used.
            let user = socket.peer_credentials().map_or(u32::MAX, |peer| peer.uid);
            self.add(socket, Ok(user));
        }
        loop {
            let events = self.wait(listener.as_ref(), shutdown)?;
            if events.is_over && self.hear_shutdown(shutdown) {
                return Ok(());
            }
            let _ = self.bell.drain();
            while let Ok((engine, answered)) = self.answers.try_recv() {
                self.answered(engine, answered);
            }
            if self.draining.is_over() {
                return Ok(());
            }
            // The dead first: their places are given out again below.
            for index in events.dead {
                self.close(index);
            }
            if let (true, Some(listener)) = (events.wants_accept, &listener) {
                match listener.accept() {
                    Ok(Some(socket)) => {
                        let user = self.admission.admit(&socket);
                        self.add(socket, user);
                    }
                    Ok(None) => {}
                    Err(error) => self.accept_failed(&error),
                }
            }
            for index in events.messages {
                self.message(index);
            }
            self.post_queued();
        }
    }

    /// No descriptor was free, most likely: the application waits in the queue until one is.
    fn accept_failed(&self, error: &nic_shm::AcceptError) {
        tracing::warn!(%error, "an application cannot be taken now");
        std::thread::sleep(Duration::from_millis(10));
    }

    fn add(&mut self, socket: ControlSocket, user: Result<u32, Refusal>) {
        if self.connections.iter().flatten().count() >= CONNECTIONS_MAX {
            tracing::warn!(
                "{CONNECTIONS_MAX} applications are connected; one more was turned away"
            );
            return;
        }
        // A slow reader must not hold the control thread up.
        if let Err(error) = socket.set_nonblocking(true) {
            tracing::warn!(%error, "an application's socket cannot be used");
            return;
        }
        let connection = Connection::new(socket, user);
        match self.connections.iter().position(Option::is_none) {
            Some(vacant) => self.connections[vacant] = Some(connection),
            None => self.connections.push(Some(connection)),
        }
    }

    /// Reads one message of a connection, or its end.
    fn message(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        if connection.waiting.is_some() {
            // Only a hang-up is looked for meanwhile: what else it sent is of no use any more.
            return self.close(index);
        }
        let mut buffer = vec![0; MAX_CONTROL_BYTES];
        match connection.socket.receive(&mut buffer) {
            Ok(Incoming::Message { len, descriptors }) => match control::decode(&buffer[..len]) {
                Ok(request) => self.request(index, request, descriptors),
                Err(error) => {
                    let refusal = Refusal::new(Status::BadCommand, error.to_string());
                    self.send(index, &Outgoing::refused(&refusal));
                    self.close(index);
                }
            },
            Ok(Incoming::EndOfFile) => self.close(index),
            Ok(Incoming::Nothing) => {}
            Err(error) => {
                tracing::debug!(%error, "an application's connection broke");
                self.close(index);
            }
        }
    }

    fn request(&mut self, index: usize, request: ControlRequest, descriptors: Vec<OwnedFd>) {
        let refusal = self.connection(index).and_then(|one| one.user.as_ref().err().cloned());
        if let Some(refusal) = refusal {
            tracing::warn!(reason = refusal.reason, "an application was turned away");
            self.send(index, &Outgoing::refused(&refusal));
            return self.close(index);
        }
        if let Some(refusal) = self.refuses(&request) {
            return self.send(index, &Outgoing::refused(&refusal));
        }
        match request {
            ControlRequest::Hello { layout_version, name, engine } => {
                self.hello(index, layout_version, name, engine);
            }
            ControlRequest::Status => {
                let status = self.status();
                self.send(index, &status);
            }
            ControlRequest::Ops { older_than_us } => self.look(index, older_than_us),
            request => self.translate(index, request, descriptors),
        }
    }

    fn hello(&mut self, index: usize, layout: u32, name: String, engine: Option<u8>) {
        let engine = match engine {
            Some(engine) => usize::from(engine),
            None => self.least_used_engine(),
        };
        let reason = if layout != LAYOUT_VERSION {
            format!(
                "the application speaks session layout {layout}, this engine {LAYOUT_VERSION}: use neighbouring releases of both"
            )
        } else if engine >= self.links.len() {
            format!("engine {engine} was asked for; this process has {}", self.links.len())
        } else if self.connection(index).is_some_and(|c| c.client.is_some()) {
            "hello was said already".to_owned()
        } else {
            let Some(connection) = self.connection(index) else { return };
            connection.name = name.chars().take(NAME_CHARS_MAX).collect();
            connection.engine = engine;
            connection.waiting = Some(Waiting::Hello);
            self.post(Some(index), engine, Work::AddClient, None);
            return;
        };
        let refusal = Refusal::new(Status::VersionMismatch, reason);
        self.send(index, &Outgoing::refused(&refusal));
    }

    /// Asks all engines what is live.
    fn look(&mut self, index: usize, older_than_us: u64) {
        let count = self.links.len();
        let Some(connection) = self.connection(index) else { return };
        if connection.client.is_none() {
            return self.send(index, &Outgoing::refused(&hello_first()));
        }
        let engines = (0..count).map(|_| None).collect();
        connection.waiting = Some(Waiting::Look(Looking { left: count, engines }));
        // Longer than an engine can have run is as good as for ever.
        let older_than = Span::from_us(older_than_us.min(u64::MAX / 1000));
        for engine in 0..count {
            let live = Box::new(Live::with_room(older_than));
            self.post(Some(index), engine, Work::Look { live }, None);
        }
    }

    fn translate(&mut self, index: usize, request: ControlRequest, descriptors: Vec<OwnedFd>) {
        let Some(connection) = &mut self.connections[index] else { return };
        let engine = connection.engine;
        let change = Change::of(&request);
        let translated = match (&connection.user, connection.client) {
            (Ok(user), Some(client)) => self.quotas.take(*user, change.booked()).and_then(|()| {
                let (address, bells) = (self.addresses[engine], &self.links[engine].bells);
                let line = self.lines.get(engine);
                plane::translate(client, address, request, descriptors, bells, line)
                    .inspect_err(|_| self.quotas.give_back(*user, change.booked()))
            }),
            _ => Err(hello_first()),
        };
        match translated {
            Ok(translated) => {
                connection.waiting = Some(Waiting::Reply(translated.context, change));
                self.post(Some(index), engine, translated.work, None);
            }
            Err(refusal) => self.send(index, &Outgoing::refused(&refusal)),
        }
    }

    fn least_used_engine(&self) -> usize {
        let used = |engine: usize| {
            let of_engine = |c: &&Connection| c.engine == engine && c.client.is_some();
            self.connections.iter().flatten().filter(of_engine).count()
        };
        (0..self.links.len()).min_by_key(|engine| used(*engine)).unwrap_or(0)
    }

    /// Sends work to an engine and returns its number. `ends`: what is no longer booked for a user
    /// once it is done.
    pub(super) fn post(
        &mut self,
        connection: Option<usize>,
        engine: usize,
        work: Work,
        ends: Option<(u32, Usage)>,
    ) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.sent.push(Sent { id, connection, ends });
        self.queued.push((engine, Post { id, work: Some(work) }));
        self.post_queued();
        id
    }

    /// Hands queued work to engines whose mailbox is empty, in order.
    fn post_queued(&mut self) {
        let mut index = 0;
        while index < self.queued.len() {
            let engine = self.queued[index].0;
            let link = &self.links[engine];
            drop(link.mailbox.collect());
            let is_next = !self.queued[..index].iter().any(|(other, _)| *other == engine);
            if !is_next {
                index += 1;
                continue;
            }
            let (_, post) = self.queued.remove(index);
            match link.mailbox.post(Box::new(post)) {
                Ok(()) => {
                    let _ = link.bell.ring();
                }
                Err(post) => {
                    self.queued.insert(index, (engine, *post));
                    index += 1;
                }
            }
        }
    }

    fn answered(&mut self, engine: usize, answered: Answered) {
        let Some(place) = self.sent.iter().position(|sent| sent.id == answered.id) else { return };
        let sent = self.sent.swap_remove(place);
        if self.draining.answered(answered.id) {
            return;
        }
        if let Some((user, usage)) = sent.ends {
            // Its memory is gone first, then it is no longer counted.
            drop(answered);
            return self.quotas.give_back(user, usage);
        }
        let Some(index) = sent.connection else { return };
        let description = self.descriptions[engine].clone();
        let address = self.addresses[engine];
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let outgoing = match (connection.waiting.take(), answered.answer) {
            (Some(Waiting::Hello), Answer::Client(client)) => {
                connection.client = Some(client);
                tracing::info!(name = connection.name, ?client, "an application connected");
                Outgoing::plain(ControlReply::Welcome {
                    layout_version: LAYOUT_VERSION,
                    pid: std::process::id(),
                    engine: address,
                    port: description,
                })
            }
            (Some(Waiting::Hello), Answer::Refused(refusal)) => Outgoing::refused(&refusal),
            (Some(Waiting::Reply(context, change)), answer) => {
                let given = connection.settle(change, &answer);
                let outgoing = plane::reply(context, answer);
                if let Ok(user) = connection.user {
                    self.quotas.give_back(user, given);
                }
                outgoing
            }
            (Some(Waiting::Look(mut looking)), answer) => {
                looking.left -= 1;
                if let Answer::Seen(live) = answer {
                    looking.engines[engine] = Some(live);
                }
                if looking.left > 0 {
                    connection.waiting = Some(Waiting::Look(looking));
                    return;
                }
                self.seen(&looking)
            }
            (_, _) => return,
        };
        if self.connection(index).is_some_and(|connection| connection.closing) {
            return self.close(index);
        }
        self.send(index, &outgoing);
    }

    fn connection(&mut self, index: usize) -> Option<&mut Connection> {
        self.connections.get_mut(index).and_then(Option::as_mut)
    }

    fn send(&mut self, index: usize, outgoing: &Outgoing) {
        let Some(connection) = self.connection(index) else { return };
        let mut buffer = vec![0; MAX_CONTROL_BYTES];
        let descriptors: Vec<_> = outgoing.descriptors.iter().map(AsFd::as_fd).collect();
        let sent = control::encode(&outgoing.reply, &mut buffer)
            .map_err(|error| error.to_string())
            .and_then(|length| {
                connection
                    .socket
                    .send(&buffer[..length], &descriptors)
                    .map_err(|error| error.to_string())
            });
        if let Err(error) = sent {
            tracing::debug!(error, "an application could not be answered");
            self.close(index);
        }
    }

    /// Ends a connection; the engine forgets the application.
    fn close(&mut self, index: usize) {
        let Some(connection) = self.connection(index) else { return };
        if matches!(connection.waiting, Some(Waiting::Hello)) {
            // Its hello is on the way: the client is removed once it is known.
            connection.closing = true;
            return;
        }
        let (engine, client) = (connection.engine, connection.client);
        let ends = connection.user.as_ref().ok().map(|user| (*user, connection.booked()));
        tracing::info!(name = connection.name, "an application is gone");
        self.connections[index] = None;
        for sent in &mut self.sent {
            if sent.connection == Some(index) {
                sent.connection = None;
            }
        }
        if let Some(client) = client {
            self.post(None, engine, Work::RemoveClient { client }, ends);
        }
    }

    fn status(&self) -> Outgoing {
        let of_engine = |(number, link)| {
            status::of_engine(number, link, self.addresses[number], &self.descriptions[number])
        };
        let engines = self.links.iter().enumerate().map(of_engine).collect();
        let noticed =
            self.links.iter().enumerate().filter_map(|(number, link)| {
                crowding::noticed(number, link.counters.read().crowded)
            });
        let warnings = self.warnings.iter().cloned().chain(noticed).collect();
        status::outgoing(engines, self.applications(), warnings, self.hardening)
    }

    fn seen(&self, looking: &Looking) -> Outgoing {
        let of_engine = |(number, live): (usize, &Option<Box<Live>>)| {
            status::of_live(number, self.addresses[number], live.as_deref())
        };
        let engines = looking.engines.iter().enumerate().map(of_engine).collect();
        status::outgoing(engines, self.applications(), Vec::new(), self.hardening)
    }

    fn applications(&self) -> Vec<serde_json::Value> {
        self.connections.iter().flatten().filter_map(status::of_application).collect()
    }
}

fn hello_first() -> Refusal {
    Refusal::new(Status::BadCommand, "say hello first")
}
