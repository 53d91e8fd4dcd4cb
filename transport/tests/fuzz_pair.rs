//! Two endpoints, the network between them and their users, driven by an arbitrary script.
//!
//! Where nobody forges packets every payload is taken at most once, and by the time that the
//! network has been good for a while exactly once, or its flow is known to be dead. Where somebody
//! does, flows may end, but nothing panics, nothing is held for ever, and new flows work.
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used)]

mod world;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use bolero::TypeGenerator;
use nic_transport::{Config, Endpoint, FlowHandle};
use nic_wire::Span;
use nic_wire::handshake::ResetReason;
use nic_wire::packet::HEADER_BYTES;
use world::{Crc, Datagram, Pool, Verdict, World, address};

const FLOWS_MAX: u16 = 6;
/// Flows that host 0 asks for at most: its place for one more is for the last test of all.
const CONNECTS_MAX: usize = 4;

/// What becomes of a packet that is sent.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Fate {
    Deliver,
    Drop,
    Twice,
    Late { us: u16 },
    Corrupt { place: u16, bit: u8 },
}

/// One step of a script without forgery.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Step {
    Send {
        flow: u8,
        length: u16,
        packets: u8,
    },
    Advance {
        us: u16,
    },
    /// As long as retransmission time-outs take.
    AdvanceFar {
        ms: u8,
    },
    /// A packet of any time before arrives once more.
    Replay {
        place: u16,
    },
    Rare(RareStep),
}

/// Apart, so that flows live for a while before one of these comes.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum RareStep {
    Connect,
    /// One end closes a flow, or forgets it without a word.
    Close {
        host: bool,
        flow: u8,
        is_silent: bool,
    },
    /// A host forgets everything.
    Restart {
        host: bool,
    },
    /// From now on a host's op layer declines packets this often, in permille.
    Refuse {
        host: bool,
        permille: u16,
    },
    /// From now on a host's port sends so many packets per turn.
    Slow {
        host: bool,
        packets: u8,
    },
}

/// Packets that no honest host sends.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Forgery {
    /// Arbitrary bytes behind a header that is right as far as this goes.
    Bytes { bytes: [u8; 160], length: u8, to: bool, flow: u8, is_impersonating: bool },
    /// A packet of any time before with one field of its header changed, and sealed again.
    Field { place: u16, field: u8, value: Extreme },
    /// A packet of any time before, changed and sealed again.
    Changed { place: u16, changes: [(u16, u8); 3], is_from_elsewhere: bool },
}

/// What a field is changed to.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Extreme {
    Zero,
    Ones,
    More { by: i8 },
    TopBit,
}

/// Where the words of a header lie from the flags on, in bytes: the check and the connection id
/// aside.
const FIELDS: [usize; 12] = [2, 16, 20, 24, 28, 36, 40, 44, 48, 52, 56, 60];

/// One step of any script.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum HostileStep {
    Honest(Step),
    Forge(Forgery),
}

struct Play {
    world: World,
    fates: Rc<RefCell<VecDeque<Fate>>>,
    /// Flows that host 0 asked for.
    flows: Vec<FlowHandle>,
    incarnations: u64,
    /// Payloads begin with their own numbers; this is the next.
    serial: u64,
    /// Which payload was sent on which flow, since host 0 started.
    sent: Vec<(FlowHandle, u64)>,
}

fn config() -> Config {
    Config {
        flows_max: FLOWS_MAX,
        peer_timeout: Span::from_ms(200),
        connect_timeout: Span::from_ms(200),
        idle_timeout: Span::from_ms(1_000),
        ..Config::default()
    }
}

