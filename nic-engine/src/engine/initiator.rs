//! Ops of local sessions: picked up, put into packets, ended by a reply, a deadline or a lost flow.

use nic_kernels::KernelSet;
use nic_ports::Port;
use nic_wire::frame::{self, RequestFlags, padded, request_bytes, write_request};
use nic_wire::session::{ANSWER, Command, CommandFlags, Completion, INLINE_ARGUMENT_BYTES};
use nic_wire::{Fate, KernelId, Span, Status, Time};

use super::core::Core;
use super::lanes::{PACE, PATIENCE, SHARE, cost};
use super::links::{Held, LinkState, NoRoom};
use super::ops::{Ending, NO_SESSION, Op, OpState};

/// The longest payload and the longest reply of an op, in bytes: a value of 1 MiB with its key and
/// what surrounds them.
pub const OP_BYTES_MAX: u32 = (1 << 20) + (1 << 12);

/// Commands taken in one turn from a session beside a polite one.
const PICKUP_LIMITED: u32 = 4;

/// Sessions with more places of the table than this leave the last places of the table to others.
const PLACES_FEW: u32 = 8;

/// How much payload of an op of such a session leaves in one turn, in bytes.
const PAYLOAD_LIMITED: u32 = 4 << 10;

impl<K: KernelSet> Core<K> {
    /// Whether a session has a command to be taken.
    #[inline]
    pub(super) fn commands_wait(&mut self) -> bool {
        let Core { open_sessions, sessions, .. } = self;
        open_sessions.iter().any(|slot| {
            let session = sessions[usize::from(*slot)].as_mut();
            session.is_some_and(|session| !session.violated && session.has_command())
        })
    }

    /// Takes commands from the sessions.
    #[inline]
    pub(super) fn pickup(&mut self) {
        let count = self.open_sessions.len();
        let first = self.pickup_first.min(count);
        for index in (first..count).chain(0..first) {
            let slot = self.open_sessions[index];
            let Some(session) = &mut self.sessions[usize::from(slot)] else { continue };
            if session.violated {
                continue;
            }
            if session.has_command() {
                self.pickup_from(slot);
            }
        }
    }

    fn pickup_from(&mut self, slot: u16) {
        let Some(session) = &mut self.sessions[usize::from(slot)] else { return };
        let mut room = session.room();
        let out_before = session.ops_out();
        let is_limited = self.polite.limits(slot, self.now);
        let most = if is_limited { PICKUP_LIMITED } else { self.config.pickup_max };
        for _ in 0..most {
            let Core { sessions, ops, counters, cancelled_at, now, .. } = self;
            let Some(session) = &mut sessions[usize::from(slot)] else { return };
            let place = ops.next_slot();
            let command = &mut ops.unsent(place).command;
            if !session.next_command(command) {
                break;
            }
            if command.kernel() == ANSWER {
                let command = *command;
                let is_long = command.payload_length.get() > 0;
                if is_long && room == 0 {
                    session.stand_by(command);
                    break;
                }
                // A short one has no completion, so it needs no room for one: callers wait for it.
                room -= u32::from(is_long);
                counters.commands += 1;
                self.answer(slot, &command);
                continue;
            }
            // It looks through all ops, so there is one in a turn; who has to wait with one is
            // nearer to being first in the next.
            let is_cancel = command.kernel() == KernelId::CANCEL;
            if room == 0 || (is_cancel && *cancelled_at == *now) {
                session.stand_by(*command);
                break;
            }
            room -= 1;
            counters.commands += 1;
            session.out += 1;
            let begun = if is_cancel { self.cancel(slot, place) } else { self.begin(slot, place) };
            if let Err(status) = begun {
                self.refuse_command(slot, place, status);
            }
            if is_cancel {
                self.cancelled_at = self.now;
                let place = self.open_sessions.iter().position(|open| *open == slot);
                self.pickup_first = place.map_or(0, |place| place + 1);
                break;
            }
        }
        if let Some(session) = &mut self.sessions[usize::from(slot)] {
            session.commands.release();
            self.polite.picked_up(slot, out_before, session.ops_out(), self.now);
            self.counters.ring_violations += u64::from(session.violated);
        }
    }

    #[cold]
    fn refuse_command(&mut self, session: u16, place: u16, status: Status) {
        let token = self.ops.unsent(place).command.token.get();
        self.counters.bad_commands += u64::from(status == Status::BadCommand);
        let ending = Ending::failure(status, Fate::NotExecuted);
        self.post(session, token, self.now, self.now, ending);
    }

