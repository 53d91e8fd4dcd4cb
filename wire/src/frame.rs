//! Op frames: what a data packet holds after its header.
//!
//! Every frame begins at a multiple of eight bytes with `{kind u8, flags u8, length u16, op u32}`;
//! `length` counts the frame's own bytes without the padding to the next frame. Small frames share
//! packets and never straddle them. A request whose payload does not fit one packet, and a reply
//! whose data does not, travel as several frames that each carry the whole header and an offset, so
//! they may arrive in any order and the first to arrive can start the op.
//!
//! ```text
//! request   0 kind 1 | flags | length u16 | op u32
//!           8 kernel u16 | stream u16 | sequence u32
//!          16 rkey: export u16, generation u16, secret u64
//!          28 budget_us u32
//!          32 reply_capacity u32 | payload_length u32
//!          40 payload_offset u32 | argument_length u16 | reserved u16
//!          48 arguments, padded to 8, then this frame's part of the payload
//! reply     0 kind 2 | flags | length u16 | op u32
//!           8 status u16 | fate u8 | reserved u8 | offset u32
//!          16 total u32 | service_ns u32
//!          24 data
//! pad       0 kind 0: the rest of the packet means nothing
//! ```

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Ref, Unaligned};

use crate::{Fate, KernelId, OpId, Rkey, Status};

const KIND_PAD: u8 = 0;
const KIND_REQUEST: u8 = 1;
const KIND_REPLY: u8 = 2;

/// Length of a request frame's fixed part in bytes.
pub const REQUEST_BYTES: usize = 48;
/// Length of a reply frame's fixed part in bytes.
pub const REPLY_BYTES: usize = 24;
/// The longest arguments that an op can have, in bytes.
pub const MAX_ARGUMENT_BYTES: usize = 512;

bitflags::bitflags! {
    /// Properties of a request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct RequestFlags: u8 {
        /// Start only after all earlier ops of the stream have finished.
        const FENCE = 1;
    }
}

/// A request frame's fixed part as it stands in the packet.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RequestLayout {
    kind: u8,
    flags: u8,
    length: U16,
    op: U32,
    kernel: U16,
    stream: U16,
    sequence: U32,
    rkey: Rkey,
    budget_us: U32,
    reply_capacity: U32,
    payload_length: U32,
    payload_offset: U32,
    argument_length: U16,
    reserved: U16,
}

/// A reply frame's fixed part as it stands in the packet.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ReplyLayout {
    kind: u8,
    flags: u8,
    length: U16,
    op: U32,
    status: U16,
    fate: u8,
    reserved: u8,
    offset: U32,
    total: U32,
    service_ns: U32,
}

const _: () = assert!(size_of::<RequestLayout>() == REQUEST_BYTES);
const _: () = assert!(size_of::<ReplyLayout>() == REPLY_BYTES);

/// What a request frame says, its arguments and payload aside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// The initiator's name for the op; the reply repeats it.
    pub op: OpId,
    /// What to run.
    pub kernel: KernelId,
    /// Order matters only within a stream.
    pub stream: u16,
    /// The op's place in its stream.
    pub sequence: u32,
    /// Properties.
    pub flags: RequestFlags,
    /// The right to the memory.
    pub rkey: Rkey,
    /// How long the initiator will still wait, in microseconds, when the packet was first sent.
    pub budget_us: u32,
    /// How many bytes of reply the initiator has a place for.
    pub reply_capacity: u32,
    /// Length of the whole payload in bytes.
    pub payload_length: u32,
    /// Where in the payload this frame's part begins.
    pub payload_offset: u32,
}

/// What a reply frame says, its data aside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reply {
    /// The op that is answered.
    pub op: OpId,
    /// How it ended.
    pub status: Status,
    /// What is known of its effect.
    pub fate: Fate,
    /// Where in the reply this frame's data begins.
    pub offset: u32,
    /// Length of the whole reply in bytes.
    pub total: u32,
    /// How long the op was in the target's hands, in nanoseconds, saturating.
    pub service_ns: u32,
}

