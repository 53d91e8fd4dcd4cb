//! TRAVERSE: StRoM's pointer chase (EuroSys 2020, §6.2) with bounds. Walk from element to element
//! until a key field fits, follow the pointer that belongs to it, reply with the value.
//!
//! An element is up to [`ELEMENT_BYTES_MAX`] bytes, whose places are counted in units of 4 bytes as
//! StRoM counts them. The mask says at which of them a key begins; keys are unsigned numbers of 8
//! or 4 bytes. The first key field for which the predicate holds is the match, and the value's
//! pointer stands at a fixed place of the element or at a distance from that field. A field whose
//! value pointer is null is an empty place and matches nothing. Without a match the pointer to the
//! next element is followed, if elements have one and it is not null. How pointers are written is
//! told by [`PointerForm`](crate::PointerForm).
//!
//! **Trees.** The first `levels` elements are inner nodes: there the *descend* predicate is asked,
//! the pointer at a distance from the first field for which it holds leads to the child, and the
//! next pointer is the child behind the last key. So a B-tree whose unused keys are `u64::MAX` is
//! gone down with [`Predicate::Greater`], and what follows in its leaves is an ordinary search.
//! With [`Flags::MATCH_ABOVE`] a match is looked for in inner nodes as well, before going down:
//! that is a binary search tree, or a B-tree that keeps values in all of its nodes.
//!
//! **Depth.** [`Predicate::AtDepth`] matches the element that lies `key` pointers behind the first
//! (Clio's chase by depth).
//!
//! **Bounds.** At `hops_max` elements, `bytes_max` bytes of elements or the executor's own limits
//! the op ends as [`Status::Continues`](nic_wire::Status::Continues) with arguments from which it
//! goes on. Elements are private copies, fetched one by one; the value is read when the reply is
//! made and may be torn: let it prove itself.
//!
//! | bytes | argument | |
//! |---|---|---|
//! | 0..8 | `start` | address of the first element |
//! | 8..16 | `key` | what fields are compared with, or the depth |
//! | 16..24 | `mask` | bit n: a key begins at byte 4n |
//! | 24..28 | `value_length` | bytes of the value |
//! | 28..32 | `hops_max` | elements that this op may look at; 0: as many as the executor allows |
//! | 32..36 | `bytes_max` | bytes of elements that it may fetch; 0: the same |
//! | 36..40 | `hops_before` | elements that ops before this one have looked at |
//! | 40..42 | `region` | of the first element, and of all that plain pointers lead to |
//! | 42..44 | `value_region` | of the values that plain pointers lead to |
//! | 44..46 | `element_bytes` | 4 to 256, a multiple of 4 |
//! | 46..48 | `flags` | [`Flags`] |
//! | 48 | `predicate` | [`Predicate`] |
//! | 49 | `value` | [`Value`] |
//! | 50 | `value_offset` | of the value or its pointer, in units of 4 bytes, signed |
//! | 51 | `next_offset` | of the pointer to the next element, in units of 4 bytes |
//! | 52..54 | `levels` | how many levels of inner nodes are gone down |
//! | 54 | `descend` | [`Predicate`] |
//! | 55 | `child_offset` | of a child's pointer from its key, in units of 4 bytes, signed |
//!
//! | bytes | reply | |
//! |---|---|---|
//! | 0..4 | `hops` | elements looked at, those of ops before included |
//! | 4 | `is_found` | 1 if there was a match |
//! | 5 | `field` | which unit of the element matched |
//! | 6 | `element_region` | where the match, or else the last element, is |
//! | 7 | `value_region` | where the value is |
//! | 8..16 | `element` | address of the match, or else of the last element |
//! | 16..24 | `pointer` | address of the value |
//! | 24.. | | the value, if there was a match |

mod kernel;
mod layout;
mod shape;
pub mod writer;

pub use kernel::Traverse;
pub use layout::{Arguments, ELEMENT_BYTES_MAX, Flags, Found, Predicate, ReplyHeader, Value};

#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
