//! How elements are made: places within them, and whether arguments make sense.

use super::layout::{Arguments, ELEMENT_BYTES_MAX, Flags, Predicate, Value};
use crate::TRANSFER_BYTES_MAX;
use crate::kernel::BadArguments;

/// Bytes of a unit, in which places within an element are counted.
pub(super) const UNIT: i32 = 4;
/// Bytes of a pointer.
const POINTER_BYTES: i32 = 8;

/// The codes of some arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) flags: Flags,
    pub(super) predicate: Predicate,
    pub(super) descend: Predicate,
    pub(super) value: Value,
}

/// Places within an element. All of them lie within it, once arguments are checked.
impl Shape {
    #[inline(always)]
    pub(super) fn of(arguments: &Arguments) -> Result<Self, BadArguments> {
        let bad = |field| BadArguments::Value { field };
        Ok(Shape {
            flags: Flags::from_bits(arguments.flags.get()).ok_or(bad("flags"))?,
            predicate: Predicate::from_code(arguments.predicate).ok_or(bad("predicate"))?,
            descend: Predicate::from_code(arguments.descend).ok_or(bad("descend"))?,
            value: Value::from_code(arguments.value).ok_or(bad("value"))?,
        })
    }

    #[inline(always)]
    pub(super) fn key_bytes(self) -> i32 {
        if self.flags.contains(Flags::SHORT_KEYS) { 4 } else { 8 }
    }

    #[inline(always)]
    pub(super) fn value_place(self, arguments: &Arguments, field: i32) -> i32 {
        let from = if self.flags.contains(Flags::RELATIVE) { field } else { 0 };
        from + i32::from(arguments.value_offset) * UNIT
    }

    #[inline(always)]
    pub(super) fn child_place(self, arguments: &Arguments, field: i32) -> i32 {
        field + i32::from(arguments.child_offset) * UNIT
    }

    /// Where an element has its field and its pointer, in bytes, for a walk along one chain that
    /// looks for one value; `None` if the arguments, which were checked, ask for more.
    #[inline(always)]
    pub(super) fn plain_places(self, arguments: &Arguments) -> Option<[u16; 2]> {
        let mask = arguments.mask.get();
        let is_plain = self.predicate == Predicate::Equal
            && arguments.levels.get() == 0
            && mask.is_power_of_two()
            && self.flags.contains(Flags::NEXT)
            && !self.flags.contains(Flags::SHORT_KEYS);
        // Below 64.
        let field = mask.trailing_zeros() as u16 * UNIT as u16;
        is_plain.then_some([field, u16::from(arguments.next_offset) * UNIT as u16])
    }

    /// Whether fields, the pointers that lead on, and the value lie within the element; the argument
    /// that is wrong if not.
    #[inline(always)]
    pub(super) fn check(self, arguments: &Arguments) -> Result<(), &'static str> {
        let [first, last] = outermost_fields(arguments);
        let has_fields = arguments.mask.get() != 0;
        let is_tree = arguments.levels.get() > 0;
        if self.predicate == Predicate::AtDepth {
            // Depths are counted along one chain, and there is no field to count from.
            if has_fields || is_tree || self.flags.contains(Flags::RELATIVE) {
                return Err("predicate");
            }
        } else if !has_fields || !holds(arguments, last, self.key_bytes()) {
            return Err("mask");
        }
        let next = i32::from(arguments.next_offset) * UNIT;
        let leads_on = is_tree || self.flags.contains(Flags::NEXT);
        if leads_on && !holds(arguments, next, POINTER_BYTES) {
            return Err("next_offset");
        }
        if is_tree {
            self.check_children(arguments, [first, last])?;
        }
        let length = arguments.value_length.get();
        let within = match self.value {
            Value::None if length == 0 => return Ok(()),
            Value::Pointer if length <= TRANSFER_BYTES_MAX => POINTER_BYTES,
            Value::Within if length <= ELEMENT_BYTES_MAX.into() => length as i32,
            _ => return Err("value_length"),
        };
        let holds = |field| holds(arguments, self.value_place(arguments, field), within);
        if holds(first) && holds(last) { Ok(()) } else { Err("value_offset") }
    }

    #[cold]
    fn check_children(
        self,
        arguments: &Arguments,
        outermost: [i32; 2],
    ) -> Result<(), &'static str> {
        if self.descend == Predicate::AtDepth {
            return Err("descend");
        }
        let holds = |field| holds(arguments, self.child_place(arguments, field), POINTER_BYTES);
        if outermost.into_iter().all(holds) { Ok(()) } else { Err("child_offset") }
    }
}

#[inline(always)]
fn holds(arguments: &Arguments, place: i32, length: i32) -> bool {
    let element = i32::from(arguments.element_bytes.get());
    place >= 0 && place <= element && length <= element - place
}

/// The bytes at which the first and the last field begin.
#[inline(always)]
fn outermost_fields(arguments: &Arguments) -> [i32; 2] {
    let mask = arguments.mask.get();
    if mask == 0 {
        return [0, 0];
    }
    [mask.trailing_zeros() as i32 * UNIT, (63 - mask.leading_zeros() as i32) * UNIT]
}
