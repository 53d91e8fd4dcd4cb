//! A first-in-first-out queue of slot indices, of fixed size.

use alloc::boxed::Box;

/// Holds each slot at most once, so it cannot overflow.
#[derive(Debug)]
pub(super) struct Queue {
    entries: Box<[u32]>,
    mask: usize,
    /// Free-running.
    head: usize,
    tail: usize,
}

impl Queue {
    pub(super) fn new(capacity: u32) -> Self {
        let length = (capacity as usize).next_power_of_two();
        Queue {
            entries: alloc::vec![0; length].into_boxed_slice(),
            mask: length - 1,
            head: 0,
            tail: 0,
        }
    }

    #[inline]
    pub(super) fn push(&mut self, slot: u32) {
        debug_assert!(self.len() < self.entries.len(), "a slot was queued twice");
        self.entries[self.tail & self.mask] = slot;
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<u32> {
        if self.head == self.tail {
            return None;
        }
        let slot = self.entries[self.head & self.mask];
        self.head = self.head.wrapping_add(1);
        Some(slot)
    }

    /// Takes a slot out of the middle; quick if it was queued lately.
    #[cold]
    pub(super) fn remove(&mut self, slot: u32) {
        let is_it = |place: &usize| self.entries[place & self.mask] == slot;
        let places = (0..self.len()).map(|behind| self.head.wrapping_add(behind));
        let Some(mut place) = places.rev().find(is_it) else { return };
        self.tail = self.tail.wrapping_sub(1);
        while place != self.tail {
            let next = place.wrapping_add(1);
            self.entries[place & self.mask] = self.entries[next & self.mask];
            place = next;
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }
}
