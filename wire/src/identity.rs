//! The numbers by which engines name flows, ops, kernels and exports.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Names one direction's end of a flow; chosen by the engine that receives packets under it.
///
/// From the low end: slot in that engine's flow table (16 bits), engine within the process
/// (8 bits), 40 random bits. So a packet finds its flow by an index and a comparison, and an
/// engine that gets a packet of its neighbour knows whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// No flow: the id on packets that precede one.
    pub const NONE: ConnectionId = ConnectionId(0);

    /// Composes an id; of `random` the low 40 bits are used, and never all zero.
    pub const fn new(engine: u8, slot: u16, random: u64) -> Self {
        let random = if random & 0xff_ffff_ffff == 0 { 1 } else { random & 0xff_ffff_ffff };
        ConnectionId(random << 24 | (engine as u64) << 16 | slot as u64)
    }

    /// The id as it stands in packets.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The id that a packet carries.
    #[inline]
    pub const fn from_raw(raw: u64) -> Self {
        ConnectionId(raw)
    }

    /// Slot in the receiving engine's flow table.
    #[inline]
    pub const fn slot(self) -> u16 {
        self.0 as u16
    }

    /// The receiving engine within its process.
    #[inline]
    pub const fn engine(self) -> u8 {
        (self.0 >> 16) as u8
    }
}

/// Names an op between the two engines of a flow: slot and generation in the initiator's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpId(u32);

impl OpId {
    /// An op in `slot`, the `generation`-th to live there.
    #[inline]
    pub const fn new(slot: u16, generation: u16) -> Self {
        OpId((generation as u32) << 16 | slot as u32)
    }

    /// The id as it stands in frames.
    #[inline]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The id that a frame carries.
    #[inline]
    pub const fn from_raw(raw: u32) -> Self {
        OpId(raw)
    }

    /// The slot in the initiator's table.
    #[inline]
    pub const fn slot(self) -> u16 {
        self.0 as u16
    }

    /// Which of the slot's successive ops this is.
    #[inline]
    pub const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// The number of a kernel on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelId(pub u16);

impl KernelId {
    /// Call a handler of the target application; served by the op layer, not by a kernel.
    pub const CALL: KernelId = KernelId(1);
    /// Read a range.
    pub const READ: KernelId = KernelId(2);
    /// Write a range.
    pub const WRITE: KernelId = KernelId(3);
    /// Replace a word if it holds an expected value.
    pub const COMPARE_SWAP: KernelId = KernelId(4);
    /// Add to a word.
    pub const FETCH_ADD: KernelId = KernelId(5);
    /// Scan a bucket and read the entry that it points to (CliqueMap).
    pub const SCAN_AND_READ: KernelId = KernelId(6);
    /// Read through many entries of an indirection table (Snap).
    pub const INDIRECT_READ: KernelId = KernelId(7);
    /// Walk from element to element until a field fits, and read what belongs to it (StRoM).
    pub const TRAVERSE: KernelId = KernelId(8);
    /// Read an object whose checksum fits (StRoM).
    pub const CONSISTENT_READ: KernelId = KernelId(9);
    /// Distribute records over partitions by their keys (StRoM's shuffle).
    pub const PARTITION_WRITE: KernelId = KernelId(10);
    /// Store values and count the different ones (StRoM's HyperLogLog).
    pub const SKETCH_WRITE: KernelId = KernelId(11);
    /// Walk a version chain to its latest entry and read it (Clover).
    pub const CHAIN_READ: KernelId = KernelId(12);
    /// Write an entry and link it behind the latest of its version chain (Clover).
    pub const CHAIN_APPEND: KernelId = KernelId(13);
    /// Run up to four primitives, each of which may depend on the one before (PRISM).
    pub const PRISM: KernelId = KernelId(14);
    /// Append a record to a log.
    pub const APPEND: KernelId = KernelId(15);
    /// Read records of a log.
    pub const FETCH: KernelId = KernelId(16);
    /// Scan a range of fixed-size records with a predicate.
    pub const SCAN: KernelId = KernelId(17);
    /// End the op whose [`OpId`], stream and sequence the frame bears as its own: without arguments,
    /// credit or reply, for that op gets one. Served by the op layer. Toward its own engine an
    /// application names the op by its token.
    pub const CANCEL: KernelId = KernelId(32);
    /// The first number for kernels that users bring: all from here to 0xffff are theirs, and all
    /// below are this project's. Nobody hands them out: engines and initiators that are to work
    /// together have to agree.
    pub const FIRST_OF_USERS: KernelId = KernelId(0x8000);

    /// Whether the number is one for kernels that users bring.
    #[inline]
    pub const fn is_of_users(self) -> bool {
        self.0 >= KernelId::FIRST_OF_USERS.0
    }

    /// Whether the kernel is known to change nothing: then running it again is always safe.
    #[inline]
    pub const fn only_reads(self) -> bool {
        matches!(
            self,
            KernelId::READ
                | KernelId::SCAN_AND_READ
                | KernelId::INDIRECT_READ
                | KernelId::TRAVERSE
                | KernelId::CONSISTENT_READ
                | KernelId::CHAIN_READ
                | KernelId::FETCH
                | KernelId::SCAN
        )
    }
}

/// The right to use an exported region: its slot in the target's table, which of the slot's
/// successive exports it is, and 64 random bits that nobody can guess.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Rkey {
    /// Slot in the target process's table of exports.
    pub export: U16,
    /// Which of the slot's successive exports.
    pub generation: U16,
    /// Unguessable.
    pub secret: U64,
}

const _: () = assert!(size_of::<Rkey>() == 12);

// Secrets never reach a log: the derived form would print them.
impl core::fmt::Debug for Rkey {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Rkey({}.{}, ..)", self.export, self.generation)
    }
}

impl Rkey {
    /// An rkey of its parts.
    pub fn new(export: u16, generation: u16, secret: u64) -> Self {
        Rkey { export: export.into(), generation: generation.into(), secret: secret.into() }
    }

    /// Whether `secret` is this key's, in a time that does not depend on where they differ.
    #[inline]
    pub fn secret_matches(&self, secret: u64) -> bool {
        core::hint::black_box(self.secret.get() ^ secret) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let id = ConnectionId::new(3, 0x1234, 0xabcd_ef01_2345);
        assert_eq!((id.engine(), id.slot()), (3, 0x1234));
        assert_eq!(ConnectionId::from_raw(id.raw()), id);
        assert_ne!(ConnectionId::new(0, 0, 0), ConnectionId::NONE);
        let op = OpId::new(9, 65535);
        assert_eq!((op.slot(), op.generation(), OpId::from_raw(op.raw())), (9, 65535, op));
    }

    #[test]
    fn what_may_change_something_is_no_mere_read() {
        let changing =
            [KernelId::CALL, KernelId::WRITE, KernelId::COMPARE_SWAP, KernelId::FETCH_ADD];
        assert!(changing.iter().all(|kernel| !kernel.only_reads()));
        assert!(!KernelId::FIRST_OF_USERS.only_reads(), "nobody knows");
        assert!(KernelId::TRAVERSE.only_reads());
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = alloc::format!("{:?}", Rkey::new(1, 2, 0xdead_beef));
        assert!(!text.contains("dead") && !text.contains("3735928559"), "{text}");
    }
}
