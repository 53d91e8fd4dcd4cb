//! What can go wrong, and what to do about it.

use std::path::PathBuf;

use nic_kernels::BadArguments;
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
    /// The engine process lives and does not answer: it is stopped, or has too much to do. It may
    /// still carry the request out when it goes on. Ask again then; sessions are as they were.
    #[error(
        "the engine process has not answered within {waited:?}: it is stopped or overloaded, and may \
         still do what was asked; ask again, or give it more time with Nic::patience"
    )]
    EngineSilent {
        /// How long its answer was waited for.
        waited: std::time::Duration,
    },
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
    /// The file that a region is to be kept in: the text says what was found and what to do.
    #[error("the region's file {}: {reason}", path.display())]
    Backing {
        /// Which file.
        path: PathBuf,
        /// What was found, what was expected, what to do.
        reason: String,
    },
    /// The region is kept in no file: make it with
    /// [`RegionBuilder::backed_by`](crate::RegionBuilder::backed_by).
    #[error("the region is kept in no file; make it with RegionBuilder::backed_by")]
    NotBacked,
    /// A log that is not there, or is another.
    #[error("the log at {address:#x} of the region: {reason}")]
    Log {
        /// Where it was looked for.
        address: u64,
        /// What was found, what was expected, what to do.
        reason: String,
    },
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
    /// It ended badly. It is safe to issue it again if the fate is [`Fate::NotExecuted`], or if it
    /// only reads.
    #[error("{status} ({fate}){}", because(*refusal))]
    Failed {
        /// Why.
        status: Status,
        /// What is known of its effect.
        fate: Fate,
        /// What the kernel did not take, as far as a kernel of this crate says so here as well.
        refusal: Option<BadArguments>,
    },
    /// The reply is not what the kernel of this number answers; the target runs something else.
    #[error("the reply makes no sense: initiator and target have different kernels of this number")]
    BadReply,
    /// The op is larger than a session takes: split it, or open the session with a larger arena.
    #[error("the op's {part} has {found} bytes; the most is {most}")]
    TooLong {
        /// Which part of it: its payload, its reply, or both with the key in a piece of the arena.
        part: OpPart,
        /// Its length in bytes.
        found: u64,
        /// What there can be in bytes.
        most: u64,
    },
    /// The session has no room, and will have none until the caller gives some back: take the
    /// results of ops that are over, drop replies, or open the session deeper or with more arena.
    #[error(
        "no room for an op of {needed} bytes: {in_use} of the session's {depth} places hold ops, {over} \
         of them over and not taken, and {held} of the arena's {arena} bytes are held by ops and by \
         replies; take results, drop replies, or open the session with more depth or arena"
    )]
    NoRoom {
        /// What the op needs of the arena, in bytes.
        needed: u32,
        /// Ops that are out, or over and not taken.
        in_use: u16,
        /// How many of these are over.
        over: u16,
        /// How many there can be.
        depth: u16,
        /// What ops and replies hold of the arena, in bytes.
        held: u32,
        /// Its length in bytes.
        arena: u32,
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

/// A part of an op whose length is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpPart {
    /// What goes with it.
    Payload,
    /// What it brings.
    Reply,
    /// Payload, key and reply: they lie side by side in one piece of the session's arena.
    Piece,
}

impl std::fmt::Display for OpPart {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            OpPart::Payload => "payload",
            OpPart::Reply => "reply",
            OpPart::Piece => "piece of the arena (payload, key and reply)",
        })
    }
}

fn because(refusal: Option<BadArguments>) -> String {
    refusal.map_or_else(String::new, |refusal| format!(": {refusal}"))
}

impl OpError {
    /// An op that ended so, and nothing more is known of it.
    pub(crate) fn failed(status: Status, fate: Fate) -> Self {
        OpError::Failed { status, fate, refusal: None }
    }

    /// Whether the op certainly had no effect.
    pub fn is_not_executed(&self) -> bool {
        match self {
            OpError::Failed { fate, .. } => *fate == Fate::NotExecuted,
            OpError::TooLong { .. } | OpError::NoRoom { .. } => true,
            _ => false,
        }
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