/// One frame of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Frame<'a> {
    /// A request, its arguments, and its part of the payload.
    Request(Request, &'a [u8], &'a [u8]),
    /// A reply and its part of the data.
    Reply(Reply, &'a [u8]),
}

/// Why bytes are not a frame. The packet passed its checksum, so its sender is broken or hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedFrame {
    /// Unknown kind.
    #[error("op frame of unknown kind {found}")]
    Kind {
        /// The kind it says.
        found: u8,
    },
    /// The frame says it is longer than what is left of the packet, or shorter than its header.
    #[error("op frame of {found} bytes where between {least} and {most} can be")]
    Length {
        /// The length it says.
        found: usize,
        /// The least it could be.
        least: usize,
        /// What is left of the packet.
        most: usize,
    },
    /// The parts do not fit: arguments longer than the frame, or payload past its end.
    #[error("op frame whose parts do not fit its length")]
    Parts,
    /// An unknown status or fate.
    #[error("reply with unknown status {status} or fate {fate}")]
    Code {
        /// The status it says.
        status: u16,
        /// The fate it says.
        fate: u8,
    },
}

/// Goes through the frames of a packet's body. After an error it ends.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Over the bytes after a data packet's header.
    #[inline]
    pub fn new(body: &'a [u8]) -> Self {
        Frames { rest: body }
    }

    /// The next frame's kind and bytes. After an error nothing follows.
    #[inline]
    fn next_raw(&mut self) -> Option<Result<(u8, &'a [u8]), MalformedFrame>> {
        let bytes = self.rest;
        if bytes.len() < 8 || bytes[0] == KIND_PAD {
            return None;
        }
        let least = match bytes[0] {
            KIND_REQUEST => REQUEST_BYTES,
            KIND_REPLY => REPLY_BYTES,
            found => return Some(Err(self.end(MalformedFrame::Kind { found }))),
        };
        let most = bytes.len();
        let found = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        if found < least || found > most {
            return Some(Err(self.end(MalformedFrame::Length { found, least, most })));
        }
        self.rest = bytes.get(padded(found)..).unwrap_or_default();
        Some(Ok((bytes[0], &bytes[..found])))
    }

    #[cold]
    fn end(&mut self, error: MalformedFrame) -> MalformedFrame {
        self.rest = &[];
        error
    }

    /// The next frame where only requests make sense.
    #[inline(always)]
    pub fn next_request(&mut self) -> Option<Result<RequestFrame<'a>, MalformedFrame>> {
        Some(match self.next_raw()? {
            Ok((KIND_REQUEST, frame)) => parse_request(frame).map_err(|error| self.end(error)),
            Ok((found, _)) => Err(MalformedFrame::Kind { found }),
            Err(error) => Err(error),
        })
    }

    /// The next frame where only replies make sense: itself and its part of the data.
    #[inline]
    pub fn next_reply(&mut self) -> Option<Result<(Reply, &'a [u8]), MalformedFrame>> {
        Some(match self.next_raw()? {
            Ok((KIND_REPLY, frame)) => parse_reply(frame).map_err(|error| self.end(error)),
            Ok((found, _)) => Err(MalformedFrame::Kind { found }),
            Err(error) => Err(error),
        })
    }
}

/// A request frame that was found well-formed, where it stands in its packet: each field is read
/// where it is needed.
#[derive(Clone, Copy)]
pub struct RequestFrame<'a> {
    /// The whole frame.
    pub bytes: &'a [u8],
    layout: &'a RequestLayout,
    /// The kernel's arguments.
    pub arguments: &'a [u8],
    /// This frame's part of the payload.
    pub chunk: &'a [u8],
}

