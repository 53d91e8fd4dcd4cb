//! Ops that wait until what they have changed is in their region's file.
//!
//! Whoever writes files counts the flushes that are over. An executor that finds the count changed
//! looks whose they are; all who wait also ask now and then, and end at their deadlines.

use nic_wire::Status;

use super::Executor;
use super::slot::{Op, State};
use super::step::{After, Turn};
use crate::FETCH_BYTES_MAX;
use crate::kernel::Extent;
use crate::memory::{Memory, Request};
use crate::set::KernelSet;

impl<P: Copy> Op<P> {
    /// The kernel waits until a range is flushed.
    #[cold]
    pub(super) fn begin_flush<M: Memory<Pending = P>>(
        &mut self,
        range: Extent,
        turn: &mut Turn<'_, M>,
    ) -> After {
        if self.is_strand() {
            return self.finish(Status::Unsupported, true);
        }
        *turn.cost += 1 + u64::from(range.length >> 6);
        match turn.memory.submit(self.grant(), &Request::Flush(range)) {
            Ok(pending) => self.await_flush(pending, turn),
            Err(error) => self.finish(error.status(), false),
        }
    }

    /// Asks whether the range is flushed. `None`: it is.
    #[cold]
    pub(super) fn ask_flush<M: Memory<Pending = P>>(
        &mut self,
        pending: P,
        turn: &mut Turn<'_, M>,
        scratch: &mut [u8; FETCH_BYTES_MAX],
    ) -> Option<After> {
        *turn.cost += 1;
        match turn.memory.poll(&pending, &mut scratch[..]) {
            Ok(None) => Some(self.await_flush(pending, turn)),
            Ok(Some(_)) => None,
            Err(error) => Some(self.finish(error.status(), false)),
        }
    }

    fn await_flush<M>(&mut self, pending: P, turn: &Turn<'_, M>) -> After {
        self.awaited.look_at = turn.facilities.now + turn.limits.look_again;
        self.state = State::Flushing(pending);
        After::Park
    }
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Lets those ask whose flushes are over, if some are since it was called last.
    #[inline]
    pub(super) fn notice_flushes(&mut self, memory: &M) {
        let over = memory.flushes_over();
        if over != self.flushes_over {
            self.flushes_over = over;
            self.rouse_flushing(memory);
        }
    }

    #[cold]
    fn rouse_flushing(&mut self, memory: &M) {
        // Where one leaves, the last takes its place.
        for place in (0..self.parked.len()).rev() {
            let index = self.parked[place];
            if let State::Flushing(pending) = self.slots[index as usize].op.state
                && memory.is_flush_over(&pending)
            {
                self.rouse_flush(index);
            }
        }
    }

    /// One who waits for a flush asks.
    pub(super) fn rouse_flush(&mut self, index: u32) {
        let op = &mut self.slots[index as usize].op;
        if let State::Flushing(pending) = op.state {
            op.state = State::Asking(pending);
            self.unpark(index);
            self.ready.push(index);
        }
    }
}
