//! FETCH: records of a [log](crate::log) from a position up to the watermark, as many as the reply
//! has room for.
//!
//! If there is none yet, the op may wait: it is parked, costs nothing, and is woken by the append
//! that moves the watermark if that runs on the same engine. Appends of the application itself and
//! of other engines are found by looking again, every
//! [`Limits::look_again`](crate::Limits::look_again) (1 ms). When its time is over the reply has no
//! records; the op's own deadline should be later than that.
//!
//! The bytes of the log come as they are. The initiator looks them through
//! ([`Batch::parse`](crate::log::Batch::parse)): each record says where it belongs and has a
//! checksum, so one that is overwritten meanwhile is noticed; one that is cut by the reply's end
//! is left for the next time.
//!
//! | bytes | arguments |
//! |---|---|
//! | 0..8 | address of the log's header, a multiple of 64 |
//! | 8..16 | the position from which to read, a multiple of 32: one that an append or a fetch gave |
//! | 16..20 | how long to wait for records, in microseconds |
//! | 20..22 | region: its number within the domain, or 0xffff for that of the rkey |
//! | 22..24 | zero |
//!
//! | bytes | reply |
//! |---|---|
//! | 0..4 | outcome: 0 records, 1 trimmed: the log begins behind the position, 2 beyond: it ends before |
//! | 4..8 | length of what follows in bytes |
//! | 8..16 | the position |
//! | 16..24 | the log's head |
//! | 24..32 | its watermark |
//! | 32.. | bytes of the log |

mod kernel;
mod layout;

pub use kernel::Fetch;
pub use layout::{Arguments, Outcome, ReplyHeader};
