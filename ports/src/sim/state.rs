//! What a simulated network consists of at a moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use nic_wire::Time;

use super::link::{Link, LinkConfig};
use super::script::Script;
use super::store::{Parcel, Store};
use super::{SimConfig, SimError, SimPacket, Verdict};
use crate::Random;

/// What became of the packets of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimCounters {
    /// Packets sent.
    pub sent: u64,
    /// Copies that reached a port.
    pub delivered: u64,
    /// Packets lost by chance or script.
    pub lost: u64,
    /// Packets of which a second copy was made.
    pub duplicated: u64,
    /// Packets delayed so that others could overtake them.
    pub reordered: u64,
    /// Packets of which a bit was changed.
    pub corrupted: u64,
    /// Packets that met a cut link, on entering it or on the way.
    pub partitioned: u64,
    /// Packets to an address that no port had.
    pub unreachable: u64,
    /// Packets that found the queue of a link, the inbox of a port or the network itself full.
    pub overflowed: u64,
}

/// Something that happens at a moment; in the order of time, then of its making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Time,
    sequence: u64,
    what: Occurrence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Occurrence {
    /// A packet arrives.
    Arrival(u32),
    /// A port gets frames back: nothing for the network to do, but a moment to wake the driver.
    FrameReturn,
}

pub(super) struct State {
    pub(super) config: SimConfig,
    pub(super) now: Time,
    pub(super) counters: SimCounters,
    pub(super) script: Option<Script>,
    pub(super) store: Store,
    random: Random,
    inboxes: BTreeMap<SocketAddr, VecDeque<u32>>,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    cut: BTreeSet<(IpAddr, IpAddr)>,
    paused: BTreeSet<IpAddr>,
    events: BinaryHeap<Reverse<Event>>,
    events_max: usize,
    sequence: u64,
}

impl State {
    pub(super) fn new(seed: u64, config: SimConfig) -> Self {
        // Besides arrivals, every frame of a few ports may be on hold.
        let events_max = config.packets_max as usize + 4 * config.pool.frames as usize;
        State {
            config,
            now: Time::ZERO,
            counters: SimCounters::default(),
            script: None,
            store: Store::new(config.packets_max),
            random: Random::new(seed),
            inboxes: BTreeMap::new(),
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            paused: BTreeSet::new(),
            events: BinaryHeap::with_capacity(events_max),
            events_max,
            sequence: 0,
        }
    }

