//! An application's connection to its local engine.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use nic_engine::daemon::default_socket;
use nic_shm::{ControlSocket, ForkGuard};
use nic_wire::Status;
use nic_wire::control::{ControlReply, ControlRequest};

use crate::error::NicError;
use crate::inline::InlineEngine;
use crate::process::Process;
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
        Nic::new(Backend::Process(Process::greet(socket)?))
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
            Backend::Process(process) => process.address(),
            Backend::Inline(inline) => inline.address(),
        }
    }

    /// The port's name, mode and limits.
    pub fn port(&self) -> String {
        match &self.inner.backend {
            Backend::Process(process) => process.port().to_owned(),
            Backend::Inline(inline) => inline.port(),
        }
    }

    /// What the engine process is doing, as JSON.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn status(&self) -> Result<String, NicError> {
        if self.inner.is_forked() {
            return Err(NicError::Forked);
        }
        match &self.inner.backend {
            Backend::Process(process) => process.told(&ControlRequest::Status),
            Backend::Inline(inline) => Ok(inline.status()),
        }
    }

    /// What is live in the engine process, as JSON: its flows, its sessions, and the oldest ops that
    /// are at least this old, at most 256 of each engine and kind. For who looks for what is stuck.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn ops(&self, older_than: Duration) -> Result<String, NicError> {
        if self.inner.is_forked() {
            return Err(NicError::Forked);
        }
        let older_than_us = u64::try_from(older_than.as_micros()).unwrap_or(u64::MAX);
        match &self.inner.backend {
            Backend::Process(process) => process.told(&ControlRequest::Ops { older_than_us }),
            Backend::Inline(inline) => inline.ops(older_than_us),
        }
    }

    /// How long an engine process may take to answer a request about regions, sessions and the like
    /// (10 s unless set; making a region's pages has its time beside). One that is stopped or
    /// overloaded then is [`NicError::EngineSilent`]. Ops have deadlines of their own.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        if let Backend::Process(process) = &self.inner.backend {
            process.set_patience(patience);
        }
        self
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
    ///
    /// # Errors
    /// [`NicError::Forked`] in a child of the process that made it.
    pub fn turn(&self) -> Result<(), NicError> {
        if self.inner.is_forked() {
            return Err(NicError::Forked);
        }
        if let Backend::Inline(inline) = &self.inner.backend {
            inline.turn();
        }
        Ok(())
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

    /// Gives something up that ends with the connection in any case.
    pub(crate) fn let_go(&self, request: &ControlRequest) {
        match &self.backend {
            _ if self.is_forked() => {}
            Backend::Process(process) => process.let_go(request),
            Backend::Inline(inline) => {
                // A refusal says that it is gone already.
                let _ = inline.request(request, &[]);
            }
        }
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
