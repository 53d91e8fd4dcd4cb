//! The pool of transmit frames, one implementation for every port whose frames lie in one memory.

mod config;
mod ledger;

use nic_shm::RacyMem;
use nic_transport::FrameId;
use nic_wire::packet::{DEFAULT_PACKET_BYTES, MAX_PACKET_BYTES};

pub use self::config::{PoolConfig, PoolError};
pub use self::ledger::FrameLedger;
use crate::Share;

/// How far apart frames lie, in bytes: a packet and one cache line. An odd number of lines, so
/// that the headers of consecutive frames, which are touched most, fall into different sets of
/// the first-level cache; at a power of two they would all crowd into one or two.
pub const FRAME_STRIDE: usize = MAX_PACKET_BYTES + 64;

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Where in a pool's memory the frames lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameLayout {
    /// From one frame to the next, in bytes.
    pub(crate) stride: usize,
    /// Before each packet, for headers of the port's own, in bytes.
    pub(crate) headroom: usize,
    /// Consecutive frames begin so many different numbers of cache lines further, a power of two:
    /// for strides that are one, see [`FRAME_STRIDE`].
    pub(crate) colours: usize,
}

impl FrameLayout {
    /// Frames one after the other, with no room before the packets.
    pub(crate) const PLAIN: FrameLayout =
        FrameLayout { stride: FRAME_STRIDE, headroom: 0, colours: 1 };

    /// Where the packet of frame `index` begins, in bytes from the first frame.
    #[inline]
    pub(crate) const fn start(&self, index: usize) -> usize {
        index * self.stride + self.headroom + (index & (self.colours - 1)) * LINE_BYTES
    }

    /// Bytes that so many frames take.
    pub(crate) const fn bytes(&self, frames: u32) -> u64 {
        frames as u64 * self.stride as u64
    }

    fn check(&self) {
        assert!(self.colours.is_power_of_two(), "colours are picked by a mask");
        let last = self.headroom + (self.colours - 1) * LINE_BYTES;
        assert!(last + MAX_PACKET_BYTES <= self.stride, "a packet fits at every colour");
    }
}

/// A fixed number of frames with counted references, for the ports of this crate and others.
#[derive(Debug)]
pub struct FramePool {
    /// Touched only here, through references whose lifetimes follow the pool's own.
    memory: RacyMem,
    layout: FrameLayout,
    ledger: FrameLedger,
}

