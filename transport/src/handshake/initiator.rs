//! The initiator's side: answers to its INIT arrive.

use core::net::SocketAddr;

use nic_wire::handshake::{Accept, ResetReason, Retry, Versions};
use nic_wire::packet::HEADER_BYTES;
use nic_wire::{ConnectionId, Span, Time};
use zerocopy::FromBytes;

use super::packets::init_of;
use super::{ConnectTurn, Connecting, Control, ResetOf, common_version, transcript};
use crate::config::{FIRST_PACKET_NUMBER_LIMIT, PACKET_BYTES_MIN};
use crate::congestion::CongestionControl;
use crate::counters::DropReason;
use crate::endpoint::{ConnectError, ConnectFailure, End, Endpoint, FlowHandle, Handled};
use crate::flow::{Agreed, Birth, Flow, Stage};
use crate::protection::Protection;

impl<C: CongestionControl> Endpoint<C> {
    /// Opens a flow to an engine of the process that receives at `to`. An event tells when the
    /// flow is open or why it could not be opened.
    ///
    /// # Errors
    /// The address cannot be sent to, or all flows of this endpoint are in use.
    pub fn connect(
        &mut self,
        now: Time,
        to: SocketAddr,
        wanted_engine: Option<u8>,
    ) -> Result<FlowHandle, ConnectError> {
        if to.ip().is_unspecified() || to.port() == 0 {
            return Err(ConnectError::NoAddress { to });
        }
        let flows_max = self.config.flows_max;
        let Some(slot) = self.flows.take_slot() else {
            // If a flow can be reclaimed, the next attempt finds its slot free.
            if !self.flows.any_to_be_removed() {
                self.reclaim(now);
            }
            return Err(ConnectError::NoRoom { flows_max });
        };
        let birth = Birth {
            now,
            local_id: self.draw_id(slot),
            peer: crate::endpoint::plain(to),
            first_packet_number: self.draw_first_number(),
            config: &self.config,
            congestion: self.congestion.clone(),
        };
        let connecting = Connecting::new(now, wanted_engine, &self.config);
        let mut flow = Flow::connecting(birth, connecting.clone());
        flow.transcript = transcript(&init_of(&flow, &connecting, &self.config, self.incarnation));
        self.timers.arm(slot, connecting.deadline());
        self.flows.put(slot, flow);
        let handle = self.flows.handle(slot);
        self.ask(Control::Init(handle));
        Ok(handle)
    }

    /// The timer of a connecting flow went off.
    pub(crate) fn on_connect_timeout(&mut self, now: Time, slot: u16) {
        let interval_max = self.config.timeout_max;
        let Some(connecting) = self.connecting(slot) else { return };
        let turn = connecting.on_timeout(now, interval_max);
        let deadline = connecting.deadline();
        match turn {
            ConnectTurn::GiveUp => {
                self.end(slot, Some(End::Failed(ConnectFailure::Unreachable)));
                return;
            }
            ConnectTurn::Again => {
                let handle = self.flows.handle(slot);
                self.ask(Control::Init(handle));
            }
            ConnectTurn::Wait => {}
        }
        self.timers.arm(slot, deadline);
    }

    pub(crate) fn on_retry(
        &mut self,
        now: Time,
        from: SocketAddr,
        id: ConnectionId,
        body: &[u8],
    ) -> Handled {
        let Ok((retry, _)) = Retry::read_from_prefix(body) else {
            return self.drop_packet(DropReason::Malformed);
        };
        let slot = match self.find_connecting(from, id) {
            Ok(slot) => slot,
            Err(reason) => return self.drop_packet(reason),
        };
        let interval = self.config.connect_retry;
        let Some(connecting) = self.connecting(slot) else {
            return self.drop_packet(DropReason::StaleHandshake);
        };
        let at_once = connecting.take_cookie(now, retry.cookie, interval);
        let deadline = connecting.deadline();
        self.timers.arm(slot, deadline);
        if at_once {
            let handle = self.flows.handle(slot);
            self.ask(Control::Init(handle));
        }
        self.control()
    }

    pub(crate) fn on_accept(
        &mut self,
        now: Time,
        from: SocketAddr,
        id: ConnectionId,
        body: &[u8],
    ) -> Handled {
        let Ok((accept, _)) = Accept::read_from_prefix(body) else {
            return self.drop_packet(DropReason::Malformed);
        };
        let target = ConnectionId::from_raw(accept.target_id.get());
        let plausible = target != ConnectionId::NONE
            && accept.first_packet_number.get() < FIRST_PACKET_NUMBER_LIMIT
            && accept.packet_bytes.get() >= PACKET_BYTES_MIN;
        if !plausible {
            return self.drop_packet(DropReason::Malformed);
        }
        let slot = match self.find_connecting(from, id) {
            Ok(slot) => slot,
            Err(DropReason::WrongAddress) => return self.drop_packet(DropReason::WrongAddress),
            Err(_) => return self.on_unwanted_accept(from, id, target),
        };
        let offered = self.config.versions.contains(&accept.version) && accept.version != 0;
        let same = self.flows.at(slot).is_some_and(|f| f.transcript == accept.transcript.get());
        if !offered || !same {
            self.reject(from, id, target);
            self.end(slot, Some(End::Failed(ConnectFailure::Downgrade)));
            return self.control();
        }
        self.open_flow(now, slot, from, &accept);
        self.control()
    }

