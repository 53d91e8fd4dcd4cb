//! The operations that a session knows. Made by [`RemoteRegion`](crate::RemoteRegion) and
//! [`RemoteTable`](crate::RemoteTable).

mod call;
mod log;
mod memory;

pub use call::Call;
pub use log::{Append, Fetch, Fetched};
pub use memory::{Bytes, CompareSwap, FetchAdd, Read, Write};
