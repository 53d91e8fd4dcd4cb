//! Plain walks, which the executor makes by itself.

use crate::kernel::Pointer;
use crate::pointer_form::PointerForm;

/// A way from element to element that passes by each whose field holds another value than the one
/// looked for, as [`Step::Walk`](crate::Step::Walk) wants it.
///
/// It ends before an element that is not passed by: one whose field holds the value, or that leads
/// nowhere, or that cannot be read, or one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The first element.
    pub from: Pointer,
    /// How elements point to each other.
    pub form: PointerForm,
    /// The value that is looked for.
    pub key: u64,
    /// Where in an element its field begins, 8 bytes long, and the pointer to the next one; in
    /// bytes.
    pub places: [u16; 2],
    /// Length of an element in bytes; field and pointer lie within.
    pub element_bytes: u16,
    /// How many elements may be passed by.
    pub hops_max: u32,
}

impl Walk {
    /// That of a kernel that does not walk.
    pub(crate) const NOWHERE: Walk = Walk {
        from: Pointer { region: 0, address: 0 },
        form: PointerForm::Tagged,
        key: 0,
        places: [0, 0],
        element_bytes: 0,
        hops_max: 0,
    };
}
