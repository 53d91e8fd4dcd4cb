//! One engine's flows, behind one door: packets and time go in, events and packets come out.

mod event;
mod receive;
mod slab;
mod turn;

use alloc::collections::VecDeque;
use core::net::SocketAddr;

use nic_wire::ConnectionId;
use nic_wire::handshake::ResetReason;

use crate::config::{Config, ConfigError};
use crate::congestion::{CongestionControl, FixedWindow};
use crate::counters::{Counters, Drops, EndpointCounters, FlowCounters};
use crate::flow::{Flow, Stage};
use crate::frames::Reclaim;
use crate::handshake::{Control, Cookies};
use crate::peers::PeerTable;
use crate::secret::{Purpose, Random, keys};
use crate::slots::SlotQueue;
use crate::timers::Timers;

pub(crate) use event::End;
pub use event::{CloseReason, ConnectError, ConnectFailure, FlowEvent, Handled};
pub(crate) use receive::plain;
pub use slab::FlowHandle;
use slab::Slab;

/// The flows of one engine. Single-threaded, and it does nothing by itself.
///
/// A turn of the engine is: [`handle`](Endpoint::handle) for each packet received and
/// [`Flow::accept`] for those that the op layer took; [`poll_event`](Endpoint::poll_event) until
/// there is none; [`Flow::send`] for what is to leave; [`on_timeout`](Endpoint::on_timeout);
/// [`poll_work`](Endpoint::poll_work) until there is none, with [`Flow::retransmit`] and
/// [`Flow::write_ack`] for each; [`poll_control`](Endpoint::poll_control) until there is none.
/// Then [`next_timeout`](Endpoint::next_timeout) says how long the engine may sleep.
#[derive(Debug)]
pub struct Endpoint<C = FixedWindow> {
    pub(crate) config: Config,
    pub(crate) engine: u8,
    pub(crate) incarnation: u64,
    random: Random,
    pub(crate) cookies: Cookies,
    pub(crate) congestion: C,
    pub(crate) flows: Slab<C>,
    pub(crate) peers: PeerTable,
    pub(crate) timers: Timers,
    /// Flows whose timers have to be looked at, since something happened to them.
    touched: SlotQueue,
    /// Flows with acks or retransmissions to send.
    work: SlotQueue,
    /// Flows with an event to tell.
    events: SlotQueue,
    pub(crate) control: VecDeque<Control>,
    pub(crate) reclaim_hand: u16,
    pub(crate) counters: EndpointCounters,
    drops: Drops,
    /// Counts of flows that have been removed.
    past: FlowCounters,
}

impl Endpoint<FixedWindow> {
    /// An endpoint whose flows have the fixed window of the configuration. `seed` has to be
    /// unpredictable to strangers; `engine` is this engine's number within its process,
    /// `incarnation` is different at each start.
    ///
    /// # Errors
    /// A setting is unsound.
    pub fn new(
        config: Config,
        engine: u8,
        seed: u64,
        incarnation: u64,
    ) -> Result<Self, ConfigError> {
        let window = FixedWindow(config.congestion_window_bytes);
        Self::with_congestion_control(config, engine, seed, incarnation, window)
    }
}

impl<C: CongestionControl> Endpoint<C> {
    /// An endpoint each of whose flows begins with a copy of `congestion`.
    ///
    /// # Errors
    /// A setting is unsound.
    pub fn with_congestion_control(
        config: Config,
        engine: u8,
        seed: u64,
        incarnation: u64,
        congestion: C,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let slots = config.flows_max;
        Ok(Endpoint {
            engine,
            incarnation,
            random: Random::new(seed),
            cookies: Cookies::new(seed, config.cookie_epoch),
            congestion,
            flows: Slab::new(slots),
            peers: PeerTable::new(slots, keys(seed, Purpose::Tables)),
            timers: Timers::new(slots),
            touched: SlotQueue::new(slots),
            work: SlotQueue::new(slots),
            events: SlotQueue::new(slots),
            control: VecDeque::with_capacity(usize::from(config.control_max)),
            reclaim_hand: 0,
            counters: EndpointCounters::default(),
            drops: Drops::default(),
            past: FlowCounters::default(),
            config,
        })
    }

