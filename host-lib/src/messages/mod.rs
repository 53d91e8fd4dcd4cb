//! Messages between two applications: sent whole, received whole into buffers that were posted for
//! them, up to 64 MiB long.
//!
//! A [`Receiver`] posts buffers; each gives the [`Sender`] credit for one message. A message belongs
//! to a stream: messages of one stream are received in the order sent, and streams do not hold each
//! other up. Every message ends once, at its deadline at the latest, and says how: received, or a
//! [`SendError`]. It can be cancelled while it is out.
//!
//! A small message travels in the call that announces it. A larger one stays where it is, in the
//! sender's memory, and its receiver reads it from there in pieces, a bounded number at a time, with
//! the reply credits that all reads have. Nobody but the receiving application ever writes its
//! buffers, and once a message is over it is not read any more: each has a key of its own, which is
//! revoked if the receiver has not said that it is done. A key reads all of its sender's memory:
//! what is in there is no secret from the receiver.
//!
//! ```
//! use std::time::Duration;
//!
//! use nic_host::messages::{Receiver, Sender};
//! use nic_host::{Access, InlineConfig, Nic};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The receiving application; here in the same process and on the same engine.
//! const INBOX: u16 = 9;
//! let nic = Nic::inline(InlineConfig::default())?;
//! let region = nic.region(4096).create()?;
//! let export = region.export(Access::CALL)?;
//! let receiving = nic.session().receive_buffers(32, 2048).open()?;
//! let mut receiver = Receiver::open(&receiving, INBOX)?;
//! for _ in 0..4 {
//!     receiver.post(vec![0; 1 << 20]).map_err(|_| "too many are posted")?;
//! }
//!
//! // The sending one. (Both ends in one thread have to take turns; with the receiver elsewhere,
//! // opening waits for its answer.)
//! let session = nic.session().open()?;
//! let remote = session.connect(&export.ticket())?;
//! let mut opening = Sender::begin(&session, &remote, INBOX, 2, 4 << 20)?;
//! let mut sender = loop {
//!     receiver.poll()?.for_each(drop);
//!     match opening.poll()? {
//!         Ok(sender) => break sender,
//!         Err(still) => opening = still,
//!     }
//! };
//! let soon = Duration::from_secs(1);
//! let large = sender.send(0, &vec![7; 1 << 20], soon)?;
//! let small = sender.send(1, b"overtakes the large one", soon)?;
//! let (mut received, mut sent) = (Vec::new(), Vec::new());
//! while sent.len() < 2 {
//!     received.extend(receiver.poll()?);
//!     sent.extend(sender.poll()?);
//! }
//! assert!(sent.iter().all(|sent| sent.outcome.is_ok()));
//! assert_eq!((sent[0].message, sent[1].message), (small, large));
//! for message in received {
//!     let message = message?;
//!     assert_eq!(message.bytes().len(), if message.stream == 0 { 1 << 20 } else { 23 });
//!     receiver.post(message.into_buffer()).map_err(|_| "too many are posted")?;
//! }
//! # Ok(())
//! # }
//! ```

mod form;
mod heard;
mod incoming;
mod memory;
mod opening;
mod order;
mod pull;
mod reach;
mod receiver;
mod sender;

use nic_wire::{Fate, Status};

use crate::error::OpError;

pub use memory::Draft;
pub use opening::Opening;
pub use receiver::{Arrival, Received, Receiver};
pub use sender::{MessageId, NotSent, Sender, Sent};

/// The longest message in bytes.
pub const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// Streams of a sender.
pub const STREAMS_MAX: u16 = 256;
/// The longest message that travels in its announcement, in bytes; less where the receiver's receive
/// buffers are shorter. With what announces it, it fits a packet of 1400 bytes.
pub const INLINE_BYTES_MAX: usize = 1024;
/// Messages longer than that of one sender that may be out at once.
pub const LARGE_OUT_MAX: usize = 32;

/// Why a message was not sent, or not received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Nothing happened: there is no credit, or no room in the sender's memory or its session.
    /// Poll, then send again.
    #[error("no credit or room for another message now: poll, then send again")]
    Full,
    /// No buffer was posted for it: within the deadline, or it has been withdrawn. Send it again when
    /// the receiver has posted more.
    #[error("the receiver has posted no buffer for it")]
    NoBuffer,
    /// It is longer than any message of this sender, or any posted buffer.
    #[error("the message has {found} bytes; the most is {most}")]
    TooLong {
        /// Its length in bytes.
        found: u64,
        /// What there is room for in bytes.
        most: u64,
    },
    /// The sender has no such stream.
    #[error("stream {found}: the sender was opened with {streams}, numbered from 0")]
    NoStream {
        /// The stream asked for.
        found: u16,
        /// How many there are.
        streams: u16,
    },
    /// It was cancelled here. Unless the fate is [`Fate::Unknown`] it was not received.
    #[error("the message was cancelled ({0})")]
    Cancelled(Fate),
    /// The receiver could not read it, for this reason; it was not received.
    #[error("the receiver could not read the message: {0}")]
    Unread(Status),
    /// The announcement failed. Unless the fate is [`Fate::Unknown`] it was not received.
    #[error("the message was not answered: {status} ({fate})")]
    Failed {
        /// Why.
        status: Status,
        /// Whether it may have been received.
        fate: Fate,
    },
    /// The receiver is gone or has another sender: open another one.
    #[error("the channel is closed ({0}): open another sender")]
    Closed(Status),
    /// The session failed.
    #[error(transparent)]
    Session(#[from] OpError),
}

/// What became of a message that was announced and is not received. Its buffer, if it had one, is
/// posted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The sender has given it up.
    #[error("a message of stream {stream} was cancelled by its sender")]
    Cancelled {
        /// Its stream.
        stream: u16,
    },
    /// Its buffer was withdrawn.
    #[error("a message of stream {stream} came when no buffer was posted")]
    NoBuffer {
        /// Its stream.
        stream: u16,
    },
    /// No posted buffer was long enough.
    #[error("a message of stream {stream} has {found} bytes, more than any posted buffer")]
    TooLong {
        /// Its stream.
        stream: u16,
        /// Its length in bytes.
        found: u64,
    },
    /// It could not be read: its time was over, or the sender has cancelled it or is gone.
    #[error("a message of stream {stream} could not be read: {status}")]
    Unread {
        /// Its stream.
        stream: u16,
        /// Why.
        status: Status,
    },
    /// Another sender was opened meanwhile.
    #[error("a message of stream {stream} ended when another sender was opened")]
    Replaced {
        /// Its stream.
        stream: u16,
    },
}
