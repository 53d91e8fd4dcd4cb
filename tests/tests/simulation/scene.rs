//! A world of engines with their applications, and the run of it.

use std::net::{IpAddr, SocketAddr};

use nic_engine::engine::Neighbours;
use nic_ports::Random;
use nic_tests::{Ask, Done, HostId, World};
use nic_wire::{Fate, Span, Status, Time};

use crate::deeds::{Deed, End, Ground, Issued, Wish};
use crate::faults::Faults;
use crate::initiator::{Goal, Initiator, Way};
use crate::oracle::{Calls, Lookups, Order, Region, Tick};
use crate::owner::{Owner, Right};
use crate::plan::{Kind, OVERRUN, Plan, SLACK};
use crate::tally::Tally;

/// After so much time without a completion something hangs.
const PATIENCE: Span = Span::from_ms(30_000);

/// An engine and the applications of its host. Their memory outlives them.
pub struct Place {
    pub host: HostId,
    pub process: usize,
    pub region: Region,
    pub lookups: Lookups,
    pub owner: Option<Owner>,
    pub initiators: Vec<Initiator>,
    /// How long it has stood still, and since when it does.
    pub paused: Span,
    pub paused_since: Option<Time>,
}

/// See the module's description.
pub struct Scene {
    pub plan: Plan,
    pub random: Random,
    pub world: World,
    pub places: Vec<Place>,
    pub faults: Faults,
    pub calls: Calls,
    pub tally: Tally,
    pub tick: Tick,
    serial: u64,
    pub submitted: u64,
    last_progress: Time,
    /// The last rounds: nothing new is begun.
    pub is_ending: bool,
}

/// The address of a process's host.
pub fn ip(process: usize) -> IpAddr {
    IpAddr::from([10, 1, 0, process as u8 + 1])
}

impl Place {
    /// What ops on this engine's memory work on.
    fn ground<'a>(&'a mut self, calls: &'a mut Calls) -> Ground<'a> {
        Ground { region: &mut self.region, lookups: &mut self.lookups, calls }
    }

    /// The newest right to a region.
    fn right(&self, goal: Goal) -> Option<nic_wire::Rkey> {
        match (goal, self.owner.as_ref()?) {
            (Goal::Table, owner) => Some(owner.table),
            (Goal::Plain, Owner { plain: Right::Given(rkey), .. }) => Some(*rkey),
            (Goal::Plain, _) => None,
        }
    }
}

impl Scene {
    /// The world of a seed, with its applications.
    pub fn new(seed: u64, ops: u64) -> Self {
        let mut random = Random::new(seed ^ 0x51ed_2701);
        let plan = Plan::draw(&mut random, ops);
        let mut world = World::with_network(seed, plan.network);
        // Packets carry the low half of the clock, which wraps after 4.3 s.
        if random.below(3) == 0 {
            world.network.advance_to(Time::from_ns((1 << 32) - random.below(2_000_000)));
        }
        world.let_engines_sleep(plan.sleepy);
        let (mut places, mut tally) = (Vec::new(), Tally::default());
        for (process, engines) in plan.processes.iter().enumerate() {
            for number in 0..*engines {
                let address = SocketAddr::new(ip(process), 4791 + u16::from(number));
                let config = plan.engine(&mut random, number);
                tally.add_start(&config);
                let host = world.add_engine_at(address, config);
                places.push(Place {
                    host,
                    process,
                    region: Region::new(),
                    lookups: Lookups::new(),
                    owner: None,
                    initiators: Vec::new(),
                    paused: Span::ZERO,
                    paused_since: None,
                });
            }
        }
        let last_progress = world.now();
        let mut scene = Scene {
            plan,
            random,
            world,
            places,
            faults: Faults::default(),
            calls: Calls::default(),
            tally,
            tick: 1,
            serial: 1,
            submitted: 0,
            last_progress,
            is_ending: false,
        };
        for process in 0..scene.plan.processes.len() {
            scene.introduce(process);
        }
        for place in 0..scene.places.len() {
            scene.start_owner(place);
            for _ in 0..1 + scene.random.below(3) {
                scene.start_initiator(place);
            }
        }
        scene
    }

    /// Tells the engines of a process of each other.
    pub fn introduce(&mut self, process: usize) {
        let engines = usize::from(self.plan.processes[process]);
        let mut neighbours =
            Neighbours::of_process((0..engines).map(|_| None).collect()).into_iter();
        for place in self.places.iter().filter(|place| place.process == process) {
            let own = neighbours.next().expect("one for each engine");
            self.world.host(place.host).engine.set_neighbours(own);
        }
    }

    pub fn start_owner(&mut self, place: usize) {
        let Place { host, region, lookups, owner, .. } = &mut self.places[place];
        region.thaw();
        *owner = Some(Owner::start(&mut self.world, *host, region, lookups));
    }

    pub fn start_initiator(&mut self, place: usize) {
        self.serial += 1;
        let (targets, number) = (self.places.len(), self.serial as u32);
        let Place { host, initiators, .. } = &mut self.places[place];
        let random = &mut self.random;
        initiators.push(Initiator::start(&mut self.world, *host, number, targets, random));
    }

