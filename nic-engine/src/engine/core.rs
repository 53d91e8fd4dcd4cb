//! An engine without its port: flows, ops of local sessions, ops of others, and the memory.
//!
//! The port stays outside, so that received packets can be read where the port has them while
//! everything here changes.

use std::collections::VecDeque;
use std::net::SocketAddr;

use nic_kernels::mapped::{DomainId, MappedMemory};
use nic_kernels::{Executor, KernelSet};
use nic_ports::Port;
use nic_transport::{Endpoint, FlowEvent, FlowHandle, FrameId, Handled, Reclaim, Role};
use nic_wire::frame::{self, Frame, RequestFlags};
use nic_wire::packet::{Packet, PacketKind};
use nic_wire::session::COMMAND_ARGUMENT_BYTES_MAX;
use nic_wire::{KernelId, Span, Status, Time};

use super::config::EngineConfig;
use super::counters::Counters;
use super::drain::Drain;
use super::holds::Holds;
use super::lanes::PACE;
use super::links::{Link, LinkState};
use super::ops::OpTable;
use super::polite::{self, Polite};
use super::session::Session;
use super::target::TargetTable;
use super::target::cancel::Cancels;
use super::target::shares::Sharing;
use super::wheel::Wheel;
use super::work::{Answered, Released};
use crate::protection::Whole;

/// The most op frames that one packet can hold: what must have room before a packet is accepted.
pub(super) const FRAMES_PER_PACKET: usize = nic_wire::packet::MAX_PACKET_BYTES / 24;

/// Places in the tables for requests that only packets in their flow's order may take.
pub(super) const PLACES_KEPT: usize = 2 * FRAMES_PER_PACKET;

/// A peer that owes a reply or a credit and says nothing for this long is asked whether it is there.
const SILENCE: Span = Span::from_ms(20);

/// For how long after a peer had many ops in hand few of them do not make it polite: beside a polite
/// one it has few.
const CROWD_MEMORY: Span = Span::from_ms(20);

/// What waits for something to happen before it can be answered.
pub(super) enum Parked {
    /// A way that waits for its flow.
    Connect { id: u64, session: u32, link: u16, remote: u16 },
    /// A revocation that waits for the last access.
    Revoke { id: u64, export: u16, generation: u16, released: Vec<Released> },
}

/// A connected application.
pub(super) struct Client {
    pub(super) domain: DomainId,
    /// Which session serves which service.
    pub(super) services: Vec<(u16, u16)>,
}

/// See the module's description.
pub(super) struct Core<K: KernelSet> {
    pub(super) config: EngineConfig,
    pub(super) address: SocketAddr,
    pub(super) endpoint: Endpoint,
    /// Frames whose packets were acknowledged in this turn; given back before it needs any.
    pub(super) acknowledged: Acknowledged,
    pub(super) protection: Whole,
    pub(super) executor: Executor<K, MappedMemory>,
    pub(super) memory: MappedMemory,
    pub(super) clients: Vec<Option<Client>>,
    pub(super) sessions: Vec<Option<Box<Session>>>,
    /// Slots of sessions that are open.
    pub(super) open_sessions: Vec<u16>,
    pub(super) dirty_sessions: Vec<u16>,
    pub(super) ops: OpTable,
    /// Where arguments are copied that do not fit their command.
    pub(super) long_arguments: Box<[u8; COMMAND_ARGUMENT_BYTES_MAX]>,
    pub(super) deadlines: Wheel,
    pub(super) links: Vec<Link>,
    /// The application for which each link was opened last, by its slot.
    pub(super) opened_for: Vec<u16>,
    /// Links with business in this turn's transmit pass.
    pub(super) touched: Vec<u16>,
    /// Links with ops or replies that found no room in the last turn.
    pub(super) blocked: Vec<u16>,
    /// The same for those that have sent something in this pass; empty between passes.
    pub(super) blocked_served: Vec<u16>,
    pub(super) target: TargetTable,
    /// How its long ops share the engine's time.
    pub(super) sharing: Sharing,
    /// Ops of others that were given up.
    pub(super) cancels: Cancels,
    /// In which turn an application of this engine last cancelled an op.
    pub(super) cancelled_at: Time,
    /// The place among the open sessions from which commands are taken first: behind the one that
    /// cancelled last, so that each has its turn.
    pub(super) pickup_first: usize,
    pub(super) holds: Holds,
    pub(super) parked: Vec<Parked>,
    pub(super) answers: VecDeque<Answered>,
    pub(super) counters: Counters,
    /// When silent peers are next looked for.
    pub(super) next_ask: Time,
    /// Until when long replies leave bit by bit, for the sake of short ones.
    pub(super) short_replies_until: Time,
    /// Whether it is time to see if silent peers hold what others want.
    pub(super) wants_relief: bool,
    /// When the next packet of a long reply may leave until then.
    pub(super) next_long: Time,
    /// The session that was polite last, and the flow of a peer that was.
    pub(super) polite: Polite,
    pub(super) polite_peer: Polite,
    /// Whether the last turn left out its transmit pass and the clock's duties.
    pub(super) owes_pass: bool,
    /// The end, once it was asked for.
    pub(super) drain: Option<Drain>,
    /// When the current turn began.
    pub(super) now: Time,
}

