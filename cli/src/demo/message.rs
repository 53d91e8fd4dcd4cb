//! What the demo's processes say to each other, as JSON over the socket that a child gets as its
//! standard input.

use serde::{Deserialize, Serialize};

use crate::pair::PortOrder;

/// To the application that owns the table. Descriptors: the pairs; with an engine process its
/// control socket, without one and on a ring the ring's socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct TargetOrder {
    /// The core to run on.
    pub core: Option<usize>,
    /// The port of an engine inside the application; none: there is an engine process.
    pub inline: Option<PortOrder>,
    /// Whether to yield the core between looks when polling.
    pub yielding: bool,
}

/// From the application that owns the table.
#[derive(Debug, Serialize, Deserialize)]
pub enum TargetReply {
    /// So many pairs are in the table.
    Loaded {
        /// Pairs so far.
        pairs: u64,
    },
    /// The table can be used; the application goes to sleep.
    Ready(TargetReady),
    /// As asked, it polls from now on.
    Polling,
    /// As asked, it sleeps from now on.
    Resting,
    /// It cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What the owner of a table tells of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetReady {
    /// The handle of the index region.
    pub ticket: String,
    /// What pages index and entries got.
    pub pages: [String; 2],
    /// Lengths of index and entries in bytes.
    pub bytes: [u64; 2],
    /// Keys that did not fit into their bucket.
    pub overflowed: u64,
}

/// Later, to the application that owns the table.
#[derive(Debug, Serialize, Deserialize)]
pub enum TargetRequest {
    /// Look for calls again and again.
    Poll,
    /// Sleep until called.
    Rest,
}
