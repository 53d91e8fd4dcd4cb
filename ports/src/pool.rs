//! The pool of transmit frames, one implementation for every port.

use nic_shm::RacyMem;
use nic_transport::FrameId;
use nic_wire::packet::{DEFAULT_PACKET_BYTES, MAX_PACKET_BYTES};

use crate::Share;

/// How far apart frames lie, in bytes: a packet and one cache line. An odd number of lines, so
/// that the headers of consecutive frames, which are touched most, fall into different sets of
/// the first-level cache; at a power of two they would all crowd into one or two.
pub const FRAME_STRIDE: usize = MAX_PACKET_BYTES + 64;

/// The most frames that a pool may have: 2 GiB of packets, far more than any engine uses.
const FRAMES_MAX: u32 = 1 << 20;

/// The size of a pool and its shares, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// All frames.
    pub frames: u32,
    /// Frames that only replies can use; they may use more while there are more.
    pub reply_frames: u32,
    /// Frames that only control packets can use, and all that they can.
    pub control_frames: u32,
}

impl PoolConfig {
    /// A pool of so many frames (at least 8), a quarter kept for replies and a thirty-second, but
    /// at least two, for control packets.
    pub const fn with_frames(frames: u32) -> Self {
        let control = frames / 32;
        let control_frames = if control < 2 { 2 } else { control };
        PoolConfig { frames, reply_frames: frames / 4, control_frames }
    }

    fn check(&self) -> Result<(), PoolError> {
        if self.frames > FRAMES_MAX {
            return Err(PoolError::TooMany { found: self.frames });
        }
        let reserved = u64::from(self.reply_frames) + u64::from(self.control_frames);
        if self.control_frames == 0 || reserved >= u64::from(self.frames) {
            return Err(PoolError::Shares {
                frames: self.frames,
                reply_frames: self.reply_frames,
                control_frames: self.control_frames,
            });
        }
        Ok(())
    }

    /// Bytes that the frames take.
    pub(crate) const fn bytes(&self) -> u64 {
        self.frames as u64 * FRAME_STRIDE as u64
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig::with_frames(4096)
    }
}

/// Why a pool of this size cannot be made. Correct the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// More frames than any pool has.
    #[error("{found} frames were asked for; a pool has at most {FRAMES_MAX}: ask for fewer")]
    TooMany {
        /// How many were asked for.
        found: u32,
    },
    /// Nothing is left for requests, or nothing is kept for control packets.
    #[error(
        "of {frames} frames {reply_frames} are kept for replies and {control_frames} for control \
         packets; keep at least one for control and leave at least one for requests"
    )]
    Shares {
        /// All frames.
        frames: u32,
        /// Kept for replies.
        reply_frames: u32,
        /// Kept for control packets.
        control_frames: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// All references, the port's included.
    references: u16,
    /// The port's own: transmissions that have not finished.
    queued: u16,
    share: Share,
}

/// A fixed number of frames with counted references, for the ports of this crate and others.
///
/// The last frame freed is the first handed out, while its bytes are still in the cache.
#[derive(Debug)]
pub struct FramePool {
    /// Touched only here, through references whose lifetimes follow the pool's own.
    memory: RacyMem,
    slots: Box<[Slot]>,
    free: Vec<u32>,
    in_use: [u32; 3],
    request_max: u32,
    control_max: u32,
    exhausted: u64,
}