    /// Makes an op of the command at `place`, every field of which may be anything.
    #[inline]
    pub(super) fn begin(&mut self, session_slot: u16, place: u16) -> Result<(), Status> {
        if self.refuses_ops() {
            return Err(Status::Draining);
        }
        let Core { sessions, ops, links, .. } = self;
        let session = sessions[usize::from(session_slot)].as_ref().ok_or(Status::BadCommand)?;
        let command = &ops.unsent(place).command;
        let (remote_index, kernel) = (command.remote.get(), command.kernel());
        let remote = session.remotes.get(remote_index).ok_or(Status::BadCommand)?;
        let payload_length = command.payload_length.get();
        let long_arguments = match usize::from(command.argument_length) {
            0..=INLINE_ARGUMENT_BYTES => (0, 0),
            long => (command.arguments_offset(), long as u32),
        };
        let are_valid = session.has_in_arena(long_arguments.0, long_arguments.1)
            && session.has_in_arena(command.payload_offset.get(), payload_length)
            && session.has_in_arena(command.reply_offset.get(), command.reply_capacity.get());
        if !are_valid {
            return Err(Status::BadCommand);
        }
        let (rkey, mut link_slot) = (remote.rkey, remote.link);
        // Places in the table that it has: ops whose deadline has passed keep theirs until the target
        // is done with them.
        let places = session.ops_out() + session.abandoned;
        // The flow may have ended since, and its place may serve another, even of the other direction.
        let link = &links[usize::from(link_slot)];
        if link.epoch != remote.epoch || link.state == LinkState::Vacant {
            link_slot = self.reconnect(session_slot, remote_index)?;
        }
        let Core { ops, links, deadlines, now, .. } = self;
        if ops.is_scarce() && places > PLACES_FEW || !ops.claim(place) {
            return Err(Status::Busy);
        }
        let (op, unsent) = ops.both(place);
        let command = &unsent.command;
        op.token = command.token.get();
        op.started = *now;
        op.issued = *now;
        op.reply_offset = command.reply_offset.get();
        op.reply_capacity = command.reply_capacity.get();
        op.session = session_slot;
        op.link = link_slot;
        op.kernel = kernel;
        op.cost = cost(payload_length, op.reply_capacity);
        unsent.rkey = rkey;
        unsent.payload_sent = 0;
        unsent.deadline = *now + Span::from_us(u64::from(command.budget_us.get()));
        deadlines.set(u32::from(place), unsent.deadline);
        links[usize::from(link_slot)].lanes.enqueue(ops, session_slot, place);
        self.touch_link(link_slot);
        Ok(())
    }

    /// Puts ops of a flow into packets until there is no more, or no room.
    #[inline]
    pub(super) fn issue_all<P: Port>(&mut self, link: u16, port: &mut P) -> Result<(), NoRoom> {
        if self.links[usize::from(link)].state != LinkState::Open {
            return Ok(());
        }
        if self.links[usize::from(link)].given_up.first().is_some() {
            self.send_cancels(link, port)?;
        }
        self.links[usize::from(link)].lanes.begin_pass();
        loop {
            let lanes = &mut self.links[usize::from(link)].lanes;
            let Some(slot) = lanes.next(&self.ops) else {
                return if lanes.is_empty() { Ok(()) } else { Err(NoRoom) };
            };
            match self.issue(slot, link, port) {
                Ok(()) => {
                    // It may have ended at once, and left its lane.
                    if self.ops.is_queued(slot) {
                        self.links[usize::from(link)].lanes.served(&mut self.ops, slot);
                    }
                }
                Err(Held::Flow) => return Err(NoRoom),
                Err(Held::Session) => self.links[usize::from(link)].lanes.hold(),
            }
        }
    }

