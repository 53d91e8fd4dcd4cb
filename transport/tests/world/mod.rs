//! A small world for tests: hosts with an endpoint each, a network that misbehaves by seed or by
//! script, and a clock that moves only when all have done what they can.
#![allow(dead_code)]

pub mod pool;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use nic_transport::{AckDue, Config, Endpoint, FlowEvent, FlowHandle, Handled, Role};
use nic_wire::packet::{HEADER_BYTES, Packet, PacketFlags, PacketKind};
use nic_wire::{Span, Time};

pub use pool::{Crc, Pool};

/// splitmix64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Datagram {
    /// The kind, or none for bytes that are no packet of this version.
    pub fn kind(&self) -> Option<PacketKind> {
        Packet::parse(&self.bytes).ok().map(|packet| packet.kind)
    }

    pub fn is(&self, kind: PacketKind) -> bool {
        self.kind() == Some(kind)
    }

    pub fn is_numbered(&self) -> bool {
        let flags = Packet::parse(&self.bytes).map(|packet| packet.header.flags());
        self.is(PacketKind::Data) && flags.unwrap().contains(PacketFlags::NUMBERED)
    }

    /// Changes the body or header and makes the checksum right again.
    pub fn forge(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.bytes);
        Crc::seal_bytes(&mut self.bytes);
    }
}

pub enum Verdict {
    Deliver,
    Drop,
    /// Deliver this much later than others.
    Late(Span),
    Twice,
}

/// What the network does by chance, in permille.
#[derive(Clone, Default)]
pub struct Faults {
    pub loss: u64,
    pub duplication: u64,
    pub reordering: u64,
    pub corruption: u64,
}

type Script = Box<dyn FnMut(usize, &mut Datagram) -> Verdict>;

pub struct Host {
    pub address: SocketAddr,
    pub endpoint: Endpoint,
    pub pool: Pool,
    pub events: Vec<FlowEvent>,
    /// Payloads of accepted packets, with their numbers.
    pub inbox: Vec<(FlowHandle, u64, Vec<u8>)>,
    /// Payloads that leave as the windows allow.
    pub outbox: VecDeque<(FlowHandle, Vec<u8>)>,
    /// Every payload goes back where it came from.
    pub echoes: bool,
    /// How often a packet is not accepted, in permille.
    pub refusals: u64,
    /// Removes flows when they end.
    pub removes: bool,
    /// A dead host neither sends nor receives.
    pub dead: bool,
    pub handled: Vec<Handled>,
}

pub struct World {
    pub now: Time,
    pub hosts: Vec<Host>,
    pub random: Random,
    pub faults: Faults,
    pub latency: Span,
    pub script: Option<Script>,
    /// Everything that was sent, before the network's faults.
    pub log: Vec<(Time, Datagram)>,
    flying: BTreeMap<(Time, u64), Datagram>,
    flown: u64,
}

pub fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8 + 1], 4000))
}

impl World {
    /// Two hosts of the same configuration, a network without faults, 10 us apart.
    pub fn pair(seed: u64, config: &Config) -> World {
        World::of(seed, &[config.clone(), config.clone()])
    }

    pub fn of(seed: u64, configs: &[Config]) -> World {
        let host = |(index, config): (usize, &Config)| Host {
            address: address(index),
            endpoint: Endpoint::new(config.clone(), 0, seed ^ index as u64, 7 + index as u64)
                .unwrap(),
            pool: Pool::new(512),
            events: Vec::new(),
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            echoes: false,
            refusals: 0,
            removes: true,
            dead: false,
            handled: Vec::new(),
        };
        World {
            // Near the wrap of truncated times, which thereby happens in every test.
            now: Time::from_ns(u64::from(u32::MAX) - 300_000),
            hosts: configs.iter().enumerate().map(host).collect(),
            random: Random(seed),
            faults: Faults::default(),
            latency: Span::from_us(10),
            script: None,
            log: Vec::new(),
            flying: BTreeMap::new(),
            flown: 0,
        }
    }

    pub fn script(&mut self, script: impl FnMut(usize, &mut Datagram) -> Verdict + 'static) {
        self.script = Some(Box::new(script));
    }

    /// Opens a flow from host 0 to host 1 and runs until both ends have it.
    pub fn open(&mut self) -> (FlowHandle, FlowHandle) {
        let flow = self.connect(0, 1);
        self.run_until(|world| world.hosts[0].endpoint.flow(flow).unwrap().is_open());
        (flow, self.opened(1).expect("the target's flow"))
    }

