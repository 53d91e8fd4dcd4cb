//! A flow: the reliable, congestion-controlled packet stream between two engines. It belongs to
//! the engine that opened it; requests go forward, replies come back.
//!
//! A flow is plain data (no pointers, no closures), so that an upgrade can hand it to the next
//! process. The frames that it retains are named, not held.

mod duties;
mod receiver;
mod round_trip;
mod sender;

use core::net::SocketAddr;

use nic_wire::packet::{HEADER_BYTES, PacketFlags, PacketHeader, PacketKind};
use nic_wire::{ConnectionId, Span, Time};

use crate::config::Config;
use crate::congestion::{CongestionControl, FixedWindow};
use crate::counters::FlowCounters;
use crate::frames::{FrameId, Frames};
use crate::handshake::Connecting;
use crate::protection::Protection;

pub use duties::AckDue;
pub(crate) use duties::{Limits, Received};
use receiver::Receiver;
use round_trip::RoundTrip;
use sender::Sender;

/// Which end of a flow this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It opened the flow, sends requests and gets replies.
    Initiator,
    /// It executes requests and sends replies.
    Target,
}

/// Where in its life a flow is.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    Connecting(Connecting),
    Open,
    /// Failed or closed: only there to be removed.
    Ended,
}

/// What this end brings to a new flow.
pub(crate) struct Birth<'a, C> {
    pub(crate) now: Time,
    pub(crate) local_id: ConnectionId,
    pub(crate) peer: SocketAddr,
    pub(crate) first_packet_number: u64,
    pub(crate) config: &'a Config,
    pub(crate) congestion: C,
}

/// What the two ends told each other when the flow was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub(crate) remote_id: ConnectionId,
    pub(crate) first_packet_number: u64,
    pub(crate) window_bytes: u32,
    pub(crate) packet_bytes: u16,
    pub(crate) version: u8,
    pub(crate) engine: u8,
    pub(crate) incarnation: u64,
    pub(crate) ack_delay: Span,
    pub(crate) op_credits: u16,
    pub(crate) reply_credits_kib: u16,
}

/// The newest packet of the peer, by its own clock: the one whose credits and window hold.
#[derive(Clone, Copy, Debug)]
struct Newest {
    /// The peer's clock when it sent the packet, restored to 64 bits from an arbitrary start.
    peer_time: u64,
    number: u64,
    received_at: Time,
}

/// Both halves of one connection, at one of its ends.
#[derive(Clone, Debug)]
pub struct Flow<C = FixedWindow> {
    pub(crate) stage: Stage,
    role: Role,
    pub(crate) peer: SocketAddr,
    pub(crate) local_id: ConnectionId,
    remote_id: ConnectionId,
    limits: Limits,
    packet_bytes: u16,
    version: u8,
    peer_engine: u8,
    peer_incarnation: u64,
    /// Hash of the INIT that opened the flow.
    pub(crate) transcript: u64,
    peer_ack_delay: Span,
    round_trip: RoundTrip,
    newest: Option<Newest>,
    heard_at: Time,
    /// A target that has probed in vain waits for its initiator.
    quiet: bool,
    granted: (u16, u16),
    credits: (u16, u16),
    receiver: Receiver,
    counters: FlowCounters,
    sender: Sender<C>,
}

/// The peer's clock is restored to 64 bits from here on: far enough from zero for packets that
/// were sent before the first one that arrives.
const PEER_CLOCK_START: u64 = 1 << 40;

impl<C: CongestionControl> Flow<C> {
    /// An initiator's flow before the target has answered.
    pub(crate) fn connecting(birth: Birth<'_, C>, connecting: Connecting) -> Self {
        Self::new(birth, Role::Initiator, Stage::Connecting(connecting))
    }

    /// A target's flow, open at once.
    pub(crate) fn accepted(birth: Birth<'_, C>, agreed: &Agreed) -> Self {
        let (now, peer) = (birth.now, birth.peer);
        let granted = (birth.config.op_credits, birth.config.reply_credits_kib);
        let mut flow = Self::new(birth, Role::Target, Stage::Open);
        flow.granted = granted;
        flow.open(now, peer, agreed);
        flow
    }

    fn new(birth: Birth<'_, C>, role: Role, stage: Stage) -> Self {
        let Birth { now, local_id, peer, first_packet_number, config, congestion } = birth;
        Flow {
            stage,
            role,
            peer,
            local_id,
            remote_id: ConnectionId::NONE,
            limits: Limits::new(config),
            packet_bytes: config.packet_bytes,
            version: 0,
            peer_engine: 0,
            peer_incarnation: 0,
            transcript: 0,
            peer_ack_delay: config.ack_delay,
            round_trip: RoundTrip::new(config.round_trip_initial),
            newest: None,
            heard_at: now,
            quiet: false,
            granted: (0, 0),
            credits: (0, 0),
            receiver: Receiver::new(0),
            counters: FlowCounters::default(),
            sender: Sender::new(first_packet_number, 0, congestion),
        }
    }

