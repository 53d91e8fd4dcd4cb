//! What each kind of process is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a process is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Role {
    /// The daemon as it is shipped, with this configuration file.
    Daemon(PathBuf),
    /// An engine process whose engine thread can be watched.
    Engine(EngineOptions),
    /// A target application.
    Target(TargetOptions),
    /// The initiator of the data-path tests.
    Initiator(InitiatorOptions),
    /// The owner of a table that changes all the time.
    Writer(WriterOptions),
    /// The owner of another structure that changes all the time.
    Racer(RacerOptions),
    /// An application that runs single ops as it is told.
    Application(ApplicationOptions),
    /// Forks with a session open.
    Forker(ApplicationOptions),
    /// Spoils what it shares with its engine.
    Meddler(ApplicationOptions),
    /// Runs random ops while others die.
    Load(LoadOptions),
    /// Receives messages, or sends them.
    Messages(MessagesOptions),
    /// The owner of a log that is kept in a file.
    LogOwner(LogOwnerOptions),
}

impl Role {
    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Role::Daemon(_) => "daemon",
            Role::Engine(_) => "engine process",
            Role::Target(_) => "target application",
            Role::Initiator(_) => "initiator",
            Role::Writer(_) => "writer",
            Role::Racer(_) => "racing owner",
            Role::Application(_) => "application",
            Role::Forker(_) => "forking application",
            Role::Meddler(_) => "meddling application",
            Role::Load(_) => "load",
            Role::Messages(_) => "messenger",
            Role::LogOwner(_) => "owner of a log",
        }
    }
}

/// What a process does while it has nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// Looks again and again.
    Spin,
    /// Looks for a while, then sleeps.
    #[default]
    Adaptive,
    /// Sleeps at once.
    Block,
}

/// What a watched engine is to do wrong, so that a test sees that it is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offence {
    /// Nothing.
    #[default]
    None,
    /// It allocates once.
    Allocation,
    /// It asks for its process number once.
    SystemCall,
}

/// How packets leave and enter an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortKind {
    /// A UDP socket.
    #[default]
    Udp,
    /// A UDP socket by io_uring.
    Uring,
}

/// An engine process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EngineOptions {
    /// Where applications connect.
    pub socket: PathBuf,
    /// What its port is.
    pub port: PortKind,
    /// Where packets reach it; without one, at a free port of the loopback.
    pub address: Option<SocketAddr>,
    /// What the engine does while it is idle.
    pub waiting: Waiting,
    /// How many packets in a hundred are lost on their way out.
    pub loss_percent: u32,
    /// Which ones.
    pub seed: u64,
    /// Where the engine is pinned, if anywhere.
    pub core: Option<usize>,
    /// What it does wrong once it is watched.
    pub offence: Offence,
}

/// A target application.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TargetOptions {
    /// Its engine.
    pub socket: PathBuf,
    /// What it does between calls.
    pub waiting: Waiting,
    /// Keys in its table: `key(0)` and so on.
    pub keys: u64,
}

/// Who drives an initiator's engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Drive {
    /// The initiator's own thread. Its port loses packets as this engine's would.
    Inline(EngineOptions),
    /// The engine process at this socket.
    Process(PathBuf),
}

/// The initiator of the data-path tests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InitiatorOptions {
    /// Who drives its engine.
    pub drive: Drive,
    /// Ticket of the target's plain region.
    pub data: String,
    /// Ticket of the target's table.
    pub table: String,
    /// Keys in that table.
    pub keys: u64,
}

/// The owner of a log that is kept in a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogOwnerOptions {
    /// Its engine.
    pub socket: PathBuf,
    /// Where the region is kept.
    pub file: PathBuf,
    /// How long the region is, and the log in it, in bytes.
    pub bytes: u64,
}

/// The owner of a table that changes all the time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WriterOptions {
    /// Its engine.
    pub socket: PathBuf,
    /// Where it is pinned, if anywhere.
    pub core: Option<usize>,
    /// Seed of its changes.
    pub seed: u64,
}

/// An application that runs single ops as it is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ApplicationOptions {
    /// Its engine.
    pub socket: PathBuf,
    /// What its session does while it waits.
    pub waiting: Waiting,
    /// Ticket of a target's plain region.
    pub data: String,
}

/// An initiator that runs random ops while others die.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadOptions {
    /// Its engine.
    pub socket: PathBuf,
    /// What its session does while it waits.
    pub waiting: Waiting,
    /// Its number, which no other load of the scene ever has: it owns the word and the place of this
    /// number in each target's region. Below 4096.
    pub id: u64,
    /// What it does.
    pub seed: u64,
    /// Keys in the targets' tables.
    pub keys: u64,
}

/// What a racing owner owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Structure {
    /// A list for TRAVERSE.
    List,
    /// An indirection table for INDIRECT_READ.
    Table,
    /// A sealed object for CONSISTENT_READ.
    Object,
    /// A version chain for CHAIN_READ and CHAIN_APPEND.
    Chain,
    /// A free list for PRISM's ALLOCATE.
    FreeList,
    /// A log for APPEND and FETCH.
    Log,
    /// Records for SCAN.
    Records,
    /// Partitions for PARTITION_WRITE.
    Partitions,
    /// A sketch for SKETCH_WRITE.
    Sketch,
}

/// The owner of a structure that changes all the time, or that sees others change it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RacerOptions {
    /// The engine's socket.
    pub socket: PathBuf,
    /// The core that it runs on.
    pub core: Option<usize>,
    /// What it owns.
    pub structure: Structure,
}

/// The engine of an application that receives or sends messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MessagesEngine {
    /// The daemon at this socket.
    Daemon(PathBuf),
    /// Its own, on a ring that is joined with whoever listens at this socket.
    Ring(PathBuf),
}

/// An application that receives messages, or sends them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MessagesOptions {
    /// Its engine.
    pub engine: MessagesEngine,
    /// The ticket of a receiver to whom it sends; without one it receives.
    pub receiver: Option<String>,
}
