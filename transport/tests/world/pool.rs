//! A pool of frames that watches its references, a port in front of it that may be slow, and the
//! checksum.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;

use nic_transport::{FrameId, Frames, NotAuthentic, Protection};
use nic_wire::packet::HEADER_BYTES;

/// CRC-32 of all bytes but those of the check itself.
pub struct Crc;

impl Crc {
    fn of(packet: &[u8]) -> u32 {
        let seed = u32::from_le_bytes(packet[..4].try_into().unwrap());
        let mut hasher = crc32fast::Hasher::new_with_initial(seed);
        hasher.update(&packet[8..]);
        hasher.finalize()
    }

    pub fn seal_bytes(packet: &mut [u8]) {
        let check = Crc::of(packet);
        packet[4..8].copy_from_slice(&check.to_le_bytes());
    }
}

impl Protection for Crc {
    fn seal(&mut self, packet: &mut [u8]) {
        Crc::seal_bytes(packet);
    }

    fn open(&mut self, packet: &[u8]) -> Result<Range<usize>, NotAuthentic> {
        if packet[4..8] == Crc::of(packet).to_le_bytes() {
            Ok(HEADER_BYTES..packet.len())
        } else {
            Err(NotAuthentic)
        }
    }
}

struct Slot {
    bytes: Vec<u8>,
    references: u32,
    queued: u32,
}

pub struct Pool {
    slots: Vec<Slot>,
    free: Vec<u32>,
    queue: VecDeque<(FrameId, usize, SocketAddr)>,
    /// How many packets the port sends per turn.
    pub sends_per_turn: usize,
}

impl Pool {
    pub fn new(frames: u32) -> Pool {
        let slot = || Slot { bytes: vec![0; 2048], references: 0, queued: 0 };
        Pool {
            slots: (0..frames).map(|_| slot()).collect(),
            free: (0..frames).rev().collect(),
            queue: VecDeque::new(),
            sends_per_turn: usize::MAX,
        }
    }

    pub fn allocate(&mut self) -> Option<FrameId> {
        let frame = self.free.pop()?;
        let slot = &mut self.slots[frame as usize];
        assert_eq!((slot.references, slot.queued), (0, 0));
        slot.references = 1;
        Some(FrameId(frame))
    }

    pub fn write(&mut self, frame: FrameId, payload: &[u8]) {
        let bytes = self.bytes_mut(frame);
        bytes[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(payload);
    }

    pub fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        let slot = &mut self.slots[frame.0 as usize];
        assert_eq!(slot.queued, 0, "a frame in the port's queue was submitted again");
        slot.queued += 1;
        slot.references += 1;
        self.queue.push_back((frame, length, to));
    }

    pub fn give_up(&mut self, frame: FrameId) {
        self.release(frame);
    }

    /// The packets that leave in this turn.
    pub fn transmit(&mut self) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut leaving = Vec::new();
        for _ in 0..self.sends_per_turn.min(self.queue.len()) {
            let (frame, length, to) = self.queue.pop_front().unwrap();
            let slot = &mut self.slots[frame.0 as usize];
            slot.queued -= 1;
            leaving.push((slot.bytes[..length].to_vec(), to));
            self.release(frame);
        }
        leaving
    }

    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn assert_all_free(&self) {
        for (index, slot) in self.slots.iter().enumerate() {
            assert_eq!((slot.references, slot.queued), (0, 0), "frame {index} is still held");
        }
        assert_eq!(self.free.len(), self.slots.len());
    }
}

impl Frames for Pool {
    fn bytes(&self, frame: FrameId) -> &[u8] {
        &self.slots[frame.0 as usize].bytes
    }

    fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8] {
        let slot = &mut self.slots[frame.0 as usize];
        assert!(slot.references > 0, "a free frame was written");
        assert_eq!(slot.queued, 0, "a frame in the port's queue was written");
        &mut slot.bytes
    }

    fn retain(&mut self, frame: FrameId) {
        let slot = &mut self.slots[frame.0 as usize];
        assert!(slot.references > 0, "a free frame was retained");
        slot.references += 1;
    }

    fn release(&mut self, frame: FrameId) {
        let slot = &mut self.slots[frame.0 as usize];
        assert!(slot.references > 0, "a free frame was released");
        slot.references -= 1;
        if slot.references == 0 {
            assert_eq!(slot.queued, 0, "a frame became free in the port's queue");
            self.free.push(frame.0);
        }
    }

    fn is_queued(&self, frame: FrameId) -> bool {
        self.slots[frame.0 as usize].queued > 0
    }
}