    /// Gives an address to a port, and links between its host and all others.
    pub(super) fn attach(&mut self, address: SocketAddr) -> Result<(), SimError> {
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(SimError::NoAddress { address });
        }
        if self.inboxes.contains_key(&address) {
            return Err(SimError::AddressInUse { address });
        }
        let room = self.config.inbox_packets as usize;
        self.inboxes.insert(address, VecDeque::with_capacity(room));
        let host = address.ip();
        for peer in self.inboxes.keys().map(SocketAddr::ip) {
            for pair in [(host, peer), (peer, host)] {
                self.links.entry(pair).or_insert_with(|| Link::new(self.config.link));
            }
        }
        Ok(())
    }

    /// Takes the address away again; what waits there is gone.
    pub(super) fn detach(&mut self, address: SocketAddr) {
        for number in self.inboxes.remove(&address).into_iter().flatten() {
            self.store.remove(number);
        }
    }

    pub(super) fn set_link(&mut self, from: IpAddr, to: IpAddr, config: LinkConfig) {
        self.links.entry((from, to)).or_insert_with(|| Link::new(config)).config = config;
    }

    pub(super) fn set_cut(&mut self, from: IpAddr, to: IpAddr, cut: bool) {
        if cut {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    pub(super) fn set_paused(&mut self, host: IpAddr, paused: bool) {
        if paused {
            self.paused.insert(host);
        } else {
            self.paused.remove(&host);
        }
    }

    pub(super) fn is_paused(&self, host: IpAddr) -> bool {
        self.paused.contains(&host)
    }

    /// When something happens next.
    pub(super) fn next_event(&self) -> Option<Time> {
        self.events.peek().map(|Reverse(event)| event.at)
    }

    /// Moves the clock, and all packets that arrive until then.
    pub(super) fn advance_to(&mut self, time: Time) {
        while let Some(&Reverse(event)) = self.events.peek() {
            if event.at > time {
                break;
            }
            self.events.pop();
            self.now = self.now.max(event.at);
            if let Occurrence::Arrival(number) = event.what {
                self.arrive(number);
            }
        }
        self.now = self.now.max(time);
    }

    /// Puts a packet onto its link.
    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let number = self.counters.sent;
        self.counters.sent += 1;
        let verdict = match &mut self.script {
            Some(script) => script(&SimPacket { number, now: self.now, from, to, bytes }),
            None => Verdict::Chance,
        };
        let pair = (from.ip(), to.ip());
        if self.cut.contains(&pair) {
            self.counters.partitioned += 1;
            return;
        }
        let Some(link) = self.links.get_mut(&pair) else {
            self.counters.unreachable += 1;
            return;
        };
        let length = bytes.len();
        let passage = link.carry(self.now, length as u64, verdict, &mut self.random);
        self.counters.overflowed += u64::from(passage.overflow);
        let lost = passage.arrivals[0].is_none() && !passage.overflow;
        self.counters.lost += u64::from(lost);
        self.counters.reordered += u64::from(passage.reordered);
        self.counters.duplicated += u64::from(passage.arrivals[1].is_some());
        self.counters.corrupted += u64::from(passage.corrupt_bit.is_some());
        for (copy, at) in passage.arrivals.into_iter().flatten().enumerate() {
            let stored = self.store.put(Parcel { from, to, length }, bytes);
            let Some(stored) = stored else {
                self.counters.overflowed += 1;
                continue;
            };
            // Of two copies the first is the harmed one.
            if let Some(bit) = passage.corrupt_bit.filter(|_| copy == 0) {
                self.store.flip(stored, bit);
            }
            self.schedule(at, Occurrence::Arrival(stored));
        }
    }

    /// Makes sure that the driver wakes when a port gets frames back.
    pub(super) fn schedule_frame_return(&mut self, at: Time) {
        self.schedule(at, Occurrence::FrameReturn);
    }

    /// The oldest packet that waits at an address.
    pub(super) fn next_waiting(&self, address: &SocketAddr) -> Option<u32> {
        self.inboxes.get(address)?.front().copied()
    }

    /// Forgets the oldest packet that waits at an address.
    pub(super) fn remove_waiting(&mut self, address: &SocketAddr) {
        let inbox = self.inboxes.get_mut(address);
        if let Some(number) = inbox.and_then(VecDeque::pop_front) {
            self.store.remove(number);
        }
    }

    fn arrive(&mut self, number: u32) {
        let Some((parcel, _)) = self.store.get(number) else { return };
        if self.cut.contains(&(parcel.from.ip(), parcel.to.ip())) {
            self.counters.partitioned += 1;
            self.store.remove(number);
            return;
        }
        match self.inboxes.get_mut(&parcel.to) {
            Some(inbox) if inbox.len() < self.config.inbox_packets as usize => {
                inbox.push_back(number);
                self.counters.delivered += 1;
            }
            Some(_) => {
                self.counters.overflowed += 1;
                self.store.remove(number);
            }
            None => {
                self.counters.unreachable += 1;
                self.store.remove(number);
            }
        }
    }

    fn schedule(&mut self, at: Time, what: Occurrence) {
        if self.events.len() == self.events_max {
            // Only frame returns of very many ports can bring this about; losing one costs a
            // driver that waits for nothing else a wake-up. A packet has its place.
            if let Occurrence::Arrival(number) = what {
                self.counters.overflowed += 1;
                self.store.remove(number);
            }
            return;
        }
        self.sequence += 1;
        self.events.push(Reverse(Event { at, sequence: self.sequence, what }));
    }
}
