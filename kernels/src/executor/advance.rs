//! The rounds.

use nic_wire::{Fate, Status, Time};

use super::apart::Apart;
use super::burst::{self, Round};
use super::slot::{Op, Slot, State};
use super::step::{After, Happened, Turn};
use super::{Budget, Executor, Finish, Progress, SlotId};
use crate::FETCH_BYTES_MAX;
use crate::kernel::{Event, Kernel};
use crate::memory::{Done, Memory};
use crate::set::{KernelSet, Visit};

/// Rounds of a run in which there are only long ops (start).
const LONG_ROUNDS: u32 = 8;

/// Asks a kernel whether it must end by itself.
struct MustEnd;

impl Visit for MustEnd {
    type Output = bool;

    fn visit<K: Kernel>(self, kernel: &mut K) -> bool {
        kernel.must_end()
    }
}

/// Whether an op must end by itself.
#[cold]
pub(super) fn must_end<K: KernelSet>(kernel: &mut Option<K>) -> bool {
    kernel.as_mut().is_some_and(|kernel| kernel.visit(MustEnd))
}

/// Why there is a kernel.
const UNDER_WAY: &str = "an op that waits for memory or payload has a kernel since its start";

/// An op that is over, to whoever answers it.
pub struct Ended<'a, M: Memory> {
    /// Its name, good until its slot is freed.
    pub slot: SlotId,
    /// As the [`Invocation`](super::Invocation) named it.
    pub owner: u64,
    /// How it ended.
    pub finish: Finish,
    op: &'a Op<M::Pending>,
    memory: &'a M,
    apart: &'a Apart<M::Pending>,
}

/// What has become of the reply of an op that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is made, or nobody wants it: the slot is free again.
    Made,
    /// It will be made later: the slot stays until [`Executor::free`].
    Later,
}

impl<M: Memory> Ended<'_, M> {
    /// As [`Executor::copy_reply`].
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn copy_reply(&self, offset: u32, into: &mut [u8]) -> Result<(), Status> {
        self.op.copy_reply(self.memory, self.apart, offset, into)
    }
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Advances every op, round by round, until none can go on or the budget is spent. Where only
    /// long ops are left, which have taken more steps than there are rounds, it ends with the round
    /// in which another one did, or after a few. `finished` hears of each op that is over, once; its
    /// slot stays until [`free`](Self::free).
    #[inline]
    pub fn run(
        &mut self,
        memory: &mut M,
        now: Time,
        budget: Budget,
        finished: &mut impl FnMut(SlotId, u64, Finish),
    ) -> Progress {
        self.run_answering(memory, now, budget, &mut |ended| {
            finished(ended.slot, ended.owner, ended.finish);
            Answer::Later
        })
    }

    /// The same, for who makes replies at once: an op that `answer` has answered needs no slot any
    /// more, and is never looked for again.
    #[inline]
    pub fn run_answering(
        &mut self,
        memory: &mut M,
        now: Time,
        budget: Budget,
        answer: &mut impl FnMut(Ended<'_, M>) -> Answer,
    ) -> Progress {
        if now >= self.parked_deadline {
            self.see_to_parked(memory, now);
        }
        if now >= self.shares.deadline() {
            self.take_up_late(now);
        }
        self.apart.facilities.now = now;
        if !self.parked.is_empty() {
            self.notice_flushes(memory);
        }
        let mut count = 0;
        for number in 1..=budget.rounds {
            let count_before = count;
            let mut round = Round::new(budget.rounds, budget.cost);
            memory.begin_round(self.ready.len());
            while let Some((index, after)) = self.advance_ops(memory, &mut round) {
                match after {
                    After::Park => self.park(index),
                    After::Split => self.await_strands(index),
                    After::Gone => {
                        self.slots[index as usize].op.vacate();
                        self.free.push(index);
                    }
                    After::Walk => {}
                    After::NotYet | After::Queue | After::Over => {
                        unreachable!("such an op needs nothing more")
                    }
                }
            }
            round.close(&mut self.ready);
            if !self.apart.facilities.walks.is_empty() {
                round.are_long &= self.advance_walks(memory, budget);
                round.has_moved = true;
            }
            for place in 0..self.over.len() {
                let index = self.over[place];
                let slot = &mut self.slots[index as usize];
                if slot.op.marks != 0 && slot.op.close(memory, &mut self.apart) {
                    self.free.push(index);
                    continue;
                }
                count += 1;
                if slot.report(index, memory, &mut self.apart, answer) == Answer::Made {
                    self.free.push(index);
                }
            }
            self.over.clear();
            memory.end_round();
            let (mut moved, mut is_spent) = (round.has_moved, self.cost >= budget.cost);
            let mut are_long = round.are_long;
            if !self.apart.facilities.lookups.is_empty() {
                self.advance_lookups(memory, budget);
                (moved, are_long) = (true, false);
                is_spent |= self.cost >= budget.cost;
            }
            if !self.apart.strands.is_empty() {
                moved |= self.advance_strands(memory, budget);
                is_spent |= self.cost >= budget.cost;
            }
            if self.apart.facilities.waiters.has_woken() {
                self.rouse_woken(memory);
            }
            // Who comes next, or waits for an answer, does not wait for them.
            let is_turn_over = count != count_before || number >= LONG_ROUNDS;
            if are_long && is_turn_over && !self.apart.strands.are_ready() {
                break;
            }
            let is_idle = self.ready.is_empty()
                && self.apart.facilities.walks.is_empty()
                && self.apart.facilities.lookups.is_empty()
                && !self.apart.strands.are_ready();
            if !moved || is_spent || is_idle {
                break;
            }
        }
        Progress {
            finished: count,
            ready: self.ready() as u32,
            waiting: self.parked.len() as u32,
            cost: core::mem::take(&mut self.cost),
        }
    }

    /// Advances ops of a round until one does something else than to go on.
    #[inline(always)]
    fn advance_ops(&mut self, memory: &mut M, round: &mut Round) -> Option<(u32, After)> {
        let turn = Turn {
            memory,
            facilities: &mut self.apart.facilities,
            limits: &self.limits,
            cost: &mut self.cost,
        };
        let Executor { slots, ready, over, scratch, .. } = self;
        burst::advance(&mut slots[..], ready, over, round, turn, scratch)
    }
}

