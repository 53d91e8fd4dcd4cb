//! Ops of one kernel, advanced one after the other.
//!
//! What waits for memory makes up nearly all of a round. Where ops that follow each other in the
//! queue run the same kernel, the compiler sees one loop with that kernel in it: which kernel it is
//! gets asked once, and what does not change from op to op stays in registers.

use alloc::vec::Vec;
use core::marker::PhantomData;

use super::slot::{Op, Slot, State};
use super::step::{After, Happened, Turn};
use crate::FETCH_BYTES_MAX;
use crate::kernel::{Event, Kernel};
use crate::memory::{Done, Memory};
use crate::set::{Choice, KernelSet, Visit};

/// Ops and their kernels, by number.
pub(super) trait Table<K, P> {
    fn at(&mut self, number: u32) -> (&mut Op<P>, &mut Option<K>);
}

impl<K, P> Table<K, P> for &mut [Slot<K, P>] {
    #[inline(always)]
    fn at(&mut self, number: u32) -> (&mut Op<P>, &mut Option<K>) {
        let Slot { op, kernel } = &mut self[number as usize];
        (op, kernel)
    }
}

/// How far a round has come in its queue.
#[derive(Debug)]
pub(super) struct Round {
    /// How many have had their turn.
    pub(super) next: usize,
    /// How many of those go on: they stand at the queue's start.
    pub(super) kept: usize,
    /// Whether any of them has moved.
    pub(super) has_moved: bool,
    /// Whether all that go on have taken more than `long_steps`.
    pub(super) are_long: bool,
    pub(super) long_steps: u32,
    /// The round ends where the executor's cost reaches this.
    pub(super) cost_max: u64,
}

impl Round {
    /// The start of a round in which ops of more steps than `long_steps` are long ones.
    #[inline(always)]
    pub(super) fn new(long_steps: u32, cost_max: u64) -> Self {
        Round { next: 0, kept: 0, has_moved: false, are_long: true, long_steps, cost_max }
    }

    /// The next op has had its turn. Whether it goes on or is over, and needs nothing more.
    #[inline(always)]
    fn settle<P>(
        &mut self,
        op: &Op<P>,
        number: u32,
        after: After,
        queue: &mut [u32],
        over: &mut Vec<u32>,
    ) -> bool {
        self.next += 1;
        self.has_moved |= after != After::NotYet;
        match after {
            After::NotYet | After::Queue => {
                self.are_long &= op.steps > self.long_steps;
                queue[self.kept] = number;
                self.kept += 1;
            }
            After::Over => over.push(number),
            _ => return false,
        }
        true
    }

    /// Its end: those that have not had their turn are the first in the next one.
    #[inline]
    pub(super) fn close(&self, queue: &mut Vec<u32>) {
        let left = queue.len() - self.next;
        if left > 0 {
            queue.copy_within(self.next.., self.kept);
        }
        queue.truncate(self.kept + left);
        if left > 0 {
            queue.rotate_left(self.kept);
        }
    }
}

/// Advances ops in the queue's order. Those that are over are added to `over`. It stops where one
/// does something else: its number, and what becomes of it. `None`: all have had their turn, or the
/// cost is spent.
#[inline(always)]
pub(super) fn advance<K: KernelSet, M: Memory, T: Table<K, M::Pending>>(
    mut table: T,
    queue: &mut [u32],
    over: &mut Vec<u32>,
    round: &mut Round,
    mut turn: Turn<'_, M>,
    scratch: &mut [u8; FETCH_BYTES_MAX],
) -> Option<(u32, After)> {
    while let Some(number) = queue.get(round.next).copied() {
        if *turn.cost >= round.cost_max && round.next > 0 {
            return None;
        }
        let (op, kernel) = table.at(number);
        let after = match (&op.state, kernel.as_ref()) {
            (State::Finished, _) => After::Over,
            (State::Fetching(_), Some(kernel)) if turn.facilities.now < op.deadline => {
                let kind = kernel.kind();
                let burst = Burst {
                    table: &mut table,
                    queue: &mut *queue,
                    over: &mut *over,
                    round: &mut *round,
                    turn: turn.lent(),
                    scratch: &mut *scratch,
                    set: PhantomData,
                };
                match K::choose_kind(kind, burst) {
                    Some(met) => return Some(met),
                    None => continue,
                }
            }
            _ => op.advance_rare(kernel, turn.lent(), scratch),
        };
        if !round.settle(op, number, after, queue, over) {
            return Some((number, after));
        }
    }
    None
}

/// Ops of the kernel that the first one runs.
struct Burst<'a, K, M: Memory, T> {
    table: &'a mut T,
    queue: &'a mut [u32],
    over: &'a mut Vec<u32>,
    round: &'a mut Round,
    turn: Turn<'a, M>,
    scratch: &'a mut [u8; FETCH_BYTES_MAX],
    set: PhantomData<K>,
}

impl<S: KernelSet, M: Memory, T: Table<S, M::Pending>> Choice<S> for Burst<'_, S, M, T> {
    type Output = Option<(u32, After)>;

    #[inline(never)]
    fn chosen<K: Kernel>(self, _: impl FnOnce(K) -> S) -> Self::Output {
        let Burst { table, queue, over, round, mut turn, scratch, .. } = self;
        let now = turn.facilities.now;
        while let Some(number) = queue.get(round.next).copied() {
            let (op, kernel) = table.at(number);
            let State::Fetching(pending) = &op.state else { return None };
            let kernel = kernel.as_mut().and_then(|kernel| kernel.downcast::<K>())?;
            if now >= op.deadline {
                return None;
            }
            let after = match turn.memory.poll(pending, &mut scratch[..]) {
                Ok(Some(Done::Fetched(length))) => {
                    op.step(kernel, Event::Fetched(&scratch[..length]), &mut turn)
                }
                Ok(None) => After::NotYet,
                Ok(Some(done)) => {
                    let event = op.changed_by(done, &mut turn);
                    Happened { op, event, turn: turn.lent() }.visit(kernel)
                }
                Err(error) => op.refused(error.status(), kernel.must_end()),
            };
            if !round.settle(op, number, after, queue, over) {
                return Some((number, after));
            }
            if *turn.cost >= round.cost_max {
                return None;
            }
        }
        None
    }
}

impl<P: Copy> Op<P> {
    /// Memory was changed: those are woken who wait for that.
    #[inline(always)]
    pub(super) fn changed_by<M: Memory<Pending = P>>(
        &mut self,
        done: Done,
        turn: &mut Turn<'_, M>,
    ) -> Event<'static> {
        self.changed = true;
        if !turn.facilities.waiters.is_empty() {
            turn.facilities.waiters.wake(&self.target);
        }
        match done {
            Done::Old(word) => Event::Old(word),
            Done::Fetched(_) | Done::Written | Done::Flushed => Event::Written,
        }
    }
}