impl Play {
    fn new(fates: &[Fate]) -> Self {
        let mut world = World::pair(1, &config());
        world.hosts[1].echoes = true;
        let fates = Rc::new(RefCell::new(fates.iter().copied().collect::<VecDeque<_>>()));
        let shared = Rc::clone(&fates);
        world.script(move |_, datagram| {
            match shared.borrow_mut().pop_front().unwrap_or(Fate::Deliver) {
                Fate::Deliver => Verdict::Deliver,
                Fate::Drop => Verdict::Drop,
                Fate::Twice => Verdict::Twice,
                Fate::Late { us } => Verdict::Late(Span::from_us(us.into())),
                Fate::Corrupt { place, bit } => {
                    let place = usize::from(place) % datagram.bytes.len();
                    datagram.bytes[place] ^= 1 << (bit % 8);
                    Verdict::Deliver
                }
            }
        });
        let mut play = Play {
            world,
            fates,
            flows: Vec::new(),
            incarnations: 100,
            serial: 0,
            sent: Vec::new(),
        };
        play.connect();
        play
    }

    fn connect(&mut self) {
        if self.world.hosts[0].endpoint.flows() < CONNECTS_MAX {
            let flow = self.world.connect(0, 1);
            self.flows.push(flow);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { flow, length, packets } => {
                let flow = usize::from(flow) % self.flows.len().max(1);
                if let Some(&flow) = self.flows.get(flow) {
                    (0..packets % 16).for_each(|_| self.send(flow, usize::from(length)));
                }
            }
            Step::Advance { us } => self.world.run_for(Span::from_us(us.into())),
            Step::AdvanceFar { ms } => self.world.run_for(Span::from_ms(ms.into())),
            Step::Replay { place } => {
                if let Some(datagram) = self.recorded(place) {
                    self.world.deliver(&datagram);
                }
            }
            Step::Rare(step) => self.rare_step(step),
        }
        self.check();
    }

    fn rare_step(&mut self, step: RareStep) {
        match step {
            RareStep::Connect => self.connect(),
            RareStep::Close { host, flow, is_silent } => self.close(host.into(), flow, is_silent),
            RareStep::Restart { host } => self.restart(host.into()),
            RareStep::Refuse { host, permille } => {
                self.world.hosts[usize::from(host)].refusals = u64::from(permille) % 1000;
            }
            RareStep::Slow { host, packets } => {
                self.world.hosts[usize::from(host)].pool.sends_per_turn = 1 + usize::from(packets);
            }
        }
    }

    fn send(&mut self, flow: FlowHandle, length: usize) {
        // So few that neither window nor pool is ever short of more than a moment.
        let host = &self.world.hosts[0];
        if host.outbox.len() < 16 && host.endpoint.flow(flow).is_some() {
            let mut payload = vec![0; 8 + length % (1400 - HEADER_BYTES - 8)];
            payload[..8].copy_from_slice(&self.serial.to_le_bytes());
            self.sent.push((flow, self.serial));
            self.serial += 1;
            self.world.send(0, flow, &payload);
        }
    }

    fn recorded(&self, place: u16) -> Option<Datagram> {
        let log = &self.world.log;
        log.get(usize::from(place) % log.len().max(1)).map(|entry| entry.1.clone())
    }

    fn close(&mut self, host: usize, flow: u8, is_silent: bool) {
        let host = &mut self.world.hosts[host];
        let flows: Vec<_> = host.endpoint.iter().map(|(handle, _)| handle).collect();
        let Some(&flow) = flows.get(usize::from(flow) % flows.len().max(1)) else { return };
        host.endpoint.close(flow, ResetReason::Closing);
        if is_silent {
            let mut packet = [0; 2048];
            while host.endpoint.poll_control(self.world.now, &mut packet, &mut Crc).is_some() {}
        }
        host.endpoint.remove(flow, &mut host.pool);
    }

    fn restart(&mut self, host: usize) {
        self.incarnations += 1;
        let restarted = &mut self.world.hosts[host];
        let seed = 0x5eed ^ self.incarnations;
        restarted.endpoint = Endpoint::new(config(), 0, seed, self.incarnations).unwrap();
        restarted.pool = Pool::new(512);
        restarted.outbox.clear();
        restarted.events.clear();
        restarted.inbox.clear();
        if host == 0 {
            self.flows.clear();
            self.sent.clear();
        }
    }

