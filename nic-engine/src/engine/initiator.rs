//! Ops of local sessions: picked up, put into packets, ended by a reply, a deadline or a lost flow.

use nic_kernels::KernelSet;
use nic_ports::Port;
use nic_wire::frame::{self, RequestFlags, padded, request_bytes, write_request};
use nic_wire::session::{ANSWER, Command, CommandFlags, Completion};
use nic_wire::{Fate, KernelId, Span, Status, Time};

use super::core::Core;
use super::links::{LinkState, NoRoom};
use super::ops::{Ending, Op, OpState};

/// The longest payload and the longest reply of an op, in bytes: a value of 1 MiB with its key and
/// what surrounds them.
pub const OP_BYTES_MAX: u32 = (1 << 20) + (1 << 12);
/// A payload that needs several packets does not begin in the rest of one that has less than this
/// left, in bytes.
const FIRST_CHUNK_MIN: usize = 256;

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
        for index in 0..self.open_sessions.len() {
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
        for _ in 0..self.config.pickup_max {
            let Some(session) = &mut self.sessions[usize::from(slot)] else { return };
            let Some(command) = session.next_command() else { break };
            if command.kernel() == ANSWER {
                // It has no completion, so it needs no room for one: callers wait for it.
                self.counters.commands += 1;
                self.answer(slot, &command);
                continue;
            }
            if room == 0 {
                session.stand_by(command);
                break;
            }
            room -= 1;
            self.counters.commands += 1;
            session.out += 1;
            self.command(slot, &command);
        }
        if let Some(session) = &mut self.sessions[usize::from(slot)] {
            session.commands.release();
            self.counters.ring_violations += u64::from(session.violated);
        }
    }

    #[inline]
    fn command(&mut self, session_slot: u16, command: &Command) {
        let token = command.token.get();
        match self.checked(session_slot, command) {
            Ok(op) => {
                let Some(slot) = self.ops.insert(op) else {
                    let busy = Ending::failure(Status::Busy, Fate::NotExecuted);
                    return self.post(session_slot, token, self.now, self.now, busy);
                };
                self.deadlines.set(u32::from(slot), op.deadline);
                self.ops.enqueue(&mut self.links[usize::from(op.link)].waiting, slot);
                self.touch_link(op.link);
            }
            Err(status) => {
                self.counters.bad_commands += u64::from(status == Status::BadCommand);
                let ending = Ending::failure(status, Fate::NotExecuted);
                self.post(session_slot, token, self.now, self.now, ending);
            }
        }
    }

    /// Makes an op of a command, every field of which may be anything.
    #[inline]
    fn checked(&mut self, session_slot: u16, command: &Command) -> Result<Op, Status> {
        let session = self.sessions[usize::from(session_slot)].as_ref();
        let session = session.ok_or(Status::BadCommand)?;
        let remote_index = command.remote.get();
        let remote = *session.remotes.get(usize::from(remote_index)).ok_or(Status::BadCommand)?;
        let arguments = command.arguments().ok_or(Status::BadCommand)?;
        let arena = session.arena.len();
        let fits = |offset: u32, length: u32| {
            length <= OP_BYTES_MAX && u64::from(offset) + u64::from(length) <= arena
        };
        let (payload_offset, payload_length) =
            (command.payload_offset.get(), command.payload_length.get());
        let (reply_offset, reply_capacity) =
            (command.reply_offset.get(), command.reply_capacity.get());
        if !fits(payload_offset, payload_length) || !fits(reply_offset, reply_capacity) {
            return Err(Status::BadCommand);
        }
        let kernel = command.kernel();
        let one_packet = request_bytes(arguments.len(), payload_length as usize);
        if kernel == KernelId::CALL && one_packet > self.config.packet_bytes - 64 {
            return Err(Status::BadCommand);
        }
        // The flow may have ended since, and its slot may serve another, even of the other direction.
        let link = if self.links[usize::from(remote.link)].leads_to(remote.engine) {
            remote.link
        } else {
            self.reconnect(session_slot, remote_index)?
        };
        let flags = CommandFlags::from_bits_truncate(command.flags);
        let fence = flags.contains(CommandFlags::FENCE);
        Ok(Op {
            session: session_slot,
            link,
            token: command.token.get(),
            kernel,
            rkey: remote.rkey,
            flags: if fence { RequestFlags::FENCE.bits() } else { 0 },
            session_stream: command.stream.get(),
            argument_length: command.argument_length,
            arguments: command.arguments,
            payload_offset,
            payload_length,
            reply_offset,
            reply_capacity,
            started: self.now,
            issued: self.now,
            deadline: self.now + Span::from_us(u64::from(command.budget_us.get())),
            ..Op::vacant()
        })
    }

    /// Puts ops of a flow into packets until there is no more, or no room.
    #[inline]
    pub(super) fn issue_all<P: Port>(&mut self, link: u16, port: &mut P) -> Result<(), NoRoom> {
        if self.links[usize::from(link)].state != LinkState::Open {
            return Ok(());
        }
        while let Some(slot) = self.links[usize::from(link)].waiting.first() {
            self.issue(slot, link, port)?;
            self.ops.dequeue(&mut self.links[usize::from(link)].waiting, slot);
        }
        Ok(())
    }

    /// Puts the rest of one op into packets.
    #[inline]
    fn issue<P: Port>(&mut self, slot: u16, link_slot: u16, port: &mut P) -> Result<(), NoRoom> {
        if self.ops.get(slot).state == OpState::Waiting {
            self.claim_credit(slot, link_slot)?;
        }
        let id = self.ops.id(slot);
        let Core { endpoint, ops, links, sessions, protection, counters, now, .. } = self;
        let (op, link) = (ops.get(slot), &mut links[usize::from(link_slot)]);
        let Some(session) = &sessions[usize::from(op.session)] else { return Ok(()) };
        let argument_length = usize::from(op.argument_length);
        let overhead = frame::REQUEST_BYTES + padded(argument_length);
        loop {
            let rest = (op.payload_length - op.payload_sent) as usize;
            let most = (link.packet_room() - overhead) & !7;
            let here = link.room().saturating_sub(overhead) & !7;
            let chunk = if rest <= most {
                rest
            } else if here >= FIRST_CHUNK_MIN {
                here
            } else {
                most
            };
            let room = request_bytes(argument_length, chunk);
            link.make_room(room, *now, endpoint, port, protection)?;
            if op.state == OpState::Waiting {
                op.state = OpState::Out;
                op.issued = *now;
                op.sequence = link.next_sequence(op.stream);
                link.ops_out += 1;
                link.reply_bytes_out += u64::from(op.reply_capacity);
            }
            let request = frame::Request {
                op: id,
                kernel: op.kernel,
                stream: op.stream,
                sequence: op.sequence,
                flags: RequestFlags::from_bits_truncate(op.flags),
                rkey: op.rkey,
                budget_us: budget_us(op.deadline, *now),
                reply_capacity: op.reply_capacity,
                payload_length: op.payload_length,
                payload_offset: op.payload_sent,
            };
            let payload_at = u64::from(op.payload_offset) + u64::from(op.payload_sent);
            let arguments = &op.arguments[..argument_length];
            let written = write_request(link.tail(port), &request, arguments, chunk, |into| {
                let is_read = session.arena.read(payload_at, into).is_ok();
                assert!(is_read, "the payload's place is checked at pickup");
            });
            assert_eq!(written, Some(room), "room was made for exactly this frame");
            link.fill(room);
            counters.requests_sent += 1;
            op.payload_sent += chunk as u32;
            if op.payload_sent == op.payload_length {
                return Ok(());
            }
        }
    }

    /// Whether an op may leave: a credit for it and for its reply, and a stream to travel in.
    #[inline]
    fn claim_credit(&mut self, slot: u16, link_slot: u16) -> Result<(), NoRoom> {
        let (op, link) = (self.ops.get(slot), &mut self.links[usize::from(link_slot)]);
        let flow = link.flow(&self.endpoint).ok_or(NoRoom)?;
        let (op_credits, reply_credits_kib) = flow.credits();
        let reply_bytes = link.reply_bytes_out + u64::from(op.reply_capacity);
        // A single op may always ask for more than all credits: else it would wait for ever.
        let fits = reply_bytes <= u64::from(reply_credits_kib) * 1024 || link.ops_out == 0;
        if link.ops_out >= u32::from(op_credits) || !fits {
            return Err(NoRoom);
        }
        op.stream = link.stream_for(op.session, op.session_stream).ok_or(NoRoom)?;
        if !link.stream_has_room(op.stream) {
            return Err(NoRoom);
        }
        // The target keeps what waits for a fence, one packet an op. A longer payload waits here.
        let fence = op.flags & RequestFlags::FENCE.bits() != 0;
        let one_packet = request_bytes(usize::from(op.argument_length), op.payload_length as usize);
        let waits_here = fence && one_packet > link.packet_room();
        if waits_here && link.out_in_stream(op.stream) > 0 {
            return Err(NoRoom);
        }
        Ok(())
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
            if let (true, Some(session)) = (is_wanted, &self.sessions[session]) {
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
        let op = *self.ops.get(slot);
        let link = &mut self.links[usize::from(op.link)];
        self.ops.dequeue(&mut link.waiting, slot);
        if op.state != OpState::Waiting {
            link.ops_out -= 1;
            link.reply_bytes_out -= u64::from(op.reply_capacity);
            link.end_in_stream(op.stream, op.sequence);
            if link.waiting.first().is_some() {
                self.touch_link(op.link);
            }
        }
        self.ops.remove(slot);
        if op.state != OpState::Abandoned {
            self.deadlines.lift(u32::from(slot));
            self.post(op.session, op.token, op.started, op.issued, ending);
        }
    }

    /// Posts the completion of an op that has already left, whose credit the target still holds.
    fn abandon(&mut self, slot: u16, ending: Ending) {
        let op = *self.ops.get(slot);
        self.ops.dequeue(&mut self.links[usize::from(op.link)].waiting, slot);
        self.ops.get(slot).state = OpState::Abandoned;
        self.deadlines.lift(u32::from(slot));
        self.post(op.session, op.token, op.started, op.issued, ending);
    }

    /// Stages a completion for a session.
    #[inline]
    fn post(&mut self, session: u16, token: u64, started: Time, issued: Time, ending: Ending) {
        let slot = usize::from(session);
        let Some(session) = &mut self.sessions[slot] else { return };
        if !session.dirty {
            self.dirty_sessions.push(slot as u16);
        }
        session.complete(&Completion {
            token: token.into(),
            status: ending.status.code().into(),
            fate: ending.fate.code(),
            reserved: 0,
            length: ending.length.into(),
            issue_delay_ns: issued.since(started).saturated_ns().into(),
            total_delay_ns: self.now.since(started).saturated_ns().into(),
            service_ns: ending.service_ns.into(),
            reserved_too: 0.into(),
        });
        self.counters.completions += 1;
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
        while let Some(slot) = self.ops.any(|op| op.link == link) {
            let fate = self.ops.get(slot).fate_unanswered();
            // An abandoned op was counted when it expired.
            self.counters.lost += u64::from(self.ops.get(slot).state != OpState::Abandoned);
            self.end(slot, Ending::failure(status, fate));
        }
    }

    /// A session closes: its ops end without a completion.
    pub(super) fn drop_ops_of_session(&mut self, session: u16) {
        let of_session = |op: &Op| op.session == session && op.state != OpState::Abandoned;
        while let Some(slot) = self.ops.any(of_session) {
            let cancelled = Ending::failure(Status::Cancelled, Fate::Unknown);
            match self.ops.get(slot).state {
                OpState::Waiting => self.end(slot, cancelled),
                _ => self.abandon(slot, cancelled),
            }
        }
        for link in &mut self.links {
            link.release_streams(session);
        }
    }
}

/// What is left until a deadline, in microseconds, at least one.
fn budget_us(deadline: Time, now: Time) -> u32 {
    u32::try_from(deadline.since(now).as_us()).unwrap_or(u32::MAX).max(1)
}
