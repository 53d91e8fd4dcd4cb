//! What a PRISM op says, on the wire.

use crate::kernel::{BadArguments, HOME_REGION, Pointer};
use crate::{ARGUMENT_BYTES_MAX, TRANSFER_BYTES_MAX};

/// The most primitives in an op.
pub const PRIMITIVES_MAX: usize = 4;
/// The longest READ that is copied when its turn comes, in bytes.
pub(super) const GATHERED_READ_BYTES_MAX: u32 = 256;
/// The longest that all of them may be together.
pub(super) const GATHERED_BYTES_MAX: u32 =
    (crate::GATHER_BYTES_MAX - super::validate::HEAD_BYTES) as u32;

const READ: u8 = 0;
const WRITE: u8 = 1;
const ALLOCATE: u8 = 2;
const COMPARE_SWAP: u8 = 3;
const COMPARE_SWAP_MASKED: u8 = 4;

bitflags::bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Flags: u8 {
        const CONDITIONAL = 1;
        const INDIRECT = 2;
        const BOUNDED = 4;
        const AT_OUTPUT = 8;
        const DATA_IS_OUTPUT = 16;
        const COMPARE_IS_OUTPUT = 32;
    }
}

const ADDRESS_MASK: u64 = (1 << 56) - 1;

/// A pointer as it stands in memory and in the output: region in the highest byte, address below.
/// Of the address the low 56 bits are kept.
#[inline]
pub const fn pack(pointer: Pointer) -> u64 {
    (pointer.region as u64) << 56 | pointer.address & ADDRESS_MASK
}

/// Where such a word points.
#[inline]
pub const fn unpack(word: u64) -> Pointer {
    Pointer { region: (word >> 56) as u8, address: word & ADDRESS_MASK }
}

/// What a primitive works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The region's number within the domain, or [`HOME_REGION`].
    pub region: u16,
    /// The address there; an offset if the output points to the target.
    pub address: u64,
    /// Whether a pointer to the target stands there.
    pub indirect: bool,
    /// Whether its bound stands behind that pointer.
    pub bounded: bool,
    /// Whether `address` counts from where the output points.
    pub at_output: bool,
}

impl Target {
    /// An address of the region that the rkey names.
    pub const fn home(address: u64) -> Self {
        Self::new(HOME_REGION, address)
    }

    /// An address of a region that the rkey may follow pointers into.
    pub const fn new(region: u16, address: u64) -> Self {
        Target { region, address, indirect: false, bounded: false, at_output: false }
    }

    /// So many bytes behind where the output points.
    pub const fn output(offset: u64) -> Self {
        Target { at_output: true, ..Self::new(HOME_REGION, offset) }
    }

    /// Where the pointer points that stands there.
    #[must_use]
    pub const fn indirect(self) -> Self {
        Target { indirect: true, ..self }
    }

    /// The same, within the bound that stands behind the pointer.
    #[must_use]
    pub const fn bounded(self) -> Self {
        Target { indirect: true, bounded: true, ..self }
    }
}

/// A word that a compare-and-swap is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// This one.
    Word(u64),
    /// The output.
    Output,
}

/// How the word in memory, on the left, must compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Comparison {
    /// It is equal.
    Equal = 0,
    /// It is less, unsigned.
    Less = 1,
    /// It is greater, unsigned.
    Greater = 2,
}

/// A compare-and-swap of an aligned word of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompareSwap {
    /// The word.
    pub target: Target,
    /// How it must compare.
    pub comparison: Comparison,
    /// With what.
    pub compare: Operand,
    /// What it is replaced by.
    pub swap: Operand,
    /// Which bits are compared.
    pub compare_mask: u64,
    /// Which bits are replaced.
    pub swap_mask: u64,
}

impl CompareSwap {
    /// Replaces the whole word if it compares so.
    pub const fn new(
        target: Target,
        comparison: Comparison,
        compare: Operand,
        swap: Operand,
    ) -> Self {
        let (compare_mask, swap_mask) = (u64::MAX, u64::MAX);
        CompareSwap { target, comparison, compare, swap, compare_mask, swap_mask }
    }

    /// Compares and replaces only these bits.
    #[must_use]
    pub const fn masked(self, compare_mask: u64, swap_mask: u64) -> Self {
        CompareSwap { compare_mask, swap_mask, ..self }
    }

    const fn is_masked(&self) -> bool {
        self.compare_mask != u64::MAX || self.swap_mask != u64::MAX
    }
}

/// One of the primitives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primitive {
    /// Reads.
    Read {
        /// From where.
        target: Target,
        /// How many bytes at most.
        length: u32,
    },
    /// Writes the op's payload.
    Write {
        /// Whither.
        target: Target,
    },
    /// Writes the output, a word of 8 bytes, at a multiple of 8.
    WriteOutput {
        /// Whither.
        target: Target,
    },
    /// Takes a buffer from a [`FreeList`](super::FreeList).
    Allocate {
        /// The list's region, or [`HOME_REGION`].
        region: u16,
        /// Where the list begins.
        list: u64,
    },
    /// Compares and swaps.
    CompareSwap(CompareSwap),
}

