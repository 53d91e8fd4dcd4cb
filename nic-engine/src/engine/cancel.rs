//! Ops that their application cancels: they end at once, and the target of a call is told.

use nic_kernels::KernelSet;
use nic_wire::{Fate, KernelId, Status};

use super::core::Core;
use super::ops::{Ending, OpState};

impl<K: KernelSet> Core<K> {
    /// Ends the op whose token the command at `place` has for arguments, if it is out. A call that
    /// has left is in its target's hands: the command goes on as an op that names it there.
    pub(super) fn cancel(&mut self, session: u16, place: u16) -> Result<(), Status> {
        let command = &self.ops.unsent(place).command;
        let arguments = command.arguments().ok_or(Status::BadCommand)?;
        let token = arguments.try_into().map(u64::from_le_bytes);
        let token = token.map_err(|_| Status::BadCommand)?;
        let found = self.ops.any(|op| {
            let is_out = op.state != OpState::Abandoned && op.kernel != KernelId::CANCEL;
            op.session == session && op.token == token && is_out
        });
        let Some(slot) = found else { return self.cancel_done(session, place) };
        self.counters.cancelled += 1;
        let op = self.ops.get(slot);
        let (state, kernel) = (op.state, op.kernel);
        let ending = Ending::failure(Status::Cancelled, op.fate_unanswered());
        if state == OpState::Waiting {
            self.end(slot, ending);
            return self.cancel_done(session, place);
        }
        let id = self.ops.id(slot);
        self.abandon(slot, ending);
        if kernel != KernelId::CALL {
            return self.cancel_done(session, place);
        }
        let command = &mut self.ops.unsent(place).command;
        command.argument_length = 4;
        command.arguments[..4].copy_from_slice(&id.raw().to_le_bytes());
        self.begin(session, place)
    }

    /// The cancelling itself is over: nothing is left to be told to anybody.
    fn cancel_done(&mut self, session: u16, place: u16) -> Result<(), Status> {
        let token = self.ops.unsent(place).command.token.get();
        let ending = Ending { status: Status::Ok, fate: Fate::Executed, length: 0, service_ns: 0 };
        self.post(session, token, self.now, self.now, ending);
        Ok(())
    }
}
