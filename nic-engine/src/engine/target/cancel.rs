//! Calls whose callers do not wait any more.

use nic_kernels::KernelSet;
use nic_wire::frame::RequestFrame;
use nic_wire::{Fate, OpId, Status};

use super::Source;
use crate::engine::core::Core;

/// How many are looked for in one turn: each time all ops in hand are looked through.
const CANCELS_PER_TURN: u32 = 4;

impl<K: KernelSet> Core<K> {
    /// Ends the call that a request of the same initiating engine names, and tells the application
    /// that has it; of an answer that is being sent, the rest is let go. One that is not found is
    /// over, or has yet to arrive and is then served.
    #[inline(never)]
    pub(super) fn cancel_call(&mut self, index: u32, frame: RequestFrame<'_>) {
        let Ok(id) = frame.arguments.try_into().map(u32::from_le_bytes) else {
            return self.refuse(index, Status::BadArguments);
        };
        if frame.is_part() {
            return self.refuse(index, Status::BadArguments);
        }
        let (turn, count) = self.cancels;
        let count = if turn == self.now { count + 1 } else { 1 };
        self.cancels = (self.now, count);
        if count > CANCELS_PER_TURN {
            return self.refuse(index, Status::Busy);
        }
        let (id, link) = (OpId::from_raw(id), self.target.link(index));
        let found = self.target.ops.iter().position(|op| {
            let is_theirs = op.live && !op.orphaned && op.link == link && op.op == id;
            is_theirs && matches!(op.source, Source::Call { .. } | Source::LongAnswer { .. })
        });
        match found {
            Some(found) if self.target.ops[found].ready => self.withdraw_answer(found as u32),
            Some(found) => self.withdraw_call(found as u32),
            None => {}
        }
        self.finish_now(index, Status::Ok, Fate::Executed, 0);
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
