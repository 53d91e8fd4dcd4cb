//! The target's side: INITs arrive.

use core::net::SocketAddr;

use nic_wire::handshake::{Init, MAX_VERSIONS, ResetReason};
use nic_wire::packet::HEADER_BYTES;
use nic_wire::{ConnectionId, Span, Time};
use zerocopy::FromBytes;

use super::{ANY_ENGINE, Control, ResetOf, common_version, transcript};
use crate::config::{FIRST_PACKET_NUMBER_LIMIT, PACKET_BYTES_MIN};
use crate::congestion::CongestionControl;
use crate::counters::DropReason;
use crate::endpoint::{CloseReason, End, Endpoint, Handled};
use crate::flow::{Agreed, Birth, Flow, Role};
use crate::protection::Protection;

/// How many flows are looked at in search of one that can be reclaimed.
const RECLAIM_LOOKS: usize = 8;
/// Where an INIT's list of versions ends, in every version.
const INIT_LASTING_BYTES: usize = 32;

impl<C: CongestionControl> Endpoint<C> {
    pub(crate) fn on_init(&mut self, now: Time, from: SocketAddr, body: &[u8]) -> Handled {
        let Ok((init, _)) = Init::read_from_prefix(body) else {
            return self.drop_packet(DropReason::Malformed);
        };
        match init.wanted_engine.get() {
            ANY_ENGINE => {}
            wanted if wanted == u16::from(self.engine) => {}
            wanted => match u8::try_from(wanted) {
                Ok(engine) => return self.foreign(engine),
                Err(_) => return self.drop_packet(DropReason::Malformed),
            },
        }
        let initiator = ConnectionId::from_raw(init.initiator_id.get());
        let plausible = initiator != ConnectionId::NONE
            && init.first_packet_number.get() < FIRST_PACKET_NUMBER_LIMIT
            && init.packet_bytes.get() >= PACKET_BYTES_MIN;
        if !plausible {
            return self.drop_packet(DropReason::Malformed);
        }
        let Some(version) = common_version(&self.config.versions, &init.versions) else {
            return self.answer_versions(from, initiator);
        };
        if !self.cookies.is_ours(now, from, initiator, init.cookie) {
            self.answer(Control::Retry { to: from, initiator });
            return self.control();
        }
        if let Some(known) = self.find_by_peer(from, initiator) {
            return self.on_init_again(known, &init);
        }
        self.accept_flow(now, from, initiator, &init, version)
    }

    /// The INIT of a version that this build cannot read: only its beginning is known.
    pub(crate) fn on_strange_init(
        &mut self,
        from: SocketAddr,
        bytes: &[u8],
        protection: &mut impl Protection,
    ) -> Handled {
        if protection.open(bytes).is_err() {
            return self.drop_packet(DropReason::NotAuthentic);
        }
        let Some(body) = bytes.get(HEADER_BYTES..).filter(|b| b.len() >= INIT_LASTING_BYTES) else {
            return self.drop_packet(DropReason::Malformed);
        };
        match <[u8; 8]>::try_from(&body[..8]).map(u64::from_le_bytes) {
            Ok(initiator) if initiator != 0 => {
                self.answer_versions(from, ConnectionId::from_raw(initiator))
            }
            _ => self.drop_packet(DropReason::Malformed),
        }
    }

    fn answer_versions(&mut self, from: SocketAddr, initiator: ConnectionId) -> Handled {
        self.counters.version_mismatches += 1;
        self.answer(Control::Versions { to: from, initiator });
        self.control()
    }

    /// The flow is there already: its ACCEPT was lost, or is late.
    fn on_init_again(&mut self, slot: u16, init: &Init) -> Handled {
        let repeated = self.flows.at(slot).is_some_and(|flow| {
            flow.is_open() && flow.role() == Role::Target && flow.transcript == transcript(init)
        });
        if !repeated {
            return self.drop_packet(DropReason::StaleHandshake);
        }
        self.counters.duplicate_inits += 1;
        let handle = self.flows.handle(slot);
        self.ask(Control::Accept(handle));
        self.control()
    }

