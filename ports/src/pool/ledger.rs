//! Who owns which frame of a pool: counted references and shares, without the memory itself.

use nic_transport::FrameId;

use super::{PoolConfig, PoolError};
use crate::Share;

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// All references, the port's included.
    references: u16,
    /// The port's own: transmissions that have not finished.
    queued: u16,
    share: Share,
}

/// The books of a pool: which frames are free, for whom, and how often each is referred to.
///
/// The last frame freed is the first handed out, while its bytes are still in the cache.
#[derive(Debug)]
pub struct FrameLedger {
    slots: Box<[Slot]>,
    free: Vec<u32>,
    in_use: [u32; 3],
    request_max: u32,
    control_max: u32,
    exhausted: u64,
}

impl FrameLedger {
    /// Books for a pool of this size, all of it free.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn new(config: PoolConfig) -> Result<Self, PoolError> {
        config.check()?;
        let slot = Slot { references: 0, queued: 0, share: Share::Control };
        Ok(FrameLedger {
            slots: vec![slot; config.frames as usize].into_boxed_slice(),
            free: (0..config.frames).rev().collect(),
            in_use: [0; 3],
            request_max: config.frames - config.reply_frames - config.control_frames,
            control_max: config.control_frames,
            exhausted: 0,
        })
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

    /// The frame that will be handed out next.
    #[inline]
    pub fn next(&self) -> Option<FrameId> {
        self.free.last().map(|index| FrameId(*index))
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

    /// Whether a transmission of the frame has begun and not ended.
    #[inline]
    pub fn is_queued(&self, frame: FrameId) -> bool {
        self.slots[frame.0 as usize].queued != 0
    }

    /// How many transmissions of the frame have begun and not ended.
    #[inline]
    pub fn queued(&self, frame: FrameId) -> u16 {
        self.slots[frame.0 as usize].queued
    }

    /// What a frame was allocated for.
    #[inline]
    pub fn share(&self, frame: FrameId) -> Share {
        self.slots[frame.0 as usize].share
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

    /// How many frames there are.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(ledger: &mut FrameLedger, share: Share) -> Vec<FrameId> {
        std::iter::from_fn(|| ledger.allocate(share)).collect()
    }

    #[test]
    fn requests_leave_replies_and_control_their_shares() {
        let config = PoolConfig { frames: 16, reply_frames: 4, control_frames: 2 };
        let mut ledger = FrameLedger::new(config).unwrap();
        assert_eq!(ledger.available(Share::Request), 10);
        let requests = drain(&mut ledger, Share::Request);
        assert_eq!(requests.len(), 10);
        let replies = drain(&mut ledger, Share::Reply);
        assert_eq!(replies.len(), 4);
        let control = drain(&mut ledger, Share::Control);
        assert_eq!(control.len(), 2);
        assert_eq!((ledger.free(), ledger.exhausted()), (0, 3));

        // What requests give back, replies may use, and then requests wait.
        requests.iter().for_each(|&frame| ledger.release(frame));
        let more = drain(&mut ledger, Share::Reply);
        assert_eq!((more.len(), ledger.available(Share::Request)), (10, 0));
        for frame in replies.into_iter().chain(control).chain(more) {
            ledger.release(frame);
        }
        assert_eq!((ledger.free(), ledger.available(Share::Request)), (16, 10));
    }

    #[test]
    fn a_frame_is_free_when_caller_and_port_are_done_in_either_order() {
        let mut ledger = FrameLedger::new(PoolConfig::with_frames(8)).unwrap();
        for caller_first in [false, true] {
            let frame = ledger.allocate(Share::Reply).unwrap();
            ledger.begin_transmission(frame);
            ledger.begin_transmission(frame);
            if caller_first {
                ledger.release(frame);
            }
            ledger.end_transmission(frame);
            assert!(ledger.is_queued(frame));
            ledger.end_transmission(frame);
            assert!(!ledger.is_queued(frame));
            if !caller_first {
                assert_eq!(ledger.free(), 7);
                ledger.release(frame);
            }
            assert_eq!(ledger.free(), 8);
        }
    }

    #[test]
    #[should_panic(expected = "released more often")]
    fn releasing_the_ports_reference_is_caught() {
        let mut ledger = FrameLedger::new(PoolConfig::with_frames(8)).unwrap();
        let frame = ledger.allocate(Share::Reply).unwrap();
        ledger.begin_transmission(frame);
        ledger.release(frame);
        ledger.release(frame);
    }

    #[test]
    fn impossible_shares_are_refused() {
        for (frames, reply_frames, control_frames) in [(8, 6, 2), (8, 0, 0), (0, 0, 0)] {
            let config = PoolConfig { frames, reply_frames, control_frames };
            assert!(matches!(FrameLedger::new(config), Err(PoolError::Shares { .. })));
        }
        let found = (1 << 20) + 1;
        let refused = FrameLedger::new(PoolConfig::with_frames(found)).err();
        assert_eq!(refused, Some(PoolError::TooMany { found }));
    }
}
