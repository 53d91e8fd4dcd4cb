//! Calls: requests that a serving application answers.

use nic_kernels::{Access, KernelSet, Memory};
use nic_wire::frame::RequestFrame;
use nic_wire::session::{AnswerArguments, Command, Receive};
use nic_wire::{Fate, Status, Time};
use zerocopy::FromBytes;

use super::{LongAnswer, Source};
use crate::engine::core::Core;

impl<K: KernelSet> Core<K> {
    /// Hands a call to the session that serves it.
    #[inline(never)]
    pub(super) fn deliver(&mut self, index: u32, frame: RequestFrame<'_>, deadline: Time) {
        let Ok(service) = frame.arguments.try_into().map(u16::from_le_bytes) else {
            return self.refuse(index, Status::BadArguments);
        };
        if frame.is_part() {
            return self.refuse(index, Status::BadArguments);
        }
        let admitted = self.memory.admit(frame.rkey()).and_then(|grant| {
            self.memory.permit(grant, Access::CALL)?;
            Ok(grant)
        });
        let grant = match admitted {
            Ok(grant) => grant,
            Err(error) => return self.refuse(index, error.status()),
        };
        let Some(slot) = self.serving_session(grant.export(), service) else {
            return self.refuse(index, Status::NoService);
        };
        let receive = Receive {
            call: self.target.call_id(index).into(),
            buffer: 0.into(),
            length: 0.into(),
            answer_capacity: frame.reply_capacity().into(),
            service: service.into(),
            flags: 0.into(),
            reserved: Default::default(),
            budget_us: (deadline.since(self.now).as_us() as u32).into(),
            reserved_too: 0.into(),
        };
        let Some(session) = &mut self.sessions[usize::from(slot)] else {
            return self.refuse(index, Status::NoService);
        };
        let (was_dirty, was_violated) = (session.dirty, session.violated);
        let delivered = session.deliver(frame.chunk, receive);
        self.counters.ring_violations += u64::from(session.violated && !was_violated);
        match delivered {
            Some(buffer) => {
                if !was_dirty {
                    self.dirty_sessions.push(slot);
                }
                self.target.ops[index as usize].source = Source::Call { session: slot, buffer };
                self.target.calls.set(index, deadline);
                self.counters.calls += 1;
            }
            None => self.refuse(index, Status::Busy),
        }
    }

    fn serving_session(&self, export: u16, service: u16) -> Option<u16> {
        let domain = self.memory.domain_of(export)?;
        let client = self.clients.iter().flatten().find(|client| client.domain == domain)?;
        let (_, session) = client.services.iter().find(|(number, _)| *number == service)?;
        Some(*session)
    }

    /// A serving application has answered a call. An answer in its arena has a completion, whatever
    /// becomes of it.
    pub(in super::super) fn answer(&mut self, session_slot: u16, command: &Command) {
        self.counters.answers += 1;
        let is_long = command.payload_length.get() > 0;
        if is_long && let Some(session) = &mut self.sessions[usize::from(session_slot)] {
            session.answer_taken();
        }
        if let Err(status) = self.take_answer(session_slot, command) {
            self.counters.bad_commands += u64::from(status == Status::BadCommand);
            if is_long {
                self.answer_done(session_slot, command.token.get(), status);
            }
        }
    }

    /// Makes an answer the reply of its call. `Expired`: nobody waits for it any more.
    fn take_answer(&mut self, session_slot: u16, command: &Command) -> Result<(), Status> {
        let arguments = command.arguments().map(AnswerArguments::read_from_prefix);
        let Some(Ok((answer, _))) = arguments else { return Err(Status::BadCommand) };
        let session = self.sessions[usize::from(session_slot)].as_mut();
        let session = session.ok_or(Status::BadCommand)?;
        let (long, buffer) = (command.payload_length.get(), answer.buffer.get());
        let Some(index) = self.target.find_call(answer.call.get()) else {
            // The buffer is free again.
            self.counters.late_answers += 1;
            let was_lent = session.free_buffer(buffer);
            return Err(if was_lent { Status::Expired } else { Status::BadCommand });
        };
        let source = Source::Call { session: session_slot, buffer };
        let (fits, length) = match long {
            0 => (answer.length.get() <= session.answer_bytes_max(), answer.length.get()),
            long => (session.has_in_arena(command.payload_offset.get(), long), long),
        };
        if self.target.ops[index as usize].source != source || !fits {
            return Err(Status::BadCommand);
        }
        if long > 0 {
            session.free_buffer(buffer);
            self.target.ops[index as usize].source = Source::LongAnswer { session: session_slot };
            let (token, at) = (command.token.get(), command.payload_offset.get());
            self.target.long_answers[index as usize] = LongAnswer { token, at };
        }
        let (status, fate, total) = match Status::from_code(answer.status.get()) {
            Ok(Status::Ok) => (Status::Ok, Fate::Executed, length),
            Ok(Status::ReplyTooLong) => (Status::ReplyTooLong, Fate::Executed, 0),
            Ok(Status::Busy) => (Status::Busy, Fate::NotExecuted, 0),
            _ => (Status::ServiceFailed, Fate::Executed, 0),
        };
        self.finish_now(index, status, fate, total);
        Ok(())
    }

    /// An answer that lies in its application's arena is read no more.
    pub(super) fn answer_done(&mut self, session_slot: u16, token: u64, status: Status) {
        let Some(session) = &mut self.sessions[usize::from(session_slot)] else { return };
        if !session.dirty {
            self.dirty_sessions.push(session_slot);
        }
        session.answer_done(token, status);
    }

    /// The caller of a call no longer waits. The application still has the buffer, unless it has
    /// answered: then what is left of the answer is not sent, however long its flow has no room for
    /// it, and what holds it is free.
    pub(in super::super) fn call_expired(&mut self, index: u32) {
        if self.target.ops[index as usize].ready {
            self.free_source(index);
            self.void_answer(index, Status::Expired);
        } else {
            self.finish_call_without_answer(index, Status::Expired);
        }
    }

    /// What was sent of an answer is void, and no more of it is sent than its end.
    fn void_answer(&mut self, index: u32, status: Status) {
        let op = &mut self.target.ops[index as usize];
        op.source = Source::Nothing;
        (op.status, op.total, op.sent) = (status, 0, 0);
    }

    pub(super) fn finish_call_without_answer(&mut self, index: u32, status: Status) {
        self.target.calls.lift(index);
        self.target.ops[index as usize].source = Source::Nothing;
        self.finish_now(index, status, Fate::Unknown, 0);
    }

    /// A session closes: the calls that it was to answer have nobody to answer them.
    pub(in super::super) fn fail_calls_of_session(&mut self, session: u16) {
        for index in 0..self.target.ops.len() as u32 {
            let op = &mut self.target.ops[index as usize];
            let serves = match op.source {
                Source::Call { session: serving, .. } => serving == session,
                Source::LongAnswer { session: serving } => serving == session,
                Source::Nothing | Source::Strand(_) => false,
            };
            if !op.live || !serves {
                continue;
            }
            if !op.ready {
                self.finish_call_without_answer(index, Status::ServiceFailed);
            }
            if self.target.ops[index as usize].source != Source::Nothing {
                // Answered, but the answer goes with the session's memory.
                self.target.calls.lift(index);
                self.void_answer(index, Status::ServiceFailed);
            }
        }
    }
}
