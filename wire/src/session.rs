//! Session memory: what an application's thread and its engine share.
//!
//! ```text
//! 0        header: magic (written last), layout version, geometry
//! 4096     command ring      application -> engine   64-byte slots
//!          completion ring   engine -> application   32-byte slots
//!          receive ring      engine -> application   32-byte slots, calls to serve
//!          arena             the application's leases: payloads out, replies in
//!          receive buffers   requests in; an answer that fits is written over the request
//! ```
//! Each side computes the places from the geometry that it keeps privately; what stands in shared
//! memory is only compared with it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Fate, KernelId, Status};

/// The session layout that this build speaks.
pub const LAYOUT_VERSION: u32 = 1;
/// First word of session memory, once all else is in place.
pub const MAGIC: u64 = u64::from_le_bytes(*b"nicsess1");
/// The longest arguments that fit a command slot, in bytes.
pub const INLINE_ARGUMENT_BYTES: usize = 28;
/// The longest arguments of a command, in bytes: what the slot has no room for lies in the arena.
pub const COMMAND_ARGUMENT_BYTES_MAX: usize = 255;
/// Room that the three words of a ring take before its entries, in bytes.
pub const RING_WORDS_BYTES: usize = 192;

/// Ways to regions of other hosts that a session has open at most. A way's name is its place below
/// this, plus this many times a count of the ways that stood there before: a name that was given
/// back is not given out again at once.
pub const REMOTES_MAX: usize = 1024;

/// The longest request of a call in bytes: it travels in one packet.
pub const REQUEST_BYTES_MAX: usize = crate::packet::MAX_PACKET_BYTES;

/// The answer to a call that this application serves. Stands where a command's kernel stands. It
/// lies in the call's receive buffer, and then has no completion of its own; or it is the command's
/// payload, and then the completion says that the engine reads it no more.
pub const ANSWER: KernelId = KernelId(0);

bitflags::bitflags! {
    /// Properties of a command.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct CommandFlags: u8 {
        /// Start at the target only after all earlier ops of the stream have finished.
        const FENCE = 1;
    }
}

bitflags::bitflags! {
    /// What a receive slot says.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct ReceiveFlags: u16 {
        /// No call, but that the caller of an earlier one does not wait any more. It has no buffer.
        const CANCELLED = 1;
    }
}

/// One op, as the application asks for it.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Command {
    /// Comes back in the completion.
    pub token: U64,
    /// What to run: a [`KernelId`], or [`ANSWER`].
    pub kernel: U16,
    /// Which of the session's opened remotes.
    pub remote: U16,
    /// Order matters only within a stream.
    pub stream: U16,
    /// [`CommandFlags`].
    pub flags: u8,
    /// Length of the arguments in bytes.
    pub argument_length: u8,
    /// Where in the arena the payload lies.
    pub payload_offset: U32,
    /// Its length in bytes.
    pub payload_length: U32,
    /// Where in the arena the reply lands.
    pub reply_offset: U32,
    /// The room there in bytes.
    pub reply_capacity: U32,
    /// How long from pickup until the deadline, in microseconds.
    pub budget_us: U32,
    /// The kernel's arguments. If they are longer than this, its first four bytes say where in the
    /// arena they lie.
    pub arguments: [u8; INLINE_ARGUMENT_BYTES],
}

/// What an [`ANSWER`] has for arguments.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct AnswerArguments {
    /// The call that is answered, from its [`Receive`] slot.
    pub call: U32,
    /// Its buffer, from the same slot.
    pub buffer: U32,
    /// Length of the answer, which lies at the start of the call's buffer; zero if the command has a
    /// payload.
    pub length: U32,
    /// A [`Status`]: ok, the reply is too long, busy (the call was not looked at), or service failed.
    pub status: U16,
}

/// The end of one op.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Completion {
    /// The command's token.
    pub token: U64,
    /// A [`Status`].
    pub status: U16,
    /// A [`Fate`].
    pub fate: u8,
    /// Zero.
    pub reserved: u8,
    /// Length of the reply in bytes.
    pub length: U32,
    /// From pickup until the request left for the first time, in nanoseconds, saturating.
    pub issue_delay_ns: U32,
    /// From pickup until the reply was whole, in nanoseconds, saturating.
    pub total_delay_ns: U32,
    /// How long the op was in the target's hands, in nanoseconds, saturating.
    pub service_ns: U32,
    /// Zero.
    pub reserved_too: U32,
}

/// A call that waits to be served, or word of one.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Receive {
    /// Names the call in the answer.
    pub call: U32,
    /// Which receive buffer holds the request.
    pub buffer: U32,
    /// Length of the request in bytes.
    pub length: U32,
    /// How much answer the caller has room for, in bytes.
    pub answer_capacity: U32,
    /// Which of the application's services is called.
    pub service: U16,
    /// [`ReceiveFlags`].
    pub flags: U16,
    /// Zero.
    pub reserved: [U16; 2],
    /// How long the caller still waits, in microseconds.
    pub budget_us: U32,
    /// Zero.
    pub reserved_too: U32,
}

