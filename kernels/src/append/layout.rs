//! What an APPEND says, on the wire.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION};
use crate::log;

/// Length of the reply in bytes.
pub const REPLY_BYTES: u32 = 32;

/// What an append waits for beside its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persist {
    /// Nothing.
    None,
    /// That the record would survive a loss of power: it is in the file of the log's region, which
    /// is synced. Without such a file the op ends as `Unsupported`, not executed.
    Flush,
}

impl Persist {
    /// As it stands in the arguments.
    pub const fn code(self) -> u16 {
        match self {
            Persist::None => 0,
            Persist::Flush => 1,
        }
    }
}

/// The arguments of APPEND. The record's payload is the op's.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the log's header, a multiple of 64.
    pub log: U64,
    /// [`log::checksum`] of tag and payload.
    pub checksum: U64,
    /// Whatever the initiator wants to know the record by.
    pub tag: U64,
    /// The region's number within the domain, or [`HOME_REGION`].
    pub region: U16,
    /// [`Persist`].
    pub persist: U16,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 28;

    /// Appends to a log in the region that the rkey names.
    pub fn home(log: u64, tag: u64, payload: &[u8]) -> Self {
        Self::new(HOME_REGION, log, tag, payload, Persist::None)
    }

    /// Appends to a log in a region that the rkey may follow pointers into.
    pub fn new(region: u16, log: u64, tag: u64, payload: &[u8], persist: Persist) -> Self {
        Arguments {
            log: log.into(),
            checksum: log::checksum(tag, payload).into(),
            tag: tag.into(),
            region: region.into(),
            persist: persist.code().into(),
        }
    }

    /// The bytes as they stand in the request.
    #[inline]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        zerocopy::transmute!(*self)
    }

    /// Reads them back.
    ///
    /// # Errors
    /// Another length than [`Self::BYTES`].
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self, BadArguments> {
        Self::read_from_bytes(bytes)
            .map_err(|_| BadArguments::Length { found: bytes.len(), expected: Self::BYTES })
    }
}

/// The reply.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct ReplyLayout {
    pub(super) outcome: U32,
    pub(super) reserved: U32,
    pub(super) position: U64,
    pub(super) next: U64,
    pub(super) capacity: U64,
}

const _: () = assert!(size_of::<ReplyLayout>() == REPLY_BYTES as usize);

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The record is in the log, and readers see it.
    At {
        /// Where it begins.
        position: u64,
        /// Where the next one begins.
        next: u64,
    },
    /// It does not fit between tail and head: its owner must trim the log, or give another.
    Full {
        /// Where the next record would begin.
        tail: u64,
        /// Where the log begins.
        head: u64,
        /// Bytes of the whole ring.
        capacity: u64,
    },
    /// The record takes more than half of the log, and might never fit: split it, or take a longer
    /// log.
    TooLong {
        /// The longest payload that the log takes, in bytes.
        most: u64,
    },
}

/// The outcome that a reply tells; `None` if it is no reply to an append.
pub fn decode_reply(reply: &[u8]) -> Option<Appended> {
    let reply = ReplyLayout::ref_from_bytes(reply).ok()?;
    let (position, next) = (reply.position.get(), reply.next.get());
    match reply.outcome.get() {
        0 => Some(Appended::At { position, next }),
        1 => Some(Appended::Full { tail: position, head: next, capacity: reply.capacity.get() }),
        2 => Some(Appended::TooLong { most: log::payload_bytes_max(reply.capacity.get()) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let arguments = Arguments::new(7, 0x0140, 0x0a0b, b"apple", Persist::Flush);
        let mut expected = [0; 28];
        (expected[0], expected[1]) = (0x40, 1);
        expected[8..16].copy_from_slice(&log::checksum(0x0a0b, b"apple").to_le_bytes());
        (expected[16], expected[17], expected[24], expected[26]) = (0x0b, 0x0a, 7, 1);
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert!(Arguments::decode(&expected[..27]).is_err());

        let mut reply = [0; 32];
        (reply[8], reply[16], reply[25]) = (32, 96, 1);
        assert_eq!(decode_reply(&reply), Some(Appended::At { position: 32, next: 96 }));
        reply[0] = 1;
        assert_eq!(
            decode_reply(&reply),
            Some(Appended::Full { tail: 32, head: 96, capacity: 256 })
        );
        reply[0] = 2;
        assert_eq!(decode_reply(&reply), Some(Appended::TooLong { most: 96 }));
        reply[0] = 3;
        assert_eq!(decode_reply(&reply), None);
        assert_eq!(decode_reply(&reply[..31]), None);
    }
}
