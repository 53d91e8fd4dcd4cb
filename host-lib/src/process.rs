//! The way to an engine process: its socket, and what tells of its death.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nic_shm::{ControlSocket, Incoming, Pidfd, SendError, SharedMemory, WakeReceiver, wait_any};
use nic_wire::control::{self, ControlReply, ControlRequest, MAX_CONTROL_BYTES};
use nic_wire::session::LAYOUT_VERSION;

use crate::error::NicError;
use crate::nic::accepted;

/// How long an answer of the control plane is waited for, unless the application says otherwise.
/// Opening a flow to a dead peer takes 3 s until it is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for what is only given up: its end comes in any case, answered or not.
const PATIENCE_AT_DROP: Duration = Duration::from_secs(1);
/// A region's pages are made before it is answered: so many more nanoseconds for each byte.
const POPULATE_NS_PER_BYTE: u64 = 4;
/// How long until a socket that was full is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The way to an engine process.
pub(crate) struct Process {
    socket: ControlSocket,
    /// The engine process; it may die while something else keeps the socket open.
    process: Option<Pidfd>,
    buffer: RefCell<Vec<u8>>,
    /// Answers still to come whose askers have given up.
    owed: Cell<u32>,
    patience: Cell<Duration>,
    /// Where packets arrive, and the port's description.
    welcome: (SocketAddr, String),
}

impl Process {
    /// Says hello.
    pub(crate) fn greet(socket: ControlSocket) -> Result<Self, NicError> {
        // A request that the engine does not take, or does not answer, must not hold its asker up.
        socket.set_nonblocking(true)?;
        let mut process = Process {
            socket,
            process: None,
            buffer: RefCell::new(vec![0; MAX_CONTROL_BYTES]),
            owed: Cell::new(0),
            patience: Cell::new(PATIENCE),
            welcome: (SocketAddr::from(([0, 0, 0, 0], 0)), String::new()),
        };
        let name = std::env::args().next().unwrap_or_default();
        let hello = ControlRequest::Hello { layout_version: LAYOUT_VERSION, name, engine: None };
        let (ControlReply::Welcome { pid, engine, port, .. }, _) = process.request(&hello, &[])?
        else {
            return Err(NicError::OutOfTurn);
        };
        process.welcome = (engine, port);
        process.process = Pidfd::open(pid).ok();
        Ok(process)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.welcome.0
    }

    pub(crate) fn port(&self) -> &str {
        &self.welcome.1
    }

    pub(crate) fn set_patience(&self, patience: Duration) {
        self.patience.set(patience);
    }

    /// Asks [`ControlRequest::Status`] or [`ControlRequest::Ops`]; the answer is JSON.
    pub(crate) fn told(&self, request: &ControlRequest) -> Result<String, NicError> {
        let (ControlReply::Status { bytes }, descriptors) = self.request(request, &[])? else {
            return Err(NicError::OutOfTurn);
        };
        let descriptor = descriptors.into_iter().next().ok_or(NicError::OutOfTurn)?;
        let memory = SharedMemory::open_read_only(descriptor, bytes)?.memory();
        let mut text = vec![0; usize::try_from(bytes).map_err(|_| NicError::OutOfTurn)?];
        memory.read(0, &mut text).map_err(|error| NicError::Session(error.to_string()))?;
        String::from_utf8(text).map_err(|_| NicError::OutOfTurn)
    }

