//! INDIRECT_READ: Snap's batched indirect read. An indirection table in the application's memory
//! gives the address of each value; one op looks many entries up, each as a strand of its own, and
//! their cache misses overlap.
//!
//! Entries of the table lie at a fixed distance from each other and begin with a pointer, written
//! as [`PointerForm`](crate::PointerForm) says. All values have one length. A null pointer yields
//! an empty reply. What is read may be torn: let values prove themselves.
//!
//! | bytes | argument | |
//! |---|---|---|
//! | 0..8 | `table` | address of entry 0 |
//! | 8..12 | `length` | bytes of a value |
//! | 12..14 | `region` | of the table |
//! | 14..16 | `value_region` | of the values, if pointers are plain |
//! | 16..18 | `flags` | [`Flags`] |
//! | 18 | `count` | how many lookups there are |
//! | 19 | `entry_words` | distance of the entries, in words of 8 bytes |
//! | 20.. | | `count` numbers of entries, of 4 bytes, or of 2 ([`Flags::SHORT_INDICES`]) |
//!
//! The reply has a part for each lookup, in their order, [`Arguments::stride`] bytes apart: a
//! [`StrandHeader`](crate::StrandHeader), the value, and zeros up to a multiple of 8. Each lookup
//! has its own status; the op itself fails only as a whole.

mod kernel;
mod layout;
pub mod writer;

pub use kernel::IndirectRead;
pub use layout::{Arguments, Flags, INDICES_MAX, SHORT_INDICES_MAX, TooMany};

#[cfg(test)]
mod tests;
