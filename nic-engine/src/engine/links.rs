//! What the op layer keeps per flow: the packet being filled, credits in use, streams, and the
//! replies that wait for room.

use std::collections::VecDeque;
use std::net::SocketAddr;

use nic_ports::{Port, Share};
use nic_transport::{Endpoint, Flow, FlowHandle, FrameId, Protection};
use nic_wire::frame::{Reply, write_pad, write_reply};
use nic_wire::packet::HEADER_BYTES;
use nic_wire::session::{Command, CommandFlags};
use nic_wire::{Status, Time};

use super::initiator::OP_BYTES_MAX;
use super::lanes::Lanes;
use super::ops::{Op, OpQueue};
use super::streams::{Progress, Streams};

#[cfg(test)]
mod tests;

/// What needs several packets does not begin in the rest of one that has less than this left, in
/// bytes.
const FIRST_CHUNK_MIN: usize = 256;

/// The last so many streams of a flow are for sessions that use none yet: else one that never ends
/// its ops could keep all.
const STREAMS_KEPT: usize = 8;

/// What a reply takes of a flow's credits, in units of [`CHARGE_BYTES`], rounded up.
pub(super) type Charge = u16;

/// Bytes of a unit of charge.
const CHARGE_BYTES: u32 = 64;

const _: () = assert!(OP_BYTES_MAX / CHARGE_BYTES < Charge::MAX as u32, "no charge overflows");

/// Where a flow stands, as the op layer cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// The slot is unused.
    Vacant,
    /// The handshake is under way.
    Opening,
    /// Packets flow.
    Open,
}

/// Which (session, stream) a stream of an initiated flow belongs to, and the number of its next op.
pub(super) struct IssuedStream {
    owner: Option<(u16, u16)>,
    next: u32,
    out: u32,
    /// Which of its ops are over: the target can keep apart only so many of them.
    progress: Progress,
}

/// The op layer's side of one flow.
pub(super) struct Link {
    pub(super) state: LinkState,
    pub(super) handle: Option<FlowHandle>,
    /// Goes up with each flow that begins in this place.
    pub(super) epoch: u32,
    /// Whether this engine issues ops on it, or answers them.
    pub(super) initiates: bool,
    /// Where its peer was asked for: the key under which sessions share it.
    pub(super) asked: SocketAddr,
    /// Where its packets go.
    pub(super) to: SocketAddr,
    /// The packet being filled.
    open: Option<OpenPacket>,
    /// Packets are this long at most, in bytes.
    pub(super) packet_bytes: usize,
    /// Ops out, and what their replies take of the credits.
    ops_out: u32,
    charged: u32,
    /// Initiator: ops, and KiB of their replies, that the target allows to have out.
    pub(super) credits: (u16, u32),
    /// Initiator: ops with something still to be put into packets.
    pub(super) lanes: Lanes,
    /// Initiator: ops that were given up while they were out, and of which the target has to be told.
    pub(super) given_up: OpQueue,
    /// Initiator: the streams in use, and which was used last.
    issued: Vec<IssuedStream>,
    last_issued: u16,
    /// Target: what has finished.
    pub(super) streams: Streams,
    /// Target: entries of the target's table whose reply is ready, in the order in which they ended.
    pub(super) replies: VecDeque<u32>,
    /// Target: the same for replies that need more than a packet; they leave after the others.
    pub(super) long_replies: VecDeque<u32>,
    /// Target: whether short ones took all room before one of them.
    pub(super) long_is_due: bool,
    /// Target: how many ops wait for a fence.
    pub(super) held: u32,
    /// Target: how many others have not been answered.
    pub(super) in_hand: u32,
    /// Target: how many ops it is yet to be found out about that their initiator gave up.
    pub(super) cancels: u32,
    /// Target: what the initiator was granted last, if it was anything but what it began with.
    pub(super) granted: (u16, u16),
    /// Target: until when it is not polite, however little it asks for.
    pub(super) crowded_until: Time,
    /// When its state became what it is.
    pub(super) since: Time,
    /// Initiator: when the peer was last heard, or last asked whether it is there.
    pub(super) heard: Time,
    /// Initiator: whether the peer is to be asked.
    pub(super) asks: bool,
    /// Whether a packet has left in this transmit pass.
    pub(super) sent: bool,
    /// Whether the flow has business in this turn's transmit pass.
    pub(super) touched: bool,
}

