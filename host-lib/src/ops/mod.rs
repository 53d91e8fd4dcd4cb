//! The operations that a session knows. Made by [`RemoteRegion`](crate::RemoteRegion) and
//! [`RemoteTable`](crate::RemoteTable).

mod call;
mod chain;
mod consistent_read;
mod indirect_read;
mod log;
mod memory;
mod partition_write;
mod prism;
mod scan;
mod sketch_write;
mod traverse;

pub use call::Call;
pub use chain::{ChainAppend, ChainAppended, ChainEnd, ChainEntry, ChainRead};
pub use consistent_read::ConsistentRead;
pub use indirect_read::{IndirectRead, Lookups};
pub use log::{Append, Fetch, Fetched};
pub use memory::{Bytes, CompareSwap, FetchAdd, Read, Write};
pub use partition_write::PartitionWrite;
pub use prism::{Prism, PrismDone};
pub use scan::{Scan, Scanned};
pub use sketch_write::SketchWrite;
pub use traverse::{Match, Traversal, Traverse};
