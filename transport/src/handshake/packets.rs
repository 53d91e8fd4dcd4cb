//! Makes the packets of the handshake, each at the moment when it is sent.

use core::net::SocketAddr;

use nic_wire::handshake::{Accept, Init, Reset, ResetReason, Retry, Versions};
use nic_wire::packet::{HEADER_BYTES, PacketHeader, PacketKind};
use nic_wire::{ConnectionId, Time, WIRE_VERSION};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::{ANY_ENGINE, Connecting, Control, ResetOf, lowest_version};
use crate::config::Config;
use crate::congestion::CongestionControl;
use crate::endpoint::{Endpoint, FlowHandle};
use crate::flow::{Flow, Stage};
use crate::protection::Protection;

/// How long a handshake packet is at most, in bytes.
pub const CONTROL_BYTES_MAX: usize = HEADER_BYTES + size_of::<Init>();

impl<C: CongestionControl> Endpoint<C> {
    /// Whether [`Endpoint::poll_control`] has something to write.
    #[inline]
    pub fn wants_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Writes the next handshake packet, reset or version list that wants to be sent into `into`
    /// and says how long it is and where it goes. `None` when there is none.
    ///
    /// # Panics
    /// If `into` is shorter than [`CONTROL_BYTES_MAX`].
    pub fn poll_control(
        &mut self,
        now: Time,
        into: &mut [u8],
        protection: &mut impl Protection,
    ) -> Option<(usize, SocketAddr)> {
        while let Some(control) = self.control.pop_front() {
            let written = match control {
                Control::Init(flow) => self.write_init(now, flow, into),
                Control::Accept(flow) => self.write_accept(flow, into),
                Control::Retry { to, initiator } => {
                    self.counters.retries_sent += 1;
                    let body = Retry { cookie: self.cookies.bake(now, to, initiator) };
                    Some((write(into, PacketKind::Retry, initiator, &body), to))
                }
                Control::Versions { to, initiator } => {
                    let versions = self.config.versions;
                    let body = Versions { initiator_id: initiator.raw().into(), versions };
                    Some((write(into, PacketKind::Versions, initiator, &body), to))
                }
                Control::Reset(reset) => Some(self.write_reset(&reset, into)),
            };
            // A flow may have ended since its packet was asked for.
            if let Some((length, to)) = written {
                protection.seal(&mut into[..length]);
                self.counters.control_sent += 1;
                return Some((length, to));
            }
        }
        None
    }

    fn write_init(
        &mut self,
        now: Time,
        handle: FlowHandle,
        into: &mut [u8],
    ) -> Option<(usize, SocketAddr)> {
        let incarnation = self.incarnation;
        let config = &self.config;
        let flow = self.flows.get_mut(handle)?;
        let Stage::Connecting(connecting) = &mut flow.stage else { return None };
        connecting.note_sent(now);
        let connecting = connecting.clone();
        let body = init_of(flow, &connecting, config, incarnation);
        let length = write(into, PacketKind::Init, ConnectionId::NONE, &body);
        into[0] = lowest_version(&config.versions);
        self.counters.inits_sent += 1;
        Some((length, flow.peer))
    }

    fn write_accept(&mut self, handle: FlowHandle, into: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let flow = self.flows.get_mut(handle).filter(|flow| flow.is_open())?;
        let (op_credits, reply_credits_kib) = flow.granted();
        let body = Accept {
            target_id: flow.local_id.raw().into(),
            first_packet_number: flow.initial_number().into(),
            transcript: flow.transcript.into(),
            window_bytes: self.config.receive_window_bytes.into(),
            packet_bytes: self.config.packet_bytes.into(),
            version: flow.version(),
            engine: self.engine,
            ack_delay_us: delay_us(&self.config).into(),
            op_credits: op_credits.into(),
            reply_credits_kib: reply_credits_kib.into(),
            port: self.config.port.into(),
            incarnation: self.incarnation.into(),
            ..Accept::new_zeroed()
        };
        Some((write(into, PacketKind::Accept, flow.remote_id(), &body), flow.peer))
    }

    fn write_reset(&mut self, reset: &ResetOf, into: &mut [u8]) -> (usize, SocketAddr) {
        let body = Reset {
            answered_id: reset.answered.raw().into(),
            reason: (reset.reason as u16).into(),
            ..Reset::new_zeroed()
        };
        self.counters.resets_sent += 1;
        (write(into, PacketKind::Reset, reset.connection, &body), reset.to)
    }

    /// Asks for a packet of a flow of ours to be sent.
    pub(crate) fn ask(&mut self, control: Control) {
        if self.control.len() < usize::from(self.config.control_max) {
            self.control.push_back(control);
        } else {
            self.counters.control_overflows += 1;
        }
    }

    /// Asks for an answer to a stranger. Strangers never take more than half of the queue.
    pub(crate) fn answer(&mut self, control: Control) {
        if self.control.len() < usize::from(self.config.control_max).div_ceil(2) {
            self.control.push_back(control);
        } else {
            self.counters.control_overflows += 1;
        }
    }

    /// Asks for a RESET to be sent to the other end of an open flow of ours.
    pub(crate) fn ask_reset(&mut self, slot: u16, reason: ResetReason) {
        if let Some(flow) = self.flows.at(slot).filter(|flow| flow.is_open()) {
            let (connection, answered) = (flow.remote_id(), flow.local_id);
            let to = flow.peer;
            self.ask(Control::Reset(ResetOf { to, connection, answered, reason }));
        }
    }
}

/// The INIT of a connecting flow: the same every time, but for the cookie.
pub(crate) fn init_of<C: CongestionControl>(
    flow: &Flow<C>,
    connecting: &Connecting,
    config: &Config,
    incarnation: u64,
) -> Init {
    Init {
        initiator_id: flow.local_id.raw().into(),
        cookie: connecting.cookie,
        versions: config.versions,
        first_packet_number: flow.initial_number().into(),
        window_bytes: config.receive_window_bytes.into(),
        packet_bytes: config.packet_bytes.into(),
        wanted_engine: connecting.wanted_engine.map_or(ANY_ENGINE, u16::from).into(),
        ack_delay_us: delay_us(config).into(),
        reserved: 0.into(),
        incarnation: incarnation.into(),
    }
}

/// Rounded up, so that the peer never expects an ack too early.
fn delay_us(config: &Config) -> u32 {
    u32::try_from(config.ack_delay.as_ns().div_ceil(1_000)).unwrap_or(u32::MAX)
}

fn write<B: IntoBytes + Immutable>(
    into: &mut [u8],
    kind: PacketKind,
    connection: ConnectionId,
    body: &B,
) -> usize {
    let (header, length) = (PacketHeader::new(kind, connection), HEADER_BYTES + size_of::<B>());
    debug_assert_eq!(header.version, WIRE_VERSION);
    header.write(&mut into[..length]);
    into[HEADER_BYTES..length].copy_from_slice(body.as_bytes());
    length
}
