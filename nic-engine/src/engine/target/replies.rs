//! Replies into packets: short ones first, long ones bit by bit while there are short ones.

use nic_kernels::mapped::MappedMemory;
use nic_kernels::{Executor, KernelSet};
use nic_ports::Port;
use nic_wire::frame::{self, REPLY_BYTES};
use nic_wire::{Span, Status, Time};

use super::{LongAnswer, Source, TargetOp, TargetTable};
use crate::engine::core::Core;
use crate::engine::links::NoRoom;
use crate::engine::session::Session;

/// While there are short replies, long ones leave at a packet in this time.
const LONG_INTERVAL: Span = Span::from_us(16);

/// What is left of a flow's long replies is little if it is no more bytes than this, of so few ops:
/// values of a few KiB among short ones need not wait.
const LITTLE: (usize, u32) = (4, 16 << 10);

/// For how long after a short reply long ones are limited.
pub(super) const SHORT_MEMORY: Span = Span::from_us(100);

impl<K: KernelSet> Core<K> {
    /// Puts the replies of a flow into packets until there is no more, or no room: first those that
    /// are short. While there are such, on whatever flow, long ones leave bit by bit; but what is
    /// short cannot take all room turn after turn.
    #[inline]
    pub(in crate::engine) fn reply_all<P: Port>(
        &mut self,
        link: u16,
        port: &mut P,
    ) -> Result<(), NoRoom> {
        let mut all = u32::MAX;
        if std::mem::take(&mut self.links[usize::from(link)].long_is_due) {
            // One packet; if there is no room even for that, it will be due again.
            let _ = self.write_long(link, port, &mut 1);
        }
        while let Some(&index) = self.links[usize::from(link)].replies.front() {
            self.short_replies_until = self.now + SHORT_MEMORY;
            if let Err(no_room) = self.write_reply(index, link, port, &mut all) {
                let link = &mut self.links[usize::from(link)];
                link.long_is_due = !link.long_replies.is_empty();
                return Err(no_room);
            }
            self.links[usize::from(link)].replies.pop_front();
            self.answered(index, link);
        }
        if self.now < self.short_replies_until && !self.is_little(link) {
            if self.now < self.next_long {
                return Err(NoRoom);
            }
            self.next_long = self.now + LONG_INTERVAL;
            all = 1;
        }
        let mut left = all;
        while let Some(outcome) = self.write_long(link, port, &mut left) {
            outcome?;
        }
        Ok(())
    }

    /// Whether little is left of a flow's long replies, or nothing.
    #[inline]
    fn is_little(&self, link: u16) -> bool {
        let replies = &self.links[usize::from(link)].long_replies;
        let rest = |index: &u32| {
            let op = &self.target.ops[*index as usize];
            op.total - op.sent
        };
        replies.len() <= LITTLE.0 && replies.iter().map(rest).sum::<u32>() <= LITTLE.1
    }

    /// Puts the rest of one long reply into packets, or `left` bytes of it; then it is the turn of
    /// another. `None`: there is none.
    #[inline]
    fn write_long<P: Port>(
        &mut self,
        link: u16,
        port: &mut P,
        left: &mut u32,
    ) -> Option<Result<(), NoRoom>> {
        let index = *self.links[usize::from(link)].long_replies.front()?;
        let outcome = self.write_reply(index, link, port, left);
        self.links[usize::from(link)].long_replies.rotate_left(1);
        if outcome.is_ok() {
            self.links[usize::from(link)].long_replies.pop_back();
            self.answered(index, link);
        }
        Some(outcome)
    }

    /// All of a reply is in packets.
    #[inline]
    fn answered(&mut self, index: u32, link: u16) {
        let (op, link) = (&self.target.ops[index as usize], &mut self.links[usize::from(link)]);
        if op.unread && link.streams.finish(op.stream, op.sequence).is_err() {
            self.counters.malformed_frames += 1;
        }
        self.let_go(index);
    }

    /// Puts the rest of one reply into packets, or `left` bytes of it.
    #[inline]
    fn write_reply<P: Port>(
        &mut self,
        index: u32,
        link: u16,
        port: &mut P,
        left: &mut u32,
    ) -> Result<(), NoRoom> {
        let Core { endpoint, executor, memory, sessions, links, target, protection, .. } = self;
        let TargetTable { ops, long_answers, .. } = target;
        let (op, link) = (&mut ops[index as usize], &mut links[usize::from(link)]);
        let long_answer = &long_answers[index as usize];
        loop {
            let rest = (op.total - op.sent) as usize;
            let part = link.chunk(rest, REPLY_BYTES);
            let room = frame::reply_bytes(part);
            link.make_room(room, self.now, endpoint, port, protection)?;
            let reply = op.reply_frame(self.now);
            let copy =
                |into: &mut [u8]| copy_part(op, long_answer, executor, memory, sessions, into);
            if let Err(status) = link.put_reply(&reply, part, port, copy)? {
                // What was sent of it is void.
                (op.status, op.total, op.sent) = (status, 0, 0);
            }
            self.counters.replies_sent += 1;
            op.sent += if op.total == 0 { 0 } else { part as u32 };
            if op.sent == op.total {
                return Ok(());
            }
            *left = left.saturating_sub(part as u32);
            if *left == 0 {
                return Err(NoRoom);
            }
        }
    }
}

impl TargetOp {
    fn reply_frame(&self, now: Time) -> frame::Reply {
        frame::Reply {
            op: self.op,
            status: self.status,
            fate: self.fate,
            offset: self.sent,
            total: self.total,
            service_ns: now.since(self.arrived).saturated_ns(),
        }
    }
}

/// Copies the next part of a reply to where it is sent from.
#[inline]
fn copy_part<K: KernelSet>(
    op: &TargetOp,
    long_answer: &LongAnswer,
    executor: &Executor<K, MappedMemory>,
    memory: &MappedMemory,
    sessions: &[Option<Box<Session>>],
    into: &mut [u8],
) -> Result<(), Status> {
    if into.is_empty() {
        return Ok(());
    }
    match op.source {
        Source::Nothing => Err(Status::ServiceFailed),
        Source::Strand(strand) => executor.copy_reply(strand, memory, op.sent, into),
        Source::Call { session, buffer } => match &sessions[usize::from(session)] {
            Some(session) => {
                session.read_answer(buffer, op.sent, into);
                Ok(())
            }
            None => Err(Status::ServiceFailed),
        },
        Source::LongAnswer { session } => match &sessions[usize::from(session)] {
            Some(session) => {
                session.read_long_answer(long_answer.at, op.sent, into);
                Ok(())
            }
            None => Err(Status::ServiceFailed),
        },
    }
}
