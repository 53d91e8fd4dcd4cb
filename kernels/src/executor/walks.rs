//! Plain walks: loads that depend on each other, and nothing else.
//!
//! Where all that an op does is to follow pointers, an event and a step for each element cost many
//! times as much as the two words that are looked at. Such a walk is one line of this table, and all
//! of them take a step in a row, each asking for its next element: so little lies between two of
//! these that what `mapped::ahead` is for comes by itself.
//!
//! A walk changes nothing and decides nothing. The element before which it ends is fetched by its
//! kernel like any other, and all that can be wrong with an access is found there.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use nic_shm::{Lines, Places};
use nic_wire::{Status, Time};

use super::advance::must_end;
use super::apart::Facilities;
use super::slot::{Op, Slot, State};
use super::step::{After, Happened, Turn};
use super::{Budget, Executor};
use crate::kernel::{Event, Kernel, Pointer};
use crate::memory::{Memory, Seen, View};
use crate::pointer_form::PointerForm;
use crate::set::KernelSet;
use crate::walk::Walk;

/// How many elements are looked at before missing pages are looked for (start).
const ROW: usize = 128;

/// How many first ones are asked for in a row (start).
const FIRSTS: usize = 24;

/// In place of a slot's number in the queue: its walk is over.
const OVER: u32 = u32::MAX;

/// One walk under way.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Walker {
    /// The element that is looked at next. It has been asked for.
    address: u64,
    key: u64,
    deadline: Time,
    view: View,
    /// How many elements may be passed by, and how many of them are left.
    hops_max: u32,
    hops_left: u32,
    places: Places<2>,
    form: PointerForm,
    /// The region of the element.
    region: u8,
    /// Whether every pointer leads there.
    stays: bool,
}

const _: () = assert!(size_of::<Walker>() == 64, "a step touches one cache line of the table");

/// What a look at an element has shown.
enum Look {
    Passed,
    /// The walk leads into another region.
    Leaves(Pointer),
    Ends,
}

impl Walker {
    /// In place of one.
    const NONE: Walker = Walker {
        address: 0,
        key: 0,
        deadline: Time::NEVER,
        view: View::NONE,
        hops_max: 0,
        hops_left: 0,
        places: Places::new(16, [0, 8]).expect("two words are 16 bytes"),
        form: PointerForm::Tagged,
        region: 0,
        stays: false,
    };

    /// How many elements were passed by.
    #[inline(always)]
    fn hops(&self) -> u32 {
        self.hops_max - self.hops_left
    }

    /// Looks at an element. It was passed by only if no memory was missing then.
    #[inline(always)]
    fn step<M: Memory>(&mut self, memory: &M, seen: &Seen<'_>) -> Look {
        let Some(hops_left) = self.hops_left.checked_sub(1) else { return Look::Ends };
        let words = memory.words(&self.view, seen, self.address, &self.places);
        let Some([word, next]) = words else { return Look::Ends };
        if word == self.key || next == 0 {
            return Look::Ends;
        }
        let mut address = next;
        if !self.stays {
            let Some(at) = self.form.follow(next) else { return Look::Ends };
            if at.region != self.region {
                return Look::Leaves(at);
            }
            address = at.address;
        }
        self.address = address;
        self.hops_left = hops_left;
        Look::Passed
    }

    /// Takes a step back: it was none.
    #[cold]
    fn step_back(&mut self, address: u64) {
        self.address = address;
        self.hops_left += 1;
    }

    /// Goes on in another region, if its op may read that.
    fn enter<M: Memory>(&mut self, at: Pointer, memory: &M) -> bool {
        self.address = at.address;
        self.hops_left -= 1;
        self.region = at.region;
        self.stays = self.form.stays_in(at.region);
        memory.view(self.view.grant, at.region).map(|view| self.view = view).is_some()
    }

    /// Goes no further. How far it came stays known.
    fn stop(&mut self) {
        self.hops_max = self.hops();
        self.hops_left = 0;
    }
}

/// The walks, by the slots of their ops, and those under way.
#[derive(Debug)]
pub(super) struct Walks {
    by_slot: Box<[Walker]>,
    /// Those that are in the rounds, in order; each at most once.
    pub(super) queue: Vec<u32>,
    /// No walk has to end earlier.
    deadline: Time,
    /// Elements before which walks begin, to be asked for.
    firsts: Vec<Lines<2>>,
    /// The elements before the steps of a row; they mean nothing between rounds.
    from: Box<[u64; ROW]>,
    /// Walks that have ended in this round; empty between rounds.
    over: Vec<u32>,
}

