//! Frames of the port's own: questions to neighbours and answers to theirs. Few, short-lived, and
//! never in the way of packets.

use std::net::IpAddr;
use std::ptr::NonNull;

use dpdk_sys as sys;

use super::frames::FRAME_BYTES;
use super::neighbours::Neighbours;
use crate::link::Resolve;
use crate::{MacAddress, PortCounters};

/// Frames that wait for the next transmit at most; the others are dropped and counted.
const WAITING_MAX: usize = 32;
/// Bytes of a VLAN tag, and what stands before it.
const TAG_BYTES: usize = 4;
const ADDRESSES_BYTES: usize = 12;
/// Room for a frame without a tag.
const ROOM_BYTES: usize = FRAME_BYTES as usize - TAG_BYTES;

/// Frames of the port's own that wait to be sent.
pub(super) struct Answers {
    pool: NonNull<sys::Pool>,
    vlan: Option<u16>,
    waiting: Vec<*mut sys::Frame>,
    /// What is being written, without a tag.
    room: Box<[u8; ROOM_BYTES]>,
    /// What is being read, when its tag had to be taken off.
    untagged: Box<[u8; ROOM_BYTES]>,
    /// For want of a frame or of place.
    dropped: u64,
}

impl Answers {
    pub(super) fn new(pool: NonNull<sys::Pool>, vlan: Option<u16>) -> Self {
        Answers {
            pool,
            vlan,
            waiting: Vec::with_capacity(WAITING_MAX),
            room: Box::new([0; ROOM_BYTES]),
            untagged: Box::new([0; ROOM_BYTES]),
            dropped: 0,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Looks at a frame that is no engine's and prepares the answer, if it wants one. `tag` is the
    /// VLAN whose tag the device took off. True: it was for us.
    #[cold]
    pub(super) fn take(&mut self, neighbours: &Neighbours, frame: &[u8], tag: Option<u16>) -> bool {
        let frame = match (self.vlan, tag) {
            (None, None | Some(0)) => frame,
            (Some(vlan), Some(tag)) if vlan == tag => frame,
            (Some(vlan), None) => {
                let Some(rest) = tagged_with(vlan, frame) else { return false };
                let length = ADDRESSES_BYTES + rest.len();
                if length > ROOM_BYTES {
                    return false;
                }
                self.untagged[..ADDRESSES_BYTES].copy_from_slice(&frame[..ADDRESSES_BYTES]);
                self.untagged[ADDRESSES_BYTES..length].copy_from_slice(rest);
                &self.untagged[..length]
            }
            _ => return false,
        };
        let (ours, length) = neighbours.take(frame, &mut self.room[..]);
        self.push(length);
        ours
    }

    /// Hands what waits to the device; what it does not take is dropped.
    #[cold]
    pub(super) fn send(&mut self, port: u16, queue: u16) {
        let count = self.waiting.len() as u16;
        // SAFETY: the frames were allocated for this and are given away; the queue is ours.
        let sent = unsafe { sys::transmit(port, queue, self.waiting.as_mut_ptr(), count, 0) };
        self.drop_from(sent.into());
    }

    /// Drops what waits.
    #[cold]
    pub(super) fn clear(&mut self) {
        self.drop_from(0);
    }

    fn drop_from(&mut self, first: usize) {
        for frame in self.waiting.drain(..).skip(first) {
            self.dropped += 1;
            // SAFETY: it was allocated in `push`, and no device took it.
            unsafe { sys::release(frame) };
        }
    }

    /// Makes a frame of the first `length` bytes of the room; of none if it is zero.
    fn push(&mut self, length: usize) {
        if length < ADDRESSES_BYTES {
            return;
        }
        let has_place = self.waiting.len() < WAITING_MAX;
        // SAFETY: the pool lives as long as the port.
        let allocate = || unsafe { sys::allocate(self.pool.as_ptr()) };
        let Some(frame) = has_place.then(allocate).and_then(NonNull::new) else {
            self.dropped += 1;
            return;
        };
        // SAFETY: the frame is ours and has room for a frame of the room and a tag.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(sys::bytes(frame.as_ptr()), FRAME_BYTES.into())
        };
        let (addresses, rest) = self.room[..length].split_at(ADDRESSES_BYTES);
        let mut at = ADDRESSES_BYTES;
        bytes[..at].copy_from_slice(addresses);
        if let Some(vlan) = self.vlan {
            let [high, low] = vlan.to_be_bytes();
            bytes[at..at + TAG_BYTES].copy_from_slice(&[0x81, 0, high, low]);
            at += TAG_BYTES;
        }
        bytes[at..at + rest.len()].copy_from_slice(rest);
        // SAFETY: the bytes lie within the frame, which has one reference, the driver's to be.
        unsafe { sys::stage(frame.as_ptr(), 0, (at + rest.len()) as u16, 0, 0) };
        self.waiting.push(frame.as_ptr());
    }
}

/// What follows the tag of a frame of this VLAN, from the type on.
fn tagged_with(vlan: u16, frame: &[u8]) -> Option<&[u8]> {
    let tag = frame.get(ADDRESSES_BYTES..ADDRESSES_BYTES + TAG_BYTES)?;
    let is_ours = tag[..2] == [0x81, 0] && u16::from_be_bytes([tag[2], tag[3]]) & 0xfff == vlan;
    is_ours.then(|| &frame[ADDRESSES_BYTES + TAG_BYTES..])
}

/// Asks for the neighbours that are not known, by the next transmit.
pub(super) struct Resolver<'a> {
    pub(super) neighbours: &'a Neighbours,
    pub(super) answers: &'a mut Answers,
}

impl Resolve for Resolver<'_> {
    #[inline]
    fn generation(&self) -> u64 {
        self.neighbours.generation()
    }

    fn resolve(&mut self, to: IpAddr) -> Option<MacAddress> {
        let (mac, asked) = self.neighbours.resolve(to, &mut self.answers.room[..]);
        self.answers.push(asked);
        mac
    }
}

impl Answers {
    /// Adds what went wrong to a port's counters.
    pub(super) fn count(&self, counters: &mut PortCounters) {
        counters.transmit_errors += self.dropped();
    }
}
