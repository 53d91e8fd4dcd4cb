//! Benches: each figure beside its limit, measured in the same run.
//!
//! `cargo bench -p nic-benches` runs the micro benches (criterion): ring, wire, flow, and kernels
//! with their executor; `-- --test` runs each once, to see that it works. `cargo run --release
//! -p nic-benches -- NAME --json` makes figures that can be compared across a noisy machine: sides
//! take turns in short slices, and slices during which the machine moved are thrown away.
//!
//! Here is what both work on.
#![forbid(unsafe_code)]

mod flow_pair;
mod in_flight;
mod lists;
mod loads;
mod lookups;
mod packets;
mod random;
mod walks;

pub use flow_pair::FlowPair;
pub use lists::{ListWords, Lists};
pub use loads::RegionWords;
pub use lookups::{LookupTarget, VALUE_BYTES, memory};
pub use packets::{emit_requests, parse_requests, request_count};
pub use random::{mixed, shuffled};
pub use walks::{HOPS, WalkTarget};

/// Whether the program was asked to run every bench once, as `cargo bench -- --test` does: then
/// what it works on may be small.
pub fn is_trial() -> bool {
    std::env::args().any(|argument| argument == "--test")
}
