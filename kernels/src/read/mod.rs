//! READ: a range of any size up to [`crate::TRANSFER_BYTES_MAX`], straight into the reply.

mod kernel;
mod layout;

pub use kernel::Read;
pub use layout::Arguments;
