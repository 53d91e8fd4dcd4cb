//! One op's way from event to event.

use nic_wire::Status;

use super::Limits;
use super::apart::Facilities;
use super::held::Chain;
use super::slot::{HOLDS, Op, Range, State, TAPS};
use super::strands::{STRANDS_MAX, StrandHeader, Strands};
use crate::FETCH_BYTES_MAX;
use crate::kernel::{Event, Extent, Kernel, Outcome, Step};
use crate::memory::{Memory, Request};
use crate::reply::Reply;
use crate::set::Visit;

/// What becomes of an op that was advanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Its memory has not answered.
    NotYet,
    /// It waits for memory.
    Queue,
    /// It walks or looks up, in a table apart.
    Walk,
    /// It waits for payload, for a word to change, or for a flush.
    Park,
    /// It waits for slots for its strands.
    Split,
    /// It is over: state Finished.
    Over,
    /// It was cancelled; its slot is to be freed.
    Gone,
}

/// What a step needs besides the op: the executor's and its caller's.
pub(super) struct Turn<'a, M> {
    pub(super) memory: &'a mut M,
    pub(super) facilities: &'a mut Facilities,
    pub(super) limits: &'a Limits,
    /// Grows with what is done.
    pub(super) cost: &'a mut u64,
}

impl<M> Turn<'_, M> {
    /// The same for somebody who is called: what is never lent out itself stays in registers.
    #[inline(always)]
    pub(super) fn lent(&mut self) -> Turn<'_, M> {
        let Turn { memory, facilities, limits, cost } = self;
        Turn { memory, facilities, limits, cost }
    }
}

/// Brings a kernel what is not worth code of its own: anything else than what it fetched.
pub(super) struct Happened<'a, M: Memory> {
    pub(super) op: &'a mut Op<M::Pending>,
    pub(super) event: Event<'a>,
    pub(super) turn: Turn<'a, M>,
}

impl<M: Memory> Visit for Happened<'_, M> {
    type Output = After;

    #[inline(never)]
    fn visit<K: Kernel>(mut self, kernel: &mut K) -> After {
        self.op.step(kernel, self.event, &mut self.turn)
    }
}

