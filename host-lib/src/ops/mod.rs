//! The operations that a session knows. Made by [`RemoteRegion`](crate::RemoteRegion) and
//! [`RemoteTable`](crate::RemoteTable).

mod call;
mod chain;
mod memory;
mod prism;
mod scan;

pub use call::Call;
pub use chain::{Appended, ChainAppend, ChainEnd, ChainEntry, ChainRead};
pub use memory::{Bytes, CompareSwap, FetchAdd, Read, Write};
pub use prism::{Prism, PrismDone};
pub use scan::{Scan, Scanned};