impl RequestFrame<'_> {
    /// All that it says, as [`Request`] explains it.
    pub fn request(&self) -> Request {
        Request {
            op: self.op(),
            kernel: self.kernel(),
            stream: self.stream(),
            sequence: self.sequence(),
            flags: RequestFlags::from_bits_truncate(self.layout.flags),
            rkey: *self.rkey(),
            budget_us: self.budget_us(),
            reply_capacity: self.reply_capacity(),
            payload_length: self.payload_length(),
            payload_offset: self.payload_offset(),
        }
    }

    /// Whether there is more payload than this frame has.
    #[inline(always)]
    pub fn is_part(&self) -> bool {
        self.payload_length() as usize != self.chunk.len()
    }

    /// Whether it has [`RequestFlags::FENCE`].
    #[inline(always)]
    pub fn has_fence(&self) -> bool {
        self.layout.flags & RequestFlags::FENCE.bits() != 0
    }

    /// [`Request::op`].
    #[inline(always)]
    pub fn op(&self) -> OpId {
        OpId::from_raw(self.layout.op.get())
    }

    /// [`Request::kernel`].
    #[inline(always)]
    pub fn kernel(&self) -> KernelId {
        KernelId(self.layout.kernel.get())
    }

    /// [`Request::stream`].
    #[inline(always)]
    pub fn stream(&self) -> u16 {
        self.layout.stream.get()
    }

    /// [`Request::sequence`].
    #[inline(always)]
    pub fn sequence(&self) -> u32 {
        self.layout.sequence.get()
    }

    /// [`Request::rkey`].
    #[inline(always)]
    pub fn rkey(&self) -> &Rkey {
        &self.layout.rkey
    }

    /// [`Request::budget_us`].
    #[inline(always)]
    pub fn budget_us(&self) -> u32 {
        self.layout.budget_us.get()
    }

    /// [`Request::reply_capacity`].
    #[inline(always)]
    pub fn reply_capacity(&self) -> u32 {
        self.layout.reply_capacity.get()
    }

    /// [`Request::payload_length`].
    #[inline(always)]
    pub fn payload_length(&self) -> u32 {
        self.layout.payload_length.get()
    }

    /// [`Request::payload_offset`].
    #[inline(always)]
    pub fn payload_offset(&self) -> u32 {
        self.layout.payload_offset.get()
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, MalformedFrame>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let parsed = match self.next_raw()? {
            Ok((KIND_REQUEST, frame)) => parse_request(frame)
                .map(|frame| Frame::Request(frame.request(), frame.arguments, frame.chunk)),
            Ok((_, frame)) => parse_reply(frame).map(|(reply, data)| Frame::Reply(reply, data)),
            Err(error) => Err(error),
        };
        Some(parsed.map_err(|error| self.end(error)))
    }
}

#[inline(always)]
fn parse_request(bytes: &[u8]) -> Result<RequestFrame<'_>, MalformedFrame> {
    let (layout, rest) =
        RequestLayout::ref_from_prefix(bytes).map_err(|_| MalformedFrame::Parts)?;
    let argument_length = usize::from(layout.argument_length.get());
    let payload_at = padded(argument_length);
    if argument_length > MAX_ARGUMENT_BYTES || argument_length > rest.len() {
        return Err(MalformedFrame::Parts);
    }
    let chunk = rest.get(payload_at..).unwrap_or_default();
    let end = u64::from(layout.payload_offset.get()) + chunk.len() as u64;
    if end > u64::from(layout.payload_length.get()) {
        return Err(MalformedFrame::Parts);
    }
    Ok(RequestFrame { bytes, layout, arguments: &rest[..argument_length], chunk })
}

#[inline]
fn parse_reply(frame: &[u8]) -> Result<(Reply, &[u8]), MalformedFrame> {
    let (layout, data) =
        Ref::<_, ReplyLayout>::from_prefix(frame).map_err(|_| MalformedFrame::Parts)?;
    let code = MalformedFrame::Code { status: layout.status.get(), fate: layout.fate };
    let reply = Reply {
        op: OpId::from_raw(layout.op.get()),
        status: Status::from_code(layout.status.get()).map_err(|_| code)?,
        fate: Fate::from_code(layout.fate).map_err(|_| code)?,
        offset: layout.offset.get(),
        total: layout.total.get(),
        service_ns: layout.service_ns.get(),
    };
    if u64::from(reply.offset) + data.len() as u64 > u64::from(reply.total) {
        return Err(MalformedFrame::Parts);
    }
    Ok((reply, data))
}