    fn accept_flow(
        &mut self,
        now: Time,
        from: SocketAddr,
        initiator: ConnectionId,
        init: &Init,
        version: u8,
    ) -> Handled {
        let Some(slot) = self.flows.take_slot() else {
            return self.refuse(now, from, initiator, init.incarnation.get());
        };
        let agreed = Agreed {
            remote_id: initiator,
            first_packet_number: init.first_packet_number.get(),
            window_bytes: init.window_bytes.get(),
            packet_bytes: init.packet_bytes.get(),
            version,
            engine: initiator.engine(),
            incarnation: init.incarnation.get(),
            ack_delay: Span::from_us(init.ack_delay_us.get().into()),
            op_credits: 0,
            reply_credits_kib: 0,
        };
        let birth = Birth {
            now,
            local_id: self.draw_id(slot),
            peer: from,
            first_packet_number: self.draw_first_number(),
            config: &self.config,
            congestion: self.congestion.clone(),
        };
        let mut flow = Flow::accepted(birth, &agreed);
        flow.transcript = transcript(init);
        self.flows.put(slot, flow);
        self.peers.insert(from, initiator, slot);
        self.counters.opened_as_target += 1;
        self.note_opened(slot);
        let handle = self.flows.handle(slot);
        self.ask(Control::Accept(handle));
        self.control()
    }

    /// All slots are taken. If one can be reclaimed, the initiator's next INIT will find it free.
    fn refuse(
        &mut self,
        now: Time,
        from: SocketAddr,
        initiator: ConnectionId,
        incarnation: u64,
    ) -> Handled {
        let reclaimed = self.flows.any_to_be_removed()
            || self.reclaim_former(from, incarnation)
            || self.reclaim(now);
        if reclaimed {
            return self.drop_packet(DropReason::NoRoom);
        }
        self.answer(Control::Reset(ResetOf {
            to: from,
            connection: initiator,
            answered: initiator,
            reason: ResetReason::NoRoom,
        }));
        self.drop_packet(DropReason::NoRoom)
    }

    /// Closes the flows of an engine's former incarnations: its successor is at their address, which
    /// it has proven. Not before there is need: an INIT that was delayed on its way may be older
    /// than the flows that are there.
    fn reclaim_former(&mut self, from: SocketAddr, incarnation: u64) -> bool {
        let mut reclaimed = false;
        for slot in 0..self.config.flows_max {
            let former = self.flows.at(slot).is_some_and(|flow| {
                let successor = flow.peer == from && flow.peer_incarnation() != incarnation;
                successor && flow.is_open() && flow.role() == Role::Target
            });
            if former {
                self.end(slot, Some(End::Closed(CloseReason::Abandoned)));
                reclaimed = true;
            }
        }
        reclaimed
    }

    /// Closes a target's flow that has been silent for long. Flows with nothing outstanding have
    /// no timers, so this is where those of dead initiators end.
    pub(super) fn reclaim(&mut self, now: Time) -> bool {
        for _ in 0..RECLAIM_LOOKS.min(usize::from(self.config.flows_max)) {
            let slot = self.reclaim_hand;
            self.reclaim_hand = (slot + 1) % self.config.flows_max;
            let idle = self.flows.at(slot).is_some_and(|flow| {
                let patience = if flow.was_used() {
                    self.config.idle_timeout
                } else {
                    self.config.connect_timeout
                };
                flow.is_open() && flow.role() == Role::Target && flow.silence(now) >= patience
            });
            if idle {
                self.ask_reset(slot, ResetReason::Abandoned);
                self.end(slot, Some(End::Closed(CloseReason::Abandoned)));
                return true;
            }
        }
        false
    }
}

const _: () = assert!(INIT_LASTING_BYTES == 8 + 16 + MAX_VERSIONS);
