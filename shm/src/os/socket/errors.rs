//! What can go wrong with control sockets.

use super::DESCRIPTORS_MAX;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a path cannot be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    /// A living process has it: choose another path, or stop that process.
    #[error("{} is in use by pid {pid}; stop that process or choose another path", path.display())]
    InUse {
        /// The socket's path.
        path: PathBuf,
        /// The process that holds the lock file, as that file says; 0 if it does not say.
        pid: u32,
    },
    /// Something that is no socket lies there, and is left alone: choose another path.
    #[error("{} exists and is no socket; remove it or choose another path", path.display())]
    NotSocket {
        /// The socket's path.
        path: PathBuf,
    },
    /// The kernel takes paths of at most 107 bytes: choose a shorter one.
    #[error("{} has {found} bytes; a socket's path has at most 107", path.display())]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// Its length in bytes.
        found: usize,
    },
    /// The lock file beside the socket cannot be made or locked: see the cause.
    #[error("the lock file {} cannot be had: {source}", path.display())]
    Lock {
        /// The lock file's path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket cannot be made or bound: see the cause (no directory, no permission).
    #[error("{} cannot be listened on: {source}", path.display())]
    Bind {
        /// The socket's path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why there is no connection to an engine.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No socket lies there: start the engine, or say where it listens.
    #[error("there is no socket at {}; start the engine or correct the path", path.display())]
    NotFound {
        /// The socket's path.
        path: PathBuf,
    },
    /// A socket lies there and nobody listens, as after a kill: start the engine.
    #[error("nobody listens at {}; its engine is dead: start it again", path.display())]
    NotListening {
        /// The socket's path.
        path: PathBuf,
    },
    /// The socket may not be used by this user: ask for membership or a wider mode.
    #[error("this user may not connect to {}; check its owner and mode", path.display())]
    Denied {
        /// The socket's path.
        path: PathBuf,
    },
    /// The kernel takes paths of at most 107 bytes: choose a shorter one.
    #[error("{} has {found} bytes; a socket's path has at most 107", path.display())]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// Its length in bytes.
        found: usize,
    },
    /// Anything else: see the cause.
    #[error("connecting to {} failed: {source}", path.display())]
    Other {
        /// The socket's path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why no connection could be accepted.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// See the cause; with too many descriptors open, the connection waits and can be accepted
    /// later.
    #[error("accepting a connection failed: {0}")]
    Accept(#[source] io::Error),
}

/// Why a message was not sent. Nothing of it was.
#[derive(Debug, Error)]
pub enum SendError {
    /// A message has at least one byte: an empty one would look like the end.
    #[error("an empty message cannot be sent; give it at least one byte")]
    Empty,
    /// Too many descriptors: send several messages.
    #[error("{found} descriptors are to be sent; expected at most {DESCRIPTORS_MAX}")]
    TooManyDescriptors {
        /// How many there were.
        found: usize,
    },
    /// The message is larger than the socket's buffer: send less at once.
    #[error("a message of {found} bytes is larger than the socket's buffer; split it")]
    TooLarge {
        /// Its length in bytes.
        found: usize,
    },
    /// The peer does not keep up and the socket does not block: try later, or give the peer up.
    #[error("the peer's buffer is full; try again when the socket is writable")]
    WouldBlock,
    /// The peer is gone: close.
    #[error("the peer has closed the connection")]
    Closed,
    /// Anything else: see the cause, and close.
    #[error("sending a message failed: {0}")]
    Other(#[source] io::Error),
}

/// Why a message was not received. It is lost, and descriptors that came with it are closed: the
/// peer does not keep to the protocol, so close.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The message was longer than the buffer.
    #[error(
        "a message is longer than the buffer of {capacity} bytes; the peer breaks the protocol"
    )]
    MessageTruncated {
        /// The buffer's length in bytes.
        capacity: usize,
    },
    /// More descriptors came than are allowed, or than this process may open.
    #[error(
        "a message brought more than {DESCRIPTORS_MAX} descriptors, or more than this process may \
         open; check `ulimit -n`"
    )]
    DescriptorsTruncated,
    /// Anything else: see the cause.
    #[error("receiving a message failed: {0}")]
    Other(#[source] io::Error),
}
