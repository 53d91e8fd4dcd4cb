//! Why a daemon does not start, or ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use nic_shm::{BindError, DoorbellError};
use nic_transport::ConfigError;

use super::config::ConfigFault;
use super::control::ControlError;
use super::exit::Exit;
use super::hardening::HardeningError;
use crate::ports::{PortFault, PortRefusal};

/// Why a daemon does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// The port.
    #[error(transparent)]
    Port(#[from] PortRefusal),
    /// The counters cannot be served.
    #[error("metrics.listen {address}: {error}; give a free address, or none")]
    Metrics {
        /// Where they were to be.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The counters file cannot be made.
    #[error("the counters file {path}: {error}; remove it if it is another's, or move the socket")]
    Counters {
        /// Where it was to be.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// What the daemon should give up stays.
    #[error(transparent)]
    Hardening(#[from] HardeningError),
    /// Settings of the flows.
    #[error(transparent)]
    Flow(#[from] ConfigError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The folder of the control socket is missing; the text has the command that makes it.
    #[error(
        "the control socket {} is to lie in {shown}, which is no folder; make it with \
         `sudo install -d -o \"$USER\" {shown}`, or give another path with --socket",
        socket.display(), shown = folder.display()
    )]
    Folder {
        /// Where the socket was to be.
        socket: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
    /// The control socket cannot be bound.
    #[error("control socket: {0}")]
    Listen(#[from] BindError),
    /// An eventfd.
    #[error(transparent)]
    Doorbell(#[from] DoorbellError),
    /// The machine gave no randomness.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// A thread or signal handler.
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
    /// A core that this process may not use.
    #[error("engine.cores names core {core}; this process may use cores {available:?}")]
    Core {
        /// The core asked for.
        core: usize,
        /// The cores there are.
        available: Vec<usize>,
    },
}

impl DaemonError {
    /// With which code its process ends.
    pub fn exit(&self) -> Exit {
        match self {
            DaemonError::Config(ConfigFault::Read { error, .. }) => {
                Exit::of_io(error, Exit::Config)
            }
            DaemonError::Config(_) | DaemonError::Flow(_) | DaemonError::Core { .. } => {
                Exit::Config
            }
            DaemonError::Port(refusal) => of_port(refusal.fault),
            DaemonError::Metrics { error, .. } => Exit::of_io(error, Exit::System),
            DaemonError::Counters { error, .. } => Exit::of_io(error, Exit::CannotCreate),
            DaemonError::Folder { .. } => Exit::CannotCreate,
            DaemonError::Listen(error) => of_listener(error),
            DaemonError::System(error) => Exit::of_io(error, Exit::System),
            DaemonError::Hardening(_)
            | DaemonError::Control(_)
            | DaemonError::Doorbell(_)
            | DaemonError::Random(_) => Exit::System,
        }
    }
}

fn of_port(fault: PortFault) -> Exit {
    match fault {
        PortFault::Taken => Exit::Unavailable,
        PortFault::Settings => Exit::Config,
        PortFault::Permission => Exit::NoPermission,
        PortFault::System => Exit::System,
    }
}

fn of_listener(error: &BindError) -> Exit {
    match error {
        BindError::InUse { .. } => Exit::Unavailable,
        BindError::PathTooLong { .. } => Exit::Config,
        BindError::NotSocket { .. } => Exit::CannotCreate,
        BindError::Lock { source, .. } | BindError::Bind { source, .. } => {
            Exit::of_io(source, Exit::CannotCreate)
        }
    }
}
