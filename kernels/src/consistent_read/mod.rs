//! CONSISTENT_READ: an object that carries a checksum is read whole or not at all (StRoM §6.3).
//! The checksum is verified next to the memory, over the very copy that is then the reply; what was
//! torn is read again there, a bounded number of times, at no round trip each.
//!
//! The checksum stands anywhere in the object, little-endian: behind what it covers, as StRoM has
//! it, or in a header before it. What it covers is one range of the object without the checksum
//! itself.
//!
//! | bytes | argument | |
//! |---|---|---|
//! | 0..8 | `address` | of the object |
//! | 8..10 | `region` | of the object |
//! | 10..12 | `length` | bytes of the object, at most 4096 |
//! | 12..14 | `checksum_at` | where in the object the checksum stands |
//! | 14..16 | `from` | where in the object begins what it covers |
//! | 16..18 | `to` | where that ends |
//! | 18 | `checksum` | [`Checksum`] |
//! | 19 | `retries` | how often a torn object is read again |
//!
//! The reply is the object. One that stayed torn ends the op as [`Status::Torn`]: its owner kept
//! writing it, or it is damaged. An object of more than 512 bytes needs one of the executor's few
//! long buffers; while none is free the op ends as [`Status::Busy`].
//!
//! [`Status::Torn`]: nic_wire::Status::Torn
//! [`Status::Busy`]: nic_wire::Status::Busy

mod kernel;
mod layout;
mod validate;
pub mod writer;

pub use kernel::ConsistentRead;
pub use layout::{Arguments, Checksum, OBJECT_BYTES_MAX};

#[cfg(test)]
mod tests;
