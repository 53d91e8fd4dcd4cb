//! Calls: requests that a serving application answers.

use nic_kernels::{Access, KernelSet, Memory};
use nic_wire::frame::RequestFrame;
use nic_wire::session::{AnswerArguments, Command, Receive};
use nic_wire::{Fate, Status, Time};
use zerocopy::FromBytes;

use super::Source;
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

    /// A serving application has answered a call.
    pub(in super::super) fn answer(&mut self, session_slot: u16, command: &Command) {
        self.counters.answers += 1;
        let Some(Ok((answer, _))) = command.arguments().map(AnswerArguments::read_from_prefix)
        else {
            self.counters.bad_commands += 1;
            return;
        };
        let Some(session) = &mut self.sessions[usize::from(session_slot)] else { return };
        let Some(index) = self.target.find_call(answer.call.get()) else {
            // Nobody waits for it any more; the buffer is free again.
            self.counters.late_answers += 1;
            self.counters.bad_commands += u64::from(!session.free_buffer(answer.buffer.get()));
            return;
        };
        let op = &self.target.ops[index as usize];
        let Source::Call { session: served_by, buffer } = op.source else { return };
        let length = answer.length.get();
        let is_theirs = served_by == session_slot && buffer == answer.buffer.get();
        if !is_theirs || length > session.answer_bytes_max() {
            self.counters.bad_commands += 1;
            return;
        }
        self.target.calls.lift(index);
        let (status, total) = match Status::from_code(answer.status.get()) {
            Ok(Status::Ok) => (Status::Ok, length),
            _ => (Status::ServiceFailed, 0),
        };
        self.finish_now(index, status, Fate::Executed, total);
    }

    /// The caller of a delivered call no longer waits. The application still has the buffer.
    pub(in super::super) fn call_expired(&mut self, index: u32) {
        self.finish_call_without_answer(index, Status::Expired);
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
            let serves =
                matches!(op.source, Source::Call { session: serving, .. } if serving == session);
            if !op.live || !serves {
                continue;
            }
            if !op.ready {
                self.finish_call_without_answer(index, Status::ServiceFailed);
            }
            let op = &mut self.target.ops[index as usize];
            if op.source != Source::Nothing {
                // Answered, but the answer goes with the session's memory.
                op.source = Source::Nothing;
                (op.status, op.total, op.sent) = (Status::ServiceFailed, 0, 0);
            }
        }
    }
}
