//! The order of one stream's messages at their receiver: they may become known in any order, are
//! given buffers in the order sent, and leave in the order sent.

use std::collections::VecDeque;

/// What is known of the messages of one stream that have not left yet.
#[derive(Debug)]
pub(super) struct Order<T> {
    /// The sequence number of the first place.
    first: u32,
    /// By sequence number; `None` is one that is still to become known.
    places: VecDeque<Option<T>>,
    /// How many of the places, from the first, were taken in.
    taken: usize,
}

/// A message that there is no place for: it has left already, is known already, or is too far ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misplaced;

impl<T> Order<T> {
    /// Nothing is known; the first message has number 0.
    pub(super) fn new() -> Self {
        Order { first: 0, places: VecDeque::new(), taken: 0 }
    }

    /// A message becomes known, less than `ahead_max` ahead of the first that has not left.
    pub(super) fn place(
        &mut self,
        sequence: u32,
        ahead_max: usize,
        message: T,
    ) -> Result<(), Misplaced> {
        let ahead = sequence.wrapping_sub(self.first) as usize;
        if ahead >= ahead_max {
            return Err(Misplaced);
        }
        while self.places.len() <= ahead {
            self.places.push_back(None);
        }
        match &mut self.places[ahead] {
            Some(_) => Err(Misplaced),
            place => {
                *place = Some(message);
                Ok(())
            }
        }
    }

    /// The next message in order that has not been taken in, if it is known. It counts as taken in.
    pub(super) fn take_in(&mut self) -> Option<(u32, &mut T)> {
        let sequence = self.first.wrapping_add(self.taken as u32);
        let message = self.places.get_mut(self.taken)?.as_mut()?;
        self.taken += 1;
        Some((sequence, message))
    }

    /// Whether a message is the next to be taken in.
    pub(super) fn is_next(&self, sequence: u32) -> bool {
        sequence == self.first.wrapping_add(self.taken as u32)
    }

    /// Whether a message is the first that has not left.
    pub(super) fn is_first(&self, sequence: u32) -> bool {
        sequence == self.first
    }

    /// How many messages have not left, up to the last that is known.
    pub(super) fn ahead(&self) -> usize {
        self.places.len()
    }

    /// The first message, if it was taken in and `is_over`: it leaves.
    pub(super) fn leave(&mut self, is_over: impl FnOnce(&T) -> bool) -> Option<T> {
        let is_next = self.taken > 0 && self.places.front()?.as_ref().is_some_and(is_over);
        if !is_next {
            return None;
        }
        self.taken -= 1;
        self.first = self.first.wrapping_add(1);
        self.places.pop_front()?
    }

    /// A message that has not left, if it is known.
    pub(super) fn get(&mut self, sequence: u32) -> Option<&mut T> {
        let ahead = sequence.wrapping_sub(self.first) as usize;
        self.places.get_mut(ahead)?.as_mut()
    }

    /// Whether a message has left already; numbers are compared over half their range.
    pub(super) fn has_left(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.first) > u32::MAX / 2
    }

    /// All that are known and have not left.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let first = self.first;
        self.places.iter_mut().enumerate().filter_map(move |(ahead, place)| {
            place.as_mut().map(|message| (first.wrapping_add(ahead as u32), message))
        })
    }

    /// All that are known and have not left, for good.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.taken = 0;
        self.places.drain(..).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator of its own: the order of events is all that chance decides.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn messages_are_taken_in_and_leave_in_the_order_sent() {
        for seed in 1..=200_u64 {
            let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut order = Order::new();
            // Near the wrap of the numbers in half of the runs.
            order.first = if seed % 2 == 0 { u32::MAX - 20 } else { 0 };
            let base = order.first;
            let ahead_max = 1 + (random(&mut chance) % 16) as usize;
            let mut known = [false; 60];
            let mut over = [false; 60];
            let (mut taken, mut left) = (0, 0);
            while left < 60 {
                let at = (random(&mut chance) % 60) as usize;
                let sequence = base.wrapping_add(at as u32);
                match random(&mut chance) % 4 {
                    0 => {
                        let fits = at >= left && at < left + ahead_max && !known[at];
                        let outcome = order.place(sequence, ahead_max, at);
                        assert_eq!(outcome.is_ok(), fits, "seed {seed}");
                        known[at] |= fits;
                    }
                    1 => {
                        assert_eq!(order.is_next(sequence), at == taken, "seed {seed}");
                        let next = order.take_in().map(|(_, message)| *message);
                        let expected = (taken < 60 && known[taken]).then_some(taken);
                        assert_eq!(next, expected, "seed {seed}");
                        taken += usize::from(next.is_some());
                    }
                    2 => over[at] |= at < taken,
                    _ => {
                        let gone = order.leave(|message| over[*message]);
                        let expected = (left < taken && over[left]).then_some(left);
                        assert_eq!(gone, expected, "seed {seed}");
                        left += usize::from(gone.is_some());
                    }
                }
                assert_eq!(order.has_left(sequence), at < left, "seed {seed}");
                let is_there = known[at] && at >= left;
                assert_eq!(order.get(sequence).is_some(), is_there, "seed {seed}");
            }
        }
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let mut order = Order::new();
        assert_eq!(order.place(2, 3, "c"), Ok(()));
        assert_eq!(order.place(2, 3, "again"), Err(Misplaced));
        assert_eq!(order.place(3, 3, "too far"), Err(Misplaced));
        assert_eq!(order.place(u32::MAX, 3, "long ago"), Err(Misplaced));
        assert_eq!(order.take_in(), None, "the first is not known");
        assert_eq!(order.leave(|_| true), None);
        assert_eq!(order.place(0, 3, "a"), Ok(()));
        assert_eq!(order.leave(|_| true), None, "not taken in");
        assert_eq!(order.iter_mut().map(|(sequence, _)| sequence).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(order.drain().collect::<Vec<_>>(), ["a", "c"]);
    }
}
