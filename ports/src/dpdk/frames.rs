//! Transmit frames: mbufs that the port owns for as long as it lives.
//!
//! Each frame is one mbuf with a reference of ours. A transmission adds one, which the driver
//! gives back when the packet has left, as it would free the mbuf; ours keeps it from its pool.

use std::ptr::NonNull;

use dpdk_sys as sys;
use nic_transport::FrameId;
use nic_wire::packet::MAX_PACKET_BYTES;

use crate::link::{HEADER_BYTES_MAX, Header};
use crate::{FrameLedger, PoolConfig, PoolError, Share};

/// Room for a packet after the headroom, in bytes.
pub(super) const FRAME_BYTES: u16 = MAX_PACKET_BYTES as u16 + 128;

const _: () = assert!(HEADER_BYTES_MAX <= sys::HEADROOM_BYTES);

/// One frame.
#[derive(Clone, Copy, Debug)]
struct Slot {
    mbuf: *mut sys::Frame,
    /// Where its packet begins, with [`sys::HEADROOM_BYTES`] before and [`FRAME_BYTES`] after.
    packet: *mut u8,
}

/// The transmit frames of a queue.
pub(super) struct FrameTable {
    pool: NonNull<sys::Pool>,
    ledger: FrameLedger,
    slots: Box<[Slot]>,
    /// Whether the device computes UDP's checksum over IPv6.
    device_sums: bool,
}

impl FrameTable {
    /// Takes all frames out of `pool`, which has room for them. `None`: it has not.
    ///
    /// # Safety
    /// The pool must live as long as the table, its frames have [`FRAME_BYTES`], and the queue
    /// that the frames leave by must be closed before the pool is freed.
    pub(super) unsafe fn new(
        pool: NonNull<sys::Pool>,
        config: PoolConfig,
        device_sums: bool,
    ) -> Result<Option<Self>, PoolError> {
        let ledger = FrameLedger::new(config)?;
        let slots: Option<Box<[Slot]>> = (0..config.frames).map(|_| allocate(pool)).collect();
        Ok(slots.map(|slots| FrameTable { pool, ledger, slots, device_sums }))
    }

    pub(super) fn ledger(&self) -> &FrameLedger {
        &self.ledger
    }

    pub(super) fn ledger_mut(&mut self) -> &mut FrameLedger {
        &mut self.ledger
    }

    pub(super) fn pool(&self) -> NonNull<sys::Pool> {
        self.pool
    }

    #[inline]
    pub(super) fn allocate(&mut self, share: Share) -> Option<FrameId> {
        self.ledger.allocate(share)
    }

    #[inline]
    pub(super) fn available(&self, share: Share) -> usize {
        self.ledger.available(share)
    }

    #[inline]
    pub(super) fn retain(&mut self, frame: FrameId) {
        self.ledger.retain(frame);
    }

    #[inline]
    pub(super) fn release(&mut self, frame: FrameId) {
        self.ledger.release(frame);
    }

    #[inline]
    pub(super) fn is_queued(&self, frame: FrameId) -> bool {
        self.ledger.is_queued(frame)
    }

    #[inline]
    pub(super) fn bytes(&self, frame: FrameId) -> &[u8] {
        let packet = self.slots[frame.0 as usize].packet;
        // SAFETY: so many bytes follow (`new`); while the driver has the frame it only reads it,
        // and only this table hands out references, exclusive ones through an exclusive borrow.
        unsafe { std::slice::from_raw_parts(packet, MAX_PACKET_BYTES) }
    }

