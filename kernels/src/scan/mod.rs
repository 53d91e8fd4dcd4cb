//! SCAN: a range of fixed-size records in one round trip. A predicate chooses records by one of
//! their fields; the answer is their number, the sum, least or greatest of a field, or the rows
//! themselves, of each the bytes that are asked for.
//!
//! | arguments | bytes | meaning |
//! |---|---|---|
//! | address | 0-7 | of the first record |
//! | value | 8-15 | what the predicate compares with; a signed one is extended to 8 bytes |
//! | count | 16-19 | how many records |
//! | region | 20-21 | their region's number, or [`HOME_REGION`](crate::HOME_REGION) |
//! | record_bytes | 22-23 | length of a record: 1 to 4096 |
//! | field_offset | 24-25 | where in a record the compared field begins |
//! | field_width | 26 | 1, 2, 4 or 8 bytes, little-endian; anything if all records match |
//! | comparison | 27 | 0 all records match, 1 =, 2 !=, 3 <, 4 <=, 5 >, 6 >=: field on the left |
//! | part_offset | 28-29 | where in a record the part begins that is answered with |
//! | part_length | 30-31 | its length: 1, 2, 4 or 8 for a sum, least or greatest, up to 472 for rows; anything for a count |
//! | answer | 32 | 0 count, 1 sum, 2 least, 3 greatest, 4 rows |
//! | signed | 33 | bit 0: the field is signed; bit 1: the part is |
//! | reserved | 34-35 | zero |
//!
//! The reply is {count u64, number i128}, 24 bytes: how many records matched, and the sum, least or
//! greatest (0 for a count, or if none matched); or the parts of the matching records, one behind
//! the other. Rows end where 512 bytes or the landing place do. A scan that was stopped, there or at
//! the executor's bound, has the status [`Continues`](nic_wire::Status::Continues): behind the reply
//! so far stand the arguments with which another op goes on, whose reply is to be added.
//! [`Answer::decode`] tells them apart.
//!
//! Records are fetched 4 KiB at a time; a field that is aligned in memory is read in one piece if
//! `address` and `record_bytes` are multiples of 8, but a scan of records that change meanwhile is
//! no snapshot.

mod kernel;
mod layout;
mod validate;

pub use kernel::Scan;
pub use layout::{Arguments, Comparison, Field, Kind, PART_BYTES_MAX, RECORD_BYTES_MAX};
pub use validate::Answer;

#[cfg(test)]
mod tests;
