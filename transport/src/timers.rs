//! One timer per flow, in a binary heap that knows each flow's place.
//!
//! A flow's deadline moves with nearly every packet, mostly to a later time. So a timer is only
//! ever moved forward; when it goes off too early, the flow says when it is really due.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use nic_wire::Time;

const ABSENT: u16 = u16::MAX;

/// The timers of all slots; the earliest can be read at once.
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    heap: Vec<(Time, u16)>,
    places: Box<[u16]>,
}

impl Timers {
    pub(crate) fn new(slots: u16) -> Self {
        Timers {
            heap: Vec::with_capacity(usize::from(slots)),
            places: vec![ABSENT; usize::from(slots)].into(),
        }
    }

    /// Makes sure that the slot's timer goes off at `due` or before.
    #[inline]
    pub(crate) fn arm(&mut self, slot: u16, due: Time) {
        if due == Time::NEVER {
            return;
        }
        let place = self.places[usize::from(slot)];
        if place == ABSENT {
            self.heap.push((due, slot));
            self.rise(self.heap.len() - 1);
        } else if due < self.heap[usize::from(place)].0 {
            self.heap[usize::from(place)].0 = due;
            self.rise(usize::from(place));
        }
    }

    /// Takes the slot's timer away.
    pub(crate) fn disarm(&mut self, slot: u16) {
        let place = self.places[usize::from(slot)];
        if place != ABSENT {
            self.remove(usize::from(place));
        }
    }

    /// The next slot whose timer has gone off by `now`.
    #[inline]
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<u16> {
        let &(due, slot) = self.heap.first()?;
        if due > now {
            return None;
        }
        self.remove(0);
        Some(slot)
    }

    /// When the first timer goes off.
    #[inline]
    pub(crate) fn next(&self) -> Time {
        self.heap.first().map_or(Time::NEVER, |entry| entry.0)
    }

    fn remove(&mut self, place: usize) {
        let (_, slot) = self.heap.swap_remove(place);
        self.places[usize::from(slot)] = ABSENT;
        if place < self.heap.len() {
            // The entry that took the place may belong above it or below.
            let place = self.rise(place);
            self.sink(place);
        }
    }

    fn rise(&mut self, mut place: usize) -> usize {
        let entry = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].0 <= entry.0 {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, entry);
        place
    }

    fn sink(&mut self, mut place: usize) {
        let entry = self.heap[place];
        loop {
            let mut child = 2 * place + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1].0 < self.heap[child].0 {
                child += 1;
            }
            if entry.0 <= self.heap[child].0 {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, entry);
    }

    fn put(&mut self, place: usize, entry: (Time, u16)) {
        self.heap[place] = entry;
        self.places[usize::from(entry.1)] = place as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    /// Against a map from slot to due time, over many random steps.
    #[test]
    fn agrees_with_a_model() {
        let mut state = 7u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let mut timers = Timers::new(40);
        let mut model = BTreeMap::<u16, u64>::new();
        let mut now = 0;
        for step in 0..20_000 {
            let slot = random(40) as u16;
            match random(4) {
                0 | 1 => {
                    let due = now + random(100);
                    timers.arm(slot, Time::from_ns(due));
                    let entry = model.entry(slot).or_insert(due);
                    *entry = due.min(*entry);
                }
                2 => {
                    timers.disarm(slot);
                    model.remove(&slot);
                }
                _ => {
                    now += random(10);
                    while let Some(slot) = timers.pop_due(Time::from_ns(now)) {
                        let due = model.remove(&slot).expect("armed");
                        assert!(due <= now, "step {step}");
                        assert!(model.values().all(|other| *other >= due), "step {step}");
                    }
                    assert!(model.values().all(|due| *due > now), "step {step}");
                }
            }
            let next = model.values().min().map_or(Time::NEVER, |due| Time::from_ns(*due));
            assert_eq!(timers.next(), next, "step {step}");
        }
    }
}
