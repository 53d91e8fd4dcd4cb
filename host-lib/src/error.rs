//! What can go wrong, and what to do about it.

use std::path::PathBuf;

use nic_wire::control::BadControl;
use nic_wire::session::BadGeometry;
use nic_wire::{Fate, Status};

/// Why something could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NicError {
    /// No engine answers there. Start one with `nic serve`, or use an inline engine.
    #[error("no engine at {path}: {error}. Start one with `nic serve`, or set NIC_SOCKET")]
    NoEngine {
        /// Where it was looked for.
        path: PathBuf,
        /// What happened.
        error: nic_shm::ConnectError,
    },
    /// The engine did not do it; the text says why and what to do.
    #[error("the engine refused: {reason}")]
    Refused {
        /// The nearest status.
        status: Status,
        /// What was found, what was expected, what to do.
        reason: String,
    },
    /// The engine process is gone. Sessions and regions are to be made anew with another one.
    #[error("the engine process is gone; connect again when it is back")]
    EngineLost,
    /// This is a child of the process that connected. Connect in the child.
    #[error("this process was forked from the one that connected; connect anew in the child")]
    Forked,
    /// The engine speaks another control protocol.
    #[error(transparent)]
    Protocol(#[from] BadControl),
    /// The engine answered something else than was asked.
    #[error(
        "the engine answered out of turn; application and engine must be of neighbouring releases"
    )]
    OutOfTurn,
    /// Sizes that no session can have.
    #[error(transparent)]
    Geometry(#[from] BadGeometry),
    /// Memory that cannot be made or mapped.
    #[error(transparent)]
    Memory(#[from] nic_shm::MemoryError),
    /// A ring or arena that does not fit its memory.
    #[error("session memory does not fit its sizes: {0}")]
    Session(String),
    /// Something of the operating system's.
    #[error("the operating system refused: {0}")]
    System(#[from] std::io::Error),
    /// An inline engine that cannot be made.
    #[error("the inline engine: {0}")]
    Inline(String),
}

/// How an op failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// It ended badly. Unless the fate is [`Fate::Unknown`] it is safe to issue it again.
    #[error("{status} ({fate})")]
    Failed {
        /// Why.
        status: Status,
        /// What is known of its effect.
        fate: Fate,
    },
    /// The reply is not what the kernel of this number answers; the target runs something else.
    #[error("the reply makes no sense: initiator and target have different kernels of this number")]
    BadReply,
    /// The op is larger than a session takes: split it.
    #[error("{found} bytes of payload, key and reply; an op of this session has at most {most}")]
    TooLong {
        /// What it needs in bytes.
        found: u64,
        /// What there can be in bytes.
        most: u64,
    },
    /// The table's configuration changed: open it anew.
    #[error("the table has changed its configuration to {found:#x}: open it anew")]
    WrongConfig {
        /// The configuration found.
        found: u64,
    },
    /// The pending op was asked about with the completion of another one.
    #[error("this completion belongs to another op")]
    OtherOp,
    /// This is a child of the process that opened the session.
    #[error("this process was forked from the one that opened the session; connect anew")]
    Forked,
}

impl OpError {
    /// Whether the op certainly had no effect.
    pub fn is_not_executed(&self) -> bool {
        matches!(self, OpError::Failed { fate: Fate::NotExecuted, .. } | OpError::TooLong { .. })
    }
}

/// Why an op was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError<O> {
    /// The session has as many ops out as it may; here is the op back. Poll, then submit again.
    #[error("the session has as many ops out as it may: poll, then submit again")]
    Full(O),
    /// It can never be taken.
    #[error(transparent)]
    Invalid(#[from] OpError),
}
