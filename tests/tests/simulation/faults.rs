//! What goes wrong, and what ends it.

use nic_engine::engine::Work;
use nic_wire::{Span, Time};

use crate::owner::Right;
use crate::plan::{self, Kind};
use crate::scene::{Place, Scene, ip};

/// What ends a fault.
#[derive(Clone, Copy, Debug)]
enum Remedy {
    Heal(usize, usize),
    /// The process goes on.
    Resume(usize),
    /// The host's ports work again.
    Unplug(usize),
    Revive(usize),
    Owner(usize),
    Export(usize),
    Initiator(usize),
}

/// Faults that last, and when each ends.
#[derive(Debug, Default)]
pub struct Faults {
    remedies: Vec<(Time, Remedy)>,
}

impl Faults {
    /// Whether a process is dead or stands still, or its ports do.
    fn ails(&self, process: usize) -> bool {
        self.remedies.iter().any(|(_, remedy)| match remedy {
            Remedy::Resume(other) | Remedy::Unplug(other) | Remedy::Revive(other) => {
                *other == process
            }
            _ => false,
        })
    }

    fn add(&mut self, at: Time, remedy: Remedy) {
        self.remedies.push((at, remedy));
    }
}

impl Scene {
    /// Ends the faults whose time has come, and perhaps begins another.
    pub fn disturb(&mut self) {
        self.end_faults(self.world.now());
        if self.random.below(1_000_000) >= self.plan.faults {
            return;
        }
        let duration = self.plan.duration(&mut self.random);
        let end = self.world.now() + duration;
        let process = self.random.below(self.plan.processes.len() as u64) as usize;
        let place = self.random.below(self.places.len() as u64) as usize;
        let is_deadly = self.plan.kind == Kind::Deaths && self.random.below(2) == 0;
        match (is_deadly, self.random.below(8)) {
            (true, 0) => self.kill(process, end),
            (true, 1) => self.end_owner(place, end),
            (true, 2..4) => self.end_initiator(place, end),
            (true, 4..6) => self.end_right(place, true, end),
            (true, _) => self.end_right(place, false, end),
            (false, 0..2) => self.cut(process, true, end),
            (false, 2) => self.cut(process, false, end),
            (false, 3..5) => self.pause(process, end),
            (false, 5) => self.unplug(process, end),
            (false, 6) => self.misdirect(place),
            (false, _) => self.change_link(process),
        }
    }

    /// Ends the faults whose time has come.
    pub fn end_faults(&mut self, until: Time) {
        let all = std::mem::take(&mut self.faults.remedies);
        let (due, later) = all.into_iter().partition(|(at, _)| *at <= until);
        self.faults.remedies = later;
        let due: Vec<(Time, Remedy)> = due;
        for (_, remedy) in due {
            self.remedy(remedy);
        }
    }

    fn remedy(&mut self, remedy: Remedy) {
        match remedy {
            Remedy::Heal(left, right) => self.world.network.heal(ip(left), ip(right)),
            Remedy::Resume(process) => self.resume(process),
            Remedy::Unplug(process) => self.world.network.resume(ip(process)),
            Remedy::Revive(process) => self.revive(process),
            Remedy::Initiator(place) if self.is_alive(place) => self.start_initiator(place),
            Remedy::Owner(place) if self.is_alive(place) && self.places[place].owner.is_none() => {
                self.start_owner(place);
            }
            Remedy::Export(place) => self.export(place),
            // What died meanwhile comes back with its engine.
            Remedy::Initiator(_) | Remedy::Owner(_) => {}
        }
    }

    /// Gives a right to a region again, once the former has ended.
    fn export(&mut self, place: usize) {
        let Place { owner, region, .. } = &mut self.places[place];
        let Some(owner) = owner else { return };
        match owner.plain {
            Right::Given(_) => {}
            Right::Ended => owner.export(&mut self.world, region),
            Right::Ending(_) => {
                let at = self.world.now() + Span::from_us(50);
                self.faults.add(at, Remedy::Export(place));
            }
        }
    }

    fn is_alive(&self, place: usize) -> bool {
        self.world.is_alive(self.places[place].host)
    }

    fn cut(&mut self, process: usize, both: bool, end: Time) {
        let others = self.plan.processes.len() as u64 - 1;
        let other = (process + 1 + self.random.below(others) as usize) % (others as usize + 1);
        if both {
            self.world.network.partition(ip(process), ip(other));
            self.tally.add("faults", "partitions", 1);
        } else {
            self.world.network.cut(ip(process), ip(other));
            self.tally.add("faults", "one-way partitions", 1);
        }
        self.faults.add(end, Remedy::Heal(process, other));
    }