    #[inline]
    pub(super) fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8] {
        debug_assert!(!self.ledger.is_queued(frame), "a queued frame is not to be rewritten");
        let packet = self.slots[frame.0 as usize].packet;
        // SAFETY: as in `bytes`.
        unsafe { std::slice::from_raw_parts_mut(packet, MAX_PACKET_BYTES) }
    }

    /// Writes the headers of the first `length` bytes of a frame that is not queued, and begins
    /// its transmission.
    #[inline]
    pub(super) fn stage(
        &mut self,
        frame: FrameId,
        header: &Header,
        length: usize,
    ) -> *mut sys::Frame {
        let Slot { mbuf, packet } = self.slots[frame.0 as usize];
        // SAFETY: as in `bytes`; the room before the packet belongs to the frame, too, and the
        // length was checked against a packet's.
        let (room, bytes) = unsafe {
            let start = packet.sub(HEADER_BYTES_MAX);
            let whole = std::slice::from_raw_parts_mut(start, HEADER_BYTES_MAX + length);
            whole.split_at_mut(HEADER_BYTES_MAX)
        };
        let headers = self.write(header, room, bytes);
        let ip_bytes = header.summed_by_device(self.device_sums);
        self.ledger.begin_transmission(frame);
        // SAFETY: the mbuf is ours, no driver has it, and headers and packet lie within it.
        unsafe { sys::stage(mbuf, headers, length as u16, ip_bytes, 1) };
        mbuf
    }

    /// Begins one more transmission of a frame that is queued, if it is to leave as before.
    /// `None`: it is not, and its headers must not be touched.
    #[cold]
    pub(super) fn stage_again(
        &mut self,
        frame: FrameId,
        header: &Header,
        length: usize,
    ) -> Option<*mut sys::Frame> {
        let Slot { mbuf, packet } = self.slots[frame.0 as usize];
        let mut room = [0; HEADER_BYTES_MAX];
        let headers = self.write(header, &mut room, &self.bytes(frame)[..length]);
        let wanted = &room[HEADER_BYTES_MAX - usize::from(headers)..];
        // SAFETY: as in `stage`; nobody writes the headers of a queued frame.
        let there = unsafe {
            std::slice::from_raw_parts(packet.sub(usize::from(headers)), usize::from(headers))
        };
        if there != wanted {
            return None;
        }
        self.ledger.begin_transmission(frame);
        let ip_bytes = header.summed_by_device(self.device_sums);
        // SAFETY: the mbuf is ours; it is told again what it was told before.
        unsafe { sys::stage(mbuf, headers, length as u16, ip_bytes, 1) };
        Some(mbuf)
    }

    /// Copies the first `length` bytes into a new frame of the same share, owned by the caller.
    #[cold]
    pub(super) fn duplicate(&mut self, frame: FrameId, length: usize) -> Option<FrameId> {
        let copy = self.ledger.allocate(self.ledger.share(frame))?;
        let (from, to) = (self.slots[frame.0 as usize], self.slots[copy.0 as usize]);
        // SAFETY: two frames of this table, each with room for a packet.
        unsafe { std::ptr::copy_nonoverlapping(from.packet, to.packet, length) };
        Some(copy)
    }

    /// Whether the driver is done with the oldest transmission of a frame. The frames of a queue
    /// leave in order.
    #[inline]
    pub(super) fn has_left(&self, frame: FrameId) -> bool {
        let mbuf = self.slots[frame.0 as usize].mbuf;
        // SAFETY: the mbuf is ours.
        let references = unsafe { sys::references(mbuf) };
        references <= self.ledger.queued(frame)
    }

    /// Takes a frame back that the driver does not give back: it gets another mbuf with the same
    /// bytes; the old one goes to its pool when the driver lets go of it. False: there is none.
    #[cold]
    pub(super) fn replace(&mut self, frame: FrameId) -> bool {
        let old = self.slots[frame.0 as usize];
        // SAFETY: the mbuf is ours.
        if unsafe { sys::references(old.mbuf) } == 1 {
            return true;
        }
        let Some(new) = allocate(self.pool) else { return false };
        // SAFETY: two frames with room for a packet; then our reference to the old one ends.
        unsafe {
            std::ptr::copy_nonoverlapping(old.packet, new.packet, MAX_PACKET_BYTES);
            sys::release(old.mbuf);
        }
        self.slots[frame.0 as usize] = new;
        true
    }

    /// Takes a transmission back that no driver has seen.
    pub(super) fn unstage(&mut self, frame: FrameId, mbuf: *mut sys::Frame) {
        // SAFETY: the reference was taken in `stage` for this transmission.
        unsafe { sys::release(mbuf) };
        self.ledger.end_transmission(frame);
    }

    #[inline]
    fn write(&self, header: &Header, room: &mut [u8], packet: &[u8]) -> u16 {
        if self.device_sums {
            header.write_for_device(room, packet) as u16
        } else {
            header.write(room, packet) as u16
        }
    }
}

fn allocate(pool: NonNull<sys::Pool>) -> Option<Slot> {
    // SAFETY: the pool lives.
    let mbuf = unsafe { sys::allocate(pool.as_ptr()) };
    if mbuf.is_null() {
        return None;
    }
    // SAFETY: the mbuf was just allocated.
    Some(Slot { mbuf, packet: unsafe { sys::bytes(mbuf) } })
}