/// What stands at the start of session memory.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct SessionHeader {
    /// [`MAGIC`].
    pub magic: U64,
    /// [`LAYOUT_VERSION`].
    pub version: U32,
    /// Ops that may be out at once.
    pub depth: U32,
    /// Length of the arena in bytes.
    pub arena_bytes: U32,
    /// How many receive buffers there are.
    pub receive_buffers: U32,
    /// Length of each in bytes.
    pub receive_buffer_bytes: U32,
    /// Zero.
    pub reserved: U32,
}

const _: () = assert!(size_of::<Command>() == 64);
const _: () = assert!(size_of::<AnswerArguments>() <= INLINE_ARGUMENT_BYTES);
const _: () = assert!(size_of::<Completion>() == 32);
const _: () = assert!(size_of::<Receive>() == 32);
const _: () = assert!(size_of::<SessionHeader>() == 32);

impl Command {
    /// The kernel asked for.
    #[inline]
    pub fn kernel(&self) -> KernelId {
        KernelId(self.kernel.get())
    }

    /// The arguments, or `None` if they lie in the arena.
    #[inline]
    pub fn arguments(&self) -> Option<&[u8]> {
        self.arguments.get(..usize::from(self.argument_length))
    }

    /// Where in the arena arguments lie that are too long for the slot.
    #[inline]
    pub fn arguments_offset(&self) -> u32 {
        let [a, b, c, d, ..] = self.arguments;
        u32::from_le_bytes([a, b, c, d])
    }

    /// Sets arguments that lie in the arena.
    #[inline]
    pub fn set_arguments_offset(&mut self, offset: u32) {
        self.arguments[..4].copy_from_slice(&offset.to_le_bytes());
    }
}

impl Completion {
    /// How the op ended; a code that this build does not know reads as a lost engine.
    #[inline]
    pub fn status(&self) -> Status {
        Status::from_code(self.status.get()).unwrap_or(Status::EngineLost)
    }

    /// What is known of its effect.
    #[inline]
    pub fn fate(&self) -> Fate {
        Fate::from_code(self.fate).unwrap_or(Fate::Unknown)
    }
}

/// The sizes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Geometry {
    /// Ops that may be out at once: a power of two from 2 to 4096.
    pub depth: u32,
    /// Length of the arena in bytes: a multiple of 4096.
    pub arena_bytes: u32,
    /// Calls that may wait to be served: 0, or a power of two from 2 to 4096.
    pub receive_buffers: u32,
    /// Length of each receive buffer in bytes: a multiple of 64.
    pub receive_buffer_bytes: u32,
}

/// Why a geometry cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGeometry {
    /// The depth.
    #[error("session depth {0}: it must be a power of two from 2 to 4096")]
    Depth(u32),
    /// The arena.
    #[error("session arena of {0} bytes: it must be a multiple of 4096, from 4096 to 1 GiB")]
    Arena(u32),
    /// The receive buffers.
    #[error(
        "{count} receive buffers of {bytes} bytes: there must be none, or a power of two from 2 \
         to 4096, each a multiple of 64 from 64 to 65536 bytes"
    )]
    Receive {
        /// How many.
        count: u32,
        /// How long.
        bytes: u32,
    },
    /// Session memory says something else than was agreed.
    #[error("session memory does not begin with what was agreed: a broken or foreign engine")]
    Header,
}

/// Where everything lies, in bytes from the start of session memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The command ring.
    pub commands: u64,
    /// The completion ring.
    pub completions: u64,
    /// The receive ring.
    pub receives: u64,
    /// The arena.
    pub arena: u64,
    /// The receive buffers.
    pub buffers: u64,
    /// Length of the whole.
    pub total: u64,
}

impl Geometry {
    /// Checks the sizes and computes the places.
    ///
    /// # Errors
    /// The first size that cannot be.
    pub fn places(&self) -> Result<Places, BadGeometry> {
        let is_count = |count: u32| count.is_power_of_two() && (2..=4096).contains(&count);
        if !is_count(self.depth) {
            return Err(BadGeometry::Depth(self.depth));
        }
        if !self.arena_bytes.is_multiple_of(4096) || !(4096..=1 << 30).contains(&self.arena_bytes) {
            return Err(BadGeometry::Arena(self.arena_bytes));
        }
        let (count, bytes) = (self.receive_buffers, self.receive_buffer_bytes);
        let is_length = bytes.is_multiple_of(64) && (64..=65536).contains(&bytes);
        if count != 0 && !(is_count(count) && is_length) {
            return Err(BadGeometry::Receive { count, bytes });
        }
        let ring =
            |entries: u32, entry: usize| (RING_WORDS_BYTES + entries as usize * entry) as u64;
        let commands = 4096;
        let completions = commands + ring(self.depth, size_of::<Command>());
        let receives = completions + ring(self.depth, size_of::<Completion>());
        let arena = (receives + ring(count.max(2), size_of::<Receive>())).next_multiple_of(4096);
        let buffers = arena + u64::from(self.arena_bytes);
        let total = (buffers + u64::from(count) * u64::from(bytes)).next_multiple_of(4096);
        Ok(Places { commands, completions, receives, arena, buffers, total })
    }

