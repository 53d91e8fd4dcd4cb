//! APPEND: a record at the end of a [log](crate::log), from anywhere.
//!
//! The payload is held by the executor until it is whole; only then are its bytes reserved at the
//! log's tail. From there on the op goes to its end, whatever becomes of its deadline or of its
//! initiator: the record becomes whole, or, if memory refuses it, a record that readers skip. What
//! no engine can do is write after the owner has revoked its right: then the owner mends the log by
//! [`Log::repair`](crate::log::Log::repair). An op that ends while it waits for those before it has
//! an unknown fate: its record is whole, and the next append takes it along.
//!
//! The initiator brings the checksum, so it holds from end to end.
//!
//! | bytes | arguments |
//! |---|---|
//! | 0..8 | address of the log's header, a multiple of 64 |
//! | 8..16 | checksum: XXH3-64 of the payload, seeded with the tag |
//! | 16..24 | tag |
//! | 24..26 | region: its number within the domain, or 0xffff for that of the rkey |
//! | 26..28 | persist: 0 none; 1 flush |
//!
//! | bytes | reply |
//! |---|---|
//! | 0..4 | outcome: 0 appended, 1 full, 2 the record is longer than half of the log |
//! | 4..8 | zero |
//! | 8..16 | position of the record; if it is not appended, the log's tail |
//! | 16..24 | position of the next record; if it is not appended, the log's head |
//! | 24..32 | the log's capacity in bytes |

mod kernel;
mod layout;

pub use kernel::Append;
pub use layout::{Appended, Arguments, Persist, REPLY_BYTES, decode_reply};