    /// Runs the seed's ops and everything that goes wrong.
    pub fn run(&mut self) {
        while self.submitted < self.plan.ops {
            self.disturb();
            self.turn();
        }
    }

    /// All applications do what they can, and the clock moves on.
    pub fn turn(&mut self) {
        let now = self.world.now();
        let mut due = Time::NEVER;
        for place in 0..self.places.len() {
            self.collect(place);
            let Place { owner, region, .. } = &mut self.places[place];
            if let Some(owner) = owner {
                let (random, patient) = (&mut self.random, self.plan.patient);
                owner.settle(&mut self.world, region);
                owner.serve(random, patient, &mut self.calls, now);
                due = due.min(owner.due());
            }
            self.keep_ways_open(place);
            if !self.is_ending {
                self.refill(place);
            }
        }
        self.look_around();
        let waited = now.since(self.last_progress);
        assert!(waited < PATIENCE, "no completion in {} us: {:?}", waited.as_us(), self.stuck());
        if due > now && due != Time::NEVER {
            self.world.step_until(due.min(now + Span::from_ms(1)));
        } else {
            self.world.step();
        }
    }

    /// Takes completions.
    fn collect(&mut self, place: usize) {
        for index in 0..self.places[place].initiators.len() {
            for done in self.places[place].initiators[index].session.poll() {
                let out = &mut self.places[place].initiators[index].out;
                let issued = out[done.token as u16 as usize].take();
                self.end(place, &issued.expect("the session knows what is out"), &done);
            }
        }
    }

    fn end(&mut self, place: usize, issued: &Issued, done: &Done) {
        let now = self.world.now();
        self.last_progress = now;
        self.tick += 1;
        self.check_end(place, issued, done);
        let started = now.as_ns().saturating_sub(u64::from(done.total_delay_ns));
        let deadline = Time::from_ns(started) + issued.budget;
        let end = End {
            done,
            tick: self.tick,
            now,
            horizon: self.horizon(),
            gone_at: deadline.max(now) + SLACK,
        };
        issued.end(&end, &mut self.places[issued.target].ground(&mut self.calls));
        self.tally.add("ops", format!("{:?}, {:?}", done.status, done.fate), 1);
        self.tally.note(now.as_ns() ^ done.token << 8 ^ u64::from(done.status.code()));
    }

    /// Whether an op may end like this here, and in time.
    fn check_end(&self, place: usize, issued: &Issued, done: &Done) {
        let is_call = matches!(issued.deed, Deed::Call { .. });
        let plan = &self.plan;
        let is_possible = match done.status {
            Status::Ok => done.fate == Fate::Executed,
            Status::Busy | Status::ServiceFailed | Status::ReplyTooLong if is_call => true,
            Status::Expired | Status::Busy => !plan.patient,
            Status::PeerLost | Status::Unreachable => !plan.patient && plan.kind >= Kind::Outages,
            Status::Revoked | Status::BadRkey => plan.kind == Kind::Deaths,
            Status::NoService => is_call && plan.kind == Kind::Deaths,
            _ => false,
        };
        assert!(is_possible, "{:?} of {issued:?} in {plan:?}", done.ended());
        let stood = self.stood_still(place).as_ns() - issued.paused.as_ns();
        let allowed = issued.budget.as_ns() + OVERRUN.as_ns() + stood;
        let taken = u64::from(done.total_delay_ns);
        assert!(taken <= allowed, "{taken} ns where {allowed} were allowed: {issued:?}");
    }

    /// For each engine, whether it has an owner, how many ops are out, and its ways.
    fn stuck(&self) -> Vec<String> {
        let of = |place: &Place| {
            let initiators = place.initiators.iter();
            let out: Vec<usize> = initiators.map(|initiator| initiator.session.out()).collect();
            let ways: Vec<&Way> =
                place.initiators.iter().flat_map(|initiator| &initiator.ways).collect();
            let has_owner = place.owner.is_some();
            format!("owner: {has_owner}, ops: {out:?}, ways: {ways:?}")
        };
        self.places.iter().map(of).collect()
    }

    /// How long an engine has stood still so far.
    fn stood_still(&self, place: usize) -> Span {
        let place = &self.places[place];
        let now = self.world.now();
        let running = place.paused_since.map_or(Span::ZERO, |since| now.since(since));
        Span::from_ns(place.paused.as_ns() + running.as_ns())
    }

    /// No op that is out began before.
    pub fn horizon(&self) -> Tick {
        let initiators = self.places.iter().flat_map(|place| &place.initiators);
        let out = initiators.flat_map(|initiator| initiator.out.iter().flatten());
        out.map(|issued| issued.begun).min().unwrap_or(self.tick)
    }