/// Collects the frames that flows let go of while the port's received packets are being read.
pub(super) struct Acknowledged(Vec<FrameId>);

impl Acknowledged {
    pub(super) fn new(capacity: usize) -> Self {
        Acknowledged(Vec::with_capacity(capacity))
    }

    /// Gives the frames back to the port.
    #[inline]
    pub(super) fn release<P: Port>(&mut self, port: &mut P) {
        for frame in self.0.drain(..) {
            port.release(frame);
        }
    }
}

impl Reclaim for Acknowledged {
    #[inline]
    fn reclaim(&mut self, frame: FrameId) {
        self.0.push(frame);
    }
}

/// What is to be done with a packet after the core has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Done,
    /// It belongs to another engine of the process.
    Forward { engine: u8 },
}

impl<K: KernelSet> Core<K> {
    /// The engine for which a packet is that a port brought which receives for several: of most the
    /// connection id says it, but a handshake begins without one. `None`: for this one, or it will
    /// be found out.
    #[inline]
    pub(super) fn meant_for(&self, to_port: u16, bytes: &[u8]) -> Option<u8> {
        let own = self.address.port();
        if to_port == 0 || to_port == own {
            return None;
        }
        let is_init = Packet::parse(bytes).is_ok_and(|packet| packet.kind == PacketKind::Init);
        // Engines have their UDP ports in their own order.
        let engine = i32::from(self.config.engine) + i32::from(to_port) - i32::from(own);
        if is_init { u8::try_from(engine).ok() } else { None }
    }

    /// Takes one received packet.
    #[inline]
    pub(super) fn receive(&mut self, from: SocketAddr, bytes: &[u8]) -> Verdict {
        match self.endpoint.handle(
            self.now,
            from,
            bytes,
            &mut self.protection,
            &mut self.acknowledged,
        ) {
            Handled::Data { flow: handle, number, body, age } => {
                let body = &bytes[body];
                let is_placeable = self.is_placeable(handle, number, body);
                if is_placeable {
                    self.frames(handle, age.as_us(), body);
                }
                let Some(flow) = self.endpoint.flow_mut(handle) else { return Verdict::Done };
                // Built without this check, the simulation must fail.
                if is_placeable || cfg!(nic_break = "ack_before_retention") {
                    flow.accept(self.now, number);
                } else {
                    self.counters.unplaced_packets += 1;
                    flow.decline(self.now);
                }
                let credits = flow.credits();
                self.heard(handle, credits);
            }
            Handled::Ack { flow } => {
                let credits = self.endpoint.flow(flow).map_or((0, 0), |flow| flow.credits());
                self.heard(flow, credits);
            }
            Handled::Foreign { engine } => return Verdict::Forward { engine },
            Handled::Control | Handled::Dropped(_) => {}
        }
        Verdict::Done
    }

    #[inline]
    fn heard(&mut self, flow: FlowHandle, credits: (u16, u32)) {
        let link = &mut self.links[usize::from(flow.slot())];
        link.heard = self.now;
        link.credits = (credits.0.min(self.config.op_credits), credits.1);
        self.touch(flow);
    }

    /// Marks a flow for this turn's transmit pass: it may owe an ack or have room again.
    #[inline]
    pub(super) fn touch(&mut self, flow: FlowHandle) {
        self.touch_link(flow.slot());
    }

    #[inline]
    pub(super) fn touch_link(&mut self, slot: u16) {
        let link = &mut self.links[usize::from(slot)];
        if !link.touched {
            link.touched = true;
            self.touched.push(slot);
        }
    }

