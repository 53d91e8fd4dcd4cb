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

/// The ops in hand are looked through at most this often, however many are given up: that costs
/// whoever gives up next to nothing.
const LOOKS_APART: Span = Span::from_us(100);
/// When ops that have yet to come are looked for again.
const LOOK_AGAIN: Span = Span::from_ms(1);
/// An op that has not come after this long was answered long ago, or never left.
const LOOKED_FOR: Span = Span::from_ms(1_000);
/// Each flow has room for at least so many that have yet to come.
const SHARE_MIN: u16 = 16;

/// An op that its initiator has given up.
#[derive(Clone, Copy)]
struct GivenUp {
    link: u16,
    op: OpId,
    stream: u16,
    sequence: u32,
    /// When it is looked for no more.
    until: Time,
    is_found: bool,
}

/// Those that have yet to be looked for, or to come.
pub(in crate::engine) struct Cancels {
    given_up: Vec<GivenUp>,
    /// As many as there may be ops in hand are remembered until the next look, and of every flow its
    /// share, whatever others do. Only the share stays for the looks after it.
    most: usize,
    share: u32,
    next_look: Time,
    /// The first moment that is not too early for another look.
    may_look: Time,
}

impl Cancels {
    pub(in crate::engine) fn new(ops_in: u16, flows: u16) -> Self {
        let (most, share) = (usize::from(ops_in), (ops_in / flows.max(1)).max(SHARE_MIN));
        Cancels {
            given_up: Vec::with_capacity(most + usize::from(share) * usize::from(flows)),
            most,
            share: share.into(),
            next_look: Time::NEVER,
            may_look: Time::ZERO,
        }
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
        let this = &mut links[usize::from(link)];
        let (stream, sequence) = (frame.stream(), frame.sequence());
        if this.streams.has_finished(stream, sequence) {
            return;
        }
        let has_room = this.cancels < cancels.share
            || cancels.given_up.len() < cancels.most && this.cancels < config.op_credits.into();
        if !has_room || !this.streams.may_come(stream, sequence) {
            // No honest initiator has given up more than it may have out.
            counters.cancels_dropped += 1;
            return;
        }
        this.cancels += 1;
        cancels.given_up.push(GivenUp {
            link,
            op: frame.op(),
            stream,
            sequence,
            until: *now + Span::from_us(frame.budget_us().into()).min(LOOKED_FOR),
            is_found: false,
        });
        cancels.next_look = cancels.next_look.min(cancels.may_look.max(*now));
    }

    /// Ends the ops that were given up, as far as they are here.
    #[cold]
    pub(in crate::engine) fn end_given_up(&mut self) {
        self.cancels.may_look = self.now + LOOKS_APART;
        self.counters.cancel_looks += 1;
        self.cancels.given_up.sort_unstable_by_key(|one| (one.link, one.op.raw()));
        let flows = self.cancels.given_up.chunk_by(|one, next| one.link == next.link);
        let mut unseen: u32 = flows.map(|of| self.links[usize::from(of[0].link)].in_hand).sum();
        for index in 0..self.target.ops.len() as u32 {
            if unseen == 0 {
                break;
            }
            let op = &self.target.ops[index as usize];
            if !op.live || op.orphaned || self.links[usize::from(op.link)].cancels == 0 {
                continue;
            }
            unseen -= 1;
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
        self.keep_those_to_come();
    }

    /// Of what was not found, each flow's share is looked for again.
    fn keep_those_to_come(&mut self) {
        let Core { cancels, links, counters, now, .. } = self;
        let share = cancels.share;
        let (mut of, mut kept) = (0, 0);
        cancels.given_up.retain(|one| {
            let link = &mut links[usize::from(one.link)];
            if one.link != of {
                (of, kept) = (one.link, 0);
            }
            let may_come = !one.is_found
                && *now < one.until
                && link.streams.may_come(one.stream, one.sequence);
            let is_kept = may_come && kept < share;
            kept += u32::from(is_kept);
            link.cancels -= u32::from(!is_kept);
            counters.cancels_dropped += u64::from(may_come && !is_kept);
            is_kept
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