impl Walks {
    /// For so many slots. All memory is taken here.
    pub(super) fn new(slots: usize) -> Self {
        Walks {
            by_slot: vec![Walker::NONE; slots].into(),
            queue: Vec::with_capacity(slots),
            deadline: Time::NEVER,
            firsts: Vec::with_capacity(FIRSTS),
            from: Box::new([0; ROW]),
            over: Vec::with_capacity(slots),
        }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What the walk of a slot has cost so far.
    pub(super) fn cost(&self, slot: u32) -> u64 {
        self.by_slot[slot as usize].hops().into()
    }

    /// The walk of a slot ends when its turn comes.
    pub(super) fn stop(&mut self, slot: u32) {
        self.by_slot[slot as usize].stop();
    }

    /// A walk that stood aside goes on.
    pub(super) fn go_on(&mut self, slot: u32) {
        self.deadline = self.deadline.min(self.by_slot[slot as usize].deadline);
        self.queue.push(slot);
    }

    #[inline(always)]
    fn begin(&mut self, slot: u32, walker: Walker, first: Lines<2>) {
        self.deadline = self.deadline.min(walker.deadline);
        self.by_slot[slot as usize] = walker;
        self.queue.push(slot);
        self.firsts.push(first);
        if self.firsts.len() >= FIRSTS {
            self.ask_for_firsts();
        }
    }

    /// Elements before which walks begin are asked for in a row, too.
    #[inline(never)]
    fn ask_for_firsts(&mut self) {
        for first in self.firsts.drain(..) {
            first.prefetch();
        }
    }

    /// Those whose time is over go no further.
    #[cold]
    fn stop_late(&mut self, now: Time) {
        self.deadline = Time::NEVER;
        for slot in &self.queue {
            let walker = &mut self.by_slot[*slot as usize];
            if now < walker.deadline {
                self.deadline = self.deadline.min(walker.deadline);
            } else {
                walker.stop();
            }
        }
    }

    /// So many walks take a step. Those that end there are found in `over`. Returns whether all of
    /// them have taken more steps than `long_steps`.
    #[inline(never)]
    fn advance<M: Memory>(&mut self, turns: usize, memory: &M, long_steps: u32) -> bool {
        self.ask_for_firsts();
        let Walks { by_slot, queue, over, from, .. } = self;
        let mut eye = Eye { memory, shown: View::NONE.shown, seen: Seen::NOTHING };
        for row in queue[..turns].chunks_mut(ROW) {
            let from = &mut from[..row.len()];
            // Those before have certainly taken their steps.
            let mut certain = 0;
            while let Some((count, at)) =
                eye.look(&mut row[certain..], &mut from[certain..], by_slot, over)
            {
                let part = certain..certain + count + 1;
                certain = part.end;
                leave(at, memory, &mut row[part.clone()], &from[part], by_slot, over);
            }
            take_back_unless_whole(memory, &mut row[certain..], &from[certain..], by_slot, over);
        }
        let mut moved = queue[..turns].iter().filter(|slot| **slot != OVER).chain(&*over);
        let are_long = moved.all(|slot| by_slot[*slot as usize].hops() > long_steps);
        // Those that have not had their turn are the first in the next round.
        queue.rotate_left(turns);
        if !over.is_empty() {
            queue.retain(|slot| *slot != OVER);
        }
        are_long
    }
}

/// What walks are looking at.
struct Eye<'a, M> {
    memory: &'a M,
    /// As in their views.
    shown: u64,
    seen: Seen<'a>,
}

impl<M: Memory> Eye<'_, M> {
    /// Walks take a step, up to one that leads into another region: how many stand before it, and
    /// where it leads. A function of its own has all of this in registers.
    #[inline(never)]
    fn look(
        &mut self,
        row: &mut [u32],
        from: &mut [u64],
        by_slot: &mut [Walker],
        over: &mut Vec<u32>,
    ) -> Option<(usize, Pointer)> {
        let Eye { memory, mut shown, mut seen } = *self;
        let mut left = None;
        for (place, (slot, from)) in row.iter_mut().zip(from).enumerate() {
            let walker = &mut by_slot[*slot as usize];
            if walker.view.shown != shown {
                shown = walker.view.shown;
                seen = memory.seen(&walker.view);
            }
            *from = walker.address;
            match walker.step(memory, &seen) {
                Look::Passed => seen.lines(walker.address, &walker.places).prefetch(),
                Look::Ends => end(slot, over),
                Look::Leaves(at) => {
                    left = Some((place, at));
                    break;
                }
            }
        }
        *self = Eye { memory, shown, seen };
        left
    }
}

