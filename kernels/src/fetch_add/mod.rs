//! FETCH_ADD: add to an aligned 8-byte word, wrapping.

mod kernel;
mod layout;

pub use crate::compare_swap::decode_reply;
pub use kernel::FetchAdd;
pub use layout::Arguments;
