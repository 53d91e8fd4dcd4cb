//! A flow: the reliable, congestion-controlled packet stream between two engines. It belongs to
//! the engine that opened it; requests go forward, replies come back.
//!
//! A flow is plain data (no pointers, no closures), so that an upgrade can hand it to the next
//! process. The frames that it retains are named, not held.

mod bits;
mod duties;
mod receiver;
mod recovery;
mod round_trip;
mod sender;
mod transmit;

use core::net::SocketAddr;

use nic_wire::{ConnectionId, Span, Time};

use crate::config::Config;
use crate::congestion::{CongestionControl, FixedWindow};
use crate::counters::FlowCounters;
use crate::handshake::Connecting;

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
    /// The grant that the newest packet to the initiator carried.
    announced: (u16, u16),
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
        // ACCEPT tells it.
        flow.announced = granted;
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
            announced: (0, 0),
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

    /// Sets what the initiator may have out: ops, and KiB of their replies together. Every packet
    /// to it carries the newest grant. For a grant larger than what it was told last, an ack is
    /// owed: it may be waiting for nothing else.
    #[inline]
    pub fn grant(&mut self, now: Time, op_credits: u16, reply_credits_kib: u16) {
        self.granted = (op_credits, reply_credits_kib);
        if op_credits > self.announced.0 || reply_credits_kib > self.announced.1 {
            let delay = self.round_trip.ack_delay(self.limits.ack_delay);
            self.receiver.owe_by(now + delay);
        }
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

    /// The lowest packet number that has not been accepted.
    #[inline]
    pub fn expected(&self) -> u64 {
        self.receiver.expected()
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
}