    /// The header that session memory of this geometry begins with.
    pub fn header(&self) -> SessionHeader {
        SessionHeader {
            magic: MAGIC.into(),
            version: LAYOUT_VERSION.into(),
            depth: self.depth.into(),
            arena_bytes: self.arena_bytes.into(),
            receive_buffers: self.receive_buffers.into(),
            receive_buffer_bytes: self.receive_buffer_bytes.into(),
            reserved: U32::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_bytes_are_golden() {
        let mut command = Command::read_from_bytes(&[0; 64]).unwrap();
        command.token = 0x0102.into();
        command.kernel = 6.into();
        command.remote = 1.into();
        command.stream = 2.into();
        command.flags = 1;
        command.argument_length = 28;
        command.payload_offset = 3.into();
        command.payload_length = 4.into();
        command.reply_offset = 5.into();
        command.reply_capacity = 6.into();
        command.budget_us = 7.into();
        command.arguments = [0xaa; 28];
        let mut expected = [0xaau8; 64];
        expected[..36].copy_from_slice(&[
            2, 1, 0, 0, 0, 0, 0, 0, 6, 0, 1, 0, 2, 0, 1, 28, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6,
            0, 0, 0, 7, 0, 0, 0,
        ]);
        assert_eq!(command.as_bytes(), expected);
        command.argument_length = 29;
        assert_eq!(command.arguments(), None);
    }

    #[test]
    fn completion_and_receive_bytes_are_golden() {
        let mut completion = Completion::read_from_bytes(&[0; 32]).unwrap();
        completion.token = 1.into();
        completion.status = 9.into();
        completion.fate = 2;
        completion.length = 3.into();
        completion.issue_delay_ns = 4.into();
        completion.total_delay_ns = 5.into();
        completion.service_ns = 6.into();
        let mut expected = [0u8; 32];
        for (place, value) in [(0, 1), (8, 9), (10, 2), (12, 3), (16, 4), (20, 5), (24, 6)] {
            expected[place] = value;
        }
        assert_eq!(completion.as_bytes(), expected);
        assert_eq!((completion.status(), completion.fate()), (Status::Expired, Fate::Unknown));

        let mut receive = Receive::read_from_bytes(&[0; 32]).unwrap();
        receive.call = 1.into();
        receive.buffer = 2.into();
        receive.length = 3.into();
        receive.answer_capacity = 4.into();
        receive.service = 5.into();
        receive.flags = ReceiveFlags::CANCELLED.bits().into();
        receive.budget_us = 6.into();
        let mut expected = [0u8; 32];
        for (place, value) in [(0, 1), (4, 2), (8, 3), (12, 4), (16, 5), (18, 1), (24, 6)] {
            expected[place] = value;
        }
        assert_eq!(receive.as_bytes(), expected);
    }

    #[test]
    fn places_do_not_overlap_and_are_aligned() {
        let geometry = Geometry {
            depth: 256,
            arena_bytes: 1 << 20,
            receive_buffers: 64,
            receive_buffer_bytes: 2048,
        };
        let places = geometry.places().unwrap();
        let Places { commands, completions, receives, arena, buffers, total } = places;
        assert!(commands < completions && completions < receives && receives < arena);
        assert!(arena < buffers && buffers < total);
        assert_eq!((commands % 64, completions % 64, receives % 64, arena % 4096), (0, 0, 0, 0));
        assert_eq!(total, buffers + 64 * 2048);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let good =
            Geometry { depth: 4, arena_bytes: 4096, receive_buffers: 0, receive_buffer_bytes: 0 };
        assert!(good.places().is_ok());
        for depth in [0, 1, 3, 8192] {
            let bad = Geometry { depth, ..good };
            assert_eq!(bad.places(), Err(BadGeometry::Depth(depth)));
        }
        let bad = Geometry { arena_bytes: 4097, ..good };
        assert_eq!(bad.places(), Err(BadGeometry::Arena(4097)));
        let bad = Geometry { receive_buffers: 3, receive_buffer_bytes: 64, ..good };
        assert_eq!(bad.places(), Err(BadGeometry::Receive { count: 3, bytes: 64 }));
    }
}