/// `length` rounded up to where the next frame, or the payload after arguments, begins.
#[inline]
pub const fn padded(length: usize) -> usize {
    (length + 7) & !7
}

/// Room that a request frame takes in a packet, padding included.
#[inline]
pub const fn request_bytes(argument_length: usize, chunk: usize) -> usize {
    padded(
        REQUEST_BYTES + if chunk == 0 { argument_length } else { padded(argument_length) + chunk },
    )
}

/// Room that a reply frame takes in a packet, padding included.
#[inline]
pub const fn reply_bytes(data: usize) -> usize {
    padded(REPLY_BYTES + data)
}

/// Marks the rest of a packet as meaningless. Bytes are zeroed, so that nothing old leaves.
#[inline]
pub fn write_pad(rest: &mut [u8]) {
    rest.fill(KIND_PAD);
}

/// Writes a request frame; `fill` puts `chunk` bytes of payload where they belong. Returns the
/// room taken, or `None` if it does not fit (the buffer is unchanged).
#[inline]
pub fn write_request(
    into: &mut [u8],
    request: &Request,
    arguments: &[u8],
    chunk: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Option<usize> {
    let room = request_bytes(arguments.len(), chunk);
    if room > into.len() || arguments.len() > MAX_ARGUMENT_BYTES {
        return None;
    }
    let payload_at = REQUEST_BYTES + padded(arguments.len());
    let length = if chunk == 0 { REQUEST_BYTES + arguments.len() } else { payload_at + chunk };
    let into = &mut into[..room];
    // The fields go straight to where they belong: put together elsewhere, they would be loaded
    // again before they have been stored.
    let (layout, _) = RequestLayout::mut_from_prefix(into).ok()?;
    *layout = RequestLayout {
        kind: KIND_REQUEST,
        flags: request.flags.bits(),
        length: U16::new(length as u16),
        op: request.op.raw().into(),
        kernel: request.kernel.0.into(),
        stream: request.stream.into(),
        sequence: request.sequence.into(),
        rkey: request.rkey,
        budget_us: request.budget_us.into(),
        reply_capacity: request.reply_capacity.into(),
        payload_length: request.payload_length.into(),
        payload_offset: request.payload_offset.into(),
        argument_length: U16::new(arguments.len() as u16),
        reserved: U16::ZERO,
    };
    if payload_at > REQUEST_BYTES {
        // The padding lies within the last word, which the arguments may then write over.
        into[payload_at - 8..payload_at].fill(0);
        copy_short(&mut into[REQUEST_BYTES..][..arguments.len()], arguments);
    }
    if chunk > 0 {
        into[room - 8..].fill(0);
        fill(&mut into[payload_at..payload_at + chunk]);
    }
    Some(room)
}

/// Copies what is mostly a few words long, which is cheaper than a call.
#[inline(always)]
fn copy_short(into: &mut [u8], from: &[u8]) {
    let length = from.len();
    if (16..=32).contains(&length) && into.len() == length {
        into[..16].copy_from_slice(&from[..16]);
        into[length - 16..].copy_from_slice(&from[length - 16..]);
    } else {
        into.copy_from_slice(from);
    }
}

/// Writes a reply frame; `fill` puts `length` bytes of data where they belong. Returns the room
/// taken, or `None` if it does not fit (the buffer is unchanged).
#[inline]
pub fn write_reply(
    into: &mut [u8],
    reply: &Reply,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Option<usize> {
    let room = reply_bytes(length);
    let into = into.get_mut(..room)?;
    // The padding lies within the last word, which header and data then write over.
    into[room - 8..].fill(0);
    let (layout, data) = ReplyLayout::mut_from_prefix(into).ok()?;
    *layout = ReplyLayout {
        kind: KIND_REPLY,
        flags: 0,
        length: U16::new((REPLY_BYTES + length) as u16),
        op: reply.op.raw().into(),
        status: reply.status.code().into(),
        fate: reply.fate.code(),
        reserved: 0,
        offset: reply.offset.into(),
        total: reply.total.into(),
        service_ns: reply.service_ns.into(),
    };
    fill(&mut data[..length]);
    Some(room)
}

#[cfg(test)]
mod tests;
