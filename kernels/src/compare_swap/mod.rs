//! COMPARE_SWAP: replace an aligned 8-byte word if it holds an expected value.

mod kernel;
mod layout;

pub use kernel::CompareSwap;
pub use layout::{Arguments, decode_reply};
