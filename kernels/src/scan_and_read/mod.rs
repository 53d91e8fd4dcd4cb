//! SCAN_AND_READ: CliqueMap's lookup in one round trip. Scan a bucket for a hash, follow the
//! pointer of the entry that has it, compare the whole hash, reply with both.
//!
//! The reply is {bucket header, index entry, data entry}, or the bucket header alone; the initiator
//! judges it by [`crate::bucket_table::validate()`].

mod kernel;
mod layout;

pub use kernel::ScanAndRead;
pub use layout::{Arguments, reply_bytes};

#[cfg(test)]
mod tests;
