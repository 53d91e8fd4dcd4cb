//! An engine that times the parts of its turns, and who reads the times from afar.
//!
//! It reads the clock six times in a turn, so it is a process of its own, beside the one whose
//! rates are quoted; the turns of daemons read the clock once. It lays its times into a region,
//! where they are found by a READ.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nic_engine::engine::{Answer, ClientId, Engine, EngineConfig, Stage, Stages, Work};
use nic_engine::{Builtin, LocalEngine, clock};
use nic_figures::{SliceResult, cores};
use nic_host::{RemoteRegion, Ticket};
use nic_kernels::Access;
use nic_ports::Port;
use nic_shm::RacyMem;

use super::far::{Far, Started};
use super::lookups::{self, Lookups};
use super::wire::Kind;
use super::{TABLE_BYTES, WINDOW};

/// The parts by their names; those in which the engine works for an op first.
const STAGES: [(Stage, &str); 6] = [
    (Stage::Receive, "receive"),
    (Stage::Flow, "flow"),
    (Stage::Executor, "executor"),
    (Stage::Reply, "reply"),
    (Stage::Transmit, "transmit"),
    (Stage::Idle, "idle"),
];
const TIMES_BYTES: u64 = STAGES.len() as u64 * 8;
const WARM_UP: Duration = Duration::from_millis(5);
/// Turns between two times that the times are laid down.
const TURNS: u32 = 16;

/// To the table and to the times.
pub(super) type Tickets = [Ticket; 2];

/// The near end.
pub(super) struct Staged {
    lookups: Lookups,
    times: RemoteRegion,
    pub(super) far: Far,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What is dropped next asks the far side for its end, and so may devices.
        let _ = self.far.resume();
    }
}

impl Staged {
    pub(super) fn open(kind: Kind, core: usize) -> Result<Staged> {
        let Started { far, near, beside: [table, times] } = Far::by_stage(kind, core)?;
        let lookups = Lookups::open(&near, &table, lookups::keys_in(TABLE_BYTES))?;
        let times = lookups.session.connect(&times)?;
        far.stop()?;
        Ok(Staged { lookups, times, far })
    }

    /// The time of each part by the ops of a slice, in microseconds.
    pub(super) fn slice(&self, time: Duration) -> Result<SliceResult> {
        self.far.resume()?;
        // The time for which it stood still belongs to no op.
        self.lookups.windowed(WINDOW, WARM_UP)?;
        let (before, begun) = (self.times()?, Instant::now());
        let mops = self.lookups.windowed(WINDOW, time)?;
        let (after, ops) = (self.times()?, mops * begun.elapsed().as_micros() as f64);
        self.far.stop()?;
        let mut result = SliceResult::new();
        for ((_, name), (before, after)) in STAGES.iter().zip(before.iter().zip(after)) {
            result = result.value(*name, (after - before) as f64 / 1e3 / ops);
        }
        Ok(result)
    }

    /// Lookups that brought a wrong value, or none.
    pub(super) fn errors(&self) -> u64 {
        self.lookups.errors()
    }

    fn times(&self) -> Result<Vec<u64>> {
        let bytes = self.lookups.session.run(self.times.read(0..TIMES_BYTES))?;
        let (words, _) = bytes.as_chunks();
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}

/// Reads what the far process says of its tickets.
pub(super) fn tickets(said: &str) -> Result<Tickets> {
    let (table, times) = said.split_once(' ').context("two tickets were expected")?;
    Ok([table.parse()?, times.parse()?])
}

/// The times so far, in nanoseconds, in the order of [`STAGES`].
struct Times {
    last: Instant,
    ns: [u64; STAGES.len()],
}

impl Stages for Times {
    #[inline]
    fn over(&mut self, stage: Stage) {
        let now = Instant::now();
        let index = match stage {
            Stage::Receive => 0,
            Stage::Flow => 1,
            Stage::Executor => 2,
            Stage::Reply => 3,
            Stage::Transmit => 4,
            Stage::Idle => 5,
        };
        self.ns[index] += now.duration_since(self.last).as_nanos() as u64;
        self.last = now;
    }
}

/// Runs an engine on a port, until the process is ended.
pub(super) fn serve<P: Port>(
    port: P,
    core: usize,
    ready: impl FnOnce(String) -> Result<()>,
) -> Result<()> {
    cores::pin_current_thread(core)?;
    let seed = u64::from(std::process::id());
    let mut engine = Engine::<P, Builtin>::new(port, EngineConfig::default(), seed, clock::now())?;
    let Answer::Client(client) = done(&mut engine, Work::AddClient)? else { bail!("no client") };
    let keys = lookups::keys_in(TABLE_BYTES);
    let [index_bytes, entries_bytes] = lookups::lengths(keys);
    let (index, home) = region(&mut engine, client, index_bytes)?;
    let (entries, follow) = region(&mut engine, client, entries_bytes)?;
    lookups::fill(index, entries, follow, keys)?;
    let (memory, times_region) = region(&mut engine, client, TIMES_BYTES)?;
    let table = export(&mut engine, client, (home, index_bytes), vec![follow])?;
    let ticket = export(&mut engine, client, (times_region, TIMES_BYTES), Vec::new())?;
    ready(format!("{table} {ticket}"))?;
    let mut times = Times { last: Instant::now(), ns: [0; STAGES.len()] };
    loop {
        for _ in 0..TURNS {
            engine.poll_by_stage(clock::now(), &mut times);
        }
        for (offset, ns) in (0..).step_by(8).zip(times.ns) {
            memory.word64(offset)?.store(ns, Ordering::Relaxed);
        }
    }
}

fn region(engine: &mut dyn LocalEngine, client: ClientId, bytes: u64) -> Result<(RacyMem, u8)> {
    let (memory, _) = nic_benches::memory(bytes)?;
    let memory = memory.slice(0, bytes)?;
    let work = Work::Register { client, memory: memory.clone(), base: 0 };
    match done(engine, work)? {
        Answer::Region(region) => Ok((memory, region)),
        other => bail!("a region was asked for, and {other:?} was given"),
    }
}

fn export(
    engine: &mut dyn LocalEngine,
    client: ClientId,
    (region, length): (u8, u64),
    follow: Vec<u8>,
) -> Result<Ticket> {
    let access = Access::READ;
    let work = Work::Export { client, region, access, follow, secret: 1 };
    match done(engine, work)? {
        Answer::Exported(rkey) => {
            let engine = engine.address();
            Ok(Ticket { engine, rkey, base: 0, length, access: access.bits() })
        }
        other => bail!("an export was asked for, and {other:?} was given"),
    }
}

fn done(engine: &mut dyn LocalEngine, work: Work) -> Result<Answer> {
    engine.control(clock::now(), 0, work);
    match engine.next_answer().context("this work is answered at once")?.answer {
        Answer::Refused(refusal) => Err(refusal.into()),
        answer => Ok(answer),
    }
}
