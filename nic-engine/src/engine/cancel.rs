//! Ops that their application cancels, or that a session leaves behind: they end at once, and the
//! target is told, so that it need not keep what nobody waits for until its deadline.

use nic_kernels::KernelSet;
use nic_ports::Port;
use nic_wire::frame::{self, RequestFlags, request_bytes, write_request};
use nic_wire::{Fate, KernelId, Status};

use super::core::Core;
use super::initiator::budget_us;
use super::links::NoRoom;
use super::ops::{Ending, OpState};

impl<K: KernelSet> Core<K> {
    /// Ends the op whose token the command at `place` has for arguments, if it is out.
    pub(super) fn cancel(&mut self, session: u16, place: u16) -> Result<(), Status> {
        let command = &self.ops.unsent(place).command;
        let arguments = command.arguments().ok_or(Status::BadCommand)?;
        let token = arguments.try_into().map(u64::from_le_bytes);
        let token = token.map_err(|_| Status::BadCommand)?;
        let found = self.ops.next(0, |op| {
            op.session == session && op.token == token && op.state != OpState::Abandoned
        });
        if let Some(slot) = found {
            self.counters.cancelled += 1;
            let fate = self.ops.get(slot).fate_unanswered();
            self.give_up(slot, Ending::failure(Status::Cancelled, fate));
        }
        let token = self.ops.unsent(place).command.token.get();
        let ending = Ending { status: Status::Ok, fate: Fate::Executed, length: 0, service_ns: 0 };
        self.post(session, token, self.now, self.now, ending);
        Ok(())
    }

    /// Ends an op that nobody waits for any more. Of one that has left the target is told: what it
    /// then answers gives the credit back.
    pub(super) fn give_up(&mut self, slot: u16, ending: Ending) {
        if self.ops.get(slot).state == OpState::Waiting {
            return self.end(slot, ending);
        }
        self.abandon(slot, ending);
        let link = self.ops.get(slot).link;
        self.ops.enqueue(&mut self.links[usize::from(link)].given_up, slot);
        self.touch_link(link);
    }

    /// Tells the target of ops that were given up. It takes no credit: all of them may be out.
    #[cold]
    pub(super) fn send_cancels<P: Port>(&mut self, slot: u16, port: &mut P) -> Result<(), NoRoom> {
        let Core { endpoint, ops, links, protection, counters, now, .. } = self;
        let link = &mut links[usize::from(slot)];
        while let Some(first) = link.given_up.first() {
            let room = request_bytes(0, 0);
            link.make_room(room, *now, endpoint, port, protection)?;
            let id = ops.id(first);
            let (op, unsent) = ops.both(first);
            let cancel = frame::Request {
                op: id,
                kernel: KernelId::CANCEL,
                stream: op.stream,
                sequence: op.sequence,
                flags: RequestFlags::empty(),
                rkey: unsent.rkey,
                budget_us: budget_us(unsent.deadline, *now),
                reply_capacity: 0,
                payload_length: 0,
                payload_offset: 0,
            };
            let written = write_request(link.tail(port), &cancel, &[], 0, |_| {});
            assert_eq!(written, Some(room), "room was made for exactly this frame");
            link.fill(room);
            counters.cancels_sent += 1;
            ops.dequeue(&mut link.given_up, first);
        }
        Ok(())
    }
}
