//! Memory over regions that are mapped into this process.
//!
//! Submitting checks and prefetches, polling copies. Tables are sized at construction and indexed,
//! never searched, by accesses. One engine owns a [`MappedMemory`]; the control plane changes it
//! only between the engine's turns.
//!
//! What keeps strangers out: the rkey's secret admits an op to one export; every access of the op
//! checks that the export lives, that it allows this kind of access and this region, and that the
//! range lies inside. A region that is given up is out of every export's reach, so its number can
//! be given out again.

mod access;
mod ahead;
mod backing;
mod control;
mod lost;
mod tables;

pub use access::Pending;
pub use backing::{Backing, Flushes};
pub use control::{ControlError, check_base};
pub use tables::{DomainId, MappedMemory, Tables};

#[cfg(test)]
mod tests;