    /// Keeps all ways of an engine's sessions open. Whether they are the newest.
    pub fn keep_ways_open(&mut self, place: usize) -> bool {
        let mut all = true;
        for index in 0..self.places[place].initiators.len() {
            for way in 0..self.places[place].initiators[index].ways.len() {
                let Initiator { ways, .. } = &self.places[place].initiators[index];
                let target = &self.places[ways[way].target];
                let (engine, right) = (target.host, target.right(ways[way].goal));
                let Initiator { ways, session, .. } = &mut self.places[place].initiators[index];
                all &= ways[way].keep_open(&mut self.world, session, engine, right);
            }
        }
        all
    }

    /// Whether every way was opened once.
    pub fn are_ways_open(&self) -> bool {
        let mut initiators = self.places.iter().flat_map(|place| &place.initiators);
        initiators.all(|initiator| initiator.ways.iter().all(|way| way.remote.is_some()))
    }

    fn refill(&mut self, place: usize) {
        for index in 0..self.places[place].initiators.len() {
            let initiator = &self.places[place].initiators[index];
            let out = initiator.session.out();
            if out > initiator.low {
                continue;
            }
            for _ in out..initiator.high {
                self.submit(place, index);
            }
        }
    }

    fn submit(&mut self, place: usize, index: usize) {
        let ways = self.places[place].initiators[index].ways.len() as u64;
        let way = self.random.below(ways) as usize;
        let goal = self.places[place].initiators[index].ways[way].goal;
        // The table's lookups are a small part.
        let is_lookup = goal == Goal::Table && self.random.below(4) == 0;
        let way = if goal == Goal::Table && !is_lookup { way - 1 } else { way };
        let budget = self.budget();
        self.submit_on(place, index, way, budget, false);
    }

    fn budget(&mut self) -> Span {
        let hurried = self.random.below(1000) < self.plan.hurried;
        match (self.plan.patient, hurried) {
            (true, _) => Span::from_ms(10_000),
            (false, true) => {
                let scale = 3 + self.random.below(10);
                Span::from_us(self.random.below(1 << scale))
            }
            (false, false) => Span::from_ms(10 + self.random.below(500)),
        }
    }

    /// Submits an op on a way; `only_add`: one whose end is simple. False: the way was never open.
    pub fn submit_on(
        &mut self,
        place: usize,
        index: usize,
        way: usize,
        budget: Span,
        only_add: bool,
    ) -> bool {
        let paused = self.stood_still(place);
        let initiator = &mut self.places[place].initiators[index];
        let (way, room) = (&initiator.ways[way], initiator.session.piece_bytes());
        let (target, goal) = (way.target, way.goal);
        let Some((remote, _)) = way.remote else { return false };
        self.tick += 1;
        self.serial += 1;
        initiator.sequence += 1;
        let stream = self.random.below(u64::from(self.plan.streams)) as u16;
        let order = Order {
            stream: (initiator.number, stream, target),
            sequence: initiator.sequence,
            fence: self.random.below(1000) < self.plan.fenced,
        };
        let bulk = self.random.below(1000) < self.plan.bulk;
        let wish = Wish { remote, order, begun: self.tick, room, tag: self.serial, bulk };
        let mut ground = self.places[target].ground(&mut self.calls);
        let (deed, ask) = match (goal, only_add) {
            (Goal::Table, _) => Deed::lookup(&mut self.random, &wish, ground.lookups),
            (Goal::Plain, true) => Deed::add(&mut self.random, &wish, ground.region),
            (Goal::Plain, false) => Deed::draw(&mut self.random, &wish, &mut ground),
        };
        let kernel = deed.kernel();
        let ask = Ask { fence: order.fence, ..ask }.in_stream(stream).within(budget);
        let initiator = &mut self.places[place].initiators[index];
        let token = initiator.session.submit(&ask);
        let issued = Issued { deed, target, order, begun: self.tick, budget, paused };
        initiator.out[token as u16 as usize] = Some(issued);
        self.submitted += 1;
        self.tally.add("submitted", kernel, 1);
        self.tally.add("with a fence", "", u64::from(order.fence));
        true
    }

    /// Ops of an application or an engine that is gone: nobody will ever know.
    pub fn give_up(&mut self, issued: Vec<Issued>) {
        self.tally.add("ops", "no completion, the application is gone", issued.len() as u64);
        for issued in issued {
            let gone_at = self.world.now() + issued.budget + SLACK;
            issued.unknown(gone_at, &mut self.places[issued.target].ground(&mut self.calls));
        }
    }

    /// Owners change their tables, and some memory is compared with its model.
    fn look_around(&mut self) {
        let (now, horizon) = (self.world.now(), self.horizon());
        self.tick += 1;
        let place = self.random.below(self.places.len() as u64) as usize;
        let Place { region, lookups, .. } = &mut self.places[place];
        if self.random.below(8) == 0 && !self.is_ending {
            let (key, erase) = (self.random.below(crate::oracle::KEYS), self.random.below(4) == 0);
            lookups.change(key, erase, self.tick, horizon);
        }
        match self.random.below(64) {
            0 => region.audit(self.tick, now),
            1..8 => {
                let extent = self.random.below(region.extents.len() as u64) as usize;
                region.audit_extent(extent, self.tick, now);
            }
            _ => {}
        }
    }
}