    pub fn connect(&mut self, from: usize, to: usize) -> FlowHandle {
        let to = self.hosts[to].address;
        self.hosts[from].endpoint.connect(self.now, to, None).unwrap()
    }

    /// The last flow that a host saw opened.
    pub fn opened(&self, host: usize) -> Option<FlowHandle> {
        self.hosts[host].events.iter().rev().find_map(|event| match event {
            FlowEvent::Opened { flow, role } => {
                assert_eq!(*role == Role::Initiator, host == 0);
                Some(*flow)
            }
            _ => None,
        })
    }

    pub fn send(&mut self, host: usize, flow: FlowHandle, payload: &[u8]) {
        self.hosts[host].outbox.push_back((flow, payload.to_vec()));
    }

    /// Puts a packet on the wire as it is.
    pub fn inject(&mut self, datagram: Datagram) {
        let at = self.now + self.latency;
        self.fly(at, datagram);
    }

    /// Sends all that wants to be sent now, without moving the clock or delivering.
    pub fn settle(&mut self) {
        for index in 0..self.hosts.len() {
            self.turn(index);
        }
    }

    /// Runs until the condition holds, or fails after 100 s of world time.
    pub fn run_until(&mut self, mut condition: impl FnMut(&World) -> bool) {
        let give_up = self.now + Span::from_ms(100_000);
        loop {
            self.settle();
            if condition(self) {
                return;
            }
            let next = self.next_moment();
            assert!(next < give_up, "the condition never came true; {:?}", self.summary());
            self.step_to(next);
        }
    }

    /// Runs for so long.
    pub fn run_for(&mut self, span: Span) {
        self.run_at_most(span, |_| false);
    }

    /// Runs until the condition holds, but not longer than this.
    pub fn run_at_most(&mut self, span: Span, mut condition: impl FnMut(&World) -> bool) {
        let end = self.now + span;
        loop {
            self.settle();
            if condition(self) {
                return;
            }
            let next = self.next_moment();
            if next > end {
                self.now = end;
                return;
            }
            self.step_to(next);
        }
    }

    /// Runs until nothing is under way and no timer is set. At most 200 s of world time.
    pub fn run_dry(&mut self) {
        let give_up = self.now + Span::from_ms(200_000);
        loop {
            self.settle();
            let next = self.next_moment();
            if next == Time::NEVER {
                return;
            }
            assert!(next < give_up, "it never ends: {:?}", self.summary());
            self.step_to(next);
        }
    }

    pub fn is_quiescent(&self) -> bool {
        self.next_moment() == Time::NEVER
    }

    fn next_moment(&self) -> Time {
        let flying = self.flying.keys().next().map_or(Time::NEVER, |key| key.0);
        let living = self.hosts.iter().filter(|host| !host.dead);
        let timers = living.map(|host| host.endpoint.next_timeout()).min();
        flying.min(timers.unwrap_or(Time::NEVER))
    }