    fn forge(&mut self, forgery: &Forgery) {
        let datagram = match forgery {
            Forgery::Bytes { bytes, length, to, flow, is_impersonating } => {
                let to = usize::from(*to);
                let host = &self.world.hosts[to];
                let ids: Vec<_> = host.endpoint.iter().map(|(_, flow)| flow.local_id()).collect();
                let mut bytes = bytes[..usize::from(*length).clamp(HEADER_BYTES, 160)].to_vec();
                bytes[0] = nic_wire::WIRE_VERSION;
                bytes[1] = 1 + bytes[1] % 6;
                let flags = u16::from(bytes[2] & 15) | (bytes.len() as u16) << 4;
                bytes[2..4].copy_from_slice(&flags.to_le_bytes());
                if let Some(id) = ids.get(usize::from(*flow) % ids.len().max(1)) {
                    bytes[8..16].copy_from_slice(&id.raw().to_le_bytes());
                }
                let from = if *is_impersonating { address(1 - to) } else { address(6) };
                Datagram { from, to: address(to), bytes }
            }
            Forgery::Field { place, field, value } => {
                let Some(mut datagram) = self.recorded(*place) else { return };
                let at = FIELDS[usize::from(*field) % FIELDS.len()];
                let width = if at == 2 { 2 } else { 4 };
                let mut word = [0; 4];
                word[..width].copy_from_slice(&datagram.bytes[at..at + width]);
                let word = u32::from_le_bytes(word);
                let word = match value {
                    Extreme::Zero => 0,
                    Extreme::Ones => u32::MAX,
                    Extreme::More { by } => word.wrapping_add_signed((*by).into()),
                    Extreme::TopBit => word ^ 1 << 31,
                };
                datagram.bytes[at..at + width].copy_from_slice(&word.to_le_bytes()[..width]);
                datagram
            }
            Forgery::Changed { place, changes, is_from_elsewhere } => {
                let Some(mut datagram) = self.recorded(*place) else { return };
                for (place, byte) in changes {
                    let place = usize::from(*place) % datagram.bytes.len();
                    datagram.bytes[place] = *byte;
                }
                if *is_from_elsewhere {
                    datagram.from = address(6);
                }
                datagram
            }
        };
        let mut datagram = datagram;
        datagram.forge(|_| {});
        self.world.deliver(&datagram);
        self.check();
    }

    /// What holds at every moment.
    fn check(&self) {
        for host in &self.world.hosts {
            assert!(host.endpoint.flows() <= usize::from(FLOWS_MAX));
            let mut taken = BTreeSet::new();
            for (flow, number, _) in &host.inbox {
                assert!(taken.insert((*flow, *number)), "number {number} was taken twice");
            }
            // The world's hosts keep no frames, so what is in use is retained or queued.
            let retained: u32 = host.endpoint.iter().map(|entry| entry.1.unacked_packets()).sum();
            assert!(host.pool.in_use() <= retained as usize + host.pool.waiting());
        }
    }

    /// Where nobody forges: each payload was taken at most once, and is one that was sent.
    fn check_payloads(&self) {
        for host in &self.world.hosts {
            let mut serials = BTreeSet::new();
            for serial in host.inbox.iter().map(serial_of) {
                assert!(serial < self.serial, "a payload that nobody sent");
                assert!(serials.insert(serial), "payload {serial} was taken twice");
            }
        }
    }

    /// Where nobody forges: flows that live have lost nothing.
    fn check_nothing_is_lost(&self) {
        let [initiator, target] = &self.world.hosts[..] else { unreachable!() };
        for inbox in [&target.inbox, &initiator.inbox] {
            let taken: BTreeSet<_> = inbox.iter().map(serial_of).collect();
            for (flow, serial) in &self.sent {
                let is_open = initiator.endpoint.flow(*flow).is_some();
                assert!(!is_open || taken.contains(serial), "payload {serial} was lost");
            }
        }
    }

