//! The operations that a session knows. Made by [`RemoteRegion`](crate::RemoteRegion) and
//! [`RemoteTable`](crate::RemoteTable).

mod call;
mod chain;
mod memory;

pub use call::Call;
pub use chain::{Appended, ChainAppend, ChainEnd, ChainEntry, ChainRead};
pub use memory::{Bytes, CompareSwap, FetchAdd, Read, Write};
