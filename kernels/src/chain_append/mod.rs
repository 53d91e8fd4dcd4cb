//! CHAIN_APPEND: Clover's write in one round trip. The payload, an
//! [`Image`](crate::version_chain::Image), is written into a fresh buffer; a walk as of
//! [CHAIN_READ](crate::chain_read) finds the latest entry; a compare-and-swap links the buffer
//! behind it; and the shortcut is pointed to it. A writer that loses the swap to another walks on
//! and tries again, until it has followed `hops_max` links.
//!
//! | arguments | bytes | meaning |
//! |---|---|---|
//! | cursor | 0-7 | a [`Link`](crate::version_chain::Link), or 0: begin at the shortcut |
//! | fresh | 8-15 | the buffer, as a link with the version that the entry has |
//! | shortcut | 16-23 | address of the shortcut's word, a multiple of 8 |
//! | shortcut_region | 24-25 | its region's number, or [`HOME_REGION`](crate::HOME_REGION) |
//! | hops_max | 26 | how many links are followed at most; at least 1 |
//! | flags | 27 | bit 0: there is a shortcut; bit 1: begin there; bit 2: link without committing, and leave the shortcut; bit 3: the payload was written before, and none comes |
//!
//! | reply | bytes | meaning |
//! |---|---|---|
//! | outcome | 0 | 0 linked, 1 recycled: ask the owner, 2 behind an uncommitted link, 3 had been linked before |
//! | reserved | 1 | zero |
//! | hops | 2-3 | links that were followed |
//! | reserved | 4-7 | zero |
//! | at | 8-15 | the entry behind which it was linked, or where the walk ended |
//! | word | 16-23 | the pointer word of that entry, as it is now or was found; 0 if `at` is the fresh entry itself |
//!
//! After `hops_max` hops the status is [`Continues`](nic_wire::Status::Continues) and the reply is
//! the arguments of the op that goes on, without payload. Only an outcome of 0 or 3 has changed the
//! chain. An op that fails has the fate of its link: not executed, although its buffer may have
//! been written, or executed, although the shortcut may be as it was. Where a flow's end leaves it
//! unknown, ask again with [`Arguments::written`] from a cursor that is older than the op: the walk
//! meets the entry if it was linked, and links it if it was not. (If the payload may not have
//! arrived, give the buffer up instead and see by a CHAIN_READ.)
//!
//! An uncommitted link is the first half of a write that several copies must agree on: readers stop
//! before it, other writers are told to wait, and a compare-and-swap of the word at `at`, from `word`
//! to [`word.committed()`](crate::version_chain::PointerWord::committed), commits it.

mod kernel;
mod layout;

pub use kernel::ChainAppend;
pub use layout::{Arguments, Outcome, Reply};
