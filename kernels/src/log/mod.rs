//! A log of records in a region: many append to it and read from it, remotely by
//! [`append`](crate::append) and [`fetch`](crate::fetch), its owner by [`Log`].
//!
//! A ring of bytes, addressed by *positions* that only grow; position p lies p modulo the capacity
//! behind the header. Three words say how far things are, head <= watermark <= tail:
//!
//! | word | moved by | meaning |
//! |---|---|---|
//! | head | the owner: [`Log::trim`] | what is before it may be overwritten |
//! | watermark | appends, in order | all records before it are whole |
//! | tail | appends, by compare-and-swap | where the next record is reserved |
//!
//! An append reserves its bytes at the tail, writes them, marks its record as whole, and moves the
//! watermark over all whole records that it finds there. So records become visible in the order of
//! the reservations, and one that was left behind is taken along by the next. A log whose head
//! never moves is a segment that is full at its end; one that is trimmed goes round.
//!
//! | bytes | header, at a multiple of 64 |
//! |---|---|
//! | 0..8 | [`layout::MAGIC`] |
//! | 8..16 | capacity in bytes, a multiple of 32 |
//! | 16..24 | head |
//! | 24..32 | watermark |
//! | 32..40 | tail |
//! | 40..64 | zero |
//!
//! | bytes | record, at a position that is a multiple of 32 |
//! |---|---|
//! | 0..8 | state: the record's own position and kind, masked; stored last |
//! | 8..12 | length of what follows the header |
//! | 12..16 | zero |
//! | 16..24 | checksum: XXH3-64 of the payload, seeded with the tag; computed by who appends |
//! | 24..32 | tag: whatever who appends wants to know it by |
//! | 32.. | payload, filled up to a multiple of 32 |
//!
//! No record goes over the ring's end: what is left there is a record of the kind *skip*, which
//! readers pass over, as they do over one whose append failed. So a record of more than half of the
//! ring may never fit, and none is taken: [`payload_bytes_max`].
//!
//! A log in a region that is kept in a file outlives crashes. Appends that persist write nothing but
//! their records to the file; its header is the owner's, who writes it when he formats the log, and
//! when he has trimmed it and wants to be sure of that. [`Log::recover`] therefore believes the
//! records alone, which name their positions and carry checksums, and only the header's capacity
//! and head.

pub mod layout;
mod recovery;
mod validate;
mod writer;

pub use layout::{HEADER_BYTES, RECORD_HEADER_BYTES, checksum, payload_bytes_max, record_bytes};
pub use recovery::Recovery;
pub use validate::{BadBatch, Batch, Record, Records, reply_bytes};
pub use writer::{Log, LogError};

#[cfg(test)]
mod durability;
#[cfg(test)]
mod fates;
#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod waiting;
