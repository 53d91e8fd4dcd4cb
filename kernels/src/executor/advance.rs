//! The rounds.

use nic_wire::{Status, Time};

use super::slot::{Range, Slot, State};
use super::{Budget, Executor, Finish, Progress, RANGES_MAX, SlotId};
use crate::kernel::{Continuation, Event, Extent, Outcome, Step};
use crate::memory::{Done, Memory, Request};
use crate::reply::Reply;
use crate::set::KernelSet;
use crate::{FETCH_BYTES_MAX, GATHER_BYTES_MAX};

/// What becomes of an op that was advanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Its memory has not answered.
    NotYet,
    /// It waits for memory.
    Queue,
    /// It waits for payload.
    Park,
    /// It is over: state Finished.
    Over,
    /// Its slot is free.
    Gone,
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Advances every op, round by round, until none can go on or the budget is spent. `finished`
    /// hears of each op that is over, once; its slot stays until [`free`](Self::free).
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
        let mut count = 0;
        'rounds: for _ in 0..budget.rounds {
            let mut moved = false;
            for _ in 0..self.ready.len() {
                let Some(index) = self.ready.pop() else { break };
                let after = self.advance(index, memory, now);
                moved |= after != After::NotYet;
                match after {
                    After::NotYet | After::Queue => self.ready.push(index),
                    After::Park => self.park(index),
                    After::Gone => {}
                    After::Over => {
                        count += 1;
                        let (id, owner, finish) = self.report(index, memory);
                        finished(id, owner, finish);
                    }
                }
                if self.cost >= budget.cost {
                    break 'rounds;
                }
            }
            if !moved {
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

    /// Asks one op's memory, and steps its kernel with the answer.
    #[inline]
    fn advance(&mut self, index: u32, memory: &mut M, now: Time) -> After {
        let slot = &mut self.slots[index as usize];
        let pending = match slot.state {
            State::Fetching(pending) => pending,
            State::PayloadPlaced => return self.step(index, memory, Event::Payload),
            State::Finished(_) => return After::Over,
            State::Cancelled => {
                self.vacate(index);
                return After::Gone;
            }
            State::Free | State::Payload(_) | State::Reported(_) => {
                debug_assert!(false, "an op in the queue that has nothing to do there");
                return After::Gone;
            }
        };
        if now >= slot.deadline {
            memory.abandon(&pending);
            slot.finish(Status::Expired, false);
            return After::Over;
        }
        // The scratch is lent out for the step, so that the kernel may look at it meanwhile.
        let mut scratch = core::mem::take(&mut self.scratch);
        let after = match memory.poll(&pending, &mut scratch) {
            Ok(None) => After::NotYet,
            Ok(Some(Done::Fetched(length))) => {
                self.step(index, memory, Event::Fetched(&scratch[..length]))
            }
            Ok(Some(Done::Old(word))) => {
                self.slots[index as usize].changed = true;
                self.step(index, memory, Event::Old(word))
            }
            Ok(Some(Done::Written)) => {
                self.slots[index as usize].changed = true;
                self.step(index, memory, Event::Written)
            }
            Err(error) => {
                self.slots[index as usize].finish(error.status(), false);
                After::Over
            }
        };
        self.scratch = scratch;
        after
    }

    /// Steps a kernel until it waits for something or is over.
    #[inline]
    pub(super) fn step(&mut self, index: u32, memory: &mut M, event: Event<'_>) -> After {
        let index = index as usize;
        let slot = &mut self.slots[index];
        let room = GATHER_BYTES_MAX.min(slot.reply_capacity as usize);
        let mut event = event;
        loop {
            slot.steps += 1;
            if slot.steps > self.limits.steps {
                return self.stop_at_bound(index);
            }
            let Some(kernel) = &mut slot.kernel else {
                debug_assert!(false, "an op without a kernel");
                return After::Gone;
            };
            let mut reply = Reply::new(&mut self.gathered[index][..room], &mut slot.gathered);
            let request = match kernel.step(event, &mut reply) {
                Step::Fetch(extent) => {
                    if extent.length as usize > FETCH_BYTES_MAX {
                        slot.finish(Status::Unsupported, true);
                        return After::Over;
                    }
                    slot.bytes += u64::from(extent.length);
                    if slot.bytes > self.limits.bytes {
                        return self.stop_at_bound(index);
                    }
                    Request::Read(extent)
                }
                Step::Store { at, word } => Request::Store(at, word),
                Step::CompareSwap { at, expected, desired } => {
                    Request::CompareSwap { at, expected, desired }
                }
                Step::FetchAdd { at, addend } => Request::FetchAdd(at, addend),
                Step::FetchToReply(extent) => {
                    self.cost += 1;
                    match add_range(slot, &mut self.ranges[index], memory, extent) {
                        Ok(()) => event = Event::Replied { length: extent.length },
                        Err(status) => {
                            slot.finish(status, false);
                            return After::Over;
                        }
                    }
                    continue;
                }
                Step::StorePayload(extent) => return self.await_payload(index, memory, extent),
                Step::Finish(outcome) => {
                    let status = match outcome {
                        Outcome::Done => Status::Ok,
                        Outcome::Failed(status) => status,
                    };
                    slot.finish(status, true);
                    return After::Over;
                }
            };
            self.cost += 1 + u64::from(request.extent().length >> 6);
            return match memory.submit(slot.grant, &request) {
                Ok(pending) => {
                    slot.state = State::Fetching(pending);
                    After::Queue
                }
                Err(error) => {
                    slot.finish(error.status(), false);
                    After::Over
                }
            };
        }
    }

    /// Ends an op at a limit, with the kernel's continuation at the end of its reply if it has one
    /// that fits.
    #[cold]
    fn stop_at_bound(&mut self, index: usize) -> After {
        let slot = &mut self.slots[index];
        let start = usize::from(slot.gathered);
        let end = start + Continuation::BYTES;
        let fits = slot.ranges == 0 && end <= slot.reply_capacity as usize;
        let continuation = slot.kernel.as_ref().and_then(K::resume_point).filter(|_| fits);
        let place = self.gathered[index].get_mut(start..end);
        if let (Some(Continuation(bytes)), Some(place)) = (continuation, place) {
            place.copy_from_slice(&bytes);
            slot.gathered = end as u16;
            slot.finish(Status::Continues, true);
        } else {
            slot.finish(Status::TooManySteps, false);
        }
        After::Over
    }

    /// Marks an op that is over as known to its owner.
    #[inline]
    fn report(&mut self, index: u32, memory: &mut M) -> (SlotId, u64, Finish) {
        let slot = &mut self.slots[index as usize];
        let id = SlotId { index, generation: slot.generation };
        let owner = slot.owner;
        let State::Finished(finish) = slot.state else {
            unreachable!("only finished ops are reported")
        };
        slot.state = State::Reported(finish);
        if finish.reply_length == 0 && slot.ranges != 0 {
            // Nothing of a failed op's reply is sent.
            self.drop_ranges(index as usize, memory);
        }
        (id, owner, finish)
    }
}

/// Adds a range to a reply.
#[inline]
fn add_range<K, M: Memory>(
    slot: &mut Slot<K, M::Pending>,
    ranges: &mut [Option<Range<M::Pending>>; RANGES_MAX],
    memory: &mut M,
    extent: Extent,
) -> Result<(), Status> {
    let length = u64::from(slot.reply_length()) + u64::from(extent.length);
    if length > u64::from(slot.reply_capacity) {
        return Err(Status::ReplyTooLong);
    }
    let Some(place) = ranges.get_mut(usize::from(slot.ranges)) else {
        return Err(Status::Unsupported);
    };
    let pending =
        memory.submit(slot.grant, &Request::Read(extent)).map_err(|error| error.status())?;
    *place = Some(Range { pending, length: extent.length });
    slot.ranges += 1;
    slot.range_bytes += extent.length;
    Ok(())
}
