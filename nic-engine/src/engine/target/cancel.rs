//! Ops that their initiator does not wait for any more.
//!
//! A CANCEL takes no place in the table and gets no reply: the op that it names does, as soon as it
//! is found. What is found is ended, unless it must come to its own end. A packet may overtake
//! another, so what is not found and is not over either is looked for again, until it comes.

use nic_kernels::KernelSet;
use nic_wire::frame::RequestFrame;
use nic_wire::packet::MAX_PACKET_BYTES;
use nic_wire::{OpId, Span, Status, Time};

use super::Source;
use crate::engine::core::Core;

/// When ops that have yet to come are looked for again. Each time all in hand are looked through.
const LOOK_AGAIN: Span = Span::from_ms(1);

/// An op that its initiator has given up.
#[derive(Clone, Copy)]
struct GivenUp {
    link: u16,
    op: OpId,
    stream: u16,
    sequence: u32,
    /// When it ends anyway.
    until: Time,
    is_found: bool,
}

/// Those that have yet to be looked for, or to come; as many as there may be ops in hand.
pub(in crate::engine) struct Cancels {
    given_up: Vec<GivenUp>,
    next_look: Time,
}

impl Cancels {
    pub(in crate::engine) fn new(capacity: u16) -> Self {
        Cancels { given_up: Vec::with_capacity(usize::from(capacity)), next_look: Time::NEVER }
    }

    /// When [`Core::end_given_up`] has something to do.
    #[inline]
    pub(in crate::engine) fn due(&self) -> Time {
        self.next_look
    }

    /// The place of an op.
    fn find(&self, link: u16, op: OpId) -> Option<usize> {
        let name = |one: &GivenUp| (one.link, one.op.raw());
        self.given_up.binary_search_by_key(&(link, op.raw()), name).ok()
    }
}

impl<K: KernelSet> Core<K> {
    /// An initiator has given one of its ops up.
    #[cold]
    pub(super) fn note_cancel(&mut self, link: u16, frame: RequestFrame<'_>) {
        let Core { cancels, links, config, counters, now, .. } = self;
        let waiting = &mut links[usize::from(link)].cancels;
        let has_room = cancels.given_up.len() < cancels.given_up.capacity();
        if !has_room || *waiting >= config.op_credits.into() {
            // No honest initiator has given up more than it may have out.
            counters.cancels_dropped += 1;
            return;
        }
        *waiting += 1;
        cancels.given_up.push(GivenUp {
            link,
            op: frame.op(),
            stream: frame.stream(),
            sequence: frame.sequence(),
            until: *now + Span::from_us(frame.budget_us().into()),
            is_found: false,
        });
        cancels.next_look = *now;
    }

    /// Ends the ops that were given up, as far as they are here.
    #[cold]
    pub(in crate::engine) fn end_given_up(&mut self) {
        self.cancels.given_up.sort_unstable_by_key(|one| (one.link, one.op.raw()));
        for index in 0..self.target.ops.len() as u32 {
            let op = &self.target.ops[index as usize];
            if !op.live || op.orphaned {
                continue;
            }
            let Some(place) = self.cancels.find(op.link, op.op) else { continue };
            self.cancels.given_up[place].is_found = true;
            let is_answer = matches!(op.source, Source::Call { .. } | Source::LongAnswer { .. });
            if !op.ready {
                self.end_op(index);
            } else if is_answer {
                self.withdraw_answer(index);
            }
        }
        self.end_held();
        let Core { cancels, links, now, .. } = self;
        cancels.given_up.retain(|one| {
            let link = &mut links[usize::from(one.link)];
            let is_over = one.is_found
                || *now >= one.until
                || link.streams.has_finished(one.stream, one.sequence);
            link.cancels -= u32::from(is_over);
            !is_over
        });
        let is_all = cancels.given_up.is_empty();
        cancels.next_look = if is_all { Time::NEVER } else { *now + LOOK_AGAIN };
    }

    /// Ends an op in hand, unless it must come to its own end.
    fn end_op(&mut self, index: u32) {
        match self.target.ops[index as usize].source {
            Source::Call { .. } => self.withdraw_call(index),
            Source::Strand(strand) if !self.executor.must_end(strand) => {
                self.counters.ops_cancelled += 1;
                let fate = self.executor.cancel(strand, &mut self.memory);
                self.target.ops[index as usize].source = Source::Nothing;
                self.finish_now(index, Status::Cancelled, fate, 0);
            }
            Source::Strand(_) | Source::LongAnswer { .. } | Source::Nothing => {}
        }
    }

    /// Ends those that wait for a fence, as far as there are places to answer from.
    fn end_held(&mut self) {
        let mut bytes = [0; MAX_PACKET_BYTES];
        let mut index = 0;
        while index < self.holds.len() && self.target.free() > 0 {
            let held = self.holds.get(index);
            let Some(place) = self.cancels.find(held.link, held.request.op) else {
                index += 1;
                continue;
            };
            self.cancels.given_up[place].is_found = true;
            let Some((held, frame)) = self.holds.release(index, &mut bytes) else { continue };
            self.links[usize::from(held.link)].held -= 1;
            let Some(index) = self.target.insert(held.link, held.arrived, frame) else { continue };
            self.links[usize::from(held.link)].in_hand += 1;
            self.counters.requests_received += 1;
            self.counters.ops_cancelled += 1;
            self.refuse(index, Status::Cancelled);
        }
    }

    /// A flow has ended, and what its initiator gave up with it.
    pub(in crate::engine) fn drop_cancels_of_link(&mut self, link: u16) {
        self.cancels.given_up.retain(|one| one.link != link);
        self.links[usize::from(link)].cancels = 0;
    }

    /// What was sent of an answer is void; its end is all that is still sent.
    fn withdraw_answer(&mut self, index: u32) {
        self.counters.calls_cancelled += 1;
        self.free_source(index);
        let op = &mut self.target.ops[index as usize];
        op.source = Source::Nothing;
        (op.status, op.total, op.sent) = (Status::Cancelled, 0, 0);
    }

    fn withdraw_call(&mut self, index: u32) {
        self.counters.calls_cancelled += 1;
        if let Source::Call { session: slot, .. } = self.target.ops[index as usize].source {
            let call = self.target.call_id(index);
            if let Some(session) = &mut self.sessions[usize::from(slot)] {
                if !session.dirty {
                    self.dirty_sessions.push(slot);
                }
                let is_told = session.tell_cancelled(call);
                self.counters.notices_dropped += u64::from(!is_told);
            }
        }
        self.finish_call_without_answer(index, Status::Cancelled);
    }
}
