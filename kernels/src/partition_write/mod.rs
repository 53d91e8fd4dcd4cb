//! PARTITION_WRITE: distributes a stream of records over partitions by a key of theirs: StRoM's
//! shuffle (StRoM §6.3). What kind of records there are, how they are distributed and where the
//! partitions lie is said by a header that the owner has laid; an op names that and brings records.
//!
//! The payload is held until it is whole. Then block by block, 4 KiB of payload each, the records
//! are put in the order of their partitions, the order within a partition kept; each run of one
//! partition is reserved behind what is there, stored, and counted as written. Many ops may do so at
//! once. Records of one partition are whole up to `reserved` when `written` has come to the same.
//!
//! A run for which a partition has no room ends the op: the reply says how far it came, and an op
//! with the same records from there on, which names the partition to begin with, goes on without
//! writing any twice. How many runs an op may make is bounded, so many partitions take shorter
//! payloads: [`Shape::payload_bytes_max`].
//!
//! | bytes | arguments |
//! |---|---|
//! | 0..8 | address of the header, a multiple of 64 |
//! | 8..10 | its region's number within the domain, or 0xffff for that of the rkey |
//! | 10..12 | of the first block, partitions below this one are left out: they are written |
//! | 12..16 | zero |
//!
//! | bytes | reply |
//! |---|---|
//! | 0..4 | how many bytes of the payload are in blocks that are written whole; all: the op is done |
//! | 4..6 | of the block behind them, the partition that has no room; else 0 |
//! | 6..8 | zero |
//! | 8..16 | how many records were written |
//!
//! | bytes | header |
//! |---|---|
//! | 0..8 | [`MAGIC`] |
//! | 8..16 | records that a partition has room for |
//! | 16..18 | length of a record: 8 to 256, a power of two |
//! | 18..20 | where in a record its key is, 8 bytes: a multiple of 8 |
//! | 20 | logarithm of the number of partitions, 0 to 8 |
//! | 21 | 0 radix, 1 hash |
//! | 22 | radix: by how many bits the key is shifted |
//! | 23..64 | zero |
//! | 64.. | for each partition {reserved u64, written u64}, in records |
//! | then, at a multiple of 64 | the partitions, one behind the other |

mod kernel;
mod layout;
mod validate;
mod writer;

pub use kernel::PartitionWrite;
pub use layout::{
    Answer, Arguments, By, HEADER_BYTES, MAGIC, PARTITION_BITS_MAX, RECORD_BYTES_MAX, Shape,
};
pub use validate::{BadHeader, Counters};
pub use writer::{FormatError, Partitions};

#[cfg(test)]
mod tests;