    fn step_to(&mut self, next: Time) {
        // Flows that were touched want another look at once: that takes a turn, not time.
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let datagram = entry.remove();
            self.deliver(&datagram);
        }
    }

    pub fn deliver(&mut self, datagram: &Datagram) {
        let Some(index) = self.hosts.iter().position(|host| host.address == datagram.to) else {
            return;
        };
        let (now, refused) = (self.now, self.random.below(1000));
        let host = &mut self.hosts[index];
        if host.dead {
            return;
        }
        let handled =
            host.endpoint.handle(now, datagram.from, &datagram.bytes, &mut Crc, &mut host.pool);
        if let Handled::Data { flow, number, body, .. } = handled.clone()
            && refused >= host.refusals
        {
            let payload = datagram.bytes[body].to_vec();
            let accepted = host.endpoint.flow_mut(flow).unwrap().accept(now, number);
            assert!(accepted, "a packet handed out is new");
            if host.echoes {
                host.outbox.push_back((flow, payload.clone()));
            }
            host.inbox.push((flow, number, payload));
        }
        host.handled.push(handled);
    }

    fn turn(&mut self, index: usize) {
        if self.hosts[index].dead {
            return;
        }
        let now = self.now;
        let host = &mut self.hosts[index];
        host.take_events();
        host.send_outbox(now);
        host.endpoint.on_timeout(now);
        let mut leaving = host.do_work(now);
        // The events of time-outs.
        host.take_events();
        leaving.extend(host.pool.transmit());
        let mut packet = [0; 2048];
        while let Some((length, to)) = host.endpoint.poll_control(now, &mut packet, &mut Crc) {
            leaving.push((packet[..length].to_vec(), to));
        }
        let from = host.address;
        for (bytes, to) in leaving {
            self.transmit(Datagram { from, to, bytes });
        }
    }

    fn transmit(&mut self, mut datagram: Datagram) {
        let verdict = match &mut self.script {
            Some(script) => script(self.log.len(), &mut datagram),
            None => Verdict::Deliver,
        };
        self.log.push((self.now, datagram.clone()));
        let arrival = self.now + self.latency;
        match verdict {
            Verdict::Drop => {}
            Verdict::Late(late) => self.fly(arrival + late, datagram),
            Verdict::Twice => {
                self.fly(arrival, datagram.clone());
                self.fly(arrival + Span::from_us(1), datagram);
            }
            Verdict::Deliver => self.transmit_by_chance(arrival, datagram),
        }
    }

    fn transmit_by_chance(&mut self, arrival: Time, mut datagram: Datagram) {
        let faults = self.faults.clone();
        if self.random.chance(faults.loss) {
            return;
        }
        if self.random.chance(faults.corruption) {
            let bit = self.random.below(datagram.bytes.len() as u64 * 8) as usize;
            datagram.bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if self.random.chance(faults.duplication) {
            let late = Span::from_ns(self.random.below(300_000));
            self.fly(arrival + late, datagram.clone());
        }
        let mut late = Span::ZERO;
        if self.random.chance(faults.reordering) {
            late = Span::from_ns(self.random.below(200_000));
        }
        self.fly(arrival + late, datagram);
    }

    fn fly(&mut self, at: Time, datagram: Datagram) {
        self.flown += 1;
        self.flying.insert((at, self.flown), datagram);
    }

    /// How many packets of a kind were sent since the log was `from` long.
    pub fn sent(&self, from: usize, kind: PacketKind) -> usize {
        self.log[from..].iter().filter(|entry| entry.1.is(kind)).count()
    }

    /// Removes all flows of all hosts and checks that no frame is held by anybody.
    pub fn tear_down(&mut self) {
        for host in &mut self.hosts {
            for event in host.events.clone() {
                if let FlowEvent::Opened { flow, .. } = event {
                    host.endpoint.remove(flow, &mut host.pool);
                }
            }
            assert_eq!(host.endpoint.flows(), 0);
            host.pool.assert_all_free();
        }
    }

    pub fn summary(&self) -> String {
        let hosts = self.hosts.iter().map(|host| {
            format!(
                "{:?}: in {} out {} events {:?} counters {:?}\n",
                host.address,
                host.inbox.len(),
                host.outbox.len(),
                host.events,
                host.endpoint.counters()
            )
        });
        hosts.collect()
    }
}

impl Host {
    pub fn take_events(&mut self) {
        while let Some(event) = self.endpoint.poll_event() {
            if let FlowEvent::Failed { flow, .. } | FlowEvent::Closed { flow, .. } = event
                && self.removes
            {
                self.endpoint.remove(flow, &mut self.pool);
            }
            self.events.push(event);
        }
    }

    fn send_outbox(&mut self, now: Time) {
        let mut waiting = VecDeque::new();
        while let Some((handle, payload)) = self.outbox.pop_front() {
            let Some(flow) = self.endpoint.flow_mut(handle) else { continue };
            let length = HEADER_BYTES + payload.len();
            if !flow.may_send(length) {
                waiting.push_back((handle, payload));
                continue;
            }
            let frame = self.pool.allocate().expect("the pool is large enough");
            self.pool.write(frame, &payload);
            let to = flow.peer();
            flow.send(now, frame, length, &mut self.pool, &mut Crc);
            assert!(flow.unacked_packets() <= 128);
            self.pool.submit(frame, length, to);
            // The flow and the port hold it now.
            self.pool.give_up(frame);
        }
        self.outbox = waiting;
    }

    fn do_work(&mut self, now: Time) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut acks = Vec::new();
        while let Some(handle) = self.endpoint.poll_work() {
            let flow = self.endpoint.flow_mut(handle).unwrap();
            let to = flow.peer();
            while let Some((frame, length)) = flow.retransmit(now, &mut self.pool, &mut Crc) {
                self.pool.submit(frame, length, to);
            }
            if flow.ack_due(now) == AckDue::Now {
                let mut ack = vec![0; 100];
                let length = flow.write_ack(now, &mut ack, &mut Crc);
                ack.truncate(length);
                acks.push((ack, to));
            }
        }
        acks
    }
}
