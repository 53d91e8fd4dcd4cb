//! Ops of other hosts: from the request's arrival until the last byte of the reply is in a packet.

mod calls;
pub(super) mod cancel;
mod execute;
mod fences;
mod grants;
mod live;
mod replies;
pub(super) mod shares;

use nic_kernels::{Invocation, KernelSet, Memory, SlotId};
use nic_wire::frame::{self, REPLY_BYTES, RequestFrame};
use nic_wire::{Fate, KernelId, OpId, Span, Status, Time};

use super::core::Core;
use super::counters::Counters;
use super::initiator::OP_BYTES_MAX;
use super::links::Link;
use super::wheel::Wheel;

/// What produces an op's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Nothing: the reply is a status.
    Nothing,
    /// The executor.
    Strand(SlotId),
    /// A serving application, in a receive buffer of its session.
    Call { session: u16, buffer: u32 },
    /// A serving application, in the arena of its session.
    LongAnswer { session: u16 },
}

/// Where in its session's arena the answer to a call lies, and the name of the command that gave it.
#[derive(Clone, Copy, Default)]
struct LongAnswer {
    token: u64,
    at: u32,
}

/// One op in hand.
struct TargetOp {
    live: bool,
    generation: u16,
    link: u16,
    /// The flow has ended; nobody waits for the reply.
    orphaned: bool,
    kernel: KernelId,
    /// The reply is ready, wholly or (a range) to be fetched.
    ready: bool,
    /// The reply has yet to be read: what a fence holds back could change it.
    unread: bool,
    op: OpId,
    stream: u16,
    sequence: u32,
    arrived: Time,
    reply_capacity: u32,
    /// Bytes of payload that have not arrived.
    payload_left: u32,
    source: Source,
    status: Status,
    fate: Fate,
    total: u32,
    sent: u32,
}

/// Ops in hand by slot; sized at the start.
pub(super) struct TargetTable {
    ops: Box<[TargetOp]>,
    free: Vec<u32>,
    /// Ops whose payload is still arriving: few, looked through in order.
    arriving: Vec<u32>,
    /// Ops that have ended after their flow: to be let go of.
    ended_orphans: Vec<u32>,
    calls: Wheel,
    /// Of each op, what is needed if an answer in an arena is its reply.
    long_answers: Box<[LongAnswer]>,
}