impl FramePool {
    /// A pool in private memory.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn new(config: PoolConfig) -> Result<Self, PoolError> {
        let ledger = FrameLedger::new(config)?;
        let memory = RacyMem::allocate(FrameLayout::PLAIN.bytes(config.frames));
        Ok(Self::over(ledger, memory, FrameLayout::PLAIN))
    }

    /// A pool in memory that is shared with the kernel or with processes that cannot write it.
    ///
    /// # Errors
    /// See [`PoolError`].
    ///
    /// # Panics
    /// If the memory is shorter than the frames or cannot be written.
    ///
    /// # Safety
    /// Nobody in this process may touch the bytes of `memory` through another handle, and nobody
    /// else may write them: the pool makes references to them.
    pub(crate) unsafe fn in_shared_memory(
        config: PoolConfig,
        memory: RacyMem,
        layout: FrameLayout,
    ) -> Result<Self, PoolError> {
        let ledger = FrameLedger::new(config)?;
        assert!(memory.permission() == nic_shm::Permission::ReadWrite, "frames are written here");
        Ok(Self::over(ledger, memory, layout))
    }

    fn over(ledger: FrameLedger, memory: RacyMem, layout: FrameLayout) -> Self {
        layout.check();
        assert!(memory.len() >= layout.bytes(ledger.frames()), "the memory holds all frames");
        FramePool { memory, layout, ledger }
    }

    /// A free frame with one reference, or `None`, counted, when the share is used up.
    #[inline]
    pub fn allocate(&mut self, share: Share) -> Option<FrameId> {
        self.ledger.allocate(share)
    }

    /// Asks for the lines of the frame that will be handed out next, to be written: in memory that
    /// a peer has just read, it would be waited for otherwise.
    #[inline]
    pub fn prefetch_next(&self) {
        if let Some(next) = self.ledger.next() {
            let start = self.layout.start(next.0 as usize) as u64;
            self.memory.prefetch_for_write(start, DEFAULT_PACKET_BYTES as u64);
        }
    }

    /// Takes one more reference; see [`FrameLedger::retain`].
    #[inline]
    pub fn retain(&mut self, frame: FrameId) {
        self.ledger.retain(frame);
    }

    /// Gives one reference back; see [`FrameLedger::release`].
    #[inline]
    pub fn release(&mut self, frame: FrameId) {
        self.ledger.release(frame);
    }

    /// Takes the port's reference for one transmission; see [`FrameLedger::begin_transmission`].
    #[inline]
    pub fn begin_transmission(&mut self, frame: FrameId) {
        self.ledger.begin_transmission(frame);
    }

    /// Gives the port's reference for one transmission back; see
    /// [`FrameLedger::end_transmission`].
    #[inline]
    pub fn end_transmission(&mut self, frame: FrameId) {
        self.ledger.end_transmission(frame);
    }

    /// The frame's bytes.
    ///
    /// # Panics
    /// If the pool has no such frame.
    #[inline]
    pub fn bytes(&self, frame: FrameId) -> &[u8] {
        let start = self.start(frame);
        // SAFETY: the frame lies within the memory, which stays mapped as long as the pool; only
        // this pool hands out references to it, exclusive ones through an exclusive borrow.
        unsafe { core::slice::from_raw_parts(start, MAX_PACKET_BYTES) }
    }

    /// The frame's bytes, to write.
    ///
    /// # Panics
    /// If the pool has no such frame.
    #[inline]
    pub fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8] {
        debug_assert!(!self.is_queued(frame), "a queued frame is not to be rewritten");
        let start = self.start(frame);
        // SAFETY: as in `bytes`; the pool is borrowed exclusively, so no other reference exists.
        unsafe { core::slice::from_raw_parts_mut(start, MAX_PACKET_BYTES) }
    }

    /// Headroom and packet, to write headers before the packet and read the packet meanwhile: the
    /// first `headroom` bytes of the layout, then the packet's `length`.
    ///
    /// # Panics
    /// If the pool has no such frame, or the length is more than a packet's.
    #[inline]
    #[allow(dead_code, reason = "used by the ports that write headers, each behind its feature")]
    pub(crate) fn headroom_and_packet(
        &mut self,
        frame: FrameId,
        length: usize,
    ) -> (&mut [u8], &[u8]) {
        assert!(length <= MAX_PACKET_BYTES, "a packet is longer than its frame");
        let headroom = self.layout.headroom;
        let packet = self.start(frame);
        // SAFETY: as in `bytes_mut`, and the layout keeps the headroom before each packet.
        let whole =
            unsafe { core::slice::from_raw_parts_mut(packet.sub(headroom), headroom + length) };
        let (before, packet) = whole.split_at_mut(headroom);
        (before, packet)
    }

    /// Copies the first bytes of one frame into another, of which the caller is the only owner.
    ///
    /// # Panics
    /// If the pool has no such frames, they are the same, or the length is more than a packet's.
    #[allow(dead_code, reason = "used by the ports that write headers, each behind its feature")]
    pub(crate) fn copy(&mut self, from: FrameId, to: FrameId, length: usize) {
        assert!(from != to && length <= MAX_PACKET_BYTES, "a copy between two frames");
        debug_assert!(!self.is_queued(to), "a queued frame is not to be rewritten");
        let (from, to) = (self.start(from), self.start(to));
        // SAFETY: both frames lie within the memory and do not overlap; the pool is borrowed
        // exclusively, so no reference to either exists.
        unsafe { core::ptr::copy_nonoverlapping(from, to, length) };
    }

    /// Where a frame's packet begins, in bytes from the first frame.
    #[inline]
    #[allow(dead_code, reason = "used by the ports that name places, each behind its feature")]
    pub(crate) fn place(&self, frame: FrameId) -> u64 {
        self.layout.start(frame.0 as usize) as u64
    }

    /// Whether a transmission of the frame has begun and not ended.
    #[inline]
    pub fn is_queued(&self, frame: FrameId) -> bool {
        self.ledger.is_queued(frame)
    }

    /// What a frame was allocated for.
    #[inline]
    pub fn share(&self, frame: FrameId) -> Share {
        self.ledger.share(frame)
    }

    /// How many frames a share can still get.
    #[inline]
    pub fn available(&self, share: Share) -> usize {
        self.ledger.available(share)
    }

    /// How many frames are free, whatever for.
    pub fn free(&self) -> usize {
        self.ledger.free()
    }

    /// How many frames the pool has.
    pub fn frames(&self) -> u32 {
        self.ledger.frames()
    }

    /// How often no frame was to be had.
    pub fn exhausted(&self) -> u64 {
        self.ledger.exhausted()
    }

    #[inline]
    fn start(&self, frame: FrameId) -> *mut u8 {
        let index = frame.0 as usize;
        assert!(index < self.ledger.frames() as usize, "a frame of another pool");
        // SAFETY: the memory holds as many strides as there are frames (checked in `over`).
        unsafe { self.memory.as_ptr().add(self.layout.start(index)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill_and_compare(mut pool: FramePool) {
        let frames: Vec<_> = std::iter::from_fn(|| pool.allocate(Share::Reply)).collect();
        for frame in &frames {
            let bytes = pool.bytes_mut(*frame);
            assert_eq!((bytes.len(), bytes.as_ptr().addr() % 64), (MAX_PACKET_BYTES, 0));
            bytes.fill(frame.0 as u8);
            pool.headroom_and_packet(*frame, 1).0.fill(0xff);
        }
        for frame in frames {
            assert!(pool.bytes(frame).iter().all(|&byte| byte == frame.0 as u8));
        }
    }

    #[test]
    fn frames_do_not_overlap_and_begin_on_cache_lines() {
        fill_and_compare(FramePool::new(PoolConfig::with_frames(32)).unwrap());
        let config = PoolConfig::with_frames(32);
        let layout = FrameLayout { stride: 4096, headroom: 128, colours: 16 };
        let memory = RacyMem::allocate(layout.bytes(config.frames));
        // SAFETY: nobody else knows of the memory.
        fill_and_compare(unsafe { FramePool::in_shared_memory(config, memory, layout) }.unwrap());
    }
}
