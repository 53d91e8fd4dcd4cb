//! What lies in the region, and what travels.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// How many lists lie above each other: enough for some hundred thousand nodes.
pub const LEVELS: usize = 8;

/// A node. Only its links change once it is in the list.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Node {
    /// What the list is ordered by; each key is there once. The head's means nothing.
    pub key: U64,
    /// What belongs to it.
    pub value: U64,
    /// The address of the next node on each level, the lowest first; 0 where there is none.
    pub links: [U64; LEVELS],
}

/// Bytes of a node; nodes begin at multiples of 8.
pub const NODE_BYTES: u64 = size_of::<Node>() as u64;

/// The address of the head: a node that none leads to.
pub const HEAD: u64 = 0;

/// The arguments: 24 bytes, numbers little-endian.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Arguments {
    /// Wanted is the first node whose key is not below this one.
    pub key: U64,
    /// The node to begin at: [`HEAD`], or where another op was stopped.
    pub from: U64,
    /// The region's number, or [`HOME_REGION`](nic_kernels::HOME_REGION).
    pub region: U16,
    /// The level to begin on, below [`LEVELS`].
    pub level: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

impl Arguments {
    /// A search of the whole list in the region that the rkey names.
    pub fn new(key: u64) -> Self {
        Arguments {
            key: key.into(),
            from: HEAD.into(),
            region: nic_kernels::HOME_REGION.into(),
            level: LEVELS as u8 - 1,
            reserved: [0; 5],
        }
    }
}