impl TargetTable {
    pub(super) fn new(capacity: u16, now: Time) -> Self {
        let vacant = || TargetOp {
            live: false,
            generation: 0,
            link: 0,
            orphaned: false,
            kernel: KernelId(0),
            ready: false,
            unread: false,
            op: OpId::from_raw(0),
            stream: 0,
            sequence: 0,
            arrived: Time::ZERO,
            reply_capacity: 0,
            payload_left: 0,
            source: Source::Nothing,
            status: Status::Ok,
            fate: Fate::NotExecuted,
            total: 0,
            sent: 0,
        };
        TargetTable {
            ops: (0..capacity).map(|_| vacant()).collect(),
            free: (0..u32::from(capacity)).rev().collect(),
            arriving: Vec::with_capacity(usize::from(capacity)),
            ended_orphans: Vec::with_capacity(usize::from(capacity)),
            calls: Wheel::new(usize::from(capacity), now),
            long_answers: vec![LongAnswer::default(); usize::from(capacity)].into(),
        }
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn live(&self) -> usize {
        self.ops.len() - self.free.len()
    }

    pub(super) fn link(&self, index: u32) -> u16 {
        self.ops[index as usize].link
    }

    #[inline]
    fn insert(&mut self, link: u16, arrived: Time, frame: RequestFrame<'_>) -> Option<u32> {
        let index = self.free.pop()?;
        let op = &mut self.ops[index as usize];
        op.live = true;
        op.link = link;
        op.orphaned = false;
        op.kernel = frame.kernel();
        op.ready = false;
        op.op = frame.op();
        op.stream = frame.stream();
        op.sequence = frame.sequence();
        op.arrived = arrived;
        op.reply_capacity = frame.reply_capacity();
        op.payload_left = frame.payload_length();
        op.source = Source::Nothing;
        op.total = 0;
        op.sent = 0;
        Some(index)
    }

    #[inline]
    fn remove(&mut self, index: u32) {
        let op = &mut self.ops[index as usize];
        assert!(op.live, "an op in hand is let go once");
        op.live = false;
        op.generation = op.generation.wrapping_add(1);
        self.free.push(index);
        if !self.arriving.is_empty() {
            self.arriving.retain(|arriving| *arriving != index);
        }
    }

    /// Notes how an op ended.
    #[inline]
    pub(super) fn finished(&mut self, index: u32, status: Status, fate: Fate, total: u32) {
        let op = &mut self.ops[index as usize];
        (op.status, op.fate, op.total) = (status, fate, total);
        if total > op.reply_capacity {
            (op.status, op.total) = (Status::ReplyTooLong, 0);
        }
    }

    /// Whether a request frame belongs to an op that has started already.
    pub(super) fn has_started(&self, link: u16, request: &frame::Request, chunk: &[u8]) -> bool {
        let is_part = request.payload_length as usize != chunk.len();
        is_part && self.find_arriving(link, request.op).is_some()
    }

    fn find_arriving(&self, link: u16, op: OpId) -> Option<u32> {
        let is_it = |index: &&u32| {
            let found = &self.ops[**index as usize];
            found.link == link && found.op == op && !found.orphaned
        };
        self.arriving.iter().find(is_it).copied()
    }

    /// One call whose caller no longer waits, answered or not.
    pub(super) fn expired_call(&mut self, now: Time) -> Option<u32> {
        self.calls.expired(now)
    }

    /// Whether [`Core::sweep_orphans`] has something to let go of.
    #[inline]
    pub(super) fn has_ended_orphans(&self) -> bool {
        !self.ended_orphans.is_empty()
    }

    /// Whether [`TargetTable::expired_call`] has something to look at.
    #[inline]
    pub(super) fn is_call_due(&self, now: Time) -> bool {
        self.calls.is_due(now)
    }

    pub(super) fn earliest_call(&self) -> Time {
        self.calls.earliest()
    }

    fn call_id(&self, index: u32) -> u32 {
        u32::from(self.ops[index as usize].generation) << 16 | index
    }

    fn find_call(&self, call: u32) -> Option<u32> {
        let index = call & 0xffff;
        let op = self.ops.get(index as usize)?;
        let is_it = op.live && u32::from(op.generation) == call >> 16;
        (is_it && matches!(op.source, Source::Call { .. }) && !op.ready).then_some(index)
    }
}

/// Queues the reply of an op that has ended, and unless it has yet to be read, lets the fences behind
/// it know.
#[inline]
pub(super) fn answer_ready(
    target: &mut TargetTable,
    link: &mut Link,
    touched: &mut Vec<u16>,
    index: u32,
    counters: &mut Counters,
) {
    let op = &mut target.ops[index as usize];
    op.ready = true;
    op.unread = op.total > 0;
    counters.ended(op.status, op.fate);
    if op.orphaned {
        target.ended_orphans.push(index);
        return;
    }
    if !op.unread && link.streams.finish(op.stream, op.sequence).is_err() {
        counters.malformed_frames += 1;
    }
    let is_long = op.total as usize > link.packet_room() - REPLY_BYTES;
    let queue = if is_long { &mut link.long_replies } else { &mut link.replies };
    queue.push_back(index);
    if !link.touched {
        link.touched = true;
        touched.push(op.link);
    }
}

impl<K: KernelSet> Core<K> {
    /// A request, or a part of one, has arrived on a flow.
    #[inline(always)]
    pub(super) fn request(&mut self, link: u16, age_us: u32, frame: RequestFrame<'_>) {
        if frame.kernel() == KernelId::CANCEL {
            return self.note_cancel(link, frame);
        }
        if frame.is_part() && self.is_of_known_op(link, frame) {
            return;
        }
        if frame.has_fence() && self.waits_for_fence(link, age_us, frame) {
            return;
        }
        self.start(link, self.now, age_us, frame);
    }

    /// Whether a part of a request belongs to an op that has started, or is even over.
    #[inline(never)]
    fn is_of_known_op(&mut self, link: u16, frame: RequestFrame<'_>) -> bool {
        if self.payload_part(link, frame) {
            return true;
        }
        let streams = &self.links[usize::from(link)].streams;
        let is_over = streams.has_finished(frame.stream(), frame.sequence());
        // The op ended before its payload was whole; the rest must not start it anew.
        self.counters.unplaced_parts += u64::from(is_over);
        is_over
    }