    /// Whether every frame of a packet would find a place; else it stays unacknowledged and comes
    /// again. Flows are granted more credits than there are places in all, so honest initiators may
    /// meet this when many are busy. Some places are kept for the next packet in a flow's order:
    /// later ones, whose ops may wait for its ops, must not take them all. And no flow gets more
    /// than its credits, or than its share of the places where fences are waited for.
    #[inline]
    fn is_placeable(&self, flow: FlowHandle, number: u64, body: &[u8]) -> bool {
        let ample = FRAMES_PER_PACKET + PLACES_KEPT;
        let link = &self.links[usize::from(flow.slot())];
        let (in_hand, held) = ((link.in_hand + link.held) as usize, link.held as usize);
        let has_ample = self.target.free() >= ample && self.holds.free() >= ample;
        let may_take = in_hand + FRAMES_PER_PACKET <= usize::from(self.config.op_credits)
            && held + ample <= self.holds_share();
        has_ample && may_take || self.is_placeable_exactly(flow, number, body)
    }

    /// How many requests of one flow may wait for fences.
    fn holds_share(&self) -> usize {
        self.holds.capacity() / 2
    }

    #[cold]
    fn is_placeable_exactly(&self, flow: FlowHandle, number: u64, body: &[u8]) -> bool {
        let link = flow.slot();
        let is_next = self.endpoint.flow(flow).is_some_and(|flow| flow.expected() == number);
        let kept = if is_next { 0 } else { PLACES_KEPT };
        let mut requests = 0;
        let mut fences = 0;
        for frame in frame::Frames::new(body).flatten() {
            if let Frame::Request(request, _, chunk) = frame
                && request.kernel != KernelId::CANCEL
                && !self.target.has_started(link, &request, chunk)
            {
                requests += 1;
                fences += usize::from(request.flags.contains(RequestFlags::FENCE));
            }
        }
        let link = &self.links[usize::from(link)];
        let (in_hand, held) = ((link.in_hand + link.held) as usize, link.held as usize);
        let credits = usize::from(self.config.op_credits).saturating_sub(in_hand);
        let share = self.holds_share().saturating_sub(held);
        let (places, room) = (self.target.free(), self.holds.free().min(share));
        let is_started = requests == 0 || places >= requests + kept && credits >= requests;
        is_started && (fences == 0 || room >= fences + kept)
    }

    #[inline]
    fn frames(&mut self, flow: FlowHandle, age_us: u64, body: &[u8]) {
        let link = flow.slot();
        let mut frames = frame::Frames::new(body);
        // A reply on a flow that brings requests, and the other way round, make no sense.
        if self.links[usize::from(link)].initiates {
            while let Some(frame) = frames.next_reply() {
                match frame {
                    Ok((reply, data)) => self.reply(link, &reply, data),
                    Err(_) => self.counters.malformed_frames += 1,
                }
            }
            return;
        }
        let age_us = u32::try_from(age_us).unwrap_or(u32::MAX);
        let in_hand = |link: &Link| link.in_hand + link.held;
        let before = in_hand(&self.links[usize::from(link)]);
        while let Some(frame) = frames.next_request() {
            match frame {
                Ok(frame) => self.request(link, age_us, frame),
                Err(_) => self.counters.malformed_frames += 1,
            }
        }
        let after = in_hand(&self.links[usize::from(link)]);
        let this = &mut self.links[usize::from(link)];
        if polite::is_crowd(after) {
            this.crowded_until = self.now + CROWD_MEMORY;
        } else if self.now >= this.crowded_until {
            self.polite_peer.picked_up(link, before, after, self.now);
        }
    }