impl<K: KernelSet, P: Copy> Slot<K, P> {
    /// Tells of an op that is over.
    #[inline(always)]
    fn report<M: Memory<Pending = P>>(
        &mut self,
        index: u32,
        memory: &mut M,
        apart: &mut Apart<P>,
        answer: &mut impl FnMut(Ended<'_, M>) -> Answer,
    ) -> Answer {
        let op = &mut self.op;
        op.state = State::Reported;
        if op.end.reply_length == 0 {
            // Nothing of a failed op's reply is sent.
            op.drop_ranges(memory, apart);
            if !matches!(op.end.status, Status::Ok | Status::Continues) {
                self.ask_fate();
            }
        }
        let op = &mut self.op;
        let slot = SlotId { index, generation: op.generation };
        let (owner, finish) = (op.owner, op.end);
        let answered = answer(Ended { slot, owner, finish, op, memory, apart });
        if answered == Answer::Made {
            op.drop_ranges(memory, apart);
            op.vacate();
        }
        answered
    }

    /// A kernel may know more of a failed op's effect than that memory was changed.
    #[cold]
    fn ask_fate(&mut self) {
        let ask = AskFate { placed: self.op.payload.received > 0 };
        if let Some(fate) = self.kernel.as_mut().and_then(|kernel| kernel.visit(ask)) {
            self.op.end.fate = fate;
        }
    }
}

/// Asks a kernel for the fate of its op.
struct AskFate {
    placed: bool,
}

impl Visit for AskFate {
    type Output = Option<Fate>;

    fn visit<K: Kernel>(self, kernel: &mut K) -> Option<Fate> {
        kernel.fate(self.placed)
    }
}

impl<P: Copy> Op<P> {
    /// Advances an op that does not simply wait for memory within its time.
    #[inline(never)]
    pub(super) fn advance_rare<K: KernelSet, M: Memory<Pending = P>>(
        &mut self,
        kernel: &mut Option<K>,
        turn: Turn<'_, M>,
        scratch: &mut [u8; FETCH_BYTES_MAX],
    ) -> After {
        let (op, mut turn) = (self, turn);
        let must_end = must_end(kernel);
        let is_late = turn.facilities.now >= op.deadline && !must_end;
        let event = match op.state {
            State::Finished => return After::Over,
            State::Cancelled => return After::Gone,
            State::PayloadPlaced => Event::Payload,
            State::PayloadHeld
            | State::Nowhere(_)
            | State::Stored
            | State::Peeking { .. }
            | State::Arranging { .. }
                if is_late =>
            {
                return op.finish(Status::Expired, false);
            }
            State::Nowhere(at) => Event::Walked { at, hops: 0, element: &[] },
            State::PayloadHeld => Event::Held,
            State::Stored => Event::Written,
            State::Arranging { offset } => {
                if !op.arrange(kernel, &mut turn, offset) {
                    return op.finish(Status::Unsupported, true);
                }
                Event::Arranged
            }
            State::Peeking { offset, length } => {
                *turn.cost += 1;
                let Some(bytes) = op.peek(&mut turn, offset, length, scratch) else {
                    return op.finish(Status::Unsupported, true);
                };
                Event::Fetched(bytes)
            }
            State::Refused(status) => Event::Refused(status),
            State::Fetching(pending)
            | State::Placing(pending)
            | State::Looking(pending)
            | State::Asking(pending)
                if is_late =>
            {
                turn.memory.abandon(&pending);
                turn.facilities.waiters.remove(op.slot);
                return op.finish(Status::Expired, false);
            }
            State::Fetching(pending) => match turn.memory.poll(&pending, &mut scratch[..]) {
                Ok(None) => return After::NotYet,
                Ok(Some(Done::Fetched(length))) => Event::Fetched(&scratch[..length]),
                Ok(Some(done)) => op.changed_by(done, &mut turn),
                Err(error) => return op.refused(error.status(), must_end),
            },
            State::Placing(pending) => match op.place_next(&pending, &mut turn) {
                Ok(false) => return After::Queue,
                Ok(true) => Event::Payload,
                Err(error) => return op.refused(error.status(), must_end),
            },
            State::Looking(pending) => match op.look(&pending, &mut turn, scratch) {
                Ok(word) => Event::Woken(word),
                Err(after) => return after,
            },
            State::Asking(pending) => match op.ask_flush(pending, &mut turn, scratch) {
                None => Event::Flushed,
                Some(after) => return after,
            },
            _ => unreachable!("an op in the queue that has nothing to do there"),
        };
        if matches!(event, Event::Written | Event::Payload) && !turn.facilities.waiters.is_empty() {
            turn.facilities.waiters.wake(&op.target);
        }
        kernel.as_mut().expect(UNDER_WAY).visit(Happened { op, event, turn })
    }
}
