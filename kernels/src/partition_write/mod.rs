//! PARTITION_WRITE: distributes a stream of records over partitions by a key of theirs: StRoM's
//! shuffle (StRoM §6.3). What kind of records there are, how they are distributed and where the
//! partitions lie is said by a header that the owner has laid; an op names that and brings records.
//!
//! The payload is held until it is whole. Then its records are counted and put in the order of their
//! partitions, 16 KiB at a time, the order within a partition kept. One after the other, each
//! partition gets a place for all of the op's records behind what is there; then they are stored,
//! many runs of one partition each by every step, and counted as written. Many ops may do so at once.
//! Records of one partition are whole up to `reserved` when `written` has come to the same.
//!
//! A partition that has no room for all of the op's records, or too many others that are faster, ends
//! the op: partitions below have their records, it and those above get none. The reply says which,
//! and an op with the same records that names it goes on without writing any twice.
//!
//! | bytes | arguments |
//! |---|---|
//! | 0..8 | address of the header, a multiple of 64 |
//! | 8..10 | its region's number within the domain, or 0xffff for that of the rkey |
//! | 10..12 | records of partitions below this one are left out: they are written |
//! | 12..16 | zero |
//!
//! | bytes | reply |
//! |---|---|
//! | 0..2 | the partition to go on with, or 0xffff: all is written |
//! | 2..8 | zero |
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
mod lots;
mod validate;
mod writer;

pub use kernel::PartitionWrite;
pub use layout::{
    Answer, Arguments, By, HEADER_BYTES, MAGIC, PARTITION_BITS_MAX, RECORD_BYTES_MAX, Shape,
};
pub use validate::{BadHeader, Counters};
pub use writer::{FormatError, Partitions};

#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
