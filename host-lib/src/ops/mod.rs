//! The operations that a session knows. Made by [`RemoteRegion`](crate::RemoteRegion) and
//! [`RemoteTable`](crate::RemoteTable).

mod call;
mod memory;
mod traverse;

pub use call::Call;
pub use memory::{Bytes, CompareSwap, FetchAdd, Read, Write};
pub use traverse::{Match, Traversal, Traverse};
