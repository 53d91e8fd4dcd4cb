//! Packets that were submitted and have not left.

use std::net::SocketAddr;

use nic_transport::FrameId;

/// One submitted packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    pub(crate) frame: FrameId,
    /// In bytes.
    pub(crate) length: u32,
    pub(crate) to: SocketAddr,
}

/// Submitted packets in order. Its room is fixed; it mostly empties on every transmit, so that
/// the same few cache lines serve all turns.
#[derive(Debug)]
pub(crate) struct TransmitQueue {
    entries: Vec<Queued>,
    /// Entries before this one have left.
    first: usize,
    packets_max: usize,
}

impl TransmitQueue {
    pub(crate) fn new(packets_max: usize) -> Self {
        TransmitQueue { entries: Vec::with_capacity(packets_max), first: 0, packets_max }
    }

    /// Adds a packet; `false` if the queue is full.
    #[inline]
    pub(crate) fn push(&mut self, queued: Queued) -> bool {
        if self.entries.len() == self.packets_max {
            self.entries.drain(..self.first);
            self.first = 0;
            if self.entries.len() == self.packets_max {
                return false;
            }
        }
        self.entries.push(queued);
        true
    }

    /// What has not left, oldest first.
    #[inline]
    pub(crate) fn waiting(&self) -> &[Queued] {
        &self.entries[self.first..]
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first == self.entries.len()
    }

    /// Forgets the oldest waiting packet and returns it.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let queued = self.entries.get(self.first).copied()?;
        self.first += 1;
        if self.is_empty() {
            self.entries.clear();
            self.first = 0;
        }
        Some(queued)
    }

    /// Puts a packet that was popped back before all others; `false` if the queue is full.
    #[cold]
    #[cfg_attr(not(feature = "uring"), allow(dead_code))]
    pub(crate) fn put_back(&mut self, queued: Queued) -> bool {
        if self.first > 0 {
            self.first -= 1;
            self.entries[self.first] = queued;
            return true;
        }
        let has_room = self.entries.len() < self.packets_max;
        if has_room {
            self.entries.insert(0, queued);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(number: u32) -> Queued {
        Queued { frame: FrameId(number), length: 1, to: ([127, 0, 0, 1], 1).into() }
    }

    #[test]
    fn room_comes_back_and_order_stays() {
        let mut queue = TransmitQueue::new(4);
        assert!((0..4).all(|number| queue.push(queued(number))));
        assert!(!queue.push(queued(9)));
        assert_eq!(queue.pop().map(|first| first.frame), Some(FrameId(0)));
        assert!(queue.push(queued(4)));
        let waiting: Vec<u32> = queue.waiting().iter().map(|entry| entry.frame.0).collect();
        assert_eq!(waiting, [1, 2, 3, 4]);
        assert!(!queue.put_back(queued(0)), "it is full");
        assert_eq!(queue.pop().map(|first| first.frame), Some(FrameId(1)));
        assert!(queue.put_back(queued(1)));
        assert_eq!(queue.waiting()[0].frame, FrameId(1));
        while queue.pop().is_some() {}
        assert!(queue.is_empty());
        assert!(queue.put_back(queued(8)) && queue.put_back(queued(7)));
        assert_eq!(queue.pop().map(|first| first.frame), Some(FrameId(7)));
        assert_eq!(queue.pop().map(|first| first.frame), Some(FrameId(8)));
        assert!(queue.push(queued(5)));
        assert_eq!(queue.waiting().len(), 1);
    }
}