#[derive(Clone, Copy)]
struct OpenPacket {
    frame: FrameId,
    used: usize,
}

/// Why nothing more can be put into packets of a flow in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// What holds up an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Its flow can take no more in this turn.
    Flow,
    /// Its own session's order or share: ops of others may go on.
    Session,
}

impl From<NoRoom> for Held {
    fn from(_: NoRoom) -> Self {
        Held::Flow
    }
}

impl Link {
    pub(super) fn vacant(target_ops: usize, sessions: usize) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Link {
            state: LinkState::Vacant,
            handle: None,
            epoch: 0,
            initiates: false,
            asked: nowhere,
            to: nowhere,
            open: None,
            packet_bytes: 0,
            ops_out: 0,
            charged: 0,
            credits: (0, 0),
            lanes: Lanes::new(sessions),
            given_up: OpQueue::EMPTY,
            issued: Vec::new(),
            last_issued: 0,
            streams: Streams::new(),
            replies: VecDeque::with_capacity(target_ops),
            long_replies: VecDeque::with_capacity(target_ops),
            long_is_due: false,
            held: 0,
            in_hand: 0,
            cancels: 0,
            granted: (0, 0),
            crowded_until: Time::ZERO,
            since: Time::ZERO,
            heard: Time::ZERO,
            asks: false,
            sent: false,
            touched: false,
        }
    }

    /// Begins anew for a flow of a slot.
    pub(super) fn begin(&mut self, handle: FlowHandle, initiates: bool, to: SocketAddr) {
        self.handle = Some(handle);
        self.epoch = self.epoch.wrapping_add(1);
        self.initiates = initiates;
        self.asked = to;
        self.to = to;
        self.ops_out = 0;
        self.charged = 0;
        self.issued.clear();
        self.issued.reserve(Streams::MAX);
        self.streams.clear();
        self.replies.clear();
        self.long_replies.clear();
        self.long_is_due = false;
        self.held = 0;
        self.in_hand = 0;
        self.cancels = 0;
        self.crowded_until = Time::ZERO;
        self.granted = (0, 0);
        self.asks = false;
        // Whether it stands in the list of those with business is not the flow's, but the place's.
        assert!(self.open.is_none(), "packets of the former flow were dropped with it");
    }

    /// Target: whether a short reply that is ready now is the next to leave.
    #[inline(always)]
    pub(super) fn is_next_reply(&self) -> bool {
        self.replies.is_empty() && !self.long_is_due
    }

    /// Whether this engine issues ops to `engine` on it.
    pub(super) fn leads_to(&self, engine: SocketAddr) -> bool {
        self.state != LinkState::Vacant && self.initiates && self.asked == engine
    }

    /// The flow.
    #[inline]
    pub(super) fn flow_mut<'e>(&self, endpoint: &'e mut Endpoint) -> Option<&'e mut Flow> {
        endpoint.flow_mut(self.handle?)
    }

    /// The flow, to look at.
    #[inline]
    pub(super) fn flow<'e>(&self, endpoint: &'e Endpoint) -> Option<&'e Flow> {
        endpoint.flow(self.handle?)
    }

    /// The flow's stream for a session's stream. One with nothing out may change hands: its numbers
    /// just go on. If all have ops out, so may one of a session that has closed, whose fences then
    /// wait for those. `None` if there is none of them either.
    #[inline]
    pub(super) fn stream_for(&mut self, session: u16, stream: u16) -> Option<u16> {
        let owner = Some((session, stream));
        let last = self.issued.get(usize::from(self.last_issued));
        if last.is_none_or(|issued| issued.owner != owner) {
            self.last_issued = self.find_stream(owner)?;
        }
        Some(self.last_issued)
    }

    fn find_stream(&mut self, owner: Option<(u16, u16)>) -> Option<u16> {
        if let Some(found) = self.issued.iter().position(|issued| issued.owner == owner) {
            return Some(found as u16);
        }
        let place = |is_it: fn(&IssuedStream) -> bool| self.issued.iter().position(is_it);
        let place = match place(|issued| issued.owner.is_none() && issued.out == 0) {
            Some(vacant) => vacant,
            None if self.issued.len() < Streams::MAX => {
                let progress = Progress::new();
                self.issued.push(IssuedStream { owner, next: 0, out: 0, progress });
                self.issued.len() - 1
            }
            None => place(|issued| issued.out == 0)
                .or_else(|| place(|issued| issued.owner.is_none()))?,
        };
        self.issued[place].owner = owner;
        Some(place as u16)
    }

    /// Counts an op that leaves with the credit that it has claimed.
    #[inline]
    pub(super) fn went_out(&mut self, op: &Op) {
        self.ops_out += 1;
        self.charged += u32::from(op.charge);
    }

    /// Counts one of those that are out as over.
    #[inline]
    pub(super) fn came_back(&mut self, op: &Op) {
        self.ops_out -= 1;
        self.charged -= u32::from(op.charge);
        self.end_in_stream(op.stream, op.sequence);
    }

    /// How many ops are out.
    #[inline]
    pub(super) fn ops_out(&self) -> u32 {
        self.ops_out
    }

    /// Whether a session may have ops out in this stream of its own, beside those that it uses.
    #[inline]
    fn may_use_stream(&self, session: u16, stream: u16) -> bool {
        let most = Streams::MAX - STREAMS_KEPT;
        if self.issued.len() <= most || self.out_in_stream(stream) > 0 {
            return true;
        }
        let used = || self.issued.iter().filter(|issued| issued.out > 0);
        let is_theirs = |issued: &IssuedStream| issued.owner.is_some_and(|(one, _)| one == session);
        used().count() < most || !used().any(is_theirs)
    }

    /// Numbers the next op of a stream.
    #[inline]
    pub(super) fn next_sequence(&mut self, stream: u16) -> u32 {
        let issued = &mut self.issued[usize::from(stream)];
        let sequence = issued.next;
        issued.next = issued.next.wrapping_add(1);
        issued.out += 1;
        sequence
    }

    /// Whether the target could keep another op of a stream apart from those that are out.
    #[inline]
    pub(super) fn stream_has_room(&self, stream: u16) -> bool {
        let issued = &self.issued[usize::from(stream)];
        issued.progress.reaches(issued.next)
    }

    /// Notes that an op of a stream is over.
    #[inline]
    fn end_in_stream(&mut self, stream: u16, sequence: u32) {
        let issued = &mut self.issued[usize::from(stream)];
        issued.out -= 1;
        let is_noted = issued.progress.finish(sequence).is_ok();
        debug_assert!(is_noted, "no op is issued beyond the stream's reach");
    }

    /// How many ops of a stream are out.
    #[inline]
    pub(super) fn out_in_stream(&self, stream: u16) -> u32 {
        self.issued[usize::from(stream)].out
    }

    /// Lets go of the streams of a closed session; their numbers go on for the next owner.
    pub(super) fn release_streams(&mut self, session: u16) {
        for issued in &mut self.issued {
            if issued.owner.is_some_and(|(owner, _)| owner == session) {
                issued.owner = None;
            }
        }
    }

    /// How much of `rest` bytes goes into the next frame, whose other parts take `overhead` bytes.
    #[inline]
    pub(super) fn chunk(&self, rest: usize, overhead: usize) -> usize {
        let most = (self.packet_room() - overhead) & !7;
        if rest <= most {
            return rest;
        }
        let here = self.room().saturating_sub(overhead) & !7;
        if here >= FIRST_CHUNK_MIN { here } else { most }
    }

    /// Whether an op may leave: a credit for it and for its reply, and a stream to travel in.
    /// `whole`: the length of a frame that has all of it.
    #[inline]
    pub(super) fn claim_credit(
        &mut self,
        op: &mut Op,
        command: &Command,
        whole: usize,
    ) -> Result<(), Held> {
        let (op_credits, reply_credits_kib) = self.credits;
        let most = reply_credits_kib * 1024 / CHARGE_BYTES;
        let mut charge = op.reply_capacity.div_ceil(CHARGE_BYTES);
        if charge > most {
            // One that could never have credits enough goes beside others all the same, and leaves
            // a part of the credits to them: a reply that long is on its way for a while.
            charge = most - most / 4;
        }
        let fits = self.charged + charge <= most || self.ops_out == 0;
        if self.ops_out >= u32::from(op_credits) || !fits {
            return Err(Held::Flow);
        }
        op.charge = charge as Charge;
        op.stream = self.stream_for(op.session, command.stream.get()).ok_or(Held::Session)?;
        if !self.stream_has_room(op.stream) || !self.may_use_stream(op.session, op.stream) {
            return Err(Held::Session);
        }
        // The target keeps what waits for a fence, one packet an op. A longer payload waits here.
        let fence = command.flags & CommandFlags::FENCE.bits() != 0;
        if fence && whole > self.packet_room() && self.out_in_stream(op.stream) > 0 {
            return Err(Held::Session);
        }
        Ok(())
    }

    /// How many bytes of frames still fit the packet being filled; 0 if there is none.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.open.map_or(0, |open| self.packet_bytes - open.used)
    }

    /// How many bytes of frames a packet has room for.
    #[inline]
    pub(super) fn packet_room(&self) -> usize {
        self.packet_bytes - HEADER_BYTES
    }

    /// Makes sure that the packet being filled has room for `wanted` bytes: else it is completed
    /// to its full length and sent, and a new one begun.
    #[inline]
    pub(super) fn make_room<P: Port>(
        &mut self,
        wanted: usize,
        now: Time,
        endpoint: &mut Endpoint,
        port: &mut P,
        protection: &mut impl Protection,
    ) -> Result<(), NoRoom> {
        if self.room() >= wanted {
            return Ok(());
        }
        if self.open.is_some() {
            self.send_open(true, now, endpoint, port, protection);
        }
        let flow = self.flow(endpoint).ok_or(NoRoom)?;
        if !flow.may_send(self.packet_bytes) {
            return Err(NoRoom);
        }
        let share = if self.initiates { Share::Request } else { Share::Reply };
        let frame = port.allocate(share).ok_or(NoRoom)?;
        self.open = Some(OpenPacket { frame, used: HEADER_BYTES });
        Ok(())
    }

    /// The free bytes of the packet being filled; what is written there is kept by
    /// [`Link::fill`].
    #[inline]
    pub(super) fn tail<'p, P: Port>(&self, port: &'p mut P) -> &'p mut [u8] {
        match self.open {
            Some(open) => &mut port.bytes_mut(open.frame)[open.used..self.packet_bytes],
            None => &mut [],
        }
    }

    /// Keeps the first `length` bytes of [`Link::tail`].
    #[inline]
    pub(super) fn fill(&mut self, length: usize) {
        if let Some(open) = &mut self.open {
            open.used += length;
            debug_assert!(open.used <= self.packet_bytes, "frames stay within the packet");
        }
    }

    /// Puts a reply frame with `part` bytes of data into the packet being filled, for which
    /// [`Link::make_room`] has made room. If `copy` fails, the memory has gone away under the
    /// reply: what leaves in its stead says so.
    #[inline(always)]
    pub(super) fn put_reply<P: Port>(
        &mut self,
        reply: &Reply,
        part: usize,
        port: &mut P,
        copy: impl FnOnce(&mut [u8]) -> Result<(), Status>,
    ) -> Result<Result<(), Status>, NoRoom> {
        let open = self.open.as_mut().ok_or(NoRoom)?;
        let tail = &mut port.bytes_mut(open.frame)[open.used..self.packet_bytes];
        let mut copied = Ok(());
        let mut used = write_reply(tail, reply, part, |into| copied = copy(into));
        if let Err(status) = copied {
            let failure = Reply { status, offset: 0, total: 0, ..*reply };
            used = write_reply(tail, &failure, 0, |_| {});
        }
        open.used += used.ok_or(NoRoom)?;
        Ok(copied)
    }

    /// Sends the packet being filled, if there is one. `whole`: others of this burst follow, so it
    /// is completed to the flow's full length; only runs of equal length stay together.
    pub(super) fn send_open<P: Port>(
        &mut self,
        whole: bool,
        now: Time,
        endpoint: &mut Endpoint,
        port: &mut P,
        protection: &mut impl Protection,
    ) {
        let Some(open) = self.open.take() else { return };
        let length = if whole {
            write_pad(&mut port.bytes_mut(open.frame)[open.used..self.packet_bytes]);
            self.packet_bytes
        } else {
            open.used
        };
        if let Some(flow) = self.flow_mut(endpoint) {
            flow.send(now, open.frame, length, port, protection);
            self.sent = true;
            port.submit(open.frame, length, self.to);
        }
        port.release(open.frame);
    }

    /// Forgets the packet being filled: its flow is gone.
    pub(super) fn drop_open<P: Port>(&mut self, port: &mut P) {
        if let Some(open) = self.open.take() {
            port.release(open.frame);
        }
    }
}