    /// The handshake is done.
    pub(crate) fn open(&mut self, now: Time, peer: SocketAddr, agreed: &Agreed) {
        self.stage = Stage::Open;
        self.peer = peer;
        self.remote_id = agreed.remote_id;
        self.packet_bytes = self.packet_bytes.min(agreed.packet_bytes);
        self.version = agreed.version;
        self.peer_engine = agreed.engine;
        self.peer_incarnation = agreed.incarnation;
        // A peer that claims to be slower than this is not waited for.
        self.peer_ack_delay = agreed.ack_delay.min(self.limits.timeout_max);
        self.credits = (agreed.op_credits, agreed.reply_credits_kib);
        self.receiver = Receiver::new(agreed.first_packet_number);
        self.sender.set_peer_window(agreed.window_bytes.max(u32::from(self.packet_bytes)));
        self.heard_at = now;
    }

    /// Whether a packet of `bytes`, header included, may leave now: the flow is open, and the
    /// congestion window, the peer's window and the reach of its acks allow it. Lost packets
    /// should go first ([`Flow::retransmit`]).
    #[inline]
    pub fn may_send(&self, bytes: usize) -> bool {
        self.is_open()
            && bytes <= usize::from(self.packet_bytes)
            && self.sender.may_send(bytes as u32)
    }

    /// Sends a packet: `frame` holds op frames from byte 64 to `length`. Fills in the header,
    /// seals it and takes a reference on the frame until the peer has acknowledged it. The caller
    /// then submits the frame to the port, and gives up its own reference when it likes. Returns
    /// the packet's number.
    ///
    /// # Panics
    /// If [`Flow::may_send`] does not allow a packet at all, or `length` is no packet's.
    #[inline]
    pub fn send(
        &mut self,
        now: Time,
        frame: FrameId,
        length: usize,
        frames: &mut impl Frames,
        protection: &mut impl Protection,
    ) -> u64 {
        assert!(self.is_open(), "a packet can only be sent on an open flow");
        let allowed = HEADER_BYTES..=usize::from(self.packet_bytes);
        assert!(allowed.contains(&length), "a packet of {length} bytes; allowed are {allowed:?}");
        if self.quiet {
            // A new reply is given its own chance to arrive.
            self.quiet = false;
            self.sender.start_afresh(now);
        }
        let number = self.sender.next();
        self.sender.record(now, frame, length as u16);
        frames.retain(frame);
        self.counters.data_sent += 1;
        self.counters.data_bytes_sent += length as u64;
        let header = self.compose(now, PacketFlags::NUMBERED, number, 0);
        let packet = &mut frames.bytes_mut(frame)[..length];
        header.write(packet);
        protection.seal(packet);
        number
    }

    /// The next packet to be sent again, if any: lost ones as the congestion window allows, or a
    /// probe. Its header is written anew and sealed; the caller submits frame and length to the
    /// port. Frames that the port still holds are passed over.
    pub fn retransmit(
        &mut self,
        now: Time,
        frames: &mut impl Frames,
        protection: &mut impl Protection,
    ) -> Option<(FrameId, usize)> {
        if !self.is_open() || !self.sender.wants_to_repeat() {
            return None;
        }
        let again = self.sender.next_again(now, frames, &mut self.counters)?;
        let mut flags = PacketFlags::NUMBERED;
        flags.set(PacketFlags::ACK_NOW, again.wants_ack);
        let age = now.since(again.sent.first_sent).as_us();
        let age_us = u32::try_from(age).unwrap_or(u32::MAX);
        let header = self.compose(now, flags, again.number, age_us);
        let length = usize::from(again.sent.length);
        let packet = &mut frames.bytes_mut(again.sent.frame)[..length];
        header.write(packet);
        protection.seal(packet);
        Some((again.sent.frame, length))
    }

    /// Says that the op layer has taken the packet that
    /// [`Handled::Data`](crate::Handled::Data) brought: it will be acknowledged. Without this the
    /// peer sends it again. Whether it was new.
    #[inline]
    pub fn accept(&mut self, now: Time, number: u64) -> bool {
        let delay = self.round_trip.ack_delay(self.limits.ack_delay);
        let owed_bytes_max = self.limits.receive_window_bytes / 2;
        let fresh = self.receiver.accept(now, number, delay, owed_bytes_max);
        self.counters.data_accepted += u64::from(fresh);
        fresh
    }

