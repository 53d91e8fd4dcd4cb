//! The application that nobody may disturb. It checks every byte that it reads and every word that
//! it adds to, and keeps account of what became of each op.
//!
//! It has two ways to the same garden: a session of the engine that everyone uses, whose ops that
//! engine sends to itself over the loopback, and an engine of its own, whose peer that engine is.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nic_figures::LatencyRecorder;
use nic_host::ops::{FetchAdd, Read};
use nic_host::{Done, InlineConfig, Nic, OpError, Pending, RemoteRegion, Session, SubmitError};
use nic_ports::Random;
use rustix::thread::set_current_timer_slack;
use serde::{Deserialize, Serialize};

use super::link::Link;
use super::owner::{PATTERN_BYTES, word_address, wrong_bytes};
use super::roles::{Options, Order, connect};

/// What each READ brings.
pub(super) const READ_BYTES: u64 = 64;
/// Ops of a slice before any is timed.
const WARM_UP: u32 = 100;
/// Ops that are out on each way while rates are measured.
pub(super) const WINDOW: usize = 16;
/// Every so many ops one adds to a word.
const ADD_EVERY: u64 = 8;
/// By when an op has to be over, and how much later it may seem so: others run meanwhile.
const DEADLINE: Duration = Duration::from_secs(2);
pub(super) const SLACK: Duration = Duration::from_secs(3);
/// What of the time between two looks counts against an op. If this process was stopped for longer,
/// or was busy with its other way, that is nobody's fault.
const GAP_MAX: Duration = Duration::from_millis(100);
/// How often it tries to look at its words in the end.
const LOOKS: u32 = 10;
/// How long its own engine goes on after a slice, so that the last acks leave.
const LAST_TURNS: Duration = Duration::from_micros(300);
/// Between two ops whose latency is measured. Ops are begun at even times, whatever the one before
/// took, so that the median is not made of the moments in which nobody was in the way; and whoever
/// shares the core has his turns. Shorter than the engine looks before it sleeps.
pub(super) const PAUSE: Duration = Duration::from_micros(20);
/// How much longer the kernel may let it sleep.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::new(1_000).expect("it is not zero");
/// More than there are ops in a slice.
const LATENCIES: usize = 200_000;

/// What became of the ops. Those that were submitted and not completed are lost.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) submitted: u64,
    /// Over by their deadlines, well or not.
    pub(super) completed: u64,
    /// Of those: not well, by status and fate.
    pub(super) failed: BTreeMap<String, u64>,
    /// Over although they were not out, or done twice, or not at all though they ended well.
    pub(super) twice: u64,
    /// Bytes of replies that are not what stands in the garden.
    pub(super) wrong_bytes: u64,
    /// The longest that it has not looked for ops that were out.
    pub(super) gap_ms: u64,
}

impl Account {
    /// Notes that an op has ended badly.
    pub(super) fn failed(&mut self, error: OpError) -> Result<()> {
        let OpError::Failed { .. } = error else { return Err(error.into()) };
        *self.failed.entry(error.to_string()).or_default() += 1;
        Ok(())
    }
}

enum Kind<'s> {
    Read(Pending<'s, Read>, u64),
    Add(Pending<'s, FetchAdd>),
}

/// An op that is out.
struct Flight<'s> {
    kind: Kind<'s>,
    begun: Instant,
    /// The time of [`Watch`] at which it has to be over.
    until: Duration,
}

/// A clock that goes only as long as somebody looks.
struct Watch {
    time: Duration,
    looked: Instant,
}

impl Watch {
    /// Looks. How long nobody has.
    fn look(&mut self) -> Duration {
        let gap = self.looked.elapsed();
        self.looked += gap;
        self.time += gap.min(GAP_MAX);
        gap
    }
}

/// One way to the garden.
struct Path<'s> {
    session: &'s Session,
    garden: RemoteRegion,
    /// Where its word is, and what it added there: certainly, and at most.
    word: u64,
    added: (u64, u64),
    /// By slot.
    out: Vec<Option<Flight<'s>>>,
    count: usize,
    watch: Watch,
    random: Random,
    account: Account,
}

pub(super) fn run(link: &Link, options: &Options) -> Result<()> {
    set_current_timer_slack(Some(TIMER_SLACK_NS))?;
    let nics = [connect(&options.socket)?, Nic::inline(InlineConfig::default())?];
    let [garden, ..] = options.tickets()?;
    let sessions: Result<Vec<_>, _> =
        nics.iter().map(|nic| nic.session().depth(WINDOW as u32 * 2).open()).collect();
    let sessions = sessions?;
    let mut paths = Vec::new();
    for (place, session) in sessions.iter().enumerate() {
        paths.push(Path {
            session,
            garden: session.connect(&garden)?,
            word: word_address(place),
            added: (0, 0),
            out: (0..WINDOW * 2).map(|_| None).collect(),
            count: 0,
            watch: Watch { time: Duration::ZERO, looked: Instant::now() },
            random: Random::new(options.seed ^ place as u64),
            account: Account::default(),
        });
    }
    let mut latencies = LatencyRecorder::with_capacity(LATENCIES);
    link.obey(|order| {
        let answer = match order {
            Order::Introduce => serde_json::to_value(nics[1].address())?,
            Order::Latency(way, time) => {
                let path = &mut paths[way as usize];
                serde_json::to_value(path.latency(time, &mut latencies)?)?
            }
            Order::Rate(slices, time) => serde_json::to_value(rates(&mut paths, slices, time)?)?,
            Order::Look => {
                let accounts: Result<Vec<_>> = paths.iter_mut().map(Path::settle).collect();
                serde_json::to_value(accounts?)?
            }
            other => bail!("found the order {other:?}, expected Latency, Rate or Look"),
        };
        // Its own engine has no thread: nobody acknowledges what it does not.
        let begun = Instant::now();
        while begun.elapsed() < LAST_TURNS {
            nics[1].turn()?;
        }
        Ok(answer)
    })
}