    /// Puts the rest of one op into packets.
    #[inline]
    fn issue<P: Port>(&mut self, slot: u16, link_slot: u16, port: &mut P) -> Result<(), Held> {
        let Core { endpoint, ops, links, sessions, protection, counters, now, polite, .. } = self;
        let long_arguments = &mut self.long_arguments;
        let id = ops.id(slot);
        let ((op, unsent), link) = (ops.both(slot), &mut links[usize::from(link_slot)]);
        let Some(session) = &mut sessions[usize::from(op.session)] else { return Ok(()) };
        let is_limited = polite.limits(op.session, *now);
        let interval = if session.cost_out >= SHARE { PATIENCE } else { PACE };
        let is_early = now.since(session.left) < interval;
        if is_limited && is_early && op.state == OpState::Waiting {
            counters.limited += 1;
            return Err(Held::Session);
        }
        let sent_before = unsent.payload_sent;
        let command = &unsent.command;
        let arguments = match command.arguments() {
            Some(arguments) => arguments,
            None => session.long_arguments(command, long_arguments),
        };
        let payload_length = command.payload_length.get();
        let overhead = frame::REQUEST_BYTES + padded(arguments.len());
        loop {
            let rest = (payload_length - unsent.payload_sent) as usize;
            let chunk = link.chunk(rest, overhead);
            if op.state == OpState::Waiting {
                let whole = request_bytes(arguments.len(), rest);
                if op.kernel == KernelId::CALL && whole > link.packet_room() {
                    self.end(slot, Ending::failure(Status::BadCommand, Fate::NotExecuted));
                    return Ok(());
                }
                link.claim_credit(op, command, whole)?;
            }
            let room = request_bytes(arguments.len(), chunk);
            link.make_room(room, *now, endpoint, port, protection)?;
            if op.state == OpState::Waiting {
                op.state = OpState::Out;
                op.issued = *now;
                op.sequence = link.next_sequence(op.stream);
                link.went_out(op);
                session.cost_out += u32::from(op.cost);
                session.left = *now;
            }
            let request = frame::Request {
                op: id,
                kernel: op.kernel,
                stream: op.stream,
                sequence: op.sequence,
                flags: request_flags(command),
                rkey: unsent.rkey,
                budget_us: budget_us(unsent.deadline, *now),
                reply_capacity: op.reply_capacity,
                payload_length,
                payload_offset: unsent.payload_sent,
            };
            let payload_at =
                u64::from(command.payload_offset.get()) + u64::from(unsent.payload_sent);
            let written = write_request(link.tail(port), &request, arguments, chunk, |into| {
                let is_read = session.arena.read(payload_at, into).is_ok();
                assert!(is_read, "the payload's place is checked at pickup");
            });
            assert_eq!(written, Some(room), "room was made for exactly this frame");
            link.fill(room);
            counters.requests_sent += 1;
            unsent.payload_sent += chunk as u32;
            if unsent.payload_sent == payload_length {
                return Ok(());
            }
            if is_limited && unsent.payload_sent - sent_before >= PAYLOAD_LIMITED {
                return Err(Held::Session);
            }
        }
    }

    /// A reply, or a part of one, has arrived on a flow.
    #[inline]
    pub(super) fn reply(&mut self, link: u16, reply: &frame::Reply, data: &[u8]) {
        let Some(slot) = self.ops.find(reply.op) else {
            self.counters.late_replies += 1;
            return;
        };
        let op = self.ops.get(slot);
        if op.link != link || op.state == OpState::Waiting {
            self.counters.malformed_frames += 1;
            return;
        }
        self.counters.replies_received += 1;
        let mut ending = Ending {
            status: reply.status,
            fate: reply.fate,
            length: reply.total,
            service_ns: reply.service_ns,
        };
        if reply.total > op.reply_capacity {
            ending = Ending::failure(Status::ReplyTooLong, Fate::Executed);
        } else {
            op.received += data.len() as u32;
            let at = u64::from(op.reply_offset) + u64::from(reply.offset);
            let is_wanted = op.state == OpState::Out;
            let session = usize::from(op.session);
            let is_whole = op.received >= reply.total;
            if let (true, Some(Some(session))) = (is_wanted, self.sessions.get(session)) {
                let is_written = session.arena.write(at, data).is_ok();
                assert!(is_written, "the reply's place is checked at pickup");
            }
            if !is_whole {
                return;
            }
        }
        self.end(slot, ending);
    }