impl Primitive {
    /// How long it is in the arguments, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        match self {
            Primitive::CompareSwap(swap) if swap.is_masked() => 48,
            Primitive::CompareSwap(_) => 32,
            _ => 16,
        }
    }

    /// Takes the first primitive off encoded ones: it, and whether it is conditional.
    pub(super) fn take(bytes: &[u8]) -> Result<(Self, bool), BadArguments> {
        let (head, rest) = bytes
            .split_first_chunk::<16>()
            .ok_or(BadArguments::Length { found: bytes.len(), expected: 16 })?;
        let refused = |field| BadArguments::Value { field };
        let flags = Flags::from_bits(head[1]).ok_or(refused("flags"))?;
        let word = |place: usize| {
            let word = rest.get(place..).and_then(|rest| rest.first_chunk::<8>());
            let short = BadArguments::Length { found: bytes.len(), expected: place + 24 };
            word.map(|word| u64::from_le_bytes(*word)).ok_or(short)
        };
        let [.., a, b, c, d, e, f, g, h] = *head;
        let target = Target {
            region: u16::from_le_bytes([head[2], head[3]]),
            address: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            indirect: flags.contains(Flags::INDIRECT),
            bounded: flags.contains(Flags::BOUNDED),
            at_output: flags.contains(Flags::AT_OUTPUT),
        };
        if target.bounded && !target.indirect {
            return Err(refused("flags"));
        }
        let detail = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let place = Flags::CONDITIONAL | Flags::INDIRECT | Flags::BOUNDED | Flags::AT_OUTPUT;
        let (primitive, known) = match head[0] {
            READ if (1..=TRANSFER_BYTES_MAX).contains(&detail) => {
                (Primitive::Read { target, length: detail }, place)
            }
            READ => return Err(refused("length")),
            WRITE if detail == 0 && flags.contains(Flags::DATA_IS_OUTPUT) => {
                (Primitive::WriteOutput { target }, place | Flags::DATA_IS_OUTPUT)
            }
            WRITE if detail == 0 => (Primitive::Write { target }, place),
            ALLOCATE if detail == 0 => {
                let Target { region, address: list, .. } = target;
                (Primitive::Allocate { region, list }, Flags::CONDITIONAL)
            }
            kind @ (COMPARE_SWAP | COMPARE_SWAP_MASKED) => {
                let operand = |flag, word| match flags.contains(flag) {
                    true => Operand::Output,
                    false => Operand::Word(word),
                };
                let comparison = match detail {
                    0 => Comparison::Equal,
                    1 => Comparison::Less,
                    2 => Comparison::Greater,
                    _ => return Err(refused("comparison")),
                };
                let compare = operand(Flags::COMPARE_IS_OUTPUT, word(0)?);
                let swap = operand(Flags::DATA_IS_OUTPUT, word(8)?);
                let swap = CompareSwap::new(target, comparison, compare, swap);
                let swap = match kind {
                    COMPARE_SWAP => swap,
                    _ => swap.masked(word(16)?, word(24)?),
                };
                // Which of the two kinds it is must be told by its masks.
                if (kind == COMPARE_SWAP_MASKED) != swap.is_masked() {
                    return Err(refused("compare_mask"));
                }
                (Primitive::CompareSwap(swap), Flags::all())
            }
            _ => return Err(refused("kind")),
        };
        if !known.contains(flags) {
            return Err(refused("flags"));
        }
        Ok((primitive, flags.contains(Flags::CONDITIONAL)))
    }

    fn encode(&self, conditional: bool, into: &mut [u8]) {
        let mut flags = Flags::empty();
        flags.set(Flags::CONDITIONAL, conditional);
        let (kind, detail, target) = match *self {
            Primitive::Read { target, length } => (READ, length, target),
            Primitive::Write { target } => (WRITE, 0, target),
            Primitive::WriteOutput { target } => {
                flags |= Flags::DATA_IS_OUTPUT;
                (WRITE, 0, target)
            }
            Primitive::Allocate { region, list } => (ALLOCATE, 0, Target::new(region, list)),
            Primitive::CompareSwap(swap) => {
                let mut word = |operand, flag| match operand {
                    Operand::Word(word) => word,
                    Operand::Output => {
                        flags |= flag;
                        0
                    }
                };
                let compare = word(swap.compare, Flags::COMPARE_IS_OUTPUT);
                let new = word(swap.swap, Flags::DATA_IS_OUTPUT);
                into[16..24].copy_from_slice(&compare.to_le_bytes());
                into[24..32].copy_from_slice(&new.to_le_bytes());
                if swap.is_masked() {
                    into[32..40].copy_from_slice(&swap.compare_mask.to_le_bytes());
                    into[40..48].copy_from_slice(&swap.swap_mask.to_le_bytes());
                }
                let kind = if swap.is_masked() { COMPARE_SWAP_MASKED } else { COMPARE_SWAP };
                (kind, swap.comparison as u32, swap.target)
            }
        };
        flags.set(Flags::INDIRECT, target.indirect);
        flags.set(Flags::BOUNDED, target.bounded);
        flags.set(Flags::AT_OUTPUT, target.at_output);
        into[0] = kind;
        into[1] = flags.bits();
        into[2..4].copy_from_slice(&target.region.to_le_bytes());
        into[4..8].copy_from_slice(&detail.to_le_bytes());
        into[8..16].copy_from_slice(&target.address.to_le_bytes());
    }
}

