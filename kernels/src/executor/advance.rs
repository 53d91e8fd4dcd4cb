//! The rounds.

use nic_wire::{Status, Time};

use super::slot::{Slot, State};
use super::step::{After, Fetched, Happened, Turn};
use super::{Budget, Executor, Finish, Progress, SlotId};
use crate::FETCH_BYTES_MAX;
use crate::kernel::Event;
use crate::memory::{Done, Memory};
use crate::set::KernelSet;

/// Why there is a kernel.
const UNDER_WAY: &str = "an op that waits for memory or payload has a kernel since its start";

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Advances every op, round by round, until none can go on or the budget is spent. `finished`
    /// hears of each op that is over, once; its slot stays until [`free`](Self::free).
    #[inline]
    pub fn run(
        &mut self,
        memory: &mut M,
        now: Time,
        budget: Budget,
        finished: &mut impl FnMut(SlotId, u64, Finish),
    ) -> Progress {
        if now >= self.parked_deadline {
            self.stop_expired_parked(memory, now);
        }
        let (mut count, mut rounds) = (0, budget.rounds);
        // How many ops have not had their turn in this round, and whether any has gone on.
        let (mut left, mut moved) = (0, true);
        loop {
            if left == 0 {
                if rounds == 0 || !moved {
                    break;
                }
                (left, moved) = (self.ready.len(), false);
                rounds -= 1;
            }
            let Some(index) = self.ready.pop() else { break };
            left -= 1;
            let slot = &mut self.slots[index as usize];
            let turn = Turn { memory, limits: &self.limits, cost: &mut self.cost };
            match slot.advance(turn, now, &mut self.scratch) {
                After::NotYet => self.ready.push(index),
                After::Queue => {
                    moved = true;
                    self.ready.push(index);
                }
                After::Over => {
                    moved = true;
                    count += 1;
                    let op = &mut slot.op;
                    op.state = State::Reported;
                    if op.end.reply_length == 0 {
                        // Nothing of a failed op's reply is sent.
                        op.drop_ranges(memory);
                    }
                    finished(SlotId { index, generation: op.generation }, op.owner, op.end);
                }
                After::Park => {
                    moved = true;
                    self.park(index);
                }
                After::Gone => {
                    moved = true;
                    slot.op.vacate();
                    self.free.push(index);
                }
            }
            if self.cost >= budget.cost {
                break;
            }
        }
        Progress {
            finished: count,
            ready: self.ready.len() as u32,
            waiting: self.parked.len() as u32,
            cost: core::mem::take(&mut self.cost),
        }
    }
}

impl<K: KernelSet, P: Copy> Slot<K, P> {
    /// Asks the op's memory, and steps its kernel with the answer.
    #[inline(always)]
    pub(super) fn advance<M: Memory<Pending = P>>(
        &mut self,
        turn: Turn<'_, M>,
        now: Time,
        scratch: &mut [u8; FETCH_BYTES_MAX],
    ) -> After {
        let Slot { op, kernel } = self;
        let event = match &op.state {
            State::Fetching(pending) if now < op.deadline => {
                match turn.memory.poll(pending, &mut scratch[..]) {
                    Ok(Some(Done::Fetched(length))) => {
                        let bytes = &scratch[..length];
                        return kernel.as_mut().expect(UNDER_WAY).visit(Fetched {
                            op,
                            bytes,
                            turn,
                        });
                    }
                    Ok(Some(Done::Old(word))) => Event::Old(word),
                    Ok(Some(Done::Written)) => Event::Written,
                    Ok(None) => return After::NotYet,
                    Err(error) => return op.finish(error.status(), false),
                }
            }
            State::Finished => return After::Over,
            State::PayloadPlaced => Event::Payload,
            State::Fetching(pending) => {
                turn.memory.abandon(pending);
                return op.finish(Status::Expired, false);
            }
            State::Cancelled => return After::Gone,
            State::Free | State::Payload(_) | State::Reported => {
                unreachable!("an op in the queue that has nothing to do there")
            }
        };
        op.changed |= event != Event::Payload;
        kernel.as_mut().expect(UNDER_WAY).visit(Happened { op, event, turn })
    }
}
