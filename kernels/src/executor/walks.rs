//! Plain walks: loads that depend on each other, and nothing else.
//!
//! Where all that an op does is to follow pointers, an event and a step for each element cost many
//! times as much as the two words that are looked at. Such a walk is one line of this table, and all
//! of them take a step in a row. Their elements are asked for in a row too, for the reason that
//! `mapped::ahead` gives.
//!
//! A walk changes nothing and decides nothing. The element before which it ends is fetched by its
//! kernel like any other, and all that can be wrong with an access is found there.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use nic_wire::{Status, Time};

use super::advance::must_end;
use super::apart::Facilities;
use super::slot::{Op, Slot, State};
use super::step::{After, Happened, Turn};
use super::{Budget, Executor};
use crate::kernel::{Event, Kernel, Pointer};
use crate::memory::{Memory, View};
use crate::pointer_form::PointerForm;
use crate::set::KernelSet;
use crate::walk::Walk;

/// How many elements are asked for in a row (start).
const ROW: usize = 64;

/// One walk under way.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Walker {
    /// The element that is looked at next.
    address: u64,
    key: u64,
    deadline: Time,
    view: View,
    /// Elements passed by, and how many may be.
    hops: u32,
    hops_max: u32,
    places: [u16; 2],
    element_bytes: u16,
    form: PointerForm,
    /// The region of the element.
    region: u8,
    /// Whether its first element is.
    is_asked_for: bool,
    /// It goes no further.
    is_over: bool,
}

const _: () = assert!(size_of::<Walker>() == 64, "a step touches one cache line of the table");

impl Walker {
    /// In place of one.
    const NONE: Walker = Walker {
        address: 0,
        key: 0,
        deadline: Time::NEVER,
        view: View::NONE,
        hops: 0,
        hops_max: 0,
        places: [0, 0],
        element_bytes: 0,
        form: PointerForm::Tagged,
        region: 0,
        is_asked_for: false,
        is_over: true,
    };

    /// Looks at an element; whether it was passed by.
    #[inline(always)]
    fn step<M: Memory>(&mut self, memory: &M, now: Time) -> bool {
        if !self.is_asked_for {
            self.is_asked_for = true;
            return true;
        }
        if self.hops >= self.hops_max || now >= self.deadline {
            return false;
        }
        let length = self.element_bytes.into();
        let words = memory.words(&self.view, self.address, length, self.places);
        let Some([word, next]) = words else { return false };
        if word == self.key {
            return false;
        }
        let Some(at) = self.form.follow(next) else { return false };
        self.address = at.address;
        self.hops += 1;
        at.region == self.region || self.enter(at.region, memory)
    }

    /// The walk leads into another region; whether its op may read that.
    #[cold]
    fn enter<M: Memory>(&mut self, region: u8, memory: &M) -> bool {
        self.region = region;
        memory.view(self.view.grant, region).map(|view| self.view = view).is_some()
    }

    #[inline(always)]
    fn prefetch<M: Memory>(&self, memory: &M) {
        memory.prefetch(&self.view, self.address, self.places);
    }
}

/// The walks, by the slots of their ops, and those under way.
#[derive(Debug)]
pub(super) struct Walks {
    by_slot: Box<[Walker]>,
    /// Those that are in the rounds, in order; each at most once.
    pub(super) queue: Vec<u32>,
}

impl Walks {
    /// For so many slots. All memory is taken here.
    pub(super) fn new(slots: usize) -> Self {
        // A walk that has ended in a round may begin anew in the same one.
        Walks { by_slot: vec![Walker::NONE; slots].into(), queue: Vec::with_capacity(2 * slots) }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What the walk of a slot has cost so far.
    pub(super) fn cost(&self, slot: u32) -> u64 {
        self.by_slot[slot as usize].hops.into()
    }

    /// The walk of a slot ends when its turn comes.
    pub(super) fn stop(&mut self, slot: u32) {
        self.by_slot[slot as usize].hops_max = 0;
    }
}

impl<P: Copy> Op<P> {
    /// The kernel walks. Where that is not possible, it hears at once that it has come nowhere.
    #[inline(always)]
    pub(super) fn begin_walk<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &K,
        turn: &mut Turn<'_, M>,
    ) -> After {
        let walk = kernel.walk();
        match turn.memory.view(self.grant(), walk.from.region) {
            Some(view) if !self.is_strand() && self.payload.length == 0 => {
                self.state = State::Walking;
                let walker = self.walker(&walk, view, turn);
                let walks = &mut turn.facilities.walks;
                walks.by_slot[self.slot as usize] = walker;
                walks.queue.push(self.slot);
                After::Walk
            }
            _ => {
                self.state = State::Nowhere(walk.from);
                After::Queue
            }
        }
    }

