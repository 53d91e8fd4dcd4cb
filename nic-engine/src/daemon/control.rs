//! The control thread: applications' messages in, engines' answers out.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nic_shm::{ControlListener, ControlSocket, Doorbell, Incoming};
use nic_wire::control::{self, ControlReply, ControlRequest, MAX_CONTROL_BYTES};
use nic_wire::session::LAYOUT_VERSION;
use rustix::event::{PollFd, PollFlags, poll};

use super::Answers;
use super::engine_thread::{EngineLink, Post};
use crate::engine::{Answer, Answered, ClientId, Refusal, Work};
use crate::plane::{self, Context, Outgoing};
use nic_wire::Status;

/// Connections that a daemon keeps at once.
const CONNECTIONS_MAX: usize = 4096;

/// Why the control loop ends.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The system call that waits failed.
    #[error("waiting for applications failed: {0}")]
    Wait(#[from] rustix::io::Errno),
}

/// One application.
struct Connection {
    socket: ControlSocket,
    name: String,
    /// Its home engine, once it has said hello.
    engine: usize,
    client: Option<ClientId>,
    /// What it waits for: one request at a time.
    waiting: Option<Waiting>,
    closing: bool,
}

enum Waiting {
    Hello,
    Reply(Context),
}

/// Work on its way, by number.
struct Sent {
    id: u64,
    /// The connection that asked; none for the clean-up after one that is gone.
    connection: Option<usize>,
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
        }
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(super) fn wake_engines(&self) {
        for link in &self.links {
            let _ = link.bell.ring();
        }
    }

    /// Serves until `shutdown` is readable.
    pub(super) fn serve(
        &mut self,
        listener: Option<ControlListener>,
        connected: Vec<ControlSocket>,
        shutdown: BorrowedFd<'_>,
    ) -> Result<(), ControlError> {
        for socket in connected {
            self.add(socket);
        }
        loop {
            let (ready, is_over, wants_accept) = self.wait(listener.as_ref(), shutdown)?;
            if is_over {
                return Ok(());
            }
            let _ = self.bell.drain();
            while let Ok((engine, answered)) = self.answers.try_recv() {
                self.answered(engine, answered);
            }
            if let (true, Some(listener)) = (wants_accept, &listener) {
                match listener.accept() {
                    Ok(Some(socket)) => self.add(socket),
                    Ok(None) => {}
                    Err(error) => self.accept_failed(&error),
                }
            }
            for index in ready {
                self.message(index);
            }
            self.post_queued();
        }
    }

    /// No descriptor was free, most likely: the application waits in the queue until one is.
    fn accept_failed(&self, error: &nic_shm::AcceptError) {
        tracing::warn!(%error, "an application cannot be taken now");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }

    /// Waits for anything to do: connections with something to say, the end, a new application.
    fn wait(
        &self,
        listener: Option<&ControlListener>,
        shutdown: BorrowedFd<'_>,
    ) -> Result<(Vec<usize>, bool, bool), ControlError> {
        let mut descriptors = vec![
            PollFd::from_borrowed_fd(shutdown, PollFlags::IN),
            PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN),
        ];
        let first_connection = 2 + usize::from(listener.is_some());
        if let Some(listener) = listener {
            descriptors.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        let mut indices = Vec::new();
        for (index, connection) in self.connections.iter().enumerate() {
            let Some(connection) = connection else { continue };
            // One request at a time: what comes meanwhile waits in the socket.
            let flags = if connection.waiting.is_some() { PollFlags::HUP } else { PollFlags::IN };
            descriptors.push(PollFd::from_borrowed_fd(connection.socket.as_fd(), flags));
            indices.push(index);
        }
        // A mailbox that was full is looked at again soon.
        let timeout = (!self.queued.is_empty())
            .then_some(rustix::time::Timespec { tv_sec: 0, tv_nsec: 200_000 });
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |place: usize| !descriptors[place].revents().is_empty();
        let of_connection =
            |(place, index): (usize, &usize)| is_ready(first_connection + place).then_some(*index);
        let ready = indices.iter().enumerate().filter_map(of_connection).collect();
        Ok((ready, is_ready(0), listener.is_some() && is_ready(2)))
    }

    fn add(&mut self, socket: ControlSocket) {
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
        let connection = Connection {
            socket,
            name: String::new(),
            engine: 0,
            client: None,
            waiting: None,
            closing: false,
        };
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
        match request {
            ControlRequest::Hello { layout_version, name, engine } => {
                self.hello(index, layout_version, name, engine);
            }
            ControlRequest::Status => {
                let json = self.status();
                self.send(index, &Outgoing::plain(ControlReply::Status { json }));
            }
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
            connection.name = name;
            connection.engine = engine;
            connection.waiting = Some(Waiting::Hello);
            return self.post(Some(index), engine, Work::AddClient);
        };
        let refusal = Refusal::new(Status::VersionMismatch, reason);
        self.send(index, &Outgoing::refused(&refusal));
    }

    fn translate(&mut self, index: usize, request: ControlRequest, descriptors: Vec<OwnedFd>) {
        let addresses = &self.addresses;
        let Some(connection) = &mut self.connections[index] else { return };
        let engine = connection.engine;
        let translated = match connection.client {
            Some(client) => plane::translate(client, addresses[engine], request, descriptors),
            None => Err(Refusal::new(Status::BadCommand, "say hello first")),
        };
        match translated {
            Ok(translated) => {
                connection.waiting = Some(Waiting::Reply(translated.context));
                self.post(Some(index), engine, translated.work);
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

    fn post(&mut self, connection: Option<usize>, engine: usize, work: Work) {
        let id = self.next_id;
        self.next_id += 1;
        self.sent.push(Sent { id, connection });
        self.queued.push((engine, Post { id, work: Some(work) }));
        self.post_queued();
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
        let Some(index) = sent.connection else { return };
        let description = self.descriptions[engine].clone();
        let address = self.addresses[engine];
        let bell = Arc::clone(&self.links[engine].bell);
        let Some(connection) = self.connection(index) else { return };
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
            (Some(Waiting::Reply(context)), answer) => plane::reply(context, answer, bell.as_fd()),
            (_, _) => return,
        };
        if connection.closing {
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
        if connection.waiting.is_some() && !connection.closing {
            // Its hello may be on the way: the client is removed once it is known.
            let is_hello = matches!(connection.waiting, Some(Waiting::Hello));
            if is_hello {
                connection.closing = true;
                return;
            }
        }
        let (engine, client) = (connection.engine, connection.client);
        tracing::info!(name = connection.name, "an application is gone");
        self.connections[index] = None;
        for sent in &mut self.sent {
            if sent.connection == Some(index) {
                sent.connection = None;
            }
        }
        if let Some(client) = client {
            self.post(None, engine, Work::RemoveClient { client });
        }
    }

    fn status(&self) -> String {
        let of_engine = |(number, link): (usize, &EngineLink)| {
            let counters = link.counters.read();
            let counts: serde_json::Map<_, _> = crate::engine::Counters::LIST
                .iter()
                .zip(counters.values())
                .map(|((name, _), value)| ((*name).to_owned(), value.into()))
                .collect();
            serde_json::json!({
                "engine": number,
                "address": self.addresses[number].to_string(),
                "port": self.descriptions[number],
                "counters": counts,
            })
        };
        let engines: Vec<_> = self.links.iter().enumerate().map(of_engine).collect();
        let applications: Vec<_> = self.connections.iter().flatten().filter(|c| c.client.is_some())
            .map(|connection| {
                let pid = connection.socket.peer_credentials().map(|peer| peer.pid).unwrap_or(0);
                serde_json::json!({ "name": connection.name, "pid": pid, "engine": connection.engine })
            })
            .collect();
        serde_json::json!({
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "engines": engines,
            "applications": applications,
        })
        .to_string()
    }
}