    /// No flow waits for this ACCEPT. If it repeats what is known it is harmless; else the target
    /// has opened a flow that nobody will use, and is told so.
    fn on_unwanted_accept(
        &mut self,
        from: SocketAddr,
        id: ConnectionId,
        target: ConnectionId,
    ) -> Handled {
        let known = self.flows.at(id.slot()).is_some_and(|flow| {
            flow.is_open() && flow.local_id == id && flow.remote_id() == target
        });
        if known {
            return self.control();
        }
        self.reject(from, id, target);
        self.drop_packet(DropReason::StaleHandshake)
    }

    fn reject(&mut self, to: SocketAddr, id: ConnectionId, target: ConnectionId) {
        let reason = ResetReason::UnknownFlow;
        self.answer(Control::Reset(ResetOf { to, connection: target, answered: id, reason }));
    }

    fn open_flow(&mut self, now: Time, slot: u16, from: SocketAddr, accept: &Accept) {
        let target = ConnectionId::from_raw(accept.target_id.get());
        let port = accept.port.get();
        let mut peer = from;
        if port != 0 {
            peer.set_port(port);
        }
        let agreed = Agreed {
            remote_id: target,
            first_packet_number: accept.first_packet_number.get(),
            window_bytes: accept.window_bytes.get(),
            packet_bytes: accept.packet_bytes.get(),
            version: accept.version,
            engine: accept.engine,
            incarnation: accept.incarnation.get(),
            ack_delay: Span::from_us(accept.ack_delay_us.get().into()),
            op_credits: accept.op_credits.get(),
            reply_credits_kib: accept.reply_credits_kib.get(),
        };
        let round_trip = self.connecting(slot).and_then(|c| c.round_trip(now));
        let Some(flow) = self.flows.at_mut(slot) else { return };
        flow.open(now, peer, &agreed);
        if let Some(measured) = round_trip {
            flow.take_first_round_trip(measured);
        }
        self.peers.insert(peer, target, slot);
        self.counters.opened_as_initiator += 1;
        self.note_opened(slot);
    }

    pub(crate) fn on_versions(
        &mut self,
        from: SocketAddr,
        id: ConnectionId,
        body: &[u8],
    ) -> Handled {
        let Ok((answer, _)) = Versions::read_from_prefix(body) else {
            return self.drop_packet(DropReason::Malformed);
        };
        if answer.initiator_id.get() != id.raw() {
            return self.drop_packet(DropReason::StaleHandshake);
        }
        let slot = match self.find_connecting(from, id) {
            Ok(slot) => slot,
            Err(reason) => return self.drop_packet(reason),
        };
        let (ours, theirs) = (self.config.versions, answer.versions);
        // A target that speaks one of our versions would have chosen it, had it seen our offer.
        let failure = match common_version(&ours, &theirs) {
            Some(_) => ConnectFailure::Downgrade,
            None => {
                self.counters.version_mismatches += 1;
                ConnectFailure::VersionMismatch { ours, theirs }
            }
        };
        self.end(slot, Some(End::Failed(failure)));
        self.control()
    }

    /// VERSIONS from a build of another version: it has the same form in all of them.
    pub(crate) fn on_strange_versions(
        &mut self,
        from: SocketAddr,
        id: ConnectionId,
        bytes: &[u8],
        protection: &mut impl Protection,
    ) -> Handled {
        if protection.open(bytes).is_err() {
            return self.drop_packet(DropReason::NotAuthentic);
        }
        self.on_versions(from, id, bytes.get(HEADER_BYTES..).unwrap_or_default())
    }

    pub(super) fn connecting(&mut self, slot: u16) -> Option<&mut Connecting> {
        match &mut self.flows.at_mut(slot)?.stage {
            Stage::Connecting(connecting) => Some(connecting),
            _ => None,
        }
    }

    /// The connecting flow that a packet answers. It may come from another port than the INIT
    /// went to: the engines of a process pass INITs on to each other.
    fn find_connecting(&self, from: SocketAddr, id: ConnectionId) -> Result<u16, DropReason> {
        match self.flows.at(id.slot()) {
            Some(flow) if flow.local_id == id && matches!(flow.stage, Stage::Connecting(_)) => {
                let same_host = flow.peer.ip() == from.ip();
                if same_host { Ok(id.slot()) } else { Err(DropReason::WrongAddress) }
            }
            _ => Err(DropReason::StaleHandshake),
        }
    }
}