    /// Ends an op for good: its completion is posted, its credit is free again.
    #[inline]
    pub(super) fn end(&mut self, slot: u16, ending: Ending) {
        let op = self.ops.get(slot);
        let (state, link_slot) = (op.state, op.link);
        let (session, token, started, issued) = (op.session, op.token, op.started, op.issued);
        let link = &mut self.links[usize::from(link_slot)];
        if state != OpState::Waiting {
            if let Some(Some(session)) = self.sessions.get_mut(usize::from(session)) {
                session.cost_out -= u32::from(op.cost);
                session.abandoned -= u32::from(state == OpState::Abandoned);
            }
            link.came_back(op);
        }
        match state {
            OpState::Abandoned => self.ops.dequeue(&mut link.given_up, slot),
            _ => link.lanes.dequeue(&mut self.ops, session, slot),
        }
        if !link.lanes.is_empty() {
            self.touch_link(link_slot);
        }
        self.ops.remove(slot);
        if state != OpState::Abandoned {
            self.deadlines.lift(u32::from(slot));
            self.post(session, token, started, issued, ending);
        }
    }

    /// Posts the completion of an op that has already left, whose credit the target still holds.
    pub(super) fn abandon(&mut self, slot: u16, ending: Ending) {
        let op = self.ops.get(slot);
        op.state = OpState::Abandoned;
        let (link, session, token) = (op.link, op.session, op.token);
        let (started, issued) = (op.started, op.issued);
        self.links[usize::from(link)].lanes.dequeue(&mut self.ops, session, slot);
        self.deadlines.lift(u32::from(slot));
        if let Some(session) = &mut self.sessions[usize::from(session)] {
            session.abandoned += 1;
        }
        self.post(session, token, started, issued, ending);
    }

    /// Stages a completion for a session.
    #[inline]
    pub(super) fn post(
        &mut self,
        session: u16,
        token: u64,
        started: Time,
        issued: Time,
        ending: Ending,
    ) {
        let slot = usize::from(session);
        let Some(session) = &mut self.sessions[slot] else { return };
        if !session.dirty {
            self.dirty_sessions.push(slot as u16);
        }
        self.polite.ended(slot as u16, self.now);
        let total_delay = self.now.since(started);
        session.complete(&Completion {
            token: token.into(),
            status: ending.status.code().into(),
            fate: ending.fate.code(),
            reserved: 0,
            length: ending.length.into(),
            issue_delay_ns: issued.since(started).saturated_ns().into(),
            total_delay_ns: total_delay.saturated_ns().into(),
            service_ns: ending.service_ns.into(),
            reserved_too: 0.into(),
        });
        self.counters.completions += 1;
        self.counters.completion_ns += total_delay.as_ns();
    }

    /// An op's deadline has passed.
    pub(super) fn op_expired(&mut self, slot: u16) {
        self.counters.expired += 1;
        let op = self.ops.get(slot);
        let ending = Ending::failure(Status::Expired, op.fate_unanswered());
        match op.state {
            OpState::Waiting => self.end(slot, ending),
            _ => self.abandon(slot, ending),
        }
    }

    /// A flow has ended: so have its ops.
    pub(super) fn fail_ops_of_link(&mut self, link: u16, status: Status) {
        let mut from = 0;
        while let Some(slot) = self.ops.next(from, |op| op.link == link) {
            from = slot + 1;
            let fate = self.ops.get(slot).fate_unanswered();
            // An abandoned op was counted when it expired.
            self.counters.lost += u64::from(self.ops.get(slot).state != OpState::Abandoned);
            self.end(slot, Ending::failure(status, fate));
        }
    }

    /// A session closes: its ops end without a completion. What the target still holds of them is
    /// nobody's, for another may get the session's place.
    pub(super) fn drop_ops_of_session(&mut self, session: u16) {
        let is_theirs = |op: &Op| op.session == session && op.state != OpState::Abandoned;
        let mut from = 0;
        while let Some(slot) = self.ops.next(from, is_theirs) {
            from = slot + 1;
            self.give_up(slot, Ending::failure(Status::Cancelled, Fate::Unknown));
        }
        from = 0;
        while let Some(slot) = self.ops.next(from, |op| op.session == session) {
            from = slot + 1;
            self.ops.get(slot).session = NO_SESSION;
        }
        for link in &mut self.links {
            link.release_streams(session);
        }
    }
}

fn request_flags(command: &Command) -> RequestFlags {
    let fence = CommandFlags::from_bits_truncate(command.flags).contains(CommandFlags::FENCE);
    if fence { RequestFlags::FENCE } else { RequestFlags::empty() }
}

/// What is left until a deadline, in microseconds, at least one.
pub(super) fn budget_us(deadline: Time, now: Time) -> u32 {
    u32::try_from(deadline.since(now).as_us()).unwrap_or(u32::MAX).max(1)
}
