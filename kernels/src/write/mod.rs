//! WRITE: the op's payload to a range, placed as it arrives. Its last naturally aligned word is
//! stored with Release when all other bytes are in: "write the data, then the flag" works.

mod kernel;
mod layout;

pub use kernel::Write;
pub use layout::Arguments;