/// The primitives of an op, encoded as its arguments.
///
/// ```
/// use nic_kernels::prism::{Chain, CompareSwap, Comparison, Operand, Primitive, Target};
///
/// // Allocate, write the payload there, and swing the pointer at 512 to it if it still is 7.
/// let swing = CompareSwap::new(
///     Target::home(512), Comparison::Equal, Operand::Word(7), Operand::Output,
/// );
/// let chain = Chain::first(Primitive::Allocate { region: 0, list: 0 })
///     .then(Primitive::Write { target: Target::output(0) })?
///     .then(Primitive::CompareSwap(swing))?;
/// assert_eq!(chain.arguments().len(), 16 + 16 + 32);
/// # Ok::<(), nic_kernels::prism::ChainError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    bytes: [u8; ARGUMENT_BYTES_MAX],
    length: u8,
    count: u8,
    /// Bytes of reply beside the head.
    read_bytes: u32,
}

/// Why a primitive cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There are four, or they are too long together.
    #[error("an op has at most 4 primitives and 128 bytes of them")]
    Full,
}

impl Chain {
    /// A chain that begins with a primitive.
    pub fn first(primitive: Primitive) -> Self {
        let bytes = [0; ARGUMENT_BYTES_MAX];
        let empty = Chain { bytes, length: 0, count: 0, read_bytes: 0 };
        empty.add(primitive, false).expect("a single primitive has at most 48 bytes")
    }

    /// Then a primitive, if the one before succeeds.
    ///
    /// # Errors
    /// There is no room.
    pub fn then(self, primitive: Primitive) -> Result<Self, ChainError> {
        self.add(primitive, true)
    }

    /// Then a primitive in any case.
    ///
    /// # Errors
    /// There is no room.
    pub fn also(self, primitive: Primitive) -> Result<Self, ChainError> {
        self.add(primitive, false)
    }

    fn add(mut self, primitive: Primitive, conditional: bool) -> Result<Self, ChainError> {
        let length = usize::from(self.length);
        let end = length + primitive.bytes();
        let place = self.bytes.get_mut(length..end).ok_or(ChainError::Full)?;
        if usize::from(self.count) == PRIMITIVES_MAX {
            return Err(ChainError::Full);
        }
        primitive.encode(conditional, place);
        if let Primitive::Read { length, .. } = primitive {
            self.read_bytes = self.read_bytes.saturating_add(length);
        }
        // At most 128.
        self.length = end as u8;
        self.count += 1;
        Ok(self)
    }

    /// The arguments as they stand in the request.
    #[inline]
    pub fn arguments(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// How many primitives there are.
    #[inline]
    pub fn count(&self) -> u8 {
        self.count
    }

    /// How many bytes they read at most.
    #[inline]
    pub fn read_bytes(&self) -> u32 {
        self.read_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let swap = CompareSwap::new(
            Target::new(2, 0x0304).bounded(),
            Comparison::Greater,
            Operand::Output,
            Operand::Word(0x0506),
        );
        let chain = Chain::first(Primitive::Read { target: Target::output(8), length: 0x0102 })
            .then(Primitive::CompareSwap(swap.masked(0xff, 0xf0)))
            .and_then(|chain| chain.also(Primitive::Allocate { region: 1, list: 64 }))
            .and_then(|chain| chain.then(Primitive::WriteOutput { target: Target::home(9) }))
            .unwrap();
        let expected: [&[u8]; 9] = [
            &[0, 8, 0xff, 0xff, 2, 1, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0],
            &[4, 0x27, 2, 0, 2, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0],
            &[0; 8],
            &[6, 5, 0, 0, 0, 0, 0, 0],
            &[0xff, 0, 0, 0, 0, 0, 0, 0],
            &[0xf0, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 1, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0x11, 0xff, 0xff, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
            &[],
        ];
        assert_eq!(chain.arguments(), expected.concat());
        assert_eq!(chain.read_bytes(), 0x0102);
        let more = Primitive::Write { target: Target::home(0) };
        assert_eq!(chain.also(more), Err(ChainError::Full));
        let pointer = Pointer { region: 0xab, address: 0x12_3456_789a_bcde };
        assert_eq!(pack(pointer), 0xab12_3456_789a_bcde);
        assert_eq!(unpack(pack(pointer)), pointer);
    }

    #[test]
    fn four_whole_swaps_fit() {
        let swap = Primitive::CompareSwap(CompareSwap::new(
            Target::home(0),
            Comparison::Less,
            Operand::Word(1),
            Operand::Output,
        ));
        let chain = Chain::first(swap).then(swap).unwrap().then(swap).unwrap();
        assert_eq!(chain.then(swap).unwrap().arguments().len(), 128);
    }
}
