//! CHAIN_READ: Clover's read in one round trip, however stale the cursor: walk a
//! [version chain](crate::version_chain) to its latest entry, and read that.
//!
//! There are two ways into a chain. The *cursor* names an entry that the initiator has seen; the
//! *shortcut* is a word beside the memory that mostly names the latest. The walk begins at the
//! cursor and asks the shortcut after `shortcut_after` hops (at once if that is 0 or there is no
//! cursor); where one way ends at a buffer that was recycled it takes the other. When both do, or
//! there is but one, the outcome is [`Outcome::Recycled`]: ask the owner for a new cursor.
//!
//! | arguments | bytes | meaning |
//! |---|---|---|
//! | cursor | 0-7 | a [`Link`](crate::version_chain::Link), or 0: there is none |
//! | shortcut | 8-15 | address of the shortcut's word, a multiple of 8 |
//! | shortcut_region | 16-17 | its region's number, or [`HOME_REGION`](crate::HOME_REGION) |
//! | hops_max | 18-19 | how many links are followed at most; at least 1 |
//! | shortcut_after | 20-21 | after how many hops the shortcut is asked |
//! | flags | 22-23 | bit 0: there is a shortcut |
//!
//! | reply | bytes | meaning |
//! |---|---|---|
//! | outcome | 0 | 0 latest, 1 recycled |
//! | flags | 1 | bit 0: an entry follows whose link is not committed; bit 1: the shortcut led there |
//! | hops | 2-3 | links that were followed |
//! | reserved | 4-7 | zero |
//! | at | 8-15 | the link of the entry: the next cursor |
//! | entry | 16-39 | its header: pointer word, checksum, length, reserved; absent if recycled |
//! | value | 40- | |
//!
//! After `hops_max` hops the status is [`Continues`](nic_wire::Status::Continues) and the reply is
//! the arguments of the op that goes on. The initiator judges the reply by [`validate()`]: an entry
//! whose buffer is recycled while it is read is torn, and its checksum tells.

mod kernel;
mod layout;
mod validate;

pub use kernel::ChainRead;
pub use layout::{Arguments, Outcome, REPLY_HEADER_BYTES, ReplyHeader, reply_bytes};
pub use validate::{Verdict, validate};
