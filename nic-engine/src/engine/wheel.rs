//! Deadlines of the ops that are out: a timing wheel of linked lists over the op table's slots.
//!
//! Setting and lifting a deadline take a few instructions. A bucket covers one tick; a deadline
//! farther away than the wheel's horizon stays in its bucket for as many rounds as it takes.

use nic_wire::Time;

/// Nanoseconds of a tick as a power of two: 16.4 us, the most by which a deadline is overrun.
const TICK_SHIFT: u32 = 14;
const BUCKETS: usize = 1024;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    previous: u32,
    deadline: Time,
    set: bool,
}

/// Deadlines by slot.
pub(super) struct Wheel {
    heads: Box<[u32]>,
    links: Box<[Link]>,
    /// How many slots have a deadline.
    set: usize,
    /// The next tick to be looked at.
    tick: u64,
}

impl Wheel {
    /// A wheel for slots below `capacity`; the clock stands at `now`.
    pub(super) fn new(capacity: usize, now: Time) -> Self {
        let link = Link { next: NONE, previous: NONE, deadline: Time::NEVER, set: false };
        Wheel {
            heads: vec![NONE; BUCKETS].into(),
            links: vec![link; capacity].into(),
            set: 0,
            tick: now.as_ns() >> TICK_SHIFT,
        }
    }

    /// Sets the deadline of a slot that has none.
    #[inline]
    pub(super) fn set(&mut self, slot: u32, deadline: Time) {
        assert!(!self.links[slot as usize].set, "a slot has one deadline");
        let bucket = bucket_of(deadline);
        let next = self.heads[bucket];
        self.links[slot as usize] = Link { next, previous: NONE, deadline, set: true };
        if next != NONE {
            self.links[next as usize].previous = slot;
        }
        self.heads[bucket] = slot;
        self.set += 1;
    }

    /// Lifts the deadline of a slot, if it has one.
    #[inline]
    pub(super) fn lift(&mut self, slot: u32) {
        let Link { next, previous, deadline, set } = self.links[slot as usize];
        if !set {
            return;
        }
        self.links[slot as usize].set = false;
        self.set -= 1;
        match previous {
            NONE => self.heads[bucket_of(deadline)] = next,
            previous => self.links[previous as usize].next = next,
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
    }

    /// Whether [`Wheel::expired`] has something to look at: a tick has passed, and there are
    /// deadlines.
    #[inline]
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.set > 0 && self.tick < now.as_ns() >> TICK_SHIFT
    }

    /// Hands over one slot whose deadline has passed by `now`, its deadline lifted; `None` when
    /// there is no more.
    #[inline]
    pub(super) fn expired(&mut self, now: Time) -> Option<u32> {
        let current = now.as_ns() >> TICK_SHIFT;
        if self.set == 0 {
            self.tick = self.tick.max(current);
            return None;
        }
        // After a long sleep one round over all buckets sees everything.
        self.tick = self.tick.max(current.saturating_sub(BUCKETS as u64));
        while self.tick < current {
            let mut slot = self.heads[self.tick as usize % BUCKETS];
            while slot != NONE {
                let link = self.links[slot as usize];
                if link.deadline <= now {
                    self.lift(slot);
                    return Some(slot);
                }
                slot = link.next;
            }
            self.tick += 1;
        }
        None
    }

    /// When [`Wheel::expired`] will next have something to hand over. Looks at every slot: only
    /// for an engine that is about to sleep.
    pub(super) fn earliest(&self) -> Time {
        let deadlines = self.links.iter().filter(|link| link.set).map(|link| link.deadline);
        let tick =
            |deadline: Time| Time::from_ns(((deadline.as_ns() >> TICK_SHIFT) + 1) << TICK_SHIFT);
        deadlines.min().map_or(Time::NEVER, tick)
    }
}

fn bucket_of(deadline: Time) -> usize {
    (deadline.as_ns() >> TICK_SHIFT) as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn agrees_with_a_map_of_deadlines() {
        let mut state = 0x1234_5678_9abc_def0u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut now = Time::from_ns(5_000_000_000);
        let mut wheel = Wheel::new(64, now);
        let mut model: BTreeMap<u32, Time> = BTreeMap::new();
        for _ in 0..20_000 {
            let slot = (random() % 64) as u32;
            if model.remove(&slot).is_some() {
                wheel.lift(slot);
            } else {
                let deadline = Time::from_ns(now.as_ns() + random() % 60_000_000);
                wheel.set(slot, deadline);
                model.insert(slot, deadline);
            }
            now = Time::from_ns(now.as_ns() + random() % 2_000_000);
            while let Some(slot) = wheel.expired(now) {
                let deadline = model.remove(&slot).expect("only set slots expire");
                assert!(deadline <= now);
            }
            let overdue = now.as_ns().saturating_sub(1 << TICK_SHIFT);
            assert!(model.values().all(|deadline| deadline.as_ns() > overdue));
            assert_eq!(wheel.earliest() == Time::NEVER, model.is_empty());
        }
    }
}
