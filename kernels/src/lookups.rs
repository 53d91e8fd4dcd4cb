//! Lookups, which the executor makes by itself.

use crate::pointer_form::PointerForm;

/// What the strands of an op have in common where each of them reads one pointer, follows it, and
/// replies with the value that it leads to, or with nothing if it is null. Where each pointer stands
/// is what [`Kernel::lookup`](crate::Kernel::lookup) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// The region of the pointers; the op's arguments name it.
    pub region: u8,
    /// How they are written.
    pub form: PointerForm,
    /// Length of a value in bytes.
    pub length: u32,
}
