//! Ops that wait until a word of memory changes.
//!
//! Whoever of this executor changes a place wakes those who wait for it; they then look for
//! themselves, so that one who is woken in vain costs a look. An op enters the list before it looks
//! for the first time: no change between the look and the wait is missed. What others change is
//! found by looking again now and then.

use alloc::vec::Vec;

use nic_wire::{Span, Status, Time};

use super::Executor;
use super::slot::{Op, State};
use super::step::{After, Turn};
use crate::FETCH_BYTES_MAX;
use crate::kernel::Extent;
use crate::memory::{Done, Memory, Request};
use crate::set::KernelSet;

/// What an op waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    word: Extent,
    /// What the word held.
    unlike: u64,
    until: Time,
    /// When to look again.
    pub(super) look_at: Time,
    /// Somebody changed the word while it was read.
    is_missed: bool,
}

impl Awaited {
    pub(super) const NOTHING: Awaited = Awaited {
        word: Extent::named(0, 0, 8),
        unlike: 0,
        until: Time::NEVER,
        look_at: Time::NEVER,
        is_missed: false,
    };
}

/// One who waits. Numbers of regions mean the same under all exports of a domain; one who waits for
/// the same place of another domain is woken in vain.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    address: u64,
    index: u32,
    region: u8,
    is_woken: bool,
}

/// All who wait, and those of them who are woken.
#[derive(Debug)]
pub(super) struct Waiters {
    list: Vec<Waiter>,
    woken: Vec<u32>,
}

impl Waiters {
    /// For as many as there are slots: each is here at most once.
    pub(super) fn with_capacity(count: usize) -> Self {
        Waiters { list: Vec::with_capacity(count), woken: Vec::with_capacity(count) }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[inline(always)]
    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    fn add(&mut self, index: u32, word: &Extent) {
        let Extent { at, .. } = word;
        let (address, region) = (at.address, at.region);
        self.list.push(Waiter { address, index, region, is_woken: false });
    }

    pub(super) fn remove(&mut self, index: u32) {
        if let Some(place) = self.list.iter().position(|waiter| waiter.index == index) {
            self.list.swap_remove(place);
            self.woken.retain(|woken| *woken != index);
        }
    }

    /// Something in a range has changed.
    #[inline(never)]
    pub(super) fn wake(&mut self, changed: &Extent) {
        let (start, length) = (changed.at.address, u64::from(changed.length));
        for waiter in &mut self.list {
            let is_meant = waiter.region == changed.at.region
                && waiter.address < start.saturating_add(length)
                && start < waiter.address.saturating_add(8);
            if is_meant && !waiter.is_woken {
                waiter.is_woken = true;
                self.woken.push(waiter.index);
            }
        }
    }

    /// The next who is woken.
    fn next_woken(&mut self) -> Option<u32> {
        let index = self.woken.pop()?;
        let found = self.list.iter_mut().find(|waiter| waiter.index == index);
        found.into_iter().for_each(|waiter| waiter.is_woken = false);
        Some(index)
    }
}

impl<P: Copy> Op<P> {
    /// The kernel waits until a word changes.
    #[cold]
    pub(super) fn await_word<M: Memory<Pending = P>>(
        &mut self,
        word: Extent,
        unlike: u64,
        at_most: Span,
        turn: &mut Turn<'_, M>,
    ) -> After {
        if self.is_strand() || word.length != 8 {
            return self.finish(Status::Unsupported, true);
        }
        let is_full = turn.facilities.waiters.list.len() >= turn.limits.waits as usize;
        let until = match at_most {
            Span::MAX if is_full => return self.finish(Status::Busy, false),
            _ if is_full => turn.facilities.now,
            _ => turn.facilities.now + at_most,
        };
        self.awaited = Awaited { word, unlike, until, look_at: until, is_missed: false };
        turn.facilities.waiters.add(self.slot, &word);
        let after = self.begin_look(turn.memory);
        if after == After::Over {
            turn.facilities.waiters.remove(self.slot);
        }
        after
    }

    /// Reads the word that the op waits for.
    fn begin_look<M: Memory<Pending = P>>(&mut self, memory: &mut M) -> After {
        self.awaited.is_missed = false;
        match memory.submit(self.grant(), &Request::Read(self.awaited.word)) {
            Ok(pending) => self.state = State::Looking(pending),
            Err(error) => return self.finish(error.status(), false),
        }
        After::Queue
    }

    /// What the word holds, if it has changed or the time is over; else what becomes of the op.
    pub(super) fn look<M: Memory<Pending = P>>(
        &mut self,
        pending: &P,
        turn: &mut Turn<'_, M>,
        scratch: &mut [u8; FETCH_BYTES_MAX],
    ) -> Result<u64, After> {
        let word = match turn.memory.poll(pending, &mut scratch[..]) {
            Ok(None) => return Err(After::NotYet),
            Ok(Some(Done::Fetched(_))) => {
                let (words, _) = scratch.as_chunks::<8>();
                u64::from_le_bytes(words[0])
            }
            Ok(Some(_)) => unreachable!("a read was asked for"),
            Err(error) => {
                turn.facilities.waiters.remove(self.slot);
                return Err(self.finish(error.status(), false));
            }
        };
        *turn.cost += 1;
        let awaited = &mut self.awaited;
        if word != awaited.unlike || turn.facilities.now >= awaited.until {
            turn.facilities.waiters.remove(self.slot);
            return Ok(word);
        }
        if awaited.is_missed {
            let after = self.begin_look(turn.memory);
            if after == After::Over {
                turn.facilities.waiters.remove(self.slot);
            }
            return Err(after);
        }
        awaited.look_at = awaited.until.min(turn.facilities.now + turn.limits.look_again);
        self.state = State::Awaiting;
        Err(After::Park)
    }

    /// When a parked op has to be seen to.
    #[inline]
    pub(super) fn due(&self) -> Time {
        match self.state {
            State::Awaiting | State::Flushing(_) => self.deadline.min(self.awaited.look_at),
            _ => self.deadline,
        }
    }
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Those who are woken look for themselves.
    #[cold]
    pub(super) fn rouse_woken(&mut self, memory: &mut M) {
        while let Some(index) = self.apart.facilities.waiters.next_woken() {
            self.rouse(index, memory);
        }
    }

    /// One who waits looks again.
    pub(super) fn rouse(&mut self, index: u32, memory: &mut M) {
        let op = &mut self.slots[index as usize].op;
        match op.state {
            State::Flushing(_) => self.rouse_flush(index),
            State::Looking(_) => op.awaited.is_missed = true,
            State::Awaiting => {
                if op.begin_look(memory) == After::Over {
                    self.apart.facilities.waiters.remove(index);
                }
                self.unpark(index);
                self.ready.push(index);
            }
            _ => {}
        }
    }
}
