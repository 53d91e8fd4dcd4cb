//! A kernel that is not one of the built-in ones, as docs/own-kernel.md explains it: the lookup in a
//! skip list, next to the memory that the list lies in.
//!
//! | file | what |
//! |---|---|
//! | `layout.rs` | what lies in the region and what travels: nodes, arguments |
//! | `kernel.rs` | the program that the target's engine runs |
//! | `operation.rs` | how an initiator asks for it, and what it gets |
//! | `list.rs` | the owner's side: a list in a region of its own |
//! | `main.rs` | a daemon that runs this kernel |
#![forbid(unsafe_code)]

mod kernel;
mod layout;
mod list;
mod operation;

pub use kernel::LowerBound;
pub use layout::{Arguments, HEAD, LEVELS, NODE_BYTES, Node};
pub use list::{Full, SkipList};
pub use operation::{Bound, FindLowerBound};