/// Ops per second of each slice, on both ways together.
fn rates(paths: &mut [Path<'_>], slices: u32, time: Duration) -> Result<Vec<f64>> {
    let mut rates = Vec::new();
    for _ in 0..slices {
        let (begun, mut done) = (Instant::now(), 0);
        while begun.elapsed() < time {
            for path in &mut *paths {
                while path.count < WINDOW {
                    path.start()?;
                }
                done += path.drain(|_| {})?;
                path.give_up_what_is_lost();
            }
        }
        rates.push(done as f64 / begun.elapsed().as_secs_f64());
    }
    paths.iter_mut().try_for_each(Path::end)?;
    Ok(rates)
}

impl<'s> Path<'s> {
    /// Ops one after the other. The p50 in microseconds.
    fn latency(&mut self, time: Duration, latencies: &mut LatencyRecorder) -> Result<f64> {
        latencies.clear();
        for _ in 0..WARM_UP {
            let place = self.random_place();
            self.read(place)?;
            self.one(|_| {})?;
        }
        let begun = Instant::now();
        while begun.elapsed() < time {
            std::thread::sleep(PAUSE);
            let place = self.random_place();
            self.read(place)?;
            self.one(|taken| latencies.record(taken.as_nanos() as u64))?;
        }
        match latencies.p50() {
            Some(p50) => Ok(p50 as f64 / 1e3),
            None => bail!("no op ended within the slice"),
        }
    }

    fn random_place(&mut self) -> u64 {
        self.random.below(PATTERN_BYTES / READ_BYTES) * READ_BYTES
    }

    /// Waits until the op that is out is over.
    fn one(&mut self, mut each: impl FnMut(Duration)) -> Result<()> {
        while self.count > 0 {
            if self.drain(&mut each)? == 0 {
                self.session.wait(GAP_MAX)?;
                self.give_up_what_is_lost();
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        if self.account.submitted.is_multiple_of(ADD_EVERY) {
            let add = self.garden.fetch_add(self.word, 1).deadline(DEADLINE);
            let pending = taken(self.session.submit(add))?;
            self.added.1 += 1;
            self.fly(pending.slot(), Kind::Add(pending));
            return Ok(());
        }
        let place = self.random_place();
        self.read(place)
    }

    fn read(&mut self, place: u64) -> Result<()> {
        let read = self.garden.read(place..place + READ_BYTES).deadline(DEADLINE);
        let pending = taken(self.session.submit(read))?;
        self.fly(pending.slot(), Kind::Read(pending, place));
        Ok(())
    }

    fn fly(&mut self, slot: usize, kind: Kind<'s>) {
        if self.count == 0 {
            // There was nothing to look for.
            self.watch.look();
        }
        self.account.submitted += 1;
        self.count += 1;
        // One that was there before will never be heard of: it is not completed.
        let until = self.watch.time + DEADLINE + SLACK;
        self.out[slot] = Some(Flight { kind, begun: Instant::now(), until });
    }

    /// Takes the ops that are over; how many ended well.
    fn drain(&mut self, mut each: impl FnMut(Duration)) -> Result<u64> {
        let mut well = 0;
        let gap = self.watch.look();
        if self.count > 0 {
            self.account.gap_ms = self.account.gap_ms.max(gap.as_millis() as u64);
        }
        for done in self.session.poll()? {
            let Some(flight) = self.out[done.slot()].take() else {
                self.account.twice += 1;
                continue;
            };
            self.count -= 1;
            self.account.completed += u64::from(self.watch.time <= flight.until);
            each(flight.begun.elapsed());
            match self.land(flight.kind, done) {
                Ok(()) => well += 1,
                Err(error) => self.account.failed(error)?,
            }
        }
        Ok(well)
    }

    fn land(&mut self, kind: Kind<'s>, done: Done) -> Result<(), OpError> {
        match kind {
            Kind::Read(pending, place) => {
                let bytes = pending.take(done)?;
                let missing = READ_BYTES.abs_diff(bytes.len() as u64);
                self.account.wrong_bytes += missing + wrong_bytes(place, &bytes);
            }
            Kind::Add(pending) => {
                pending.take(done)?;
                self.added.0 += 1;
            }
        }
        Ok(())
    }

    fn give_up_what_is_lost(&mut self) {
        for flight in &mut self.out {
            if flight.as_ref().is_some_and(|f| self.watch.time > f.until) {
                *flight = None;
                self.count -= 1;
            }
        }
    }

    /// Waits until no op is out.
    fn end(&mut self) -> Result<()> {
        self.one(|_| {})
    }

    /// The account so far; it begins anew. Looks what the word holds.
    fn settle(&mut self) -> Result<Account> {
        self.end()?;
        // Adding nothing may be tried until it works.
        let look = || self.session.run(self.garden.fetch_add(self.word, 0).deadline(DEADLINE));
        let held = (1..LOOKS).find_map(|_| look().ok()).map_or_else(look, Ok)?;
        let (least, most) = self.added;
        self.account.twice += held.saturating_sub(most) + least.saturating_sub(held);
        self.added = (held, held);
        Ok(std::mem::take(&mut self.account))
    }
}

fn taken<P, O>(submitted: Result<P, SubmitError<O>>) -> Result<P> {
    match submitted {
        Ok(pending) => Ok(pending),
        Err(SubmitError::Full(_)) => bail!("a session that is not full takes no op"),
        Err(SubmitError::Invalid(error)) => Err(error.into()),
    }
}