    /// Writes an ack that travels on its own into `into` (at least 64 bytes) and returns its
    /// length. It takes no packet number and is not retained.
    ///
    /// # Panics
    /// If `into` is shorter than a packet header.
    pub fn write_ack(
        &mut self,
        now: Time,
        into: &mut [u8],
        protection: &mut impl Protection,
    ) -> usize {
        let header = self.compose(now, PacketFlags::empty(), 0, 0);
        let packet = &mut into[..HEADER_BYTES];
        header.write(packet);
        protection.seal(packet);
        self.counters.lone_acks_sent += 1;
        HEADER_BYTES
    }

    /// Sets what the initiator may have out: ops, and KiB of their replies together. Every packet
    /// to it carries the newest grant.
    #[inline]
    pub fn grant(&mut self, op_credits: u16, reply_credits_kib: u16) {
        self.granted = (op_credits, reply_credits_kib);
    }

    /// Sets how many bytes the peer may have unacknowledged towards this end; every packet to it
    /// carries the newest value.
    #[inline]
    pub fn set_receive_window(&mut self, bytes: u32) {
        self.limits.receive_window_bytes = bytes;
    }

    /// What the target allows to have out, as of the newest of its packets: ops, and KiB of
    /// replies.
    #[inline]
    pub fn credits(&self) -> (u16, u32) {
        (self.credits.0, u32::from(self.credits.1))
    }

    /// The smoothed round trip, without the time that the peer holds acks back; `None` before
    /// the first measurement.
    #[inline]
    pub fn rtt(&self) -> Option<Span> {
        self.round_trip.measured()
    }

    /// Whether packets may flow.
    #[inline]
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Which end this is.
    #[inline]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where packets go to and come from.
    #[inline]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The id under which this end receives.
    #[inline]
    pub fn local_id(&self) -> ConnectionId {
        self.local_id
    }

    /// The id under which the other end receives; [`ConnectionId::NONE`] until the flow is open.
    #[inline]
    pub fn remote_id(&self) -> ConnectionId {
        self.remote_id
    }

    /// The largest packet that may be sent, in bytes, header included.
    #[inline]
    pub fn packet_bytes(&self) -> usize {
        usize::from(self.packet_bytes)
    }

    /// The wire version agreed on; 0 until the flow is open.
    #[inline]
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Which engine of its process the other end is.
    #[inline]
    pub fn peer_engine(&self) -> u8 {
        self.peer_engine
    }

    /// Which start of the other engine this flow is with.
    #[inline]
    pub fn peer_incarnation(&self) -> u64 {
        self.peer_incarnation
    }

    /// Bytes sent and not yet acknowledged.
    #[inline]
    pub fn unacked_bytes(&self) -> u32 {
        self.sender.unacked_bytes()
    }

    /// Packets sent and not yet acknowledged.
    #[inline]
    pub fn unacked_packets(&self) -> u32 {
        self.sender.unacked_packets()
    }

    /// Whether this is a target that waits for its initiator to speak again.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// What this flow has counted.
    #[inline]
    pub fn counters(&self) -> &FlowCounters {
        &self.counters
    }

    /// The flow's congestion control.
    #[inline]
    pub fn congestion(&self) -> &C {
        self.sender.congestion()
    }

    /// A header for a packet to the peer. It carries the newest ack, so no ack is owed then.
    #[inline]
    fn compose(&mut self, now: Time, flags: PacketFlags, number: u64, age_us: u32) -> PacketHeader {
        let mut flags = flags | PacketFlags::ACKS;
        let mut header = PacketHeader::new(PacketKind::Data, self.remote_id);
        if let Some(echo) = self.receiver.echo() {
            flags |= PacketFlags::ECHOES;
            header.echo_time_ns = echo.send_time_ns().into();
            header.dwell_ns = echo.dwell_ns(now).into();
        }
        let later = self.receiver.later();
        header.flags = flags.bits().into();
        header.packet_number = (number as u32).into();
        header.acknowledged = (self.receiver.expected() as u32).into();
        header.selective = [(later as u64).into(), ((later >> 64) as u64).into()];
        header.window_bytes = self.limits.receive_window_bytes.into();
        header.send_time_ns = now.truncated().into();
        header.op_credits = self.granted.0.into();
        header.reply_credits_kib = self.granted.1.into();
        header.age_us = age_us.into();
        self.receiver.settle_debt();
        header
    }
}
