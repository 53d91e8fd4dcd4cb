//! An application's connection to its local engine.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use nic_engine::daemon::default_socket;
use nic_shm::{ControlSocket, Doorbell, ForkGuard, Incoming, Pidfd, wait_any};
use nic_wire::Status;
use nic_wire::control::{self, ControlReply, ControlRequest, MAX_CONTROL_BYTES};
use nic_wire::session::LAYOUT_VERSION;

use crate::error::NicError;
use crate::inline::InlineEngine;
use crate::region::RegionBuilder;
use crate::session::SessionBuilder;

/// Where the engine is.
#[derive(Debug, Default)]
pub enum Endpoint {
    /// `$NIC_SOCKET`, else in `$XDG_RUNTIME_DIR`, else `/run/nic-engine/nic.sock`.
    #[default]
    Default,
    /// This socket.
    Path(PathBuf),
    /// A connected SEQPACKET socket, such as one inherited from a parent.
    Socket(OwnedFd),
}

/// An application's connection to its local engine. Regions and sessions come from it and keep it
/// alive. It belongs to one thread; another thread connects by itself.
pub struct Nic {
    pub(crate) inner: Rc<Inner>,
}

/// What regions and sessions share.
pub(crate) struct Inner {
    pub(crate) backend: Backend,
    guard: ForkGuard,
}

/// Who drives the engine.
pub(crate) enum Backend {
    /// A process of its own.
    Process(Process),
    /// This thread; never where the feature `embedded` is off.
    #[cfg_attr(not(feature = "embedded"), expect(dead_code, reason = "no value of it exists"))]
    Inline(InlineEngine),
}

/// The way to an engine process.
pub(crate) struct Process {
    socket: ControlSocket,
    /// The engine process; it may die while something else keeps the socket open.
    process: Option<Pidfd>,
    buffer: RefCell<Vec<u8>>,
    /// Where packets arrive, and the port's description.
    welcome: (std::net::SocketAddr, String),
}

impl Nic {
    /// Connects to an engine process.
    ///
    /// # Errors
    /// Nobody answers there, or the releases are too far apart.
    pub fn connect(endpoint: Endpoint) -> Result<Self, NicError> {
        let socket = match endpoint {
            Endpoint::Socket(descriptor) => ControlSocket::from_fd(descriptor),
            Endpoint::Path(path) => connect_to(path)?,
            Endpoint::Default => connect_to(default_socket())?,
        };
        let name = std::env::args().next().unwrap_or_default();
        let hello = ControlRequest::Hello { layout_version: LAYOUT_VERSION, name, engine: None };
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let mut process = Process {
            socket,
            process: None,
            buffer: RefCell::new(vec![0; MAX_CONTROL_BYTES]),
            welcome: (nowhere, String::new()),
        };
        let (reply, _) = process.request(&hello, &[])?;
        let ControlReply::Welcome { pid, engine, port, .. } = reply else {
            return Err(NicError::OutOfTurn);
        };
        process.welcome = (engine, port);
        process.process = Pidfd::open(pid).ok();
        Nic::new(Backend::Process(process))
    }

    pub(crate) fn new(backend: Backend) -> Result<Self, NicError> {
        Ok(Nic { inner: Rc::new(Inner { backend, guard: ForkGuard::new()? }) })
    }