    /// Starts an op whose turn it is; it arrived at `arrived`, and had waited for `waited_us` by now.
    #[inline(always)]
    fn start(&mut self, link: u16, arrived: Time, waited_us: u32, frame: RequestFrame<'_>) {
        let Some(index) = self.target.insert(link, arrived, frame) else {
            self.counters.unplaced_packets += 1;
            return;
        };
        self.links[usize::from(link)].in_hand += 1;
        self.counters.requests_received += 1;
        let left = Span::from_us(frame.budget_us().saturating_sub(waited_us).into());
        if left == Span::ZERO {
            self.counters.expired_on_arrival += 1;
            return self.refuse(index, Status::Expired);
        }
        if self.refuses_ops() {
            return self.refuse(index, Status::Draining);
        }
        if frame.payload_length() > OP_BYTES_MAX {
            return self.refuse(index, Status::BadArguments);
        }
        let deadline = self.now + left;
        if frame.kernel() == KernelId::CALL {
            return self.deliver(index, frame, deadline);
        }
        let grant = match self.memory.admit(frame.rkey()) {
            Ok(grant) => grant,
            Err(error) => return self.refuse(index, error.status()),
        };
        let invocation = Invocation {
            owner: u64::from(index),
            kernel: frame.kernel(),
            arguments: frame.arguments,
            payload_length: frame.payload_length(),
            reply_capacity: frame.reply_capacity(),
            deadline,
        };
        match self.executor.start(&mut self.memory, self.now, grant, &invocation) {
            Ok(strand) => {
                self.target.ops[index as usize].source = Source::Strand(strand);
                if frame.payload_length() > 0 {
                    self.place_first(index, strand, frame);
                }
            }
            Err(status) => self.refuse(index, status),
        }
    }

    /// Places the payload that came with a request; perhaps more is to come.
    fn place_first(&mut self, index: u32, strand: SlotId, frame: RequestFrame<'_>) {
        if !frame.chunk.is_empty() {
            self.place(index, strand, frame);
        }
        if frame.is_part() {
            self.target.arriving.push(index);
        }
    }

    /// Places a part of a payload whose op has already started.
    fn payload_part(&mut self, link: u16, frame: RequestFrame<'_>) -> bool {
        let Some(index) = self.target.find_arriving(link, frame.op()) else { return false };
        if let Source::Strand(strand) = self.target.ops[index as usize].source {
            self.place(index, strand, frame);
        }
        true
    }

    #[inline]
    fn place(&mut self, index: u32, strand: SlotId, frame: RequestFrame<'_>) {
        let left = &mut self.target.ops[index as usize].payload_left;
        *left = left.saturating_sub(frame.chunk.len() as u32);
        let offset = frame.payload_offset();
        if self.executor.payload(strand, offset, frame.chunk, &mut self.memory).is_err() {
            // The op has ended for it, and its reply will say so.
            self.counters.unplaced_parts += 1;
        }
    }

    /// Ends an op that has had no effect.
    fn refuse(&mut self, index: u32, status: Status) {
        self.finish_now(index, status, Fate::NotExecuted, 0);
    }

    fn finish_now(&mut self, index: u32, status: Status, fate: Fate, total: u32) {
        self.target.finished(index, status, fate, total);
        let link = &mut self.links[usize::from(self.target.link(index))];
        answer_ready(&mut self.target, link, &mut self.touched, index, &mut self.counters);
    }

    /// A flow has ended: what it asked for runs to its end, but nobody will be told. What still
    /// waited for payload, or for a word to change, has come to its end.
    pub(super) fn orphan_requests_of_link(&mut self, link: u16) {
        self.links[usize::from(link)].replies.clear();
        self.links[usize::from(link)].long_replies.clear();
        for index in 0..self.target.ops.len() as u32 {
            let op = &mut self.target.ops[index as usize];
            if op.live && op.link == link && !op.orphaned {
                op.orphaned = true;
                let is_stranded = match op.source {
                    Source::Strand(strand) => op.payload_left > 0 || self.executor.waits(strand),
                    _ => false,
                };
                if op.ready || is_stranded {
                    self.let_go(index);
                }
            }
        }
    }

    /// Lets go of orphans that have ended since.
    pub(super) fn sweep_orphans(&mut self) {
        while let Some(index) = self.target.ended_orphans.pop() {
            self.let_go(index);
        }
    }

    /// Frees all that an answered op held.
    #[inline]
    fn let_go(&mut self, index: u32) {
        self.free_source(index);
        let op = &self.target.ops[index as usize];
        if !op.orphaned {
            self.links[usize::from(op.link)].in_hand -= 1;
        }
        self.target.remove(index);
    }

    /// Frees what an op's reply was copied from; an answer's deadline with it.
    #[inline]
    fn free_source(&mut self, index: u32) {
        match self.target.ops[index as usize].source {
            Source::Nothing => {}
            Source::Strand(strand) => self.executor.free(strand, &mut self.memory),
            Source::Call { session, buffer } => {
                self.target.calls.lift(index);
                if let Some(session) = &mut self.sessions[usize::from(session)] {
                    session.free_buffer(buffer);
                }
            }
            Source::LongAnswer { session } => {
                self.target.calls.lift(index);
                let token = self.target.long_answers[index as usize].token;
                self.answer_done(session, token, Status::Ok);
            }
        }
    }
}
