//! Counts around a slice: engines' counters after minus before, and processes' own clocks.

use std::fs;

use anyhow::{Context, Result};
use nic_engine::engine::Counters;
use nic_figures::Figure;

use super::world::{Way, World};
use crate::engine_counters::{difference, in_status, settled};

/// Everything that is counted, at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    initiator: Counters,
    target: Counters,
    /// CPU time of the target application's threads.
    owner_cpu_ns: u64,
    /// How long the target engine's thread ran, and how long it was ready to and did not.
    engine: Clocks,
    /// Replies that were torn and asked for again.
    retries: u64,
}

/// One mode's counts over all its slices.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    slices: Vec<Slice>,
}

/// The counts of one slice.
#[derive(Clone, Copy, Debug)]
struct Slice {
    gets: u64,
    counts: Snapshot,
}

/// The numbers that a tally gives per GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Request frames sent by the initiator.
    RoundTrips,
    /// Packets of both engines, less retransmissions and those that carry no op.
    Packets,
    /// Packets of both engines, all of them.
    AllPackets,
    /// System calls of both engines that moved a packet.
    SystemCalls,
    /// System calls of both engines that found nothing.
    EmptyPolls,
    /// Torn replies.
    Retries,
    /// Turns of the target's engine that found work, and CPU of the target application, in
    /// microseconds.
    TargetBusyUs,
    /// Turns of the target's engine that found work, in microseconds, as its clock has them.
    TargetTurnsUs,
    /// Turns of the initiator's engine that found work, in microseconds.
    InitiatorTurnsUs,
    /// Packets of both engines that were sent again.
    Retransmissions,
    /// CPU of the target application in microseconds.
    OwnerCpuUs,
    /// Bytes in a request packet. Per packet, not per GET.
    RequestBytes,
    /// Bytes in a reply packet. Per packet, not per GET.
    ReplyBytes,
}

impl Per {
    fn is_time(self) -> bool {
        use Per::{InitiatorTurnsUs, OwnerCpuUs, TargetBusyUs, TargetTurnsUs};
        matches!(self, InitiatorTurnsUs | OwnerCpuUs | TargetBusyUs | TargetTurnsUs)
    }
}

impl Snapshot {
    /// What is counted now, once both engines have come to rest.
    pub fn take(world: &World, way: &Way) -> Result<Self> {
        way.finish_turns()?;
        let target = settled(|| in_status(&world.engine_status()?))?;
        let initiator = match way.nic.counters() {
            Some(counters) => counters,
            None => settled(|| in_status(&way.nic.status()?))?,
        };
        let owner = way.owner.pid();
        let is_engine = |name: &str| name.starts_with("engine-");
        Ok(Snapshot {
            initiator,
            target,
            owner_cpu_ns: clocks(owner, |_| true)?.running_ns,
            engine: clocks(world.engine_pid(), is_engine)?,
            retries: way.session.retries(),
        })
    }

    fn since(&self, before: &Snapshot) -> Snapshot {
        Snapshot {
            initiator: difference(&self.initiator, &before.initiator),
            target: difference(&self.target, &before.target),
            owner_cpu_ns: self.owner_cpu_ns.saturating_sub(before.owner_cpu_ns),
            engine: Clocks {
                running_ns: self.engine.running_ns.saturating_sub(before.engine.running_ns),
                waiting_ns: self.engine.waiting_ns.saturating_sub(before.engine.waiting_ns),
            },
            retries: self.retries - before.retries,
        }
    }

    fn add(&mut self, other: &Snapshot) {
        let sum = |a: &Counters, b: &Counters| {
            let (a, b) = (a.values(), b.values());
            Counters::from_values(std::array::from_fn(|i| a[i].wrapping_add(b[i])))
        };
        self.initiator = sum(&self.initiator, &other.initiator);
        self.target = sum(&self.target, &other.target);
        self.owner_cpu_ns += other.owner_cpu_ns;
        self.engine.running_ns += other.engine.running_ns;
        self.engine.waiting_ns += other.engine.waiting_ns;
        self.retries += other.retries;
    }

    /// What `per` counts, and by what it is divided if not by GETs.
    fn count(&self, per: Per) -> (f64, Option<u64>) {
        let both = |of: fn(&Counters) -> u64| of(&self.initiator) + of(&self.target);
        let all_packets = both(|c| c.packets_sent);
        let count = match per {
            Per::RoundTrips => self.initiator.requests_sent,
            Per::Packets => all_packets
                .saturating_sub(both(|c| c.lone_acks) + both(|c| c.asks))
                .saturating_sub(both(|c| c.retransmissions)),
            Per::AllPackets => all_packets,
            Per::SystemCalls => both(|c| c.send_calls) + both(|c| c.receive_calls),
            Per::EmptyPolls => both(|c| c.empty_polls),
            Per::Retries => self.retries,
            Per::Retransmissions => both(|c| c.retransmissions),
            Per::TargetTurnsUs => return (self.target.busy_ns as f64 / 1e3, None),
            Per::InitiatorTurnsUs => return (self.initiator.busy_ns as f64 / 1e3, None),
            Per::TargetBusyUs => return (self.target_busy_ns() / 1e3, None),
            Per::OwnerCpuUs => return (self.owner_cpu_ns as f64 / 1e3, None),
            Per::RequestBytes => {
                return (self.initiator.bytes_sent as f64, Some(self.initiator.packets_sent));
            }
            Per::ReplyBytes => {
                return (self.target.bytes_sent as f64, Some(self.target.packets_sent));
            }
        };
        (count as f64, None)
    }