    /// Learns what became of flows.
    pub(super) fn flow_events<P: Port>(&mut self, port: &mut P) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                FlowEvent::Opened { flow, role } => self.flow_opened(flow, role),
                FlowEvent::Failed { flow, failure } => {
                    let status = match failure {
                        nic_transport::ConnectFailure::VersionMismatch { .. } => {
                            Status::VersionMismatch
                        }
                        _ => Status::Unreachable,
                    };
                    self.flow_ended(flow, status, &failure.to_string(), port);
                }
                FlowEvent::Closed { flow, reason } => {
                    self.counters.flows_lost += 1;
                    self.flow_ended(flow, Status::PeerLost, &reason.to_string(), port);
                }
            }
        }
    }

    fn flow_opened(&mut self, handle: FlowHandle, role: Role) {
        let Some(flow) = self.endpoint.flow(handle) else { return };
        let (remote, packet_bytes, credits) = (flow.peer(), flow.packet_bytes(), flow.credits());
        let slot = usize::from(handle.slot());
        let initiates = role == Role::Initiator;
        if !initiates {
            self.links[slot].begin(handle, false, remote);
        }
        let link = &mut self.links[slot];
        link.state = LinkState::Open;
        link.since = self.now;
        link.to = remote;
        link.packet_bytes = packet_bytes;
        link.credits = (credits.0.min(self.config.op_credits), credits.1);
        self.counters.flows_opened += 1;
        self.touch(handle);
        self.settle_connects(handle.slot(), None);
    }

    /// Ends everything that depended on a flow and frees its slot.
    pub(super) fn flow_ended<P: Port>(
        &mut self,
        handle: FlowHandle,
        status: Status,
        reason: &str,
        port: &mut P,
    ) {
        let slot = handle.slot();
        if self.links[usize::from(slot)].state != LinkState::Vacant {
            self.links[usize::from(slot)].drop_open(port);
            self.fail_ops_of_link(slot, status);
            self.orphan_requests_of_link(slot);
            self.holds.drop_link(slot);
            self.drop_cancels_of_link(slot);
            self.links[usize::from(slot)].state = LinkState::Vacant;
            self.settle_connects(slot, Some((status, reason)));
        }
        self.endpoint.remove(handle, port);
    }

    /// Everything that is due by the clock.
    pub(super) fn timers(&mut self) {
        self.endpoint.on_timeout(self.now);
        while let Some(flow) = self.endpoint.poll_work() {
            self.touch(flow);
        }
        if self.now >= self.next_ask {
            self.ask_the_silent();
            self.look_at_held();
            self.share_credits();
            self.wants_relief = true;
        }
        while let Some(slot) = self.deadlines.expired(self.now) {
            self.op_expired(slot as u16);
        }
        while let Some(index) = self.target.expired_call(self.now) {
            self.call_expired(index);
        }
    }

    /// Asks peers that owe something and have long been silent whether they are there. A target
    /// whose replies were lost falls quiet until it hears from the initiator, and an initiator whose
    /// requests were all acknowledged has no other reason to speak.
    #[cold]
    fn ask_the_silent(&mut self) {
        self.next_ask = self.now + SILENCE.divided(4);
        for slot in 0..self.links.len() as u16 {
            let link = &mut self.links[usize::from(slot)];
            let is_owed = link.ops_out() > 0 || !link.lanes.is_empty();
            let is_initiator = link.state == LinkState::Open && link.initiates;
            if is_initiator && is_owed && self.now.since(link.heard) >= SILENCE {
                link.heard = self.now;
                link.asks = true;
                self.touch_link(slot);
            }
        }
    }

    /// Has the flows looked at whose requests wait for fences: some may have expired.
    #[cold]
    fn look_at_held(&mut self) {
        for slot in 0..self.links.len() as u16 {
            if self.links[usize::from(slot)].held > 0 {
                self.touch_link(slot);
            }
        }
    }

    /// Whether a turn without packets and commands has anything to do.
    #[inline]
    pub(super) fn has_duties(&self) -> bool {
        let now = self.now;
        self.owes_pass
            || self.endpoint.next_timeout() <= now
            || !self.executor.is_idle()
            || !self.touched.is_empty()
            || !self.blocked.is_empty()
            || self.target.has_ended_orphans()
            || self.deadlines.is_due(now)
            || self.target.is_call_due(now)
            || self.cancels.due() <= now
            || self.next_ask <= now
            || !self.parked.is_empty()
            || self.is_draining()
            || !self.dirty_sessions.is_empty()
            || self.endpoint.wants_control()
    }

    /// When [`Core::timers`] will next have something to do. For an engine that goes to sleep.
    pub(super) fn next_timeout(&self) -> Time {
        let flows = self.endpoint.next_timeout();
        let is_waited_for = self.ops.live() > 0 || self.holds.len() > 0;
        let ask = if is_waited_for { self.next_ask } else { Time::NEVER };
        let payloads = self.executor.next_deadline();
        let own = self.deadlines.earliest().min(self.target.earliest_call());
        let own = own.min(self.cancels.due());
        flows.min(ask).min(payloads).min(own).min(self.drain_timeout()).min(self.limits_end())
    }

    /// When what is held up for the sake of somebody polite may go on.
    fn limits_end(&self) -> Time {
        if self.blocked.is_empty() {
            return Time::NEVER;
        }
        let long = if self.now < self.short_replies_until { self.next_long } else { Time::NEVER };
        let end = self.polite.end(self.now);
        let next = if end == Time::NEVER { end } else { self.now + PACE };
        long.min(end).min(next)
    }

    /// Publishes what the turn has staged for applications.
    pub(super) fn publish(&mut self) {
        while let Some(slot) = self.dirty_sessions.pop() {
            if let Some(session) = &mut self.sessions[usize::from(slot)] {
                self.counters.wakes += u64::from(session.publish());
            }
        }
    }
}
