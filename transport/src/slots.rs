//! A queue of slot numbers in which each slot stands at most once. It never grows.

use alloc::boxed::Box;
use alloc::vec;

/// First in, first out; pushing a slot that already waits changes nothing.
#[derive(Clone, Debug)]
pub(crate) struct SlotQueue {
    ring: Box<[u16]>,
    waiting: Box<[bool]>,
    head: usize,
    length: usize,
}

impl SlotQueue {
    pub(crate) fn new(slots: u16) -> Self {
        SlotQueue {
            ring: vec![0; usize::from(slots)].into(),
            waiting: vec![false; usize::from(slots)].into(),
            head: 0,
            length: 0,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, slot: u16) {
        let waiting = &mut self.waiting[usize::from(slot)];
        if *waiting {
            return;
        }
        *waiting = true;
        let mut place = self.head + self.length;
        if place >= self.ring.len() {
            place -= self.ring.len();
        }
        self.ring[place] = slot;
        self.length += 1;
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<u16> {
        if self.length == 0 {
            return None;
        }
        let slot = self.ring[self.head];
        self.head += 1;
        if self.head == self.ring.len() {
            self.head = 0;
        }
        self.length -= 1;
        self.waiting[usize::from(slot)] = false;
        Some(slot)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_admits_each_slot_once() {
        let mut queue = SlotQueue::new(3);
        for round in 0..10u16 {
            for slot in [2, 0, 2, 1, 0, 1] {
                queue.push((slot + round) % 3);
            }
            assert_eq!(queue.len(), 3);
            for slot in [2, 0, 1] {
                assert_eq!(queue.pop(), Some((slot + round) % 3));
            }
            assert_eq!((queue.pop(), queue.is_empty()), (None, true));
            queue.push(round % 3);
            assert_eq!(queue.pop(), Some(round % 3));
        }
    }
}