    fn pause(&mut self, process: usize, end: Time) {
        if self.faults.ails(process) {
            return;
        }
        let now = self.world.now();
        for place in self.places.iter_mut().filter(|place| place.process == process) {
            self.world.pause(place.host);
            place.paused_since = Some(now);
        }
        self.faults.add(end, Remedy::Resume(process));
        self.tally.add("faults", "pauses of a process", 1);
    }

    fn resume(&mut self, process: usize) {
        let now = self.world.now();
        for place in self.places.iter_mut().filter(|place| place.process == process) {
            self.world.resume(place.host);
            let since = place.paused_since.take().expect("it stood still");
            place.paused = Span::from_ns(place.paused.as_ns() + now.since(since).as_ns());
        }
    }

    fn unplug(&mut self, process: usize, end: Time) {
        if self.faults.ails(process) {
            return;
        }
        self.world.network.pause(ip(process));
        self.faults.add(end, Remedy::Unplug(process));
        self.tally.add("faults", "ports that stand still", 1);
    }

    /// Packets for an engine reach the other one of its process.
    fn misdirect(&mut self, place: usize) {
        let process = self.places[place].process;
        let other = (0..self.places.len())
            .find(|other| *other != place && self.places[*other].process == process);
        let from = self.random.below(self.places.len() as u64) as usize;
        // A flow is with the engine that its first packet reaches: those must be open.
        let is_settled = self.plan.patient && self.are_ways_open();
        if let Some(other) = other.filter(|_| is_settled) {
            let (to, astray) = (self.places[place].host, self.places[other].host);
            let (to, astray) = (self.world.address(to), self.world.address(astray));
            let packets = 1 + self.random.below(20) as u32;
            self.world.host(self.places[from].host).misdirection.set(to, astray, packets);
            self.tally.add("faults", "packets led to the wrong engine", u64::from(packets));
        }
    }

    fn change_link(&mut self, process: usize) {
        let link = plan::link(&mut self.random, self.plan.kind);
        let other = self.random.below(self.plan.processes.len() as u64) as usize;
        self.world.network.set_link(ip(process), ip(other), link);
        self.tally.add("faults", "links that become others", 1);
    }

    fn kill(&mut self, process: usize, end: Time) {
        if self.faults.ails(process) {
            return;
        }
        for index in 0..self.places.len() {
            if self.places[index].process != process {
                continue;
            }
            self.count_engine(index);
            let place = &mut self.places[index];
            self.world.kill(place.host);
            place.owner = None;
            place.region.freeze();
            let initiators = std::mem::take(&mut place.initiators);
            let out = initiators.into_iter().flat_map(|initiator| initiator.out);
            self.give_up(out.flatten().collect());
        }
        self.faults.add(end, Remedy::Revive(process));
        self.tally.add("faults", "deaths of a process of engines", 1);
    }

    fn revive(&mut self, process: usize) {
        let mut number = 0;
        for index in 0..self.places.len() {
            if self.places[index].process == process {
                let config = self.plan.engine(&mut self.random, number);
                self.tally.add_start(&config);
                self.world.restart(self.places[index].host, config);
                number += 1;
            }
        }
        self.introduce(process);
        for index in 0..self.places.len() {
            if self.places[index].process == process {
                self.start_owner(index);
                for _ in 0..1 + self.random.below(3) {
                    self.start_initiator(index);
                }
            }
        }
    }

    fn end_owner(&mut self, place: usize, end: Time) {
        let Place { owner, host, region, .. } = &mut self.places[place];
        let Some(owner) = owner.take() else { return };
        self.world.released(*host, Work::RemoveClient { client: owner.client });
        region.freeze();
        self.faults.add(end, Remedy::Owner(place));
        self.tally.add("faults", "deaths of an owner of regions", 1);
    }

    fn end_initiator(&mut self, place: usize, end: Time) {
        let count = self.places[place].initiators.len() as u64;
        if count == 0 {
            return;
        }
        let index = self.random.below(count) as usize;
        let initiator = self.places[place].initiators.swap_remove(index);
        self.world.released(self.places[place].host, initiator.end_work());
        self.give_up(initiator.out.into_iter().flatten().collect());
        self.faults.add(end, Remedy::Initiator(place));
        self.tally.add("faults", "deaths of an initiator", 1);
    }

    fn end_right(&mut self, place: usize, revoke: bool, end: Time) {
        let Some(owner) = &mut self.places[place].owner else { return };
        if !matches!(owner.plain, Right::Given(_)) {
            return;
        }
        if revoke {
            owner.revoke(&mut self.world);
        } else {
            owner.deregister(&mut self.world);
        }
        let what = if revoke { "revocations" } else { "regions given up" };
        self.tally.add("faults", what, 1);
        self.faults.add(end, Remedy::Export(place));
    }
}