    /// A region of `bytes` bytes about to be made.
    pub fn region(&self, bytes: u64) -> RegionBuilder<'_> {
        RegionBuilder::new(self, bytes)
    }

    /// A session about to be opened.
    pub fn session(&self) -> SessionBuilder<'_> {
        SessionBuilder::new(self)
    }

    /// Where the engine receives packets.
    pub fn address(&self) -> std::net::SocketAddr {
        match &self.inner.backend {
            Backend::Process(process) => process.welcome.0,
            Backend::Inline(inline) => inline.address(),
        }
    }

    /// The port's name, mode and limits.
    pub fn port(&self) -> String {
        match &self.inner.backend {
            Backend::Process(process) => process.welcome.1.clone(),
            Backend::Inline(inline) => inline.port(),
        }
    }

    /// What the engine process is doing, as JSON.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn status(&self) -> Result<String, NicError> {
        match self.inner.request(&ControlRequest::Status, &[])? {
            (ControlReply::Status { json }, _) => Ok(json),
            _ => Err(NicError::OutOfTurn),
        }
    }

    /// What an inline engine has counted; `None` if an engine process does the work.
    #[cfg(feature = "embedded")]
    pub fn counters(&self) -> Option<nic_engine::engine::Counters> {
        match &self.inner.backend {
            Backend::Process(_) => None,
            Backend::Inline(inline) => Some(inline.counters()),
        }
    }

    /// Runs one turn of an inline engine; does nothing where an engine process does the work.
    pub fn turn(&self) {
        if let Backend::Inline(inline) = &self.inner.backend {
            inline.turn();
        }
    }
}

fn connect_to(path: PathBuf) -> Result<ControlSocket, NicError> {
    ControlSocket::connect(&path).map_err(|error| NicError::NoEngine { path, error })
}

impl Inner {
    /// Whether this is a child of the process that connected.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.guard.in_child()
    }

    /// Asks the control plane; a refusal is an error.
    pub(crate) fn request(
        &self,
        request: &ControlRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(ControlReply, Vec<OwnedFd>), NicError> {
        if self.is_forked() {
            return Err(NicError::Forked);
        }
        match &self.backend {
            Backend::Process(process) => process.request(request, descriptors),
            Backend::Inline(inline) => inline.request(request, descriptors),
        }
    }
}

/// Makes a refusal an error.
pub(crate) fn accepted(reply: ControlReply) -> Result<ControlReply, NicError> {
    match reply {
        ControlReply::Refused { status, reason } => {
            let status = Status::from_code(status).unwrap_or(Status::BadCommand);
            Err(NicError::Refused { status, reason })
        }
        reply => Ok(reply),
    }
}

impl Process {
    fn request(
        &self,
        request: &ControlRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(ControlReply, Vec<OwnedFd>), NicError> {
        let mut buffer = self.buffer.borrow_mut();
        let length = control::encode(request, &mut buffer)?;
        self.socket.send(&buffer[..length], descriptors).map_err(|_| NicError::EngineLost)?;
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(Incoming::Message { len, descriptors }) => {
                    return Ok((accepted(control::decode(&buffer[..len])?)?, descriptors));
                }
                Ok(Incoming::Nothing) => {
                    let socket = [self.socket.as_fd()];
                    wait_any(&socket, Some(Duration::from_secs(1)))
                        .map_err(|_| NicError::EngineLost)?;
                }
                Ok(Incoming::EndOfFile) | Err(_) => return Err(NicError::EngineLost),
            }
        }
    }

    /// Whether the engine process has died.
    pub(crate) fn is_gone(&self) -> bool {
        let has_exited = self.process.as_ref().is_some_and(|p| p.has_exited().unwrap_or(true));
        // The engine says nothing unasked: a readable socket is a closed one.
        has_exited
            || wait_any(&[self.socket.as_fd()], Some(Duration::ZERO))
                .map_or(true, |ready| !ready.is_empty())
    }

    /// Sleeps until the bell rings or the engine dies. True: it died.
    pub(crate) fn sleep(&self, bell: &Doorbell, timeout: Duration) -> bool {
        let ready = match &self.process {
            Some(process) => {
                let all = [bell.as_fd(), self.socket.as_fd(), process.as_fd()];
                wait_any(&all, Some(timeout))
            }
            None => wait_any(&[bell.as_fd(), self.socket.as_fd()], Some(timeout)),
        };
        let _ = bell.drain();
        ready.is_ok_and(|ready| ready.contains(1) || ready.contains(2))
    }
}