    /// Asks and waits for the answer; a refusal is an error.
    pub(crate) fn request(
        &self,
        request: &ControlRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(ControlReply, Vec<OwnedFd>), NicError> {
        let extra = match request {
            ControlRequest::Register { length, .. }
            | ControlRequest::RegisterBacked { length, .. } => {
                length.saturating_mul(POPULATE_NS_PER_BYTE)
            }
            _ => 0,
        };
        let patience = self.patience.get().saturating_add(Duration::from_nanos(extra));
        self.exchange(request, descriptors, patience)
    }

    /// Asks for the end of something. Waits a moment for it, unless the engine is silent anyway:
    /// then it will hear of it when it goes on.
    pub(crate) fn let_go(&self, request: &ControlRequest) {
        let patience = match self.owed.get() {
            0 => self.patience.get().min(PATIENCE_AT_DROP),
            _ => Duration::ZERO,
        };
        // An engine that is gone has forgotten it already.
        let _ = self.exchange(request, &[], patience);
    }

    fn exchange(
        &self,
        request: &ControlRequest,
        descriptors: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<(ControlReply, Vec<OwnedFd>), NicError> {
        let begin = Instant::now();
        let left = || {
            let left = patience.saturating_sub(begin.elapsed());
            (!left.is_zero()).then_some(left).ok_or(NicError::EngineSilent { waited: patience })
        };
        let mut buffer = self.buffer.borrow_mut();
        let length = control::encode(request, &mut buffer)?;
        loop {
            match self.socket.send(&buffer[..length], descriptors) {
                Ok(()) => break,
                Err(SendError::WouldBlock) => self.wait(false, left()?.min(LOOK_AGAIN))?,
                Err(_) => return Err(NicError::EngineLost),
            }
        }
        self.owed.set(self.owed.get() + 1);
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(Incoming::Message { len, descriptors }) => {
                    self.owed.set(self.owed.get() - 1);
                    // Answers come in the order of the questions: others are not waited for any more.
                    if self.owed.get() == 0 {
                        return Ok((accepted(control::decode(&buffer[..len])?)?, descriptors));
                    }
                }
                Ok(Incoming::Nothing) => self.wait(true, left()?)?,
                Ok(Incoming::EndOfFile) | Err(_) => return Err(NicError::EngineLost),
            }
        }
    }

    /// Waits for the time to pass, or for the socket to have something if it is `heard`.
    fn wait(&self, heard: bool, timeout: Duration) -> Result<(), NicError> {
        let mut descriptors = Vec::with_capacity(2);
        descriptors.extend(self.process.as_ref().map(AsFd::as_fd));
        descriptors.extend(heard.then_some(self.socket.as_fd()));
        let ready = wait_any(&descriptors, Some(timeout)).map_err(|_| NicError::EngineLost)?;
        // What a dead engine has said before its end is heard first.
        let has_died = self.process.is_some() && ready.contains(0);
        let has_said = heard && ready.contains(descriptors.len() - 1);
        if has_died && !has_said { Err(NicError::EngineLost) } else { Ok(()) }
    }

    /// Whether the engine process has died.
    pub(crate) fn is_gone(&self) -> bool {
        let has_exited = self.process.as_ref().is_some_and(|p| p.has_exited().unwrap_or(true));
        has_exited
            || match wait_any(&[self.socket.as_fd()], Some(Duration::ZERO)) {
                Ok(ready) => !ready.is_empty() && self.hears_the_end(),
                Err(_) => true,
            }
    }

    /// Sleeps until the bell rings or the engine dies. True: it died.
    pub(crate) fn sleep(&self, bell: &WakeReceiver, timeout: Duration) -> bool {
        let (bell_fd, socket) = (bell.as_fd(), self.socket.as_fd());
        let ready = match &self.process {
            Some(process) => wait_any(&[bell_fd, socket, process.as_fd()], Some(timeout)),
            None => wait_any(&[bell_fd, socket], Some(timeout)),
        };
        let _ = bell.drain();
        ready.is_ok_and(|ready| ready.contains(2) || ready.contains(1) && self.hears_the_end())
    }

    /// Hears what the engine says unasked: answers that come too late, or else the end.
    #[cold]
    fn hears_the_end(&self) -> bool {
        let mut buffer = self.buffer.borrow_mut();
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(Incoming::Nothing) => return false,
                Ok(Incoming::Message { .. }) if self.owed.get() > 0 => {
                    self.owed.set(self.owed.get() - 1);
                }
                _ => return true,
            }
        }
    }
}