    /// Ends a flow from this side: the peer is told `reason`, and no event follows. The flow then
    /// wants to be removed.
    pub fn close(&mut self, handle: FlowHandle, reason: ResetReason) {
        if self.flows.get(handle).is_some_and(|flow| !matches!(flow.stage, Stage::Ended)) {
            self.ask_reset(handle.slot(), reason);
            self.end(handle.slot(), None);
        }
    }

    /// Forgets a flow: releases every frame that it retains and frees its place. A flow that has
    /// not ended is closed first. Old handles find nothing from now on.
    pub fn remove(&mut self, handle: FlowHandle, frames: &mut impl Reclaim) {
        self.close(handle, ResetReason::Closing);
        if let Some(mut flow) = self.flows.remove(handle) {
            flow.release_frames(frames);
            self.past.add(flow.counters());
        }
    }

    /// The flow, to send on it or to change it; `None` if it was removed.
    #[inline]
    pub fn flow_mut(&mut self, handle: FlowHandle) -> Option<&mut Flow<C>> {
        let flow = self.flows.get_mut(handle)?;
        self.touched.push(handle.slot());
        Some(flow)
    }

    /// The flow, to look at; `None` if it was removed.
    #[inline]
    pub fn flow(&self, handle: FlowHandle) -> Option<&Flow<C>> {
        self.flows.get(handle)
    }

    /// All flows in the order of their slots, ended ones included: for pool pressure and metrics.
    pub fn iter(&self) -> impl Iterator<Item = (FlowHandle, &Flow<C>)> {
        self.flows.iter().map(|(slot, flow)| (self.flows.handle(slot), flow))
    }

    /// How many flows there are, of all stages.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// This engine's number within its process.
    pub fn engine(&self) -> u8 {
        self.engine
    }

    /// All counts since the start. Takes time in proportion to the number of flows: to be read
    /// now and then, not at every turn.
    pub fn counters(&self) -> Counters {
        let mut flows = self.past;
        self.flows.iter().for_each(|(_, flow)| flows.add(flow.counters()));
        Counters { endpoint: self.counters, flows, drops: self.drops }
    }

    /// The flow ends. What it retains stays until it is removed.
    pub(crate) fn end(&mut self, slot: u16, end: Option<End>) {
        let Some(flow) = self.flows.at_mut(slot) else { return };
        flow.stage = Stage::Ended;
        let (peer, remote) = (flow.peer, flow.remote_id());
        if remote != ConnectionId::NONE {
            self.peers.remove(peer, remote, slot);
        }
        self.timers.disarm(slot);
        self.flows.set_ended(slot, end);
        match end {
            Some(End::Failed(_)) => self.counters.connects_failed += 1,
            Some(End::Closed(CloseReason::PeerLost)) => self.counters.peers_lost += 1,
            Some(End::Closed(CloseReason::Abandoned)) => self.counters.abandoned += 1,
            Some(End::Closed(CloseReason::ResetByPeer(_))) | None => {}
        }
        if end.is_some() {
            self.events.push(slot);
        }
    }

    pub(crate) fn note_opened(&mut self, slot: u16) {
        let Some(role) = self.flows.at(slot).map(Flow::role) else { return };
        self.flows.set_opened(slot, role);
        self.events.push(slot);
        self.touched.push(slot);
    }

    /// The open flow whose peer has this address and receives under this id.
    pub(crate) fn find_by_peer(&self, from: SocketAddr, remote: ConnectionId) -> Option<u16> {
        self.peers.find(from, remote, |slot| {
            self.flows.at(slot).is_some_and(|flow| flow.peer == from && flow.remote_id() == remote)
        })
    }

    pub(crate) fn draw_id(&mut self, slot: u16) -> ConnectionId {
        ConnectionId::new(self.engine, slot, self.random.draw())
    }

    /// Random numbers stay far below the limit: packets are numbered upwards from them.
    pub(crate) fn draw_first_number(&mut self) -> u64 {
        self.config.first_packet_number.unwrap_or_else(|| self.random.draw() >> 16)
    }
}