impl FramePool {
    /// A pool in private memory.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn new(config: PoolConfig) -> Result<Self, PoolError> {
        config.check()?;
        Ok(Self::over(config, RacyMem::allocate(config.bytes())))
    }

    /// A pool in shared memory that only this process can write.
    ///
    /// # Errors
    /// See [`PoolError`].
    ///
    /// # Panics
    /// If the memory is shorter than the frames or cannot be written.
    ///
    /// # Safety
    /// Nobody in this process may touch the bytes of `memory` through another handle, and no
    /// other process may be able to write them: the pool makes references to them.
    pub(crate) unsafe fn in_shared_memory(
        config: PoolConfig,
        memory: RacyMem,
    ) -> Result<Self, PoolError> {
        config.check()?;
        assert!(memory.permission() == nic_shm::Permission::ReadWrite, "frames are written here");
        Ok(Self::over(config, memory))
    }

    fn over(config: PoolConfig, memory: RacyMem) -> Self {
        assert!(memory.len() >= config.bytes(), "the memory holds all frames");
        let slot = Slot { references: 0, queued: 0, share: Share::Control };
        FramePool {
            memory,
            slots: vec![slot; config.frames as usize].into_boxed_slice(),
            free: (0..config.frames).rev().collect(),
            in_use: [0; 3],
            request_max: config.frames - config.reply_frames - config.control_frames,
            control_max: config.control_frames,
            exhausted: 0,
        }
    }

    /// A free frame with one reference, or `None`, counted, when the share is used up.
    #[inline]
    pub fn allocate(&mut self, share: Share) -> Option<FrameId> {
        if self.available(share) == 0 {
            self.exhausted += 1;
            return None;
        }
        let index = self.free.pop()?;
        self.slots[index as usize] = Slot { references: 1, queued: 0, share };
        self.in_use[share as usize] += 1;
        Some(FrameId(index))
    }

    /// Asks for the lines of the frame that will be handed out next, to be written: in memory that
    /// a peer has just read, it would be waited for otherwise.
    #[inline]
    pub fn prefetch_next(&self) {
        if let Some(next) = self.free.last() {
            let start = u64::from(*next) * FRAME_STRIDE as u64;
            self.memory.prefetch_for_write(start, DEFAULT_PACKET_BYTES as u64);
        }
    }

    /// Takes one more reference.
    ///
    /// # Panics
    /// If the frame is free: whoever asks has no right to it.
    #[inline]
    pub fn retain(&mut self, frame: FrameId) {
        let slot = &mut self.slots[frame.0 as usize];
        assert!(slot.references != 0, "a free frame was retained");
        slot.references = slot.references.checked_add(1).expect("a frame has few owners");
    }

    /// Gives one reference back.
    ///
    /// # Panics
    /// If the frame is free, or only the port's own references are left: one was given back twice.
    #[inline]
    pub fn release(&mut self, frame: FrameId) {
        let slot = &self.slots[frame.0 as usize];
        assert!(slot.references > slot.queued, "a frame was released more often than retained");
        self.drop_reference(frame);
    }

    /// Takes the port's reference for one transmission.
    ///
    /// # Panics
    /// If the frame is free.
    #[inline]
    pub fn begin_transmission(&mut self, frame: FrameId) {
        self.retain(frame);
        self.slots[frame.0 as usize].queued += 1;
    }

    /// Gives the port's reference for one transmission back.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub fn end_transmission(&mut self, frame: FrameId) {
        let slot = &mut self.slots[frame.0 as usize];
        assert!(slot.queued != 0, "a transmission ended that had not begun");
        slot.queued -= 1;
        self.drop_reference(frame);
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

    /// Whether a transmission of the frame has begun and not ended.
    #[inline]
    pub fn is_queued(&self, frame: FrameId) -> bool {
        self.slots[frame.0 as usize].queued != 0
    }

    /// How many frames a share can still get.
    #[inline]
    pub fn available(&self, share: Share) -> usize {
        let free = self.free.len();
        let control_used = self.in_use[Share::Control as usize];
        // What is still owed to control packets is out of reach for all others.
        let others = free - ((self.control_max - control_used) as usize).min(free);
        match share {
            Share::Reply => others,
            Share::Control => ((self.control_max - control_used) as usize).min(free),
            Share::Request => {
                let request_used = self.in_use[Share::Request as usize];
                others.min((self.request_max - request_used) as usize)
            }
        }
    }

    /// How many frames are free, whatever for.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// How many frames the pool has.
    pub fn frames(&self) -> u32 {
        self.slots.len() as u32
    }

    /// How often no frame was to be had.
    pub fn exhausted(&self) -> u64 {
        self.exhausted
    }

    #[inline]
    fn drop_reference(&mut self, frame: FrameId) {
        let slot = &mut self.slots[frame.0 as usize];
        slot.references -= 1;
        if slot.references == 0 {
            self.in_use[slot.share as usize] -= 1;
            self.free.push(frame.0);
        }
    }

    #[inline]
    fn start(&self, frame: FrameId) -> *mut u8 {
        assert!((frame.0 as usize) < self.slots.len(), "a frame of another pool");
        // SAFETY: the memory holds as many strides as there are slots (checked in `over`).
        unsafe { self.memory.as_ptr().add(frame.0 as usize * FRAME_STRIDE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(pool: &mut FramePool, share: Share) -> Vec<FrameId> {
        std::iter::from_fn(|| pool.allocate(share)).collect()
    }

    #[test]
    fn requests_leave_replies_and_control_their_shares() {
        let config = PoolConfig { frames: 16, reply_frames: 4, control_frames: 2 };
        let mut pool = FramePool::new(config).unwrap();
        assert_eq!(pool.available(Share::Request), 10);
        let requests = drain(&mut pool, Share::Request);
        assert_eq!(requests.len(), 10);
        let replies = drain(&mut pool, Share::Reply);
        assert_eq!(replies.len(), 4);
        let control = drain(&mut pool, Share::Control);
        assert_eq!(control.len(), 2);
        assert_eq!((pool.free(), pool.exhausted()), (0, 3));

        // What requests give back, replies may use, and then requests wait.
        requests.iter().for_each(|&frame| pool.release(frame));
        let more = drain(&mut pool, Share::Reply);
        assert_eq!((more.len(), pool.available(Share::Request)), (10, 0));
        for frame in replies.into_iter().chain(control).chain(more) {
            pool.release(frame);
        }
        assert_eq!((pool.free(), pool.available(Share::Request)), (16, 10));
    }

    #[test]
    fn a_frame_is_free_when_caller_and_port_are_done_in_either_order() {
        let mut pool = FramePool::new(PoolConfig::with_frames(8)).unwrap();
        for caller_first in [false, true] {
            let frame = pool.allocate(Share::Reply).unwrap();
            pool.begin_transmission(frame);
            pool.begin_transmission(frame);
            if caller_first {
                pool.release(frame);
            }
            pool.end_transmission(frame);
            assert!(pool.is_queued(frame));
            pool.end_transmission(frame);
            assert!(!pool.is_queued(frame));
            if !caller_first {
                assert_eq!(pool.free(), 7);
                pool.release(frame);
            }
            assert_eq!(pool.free(), 8);
        }
    }

    #[test]
    #[should_panic(expected = "released more often")]
    fn releasing_the_ports_reference_is_caught() {
        let mut pool = FramePool::new(PoolConfig::with_frames(8)).unwrap();
        let frame = pool.allocate(Share::Reply).unwrap();
        pool.begin_transmission(frame);
        pool.release(frame);
        pool.release(frame);
    }

    #[test]
    fn frames_do_not_overlap_and_begin_on_cache_lines() {
        let mut pool = FramePool::new(PoolConfig::with_frames(32)).unwrap();
        let frames = drain(&mut pool, Share::Reply);
        for frame in &frames {
            let bytes = pool.bytes_mut(*frame);
            assert_eq!((bytes.len(), bytes.as_ptr().addr() % 64), (MAX_PACKET_BYTES, 0));
            bytes.fill(frame.0 as u8);
        }
        for frame in frames {
            assert!(pool.bytes(frame).iter().all(|&byte| byte == frame.0 as u8));
        }
    }

    #[test]
    fn impossible_shares_are_refused() {
        for (frames, reply_frames, control_frames) in [(8, 6, 2), (8, 0, 0), (0, 0, 0)] {
            let config = PoolConfig { frames, reply_frames, control_frames };
            assert!(matches!(FramePool::new(config), Err(PoolError::Shares { .. })));
        }
        let found = FRAMES_MAX + 1;
        let refused = FramePool::new(PoolConfig::with_frames(found)).err();
        assert_eq!(refused, Some(PoolError::TooMany { found }));
    }
}
