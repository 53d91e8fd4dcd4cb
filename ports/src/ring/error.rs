//! Why two processes cannot be joined by a ring port.

use nic_shm::{
    MemoryError, OutOfBounds, ReceiveError, SendError, WaitError, WordError, WriteError,
};

use super::layout::{COUNT_MAX, VERSION};
use crate::{FRAME_STRIDE, PoolError};

/// Why two processes cannot be joined, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The pool of transmit frames cannot be made. Correct the configuration.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A ring cannot have so many frames. Correct the configuration.
    #[error("a ring with {found} frames was asked for; expected 1 to {COUNT_MAX}")]
    Frames {
        /// How many were asked for.
        found: u32,
    },
    /// The memory to share cannot be made, or the peer's is not fit to be mapped.
    #[error("ring port: {0}")]
    Memory(#[from] MemoryError),
    /// A bell cannot be made: see the cause (too many descriptors).
    #[error("ring port: the system gives no bell: {0}")]
    Bell(std::io::Error),
    /// What the peer sent to be rung is no bell; it could block whoever rings.
    #[error("the peer's bell is no stream socket ({0}); run the same version on both sides")]
    NoBell(std::io::Error),
    /// Nothing can be sent to the peer.
    #[error("ring port: {0}")]
    Send(#[from] SendError),
    /// Nothing can be received from the peer.
    #[error("ring port: {0}")]
    Receive(#[from] ReceiveError),
    /// The answer cannot be waited for.
    #[error("ring port: {0}")]
    Wait(#[from] WaitError),
    /// The peer closed the socket instead of answering. Look at its log.
    #[error("the peer closed the connection before it offered its side of the ring; see its log")]
    Closed,
    /// The peer did not answer. See whether it runs, and whether it expects a ring at all.
    #[error("the peer offered no side of a ring within {patience_ms} ms; see whether it runs")]
    Silent {
        /// How long was waited, in milliseconds.
        patience_ms: u128,
    },
    /// The message is not the offer of a ring.
    #[error(
        "the peer's message has {bytes} bytes and {descriptors} descriptors; an offer has 8 and 2"
    )]
    NotOffer {
        /// Its length in bytes.
        bytes: usize,
        /// How many descriptors came with it.
        descriptors: usize,
    },
    /// The memory is not one side of a ring.
    #[error("the peer's memory begins with {found:#018x}, which is no ring port's")]
    NotRing {
        /// Its first eight bytes, little-endian.
        found: u64,
    },
    /// The peer is of another version. Run the same version on both sides.
    #[error(
        "the peer's ring has layout version {found}, this side speaks {VERSION}; run the same \
         version on both sides"
    )]
    Version {
        /// The version that it says.
        found: u32,
    },
    /// The peer says sizes that do not fit together.
    #[error(
        "the peer's ring says {frames} frames, {entries} entries, {stride} B per frame in {bytes} \
         bytes of memory; expected up to {COUNT_MAX} of each, a power of two of entries, \
         {FRAME_STRIDE} B per frame, and room for all that and no more"
    )]
    Geometry {
        /// Frames that it says.
        frames: u32,
        /// Entries that it says.
        entries: u32,
        /// Bytes per frame that it says.
        stride: u32,
        /// How long its memory is, in bytes.
        bytes: u64,
    },
    /// The peer's memory is of huge pages, whose owner could make every access fault.
    #[error("the peer's memory is on huge pages (hugetlbfs), which rings never are; it is refused")]
    HugePages,
    /// A range that was to lie within the memory does not.
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    /// A part of the own memory cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A word cannot be used in place.
    #[error(transparent)]
    Word(#[from] WordError),
}