// All of this is inlined into where kernel and event are known: from there on the compiler sees
// what that kernel answers to that event, and steps are never built in memory.
impl<P: Copy> Op<P> {
    /// Steps the kernel until it waits for something or is over.
    #[inline(always)]
    pub(super) fn step<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &mut K,
        event: Event<'_>,
        turn: &mut Turn<'_, M>,
    ) -> After {
        match self.ask(kernel, event, turn) {
            None => self.stop_at_bound(kernel),
            Some(Step::FetchToReply(extent)) => self.reply_with(kernel, extent, turn),
            Some(Step::Finish(Outcome::Fetched)) => self.reply_with_copy(event, turn),
            Some(step) => self.obey(kernel, step, turn),
        }
    }

    /// Replies with what the kernel was handed.
    fn reply_with_copy<M: Memory<Pending = P>>(
        &mut self,
        event: Event<'_>,
        turn: &mut Turn<'_, M>,
    ) -> After {
        let Event::Fetched(bytes) = event else { return self.finish(Status::Unsupported, true) };
        *turn.cost += bytes.len() as u64 >> 6;
        match turn.facilities.long_buffers.keep(self, bytes) {
            Ok(()) => self.finish(Status::Ok, true),
            Err(status) => self.finish(status, true),
        }
    }

    /// Adds a range to the reply, and as many more as the kernel wants.
    #[inline(always)]
    fn reply_with<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &mut K,
        extent: Extent,
        turn: &mut Turn<'_, M>,
    ) -> After {
        let mut extent = extent;
        loop {
            *turn.cost += 1;
            if let Err(status) = self.add_range(turn.memory, extent) {
                return self.finish(status, false);
            }
            match self.ask(kernel, Event::Replied { length: extent.length }, turn) {
                None => return self.stop_at_bound(kernel),
                Some(Step::FetchToReply(next)) => extent = next,
                Some(step) => return self.obey(kernel, step, turn),
            }
        }
    }

    /// Does what the kernel wants, unless that is a range of the reply.
    #[inline(always)]
    fn obey<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &mut K,
        step: Step,
        turn: &mut Turn<'_, M>,
    ) -> After {
        let memory = &mut *turn.memory;
        match step {
            Step::Fetch(extent) => {
                if extent.length as usize > FETCH_BYTES_MAX {
                    return self.finish(Status::Unsupported, true);
                }
                self.bytes += u64::from(extent.length);
                if self.bytes > turn.limits.bytes {
                    return self.stop_at_bound(kernel);
                }
                *turn.cost += 1 + u64::from(extent.length >> 6);
                self.submit(kernel, memory, &Request::Read(extent))
            }
            Step::Finish(Outcome::Done) => self.finish(Status::Ok, true),
            Step::Finish(Outcome::Failed(status)) => self.finish(status, true),
            Step::Finish(Outcome::Abandoned(status)) => self.finish(status, false),
            Step::Finish(Outcome::Fetched) => self.finish(Status::Unsupported, true),
            Step::Finish(Outcome::Bounded) => self.stop_at_bound(kernel),
            Step::StorePayload(extent) if self.marks & HOLDS == 0 => {
                self.await_payload(memory, extent)
            }
            Step::Store { at, word } => {
                *turn.cost += 1;
                self.target = at;
                self.submit(kernel, memory, &Request::Store(at, word))
            }
            Step::CompareSwap { at, expected, desired } => {
                *turn.cost += 1;
                self.target = at;
                self.submit(kernel, memory, &Request::CompareSwap { at, expected, desired })
            }
            Step::FetchAdd { at, addend } => {
                *turn.cost += 1;
                self.target = at;
                self.submit(kernel, memory, &Request::FetchAdd(at, addend))
            }
            Step::StorePayload(extent) => self.place_held(kernel, extent, &mut turn.lent()),
            Step::HoldPayload => self.hold_payload(K::HAS_PRIVATE, &mut turn.lent()),
            Step::TapPayload(extent) => self.tap_payload(extent, &mut turn.lent()),
            Step::Peek { offset, length } => {
                self.state = State::Peeking { offset, length };
                After::Queue
            }
            Step::Arrange { offset } => {
                self.state = State::Arranging { offset };
                After::Queue
            }
            Step::StoreRuns { offset, region } => {
                self.store_runs(kernel, offset, region, &mut turn.lent())
            }
            Step::StoreWords(at) => self.store_words(kernel, at, &mut turn.lent()),
            Step::Await { word, unlike, at_most } => {
                self.await_word(word, unlike, at_most, &mut turn.lent())
            }
            Step::MayFlush(extent) => self.submit(kernel, memory, &Request::MayFlush(extent)),
            Step::Flush(extent) => self.begin_flush(extent, &mut turn.lent()),
            Step::Walk => self.begin_walk(kernel, turn),
            Step::Split(strands) => self.split(kernel, strands, turn),
            Step::FetchToReply(_) => unreachable!("the caller took these"),
        }
    }

    /// The kernel's answer to an event; `None` if it has taken all its steps.
    #[inline(always)]
    fn ask<K: Kernel, M>(
        &mut self,
        kernel: &mut K,
        event: Event<'_>,
        turn: &mut Turn<'_, M>,
    ) -> Option<Step> {
        self.steps += 1;
        if self.steps > turn.limits.steps {
            return None;
        }
        let mut reply = Reply::new(&mut self.gather);
        if !K::HAS_PRIVATE {
            return Some(kernel.step(event, &mut reply));
        }
        let has_some = self.marks & (HOLDS | TAPS) != 0;
        let chain = if has_some { self.payload.held } else { Chain::NONE };
        Some(kernel.step_privately(event, &mut reply, turn.facilities.held.private(&chain)))
    }

    #[inline(always)]
    fn submit<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &K,
        memory: &mut M,
        request: &Request,
    ) -> After {
        match memory.submit(self.grant(), request) {
            Ok(pending) => {
                self.state = State::Fetching(pending);
                After::Queue
            }
            Err(error) => self.refused(error.status(), kernel.must_end()),
        }
    }

    /// Adds a range to the reply.
    #[inline(always)]
    fn add_range<M: Memory<Pending = P>>(
        &mut self,
        memory: &mut M,
        extent: Extent,
    ) -> Result<(), Status> {
        let length = u64::from(self.reply_length()) + u64::from(extent.length);
        if length > u64::from(self.reply_capacity) {
            return Err(Status::ReplyTooLong);
        }
        let grant = self.grant();
        let Some(place) = self.range.get_mut(usize::from(self.ranges)) else {
            return Err(Status::Unsupported);
        };
        match memory.submit(grant, &Request::Read(extent)) {
            Ok(pending) => *place = Some(Range { pending, length: extent.length }),
            Err(error) => return Err(error.status()),
        }
        self.ranges += 1;
        self.range_bytes += extent.length;
        Ok(())
    }

    /// The kernel has said where its payload goes.
    #[inline(always)]
    pub(super) fn await_payload<M: Memory<Pending = P>>(
        &mut self,
        memory: &mut M,
        extent: Extent,
    ) -> After {
        if extent.length != self.payload.length || self.payload.received != 0 {
            return self.finish(Status::Unsupported, false);
        }
        self.target = extent;
        let pending = match memory.submit(self.grant(), &Request::Payload(extent)) {
            Ok(pending) => pending,
            Err(error) => return self.finish(error.status(), false),
        };
        if extent.length == 0 {
            memory.abandon(&pending);
            self.state = State::PayloadPlaced;
            return After::Queue;
        }
        self.state = State::Payload(pending);
        After::Park
    }

    /// The kernel goes on as strands.
    #[inline(always)]
    fn split<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &K,
        strands: Strands,
        turn: &mut Turn<'_, M>,
    ) -> After {
        let after = self.await_strands(strands);
        if after != After::Split {
            return after;
        }
        match kernel.lookups() {
            Some(lookups) if self.begin_lookups(kernel, &lookups, turn) => After::Walk,
            _ => After::Split,
        }
    }

    /// It waits for slots for them.
    #[inline]
    fn await_strands(&mut self, strands: Strands) -> After {
        let makes_sense = (1..=STRANDS_MAX).contains(&usize::from(strands.count))
            && strands.stride as usize >= StrandHeader::BYTES
            && (self.reply_length(), self.payload.length) == (0, 0);
        if !makes_sense {
            return self.finish(Status::Unsupported, true);
        }
        if strands.reply_bytes() > u64::from(self.reply_capacity) {
            return self.finish(Status::ReplyTooLong, true);
        }
        self.strands = strands;
        self.state = State::Waiting;
        After::Split
    }

    /// Ends the op at a limit, with the kernel's continuation at the end of its reply if it has one
    /// that fits.
    #[cold]
    fn stop_at_bound<K: Kernel>(&mut self, kernel: &K) -> After {
        let continuation = kernel.resume_point().filter(|_| self.ranges == 0);
        let is_appended = continuation.is_some_and(|continuation| {
            Reply::new(&mut self.gather).append(continuation.arguments()).is_ok()
        });
        if is_appended {
            self.finish(Status::Continues, true)
        } else {
            self.finish(Status::TooManySteps, false)
        }
    }
}