/// A walk of a row is over.
#[inline(always)]
fn end(slot: &mut u32, over: &mut Vec<u32>) {
    over.push(core::mem::replace(slot, OVER));
}

/// The last walk of a part of a row leads into another region. The others may yet be taken back.
#[inline(never)]
fn leave<M: Memory>(
    at: Pointer,
    memory: &M,
    row: &mut [u32],
    from: &[u64],
    by_slot: &mut [Walker],
    over: &mut Vec<u32>,
) {
    let Some((slot, row)) = row.split_last_mut() else { return };
    take_back_unless_whole(memory, row, from, by_slot, over);
    let walker = &mut by_slot[*slot as usize];
    if memory.is_whole() && walker.enter(at, memory) {
        memory.seen(&walker.view).lines(at.address, &walker.places).prefetch();
    } else {
        end(slot, over);
    }
}

/// If pages were missing while walks took a step, all of those are over before it.
#[inline(always)]
fn take_back_unless_whole<M: Memory>(
    memory: &M,
    row: &mut [u32],
    from: &[u64],
    by_slot: &mut [Walker],
    over: &mut Vec<u32>,
) {
    if !memory.is_whole() {
        take_back(row, from, by_slot, over);
    }
}

#[cold]
fn take_back(row: &mut [u32], from: &[u64], by_slot: &mut [Walker], over: &mut Vec<u32>) {
    for (slot, from) in row.iter_mut().zip(from) {
        if *slot != OVER {
            by_slot[*slot as usize].step_back(*from);
            end(slot, over);
        }
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
        let places = Places::new(walk.element_bytes, walk.places);
        match (turn.memory.view(self.grant(), walk.from.region), places) {
            (Some(view), Some(places)) if !self.is_strand() && self.payload.length == 0 => {
                self.state = State::Walking;
                let first = turn.memory.seen(&view).lines(walk.from.address, &places);
                let walker = self.walker(&walk, view, places, turn);
                turn.facilities.walks.begin(self.slot, walker, first);
                After::Walk
            }
            _ => {
                self.state = State::Nowhere(walk.from);
                After::Queue
            }
        }
    }

    #[inline(always)]
    fn walker<M>(&self, walk: &Walk, view: View, places: Places<2>, turn: &Turn<'_, M>) -> Walker {
        // The last step is the kernel's, which hears how far it came.
        let steps = turn.limits.steps.saturating_sub(self.steps + 1);
        let bytes = turn.limits.bytes.saturating_sub(self.bytes);
        let mut hops_max = walk.hops_max.min(steps);
        if u64::from(hops_max) * u64::from(walk.element_bytes) > bytes {
            // Less than what was there.
            hops_max = (bytes / u64::from(walk.element_bytes)) as u32;
        }
        Walker {
            address: walk.from.address,
            key: walk.key,
            deadline: self.deadline,
            view,
            hops_max,
            hops_left: hops_max,
            places,
            form: walk.form,
            region: walk.from.region,
            stays: walk.form.stays_in(walk.from.region),
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
        if *now >= walks.deadline {
            walks.stop_late(*now);
        }
        let mut are_long = walks.advance(turns, memory, budget.rounds);
        for next in 0..walks.over.len() {
            let slot = self.apart.facilities.walks.over[next];
            are_long &= self.walked(slot, memory) > budget.rounds;
        }
        self.apart.facilities.walks.over.clear();
        are_long
    }

    /// A walk is over: its kernel goes on. Returns how many steps its op has taken.
    fn walked(&mut self, index: u32, memory: &mut M) -> u32 {
        let Executor { slots, apart, limits, cost, ready, over, scratch, .. } = self;
        let Slot { op, kernel } = &mut slots[index as usize];
        if matches!(op.state, State::Cancelled) {
            ready.push(index);
            return op.steps;
        }
        let walk = &apart.facilities.walks.by_slot[index as usize];
        let element_bytes = walk.places.length();
        let (hops, at) = (walk.hops(), Pointer { region: walk.region, address: walk.address });
        op.steps += hops;
        op.bytes += u64::from(hops) * u64::from(element_bytes);
        let steps = op.steps;
        if apart.facilities.now >= op.deadline && !must_end(kernel) {
            op.finish(Status::Expired, false);
            over.push(index);
            return steps;
        }
        let Some(kernel) = kernel.as_mut() else { return steps };
        let element = scratch.get_mut(..usize::from(element_bytes)).unwrap_or_default();
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
            After::Over => over.push(index),
            _ => ready.push(index),
        }
        steps
    }
}