    /// The time that the target side spends. A turn's length is a difference of two clock readings:
    /// it holds what others did with the core meanwhile. What the application did there, woken by
    /// that very turn, is on the application's clock already and is taken off. The rest of the time
    /// in which the engine waited for its core fell on its turns, busy and idle, as it came.
    fn target_busy_ns(&self) -> f64 {
        let Clocks { running_ns, waiting_ns } = self.engine;
        let for_owner = waiting_ns.min(self.owner_cpu_ns);
        let for_others = waiting_ns - for_owner;
        let turns_ns = self.target.busy_ns.saturating_sub(for_owner) as f64;
        let share = match running_ns + for_others {
            0 => 1.0,
            all => running_ns as f64 / all as f64,
        };
        turns_ns * share + self.owner_cpu_ns as f64
    }
}

impl Tally {
    /// Adds a slice.
    pub fn add(&mut self, gets: u64, before: &Snapshot, after: &Snapshot) {
        self.slices.push(Slice { gets, counts: after.since(before) });
    }

    /// GETs in all slices.
    pub fn gets(&self) -> u64 {
        self.slices.iter().map(|slice| slice.gets).sum()
    }

    /// A number per GET, with the extremes of single slices: counts over all slices, times as the
    /// median slice has them. None without GETs.
    pub fn figure(&self, name: &str, unit: &str, per: Per) -> Option<Figure> {
        let of = |counts: &Snapshot, gets: u64| {
            let (count, by) = counts.count(per);
            count / by.unwrap_or(gets) as f64
        };
        let each: Vec<f64> =
            self.slices.iter().map(|slice| of(&slice.counts, slice.gets)).collect();
        let mut all = Snapshot::default();
        self.slices.iter().for_each(|slice| all.add(&slice.counts));
        let value = of(&all, self.gets());
        let figure = Figure::of(name, unit, &each).filter(|_| value.is_finite())?;
        Some(if per.is_time() { figure } else { Figure { value, ..figure } })
    }
}

/// Clocks of a process's threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Clocks {
    running_ns: u64,
    waiting_ns: u64,
}

/// The sums over the threads whose name is chosen.
fn clocks(pid: u32, is_chosen: impl Fn(&str) -> bool) -> Result<Clocks> {
    let folder = format!("/proc/{pid}/task");
    let mut sum = Clocks::default();
    for task in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        let path = task?.path();
        // A thread that has ended meanwhile has no files any more.
        let Ok(name) = fs::read_to_string(path.join("comm")) else { continue };
        let Ok(text) = fs::read_to_string(path.join("schedstat")) else { continue };
        if is_chosen(name.trim()) {
            let mut numbers = text.split_whitespace().map(str::parse::<u64>);
            let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
            sum.running_ns += next();
            sum.waiting_ns += next();
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn snapshot(packets: u64, lone_acks: u64, busy_ns: u64) -> Snapshot {
        let counters =
            Counters { packets_sent: packets, lone_acks, busy_ns, ..Counters::default() };
        Snapshot { initiator: counters, target: counters, ..Snapshot::default() }
    }

    #[test]
    fn a_tally_divides_the_sum_of_all_slices() {
        let mut tally = Tally::default();
        let zero = snapshot(10, 0, 0);
        tally.add(10, &zero, &snapshot(21, 1, 5_000));
        tally.add(30, &zero, &snapshot(40, 0, 20_000));
        assert_eq!(tally.gets(), 40);
        let packets = tally.figure("packets", "packets", Per::Packets).unwrap();
        assert_eq!((packets.value, packets.min, packets.max), (2.0, 2.0, 2.0));
        let all = tally.figure("packets", "packets", Per::AllPackets).unwrap();
        assert_eq!((all.value, all.max), (82.0 / 40.0, 2.2));
        let busy = tally.figure("busy", "us", Per::TargetBusyUs).unwrap();
        assert_eq!(busy.value, (0.5 + 20.0 / 30.0) / 2.0);
        assert!(Tally::default().figure("none", "us", Per::Packets).is_none());
    }

    #[test]
    fn time_that_both_clocks_have_counts_once() {
        let mut both = snapshot(0, 0, 10_000);
        both.owner_cpu_ns = 4_000;
        both.engine = Clocks { running_ns: 6_000, waiting_ns: 4_000 };
        assert_eq!(both.target_busy_ns(), 10_000.0);
        // Other work kept the engine waiting for half of the time, in its turns as between them.
        let mut disturbed = snapshot(0, 0, 10_000);
        disturbed.engine = Clocks { running_ns: 7_000, waiting_ns: 7_000 };
        assert_eq!(disturbed.target_busy_ns(), 5_000.0);
        // A kernel without these clocks.
        assert_eq!(snapshot(0, 0, 10_000).target_busy_ns(), 10_000.0);
    }

    #[test]
    fn this_process_has_clocks() {
        let begin = Instant::now();
        while clocks(std::process::id(), |_| true).unwrap().running_ns == 0 {
            assert!(begin.elapsed() < Duration::from_secs(60), "no CPU time in a minute");
        }
        assert_eq!(clocks(std::process::id(), |_| false).unwrap(), Clocks::default());
    }
}