    /// The network and the hosts are good from now on, long enough for every time-out.
    fn calm(&mut self) {
        self.fates.borrow_mut().clear();
        for host in &mut self.world.hosts {
            host.refusals = 0;
            host.pool.sends_per_turn = usize::MAX;
        }
        self.world.run_for(Span::from_ms(5_000));
        // What waited for a flow that has ended at the last moment is thrown away.
        self.world.settle();
        assert_eq!(self.world.hosts[0].outbox.len(), 0, "{}", self.world.summary());
    }

    /// Each flow works, or both ends come to know that it is dead.
    fn every_flow_works_or_is_dead(&mut self) {
        let flows: Vec<_> = self.world.hosts[0].endpoint.iter().map(|entry| entry.0).collect();
        let first = self.serial;
        flows.iter().for_each(|flow| self.send(*flow, 100));
        self.world.run_for(Span::from_ms(5_000));
        for (flow, serial) in flows.iter().zip(first..) {
            let is_open = self.world.hosts[0].endpoint.flow(*flow).is_some();
            let echoed = self.world.hosts[0].inbox.iter().any(|(_, _, payload)| {
                payload.get(..8).is_some_and(|found| found == serial.to_le_bytes())
            });
            assert!(
                echoed || !is_open,
                "a flow that neither works nor ends: {}",
                self.world.summary()
            );
        }
        for host in &self.world.hosts {
            assert_eq!(host.outbox.len(), 0, "{}", self.world.summary());
            assert_eq!(host.pool.in_use(), 0, "{}", self.world.summary());
        }
    }

    fn a_new_flow_works(&mut self) {
        let flow = self.world.connect(0, 1);
        self.world.run_for(Span::from_ms(1_000));
        let serial = self.serial;
        self.send(flow, 100);
        self.world.run_for(Span::from_ms(100));
        let found = self.world.hosts[0]
            .inbox
            .iter()
            .filter(|(on, _, payload)| *on == flow && payload[..8] == serial.to_le_bytes());
        assert_eq!(found.count(), 1, "a new flow works: {}", self.world.summary());
    }

    fn tear_down(&mut self) {
        for host in &mut self.world.hosts {
            let flows: Vec<_> = host.endpoint.iter().map(|entry| entry.0).collect();
            flows.iter().for_each(|flow| host.endpoint.remove(*flow, &mut host.pool));
            assert_eq!(host.endpoint.flows(), 0);
            host.pool.assert_all_free();
        }
    }
}

/// The number that an unforged payload begins with.
fn serial_of(taken: &(FlowHandle, u64, Vec<u8>)) -> u64 {
    u64::from_le_bytes(taken.2[..8].try_into().unwrap())
}

#[test]
fn faults_without_forgery() {
    let input = bolero::check!().with_iterations(1_000).with_type::<(Vec<Fate>, Vec<Step>)>();
    input.for_each(|(fates, steps)| {
        let mut play = Play::new(fates);
        for step in steps {
            play.step(*step);
            play.check_payloads();
        }
        play.calm();
        play.check_payloads();
        play.every_flow_works_or_is_dead();
        play.a_new_flow_works();
        play.check();
        play.check_payloads();
        play.check_nothing_is_lost();
        play.tear_down();
    });
}

#[test]
fn forgery() {
    let input = bolero::check!().with_iterations(1_000);
    input.with_type::<(Vec<Fate>, Vec<HostileStep>)>().for_each(|(fates, steps)| {
        let mut play = Play::new(fates);
        for step in steps {
            match step {
                HostileStep::Honest(step) => play.step(*step),
                HostileStep::Forge(forgery) => play.forge(forgery),
            }
        }
        play.calm();
        play.every_flow_works_or_is_dead();
        play.a_new_flow_works();
        play.check();
        play.tear_down();
    });
}