    fn walker<M>(&self, walk: &Walk, view: View, turn: &Turn<'_, M>) -> Walker {
        // The last step is the kernel's, which hears how far it came.
        let steps = turn.limits.steps.saturating_sub(self.steps + 1);
        let bytes = turn.limits.bytes.saturating_sub(self.bytes);
        let fitting = bytes.checked_div(walk.element_bytes.into()).unwrap_or(0);
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
        Walker {
            address: walk.from.address,
            key: walk.key,
            deadline: self.deadline,
            view,
            hops: 0,
            hops_max: walk.hops_max.min(steps).min(fitting),
            places: walk.places,
            element_bytes: walk.element_bytes,
            form: walk.form,
            region: walk.from.region,
            is_asked_for: false,
            is_over: false,
        }
    }
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// One round of the walks. Whatever ops have spent, they get a quarter of a budget. Returns
    /// whether all of them have taken more steps than there are rounds.
    #[inline(never)]
    pub(super) fn advance_walks(&mut self, memory: &mut M, budget: Budget) -> bool {
        let Facilities { now, walks, .. } = &mut self.apart.facilities;
        let most = budget.cost.saturating_sub(self.cost).max(1 + budget.cost / 4);
        let turns = walks.queue.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.cost += turns as u64;
        let (mut shortest, mut are_over) = (u32::MAX, false);
        let Walks { by_slot, queue } = walks;
        for row in queue[..turns].chunks(ROW) {
            for slot in row {
                let walker = &mut by_slot[*slot as usize];
                walker.is_over = !walker.step(memory, *now);
                are_over |= walker.is_over;
                shortest = shortest.min(walker.hops);
            }
            for slot in row {
                by_slot[*slot as usize].prefetch(memory);
            }
        }
        // Those that have not had their turn are the first in the next round.
        queue.rotate_left(turns);
        let mut are_long = shortest > budget.rounds;
        if are_over {
            are_long &= self.end_walks(memory, budget);
        }
        are_long
    }

    /// Takes the walks that are over from the rounds. Returns whether all of their ops have taken
    /// more steps than there are rounds.
    fn end_walks(&mut self, memory: &mut M, budget: Budget) -> bool {
        let (mut kept, mut are_long) = (0, true);
        // Walks that begin meanwhile stand behind.
        let count = self.apart.facilities.walks.queue.len();
        for next in 0..count {
            let Walks { by_slot, queue } = &mut self.apart.facilities.walks;
            let slot = queue[next];
            let walk = by_slot[slot as usize];
            if walk.is_over {
                are_long &= self.walked(slot, &walk, memory) > budget.rounds;
            } else {
                queue[kept] = slot;
                kept += 1;
            }
        }
        self.apart.facilities.walks.queue.drain(kept..count);
        are_long
    }

    /// A walk is over: its kernel goes on. Returns how many steps its op has taken.
    fn walked(&mut self, index: u32, walk: &Walker, memory: &mut M) -> u32 {
        let Executor { slots, apart, limits, cost, ready, scratch, .. } = self;
        let Slot { op, kernel } = &mut slots[index as usize];
        if matches!(op.state, State::Cancelled) {
            ready.push(index);
            return op.steps;
        }
        let (hops, at) = (walk.hops, Pointer { region: walk.region, address: walk.address });
        op.steps += hops;
        op.bytes += u64::from(hops) * u64::from(walk.element_bytes);
        let steps = op.steps;
        if apart.facilities.now >= op.deadline && !must_end(kernel) {
            op.finish(Status::Expired, false);
            ready.push(index);
            return steps;
        }
        let Some(kernel) = kernel.as_mut() else { return steps };
        let element = scratch.get_mut(..usize::from(walk.element_bytes)).unwrap_or_default();
        let fits = op.bytes + element.len() as u64 <= limits.bytes;
        let is_here = fits && walk.view.number == walk.region;
        let element: &[u8] = match is_here && memory.copy(&walk.view, walk.address, element) {
            true => {
                op.bytes += element.len() as u64;
                *cost += 1 + (element.len() as u64 >> 6);
                element
            }
            false => &[],
        };
        let turn = Turn { memory, facilities: &mut apart.facilities, limits, cost };
        let event = Event::Walked { at, hops, element };
        match kernel.visit(Happened { op, event, turn }) {
            After::Park => self.park(index),
            After::Split => self.await_strands(index),
            After::Walk => {}
            _ => ready.push(index),
        }
        steps
    }
}
