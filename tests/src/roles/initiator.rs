//! The initiator of the data-path tests. Its session lives on a thread that can be watched: what
//! is to be done and what came of it pass through plain words, and a doorbell says that it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nic_engine::Builtin;
use nic_engine::engine::{Counters, EngineConfig};
use nic_host::{Endpoint, Fate, Nic, RemoteTable, Session, Status, Wait};
use nic_ports::Port;
use nic_shm::{Doorbell, wait_any};
use nic_tests::children::{Drive, InitiatorOptions};
use nic_tests::system_call_trap::Allowed;
use nic_tests::watched_port::Watch;
use rustix::fd::AsFd;
use serde_json::{Value, json};

use super::engine::{OnPort, open};
use super::flood::{Fault, Flood, Kind};
use super::{obey, wait_of, watch_command};

/// How long the session's thread waits for ops before it looks for a job.
const LOOK: Duration = Duration::from_millis(1);

/// What the command thread and the session's thread tell each other.
struct Board {
    /// Counts the jobs handed over; written last.
    asked: AtomicU64,
    /// The job: place in [`Kind::ALL`], window, count.
    job: [AtomicU64; 3],
    /// Counts the jobs done; written last.
    done: AtomicU64,
    /// Rung when a job is done.
    bell: Doorbell,
    /// What was wrong, as three numbers; zeroes if nothing.
    fault: [AtomicU64; 3],
    /// An inline engine's counters after the job.
    counters: [AtomicU64; Counters::COUNT],
}

pub(super) fn run(options: InitiatorOptions) -> Result<()> {
    let watch = Watch::default();
    let board = Arc::new(Board {
        asked: AtomicU64::new(0),
        job: Default::default(),
        done: AtomicU64::new(0),
        bell: Doorbell::new()?,
        fault: Default::default(),
        counters: [const { AtomicU64::new(0) }; Counters::COUNT],
    });
    let (its_watch, its_board) = (watch.clone(), Arc::clone(&board));
    let working = move || {
        if let Err(error) = work(&options, &its_watch, &its_board) {
            eprintln!("{error:#}");
            std::process::exit(1);
        }
    };
    std::thread::Builder::new().name("session".to_owned()).spawn(working)?;
    obey(|command| match command.strip_prefix("run ") {
        Some(job) => board.run(job),
        None => watch_command(&watch, command),
    })
}

impl Board {
    /// Hands a job over ("KIND WINDOW COUNT") and waits until it is done.
    fn run(&self, job: &str) -> Result<Value> {
        let mut words = job.split(' ');
        let name = words.next().unwrap_or_default();
        let kind = Kind::ALL.iter().position(|(known, _)| *known == name);
        let kind = kind.with_context(|| format!("found the kind of op {name:?}"))? as u64;
        let mut number = || {
            let word = words.next().context("a job has a window and a count")?;
            word.parse::<u64>().with_context(|| format!("found {word:?} where a number belongs"))
        };
        for (word, value) in self.job.iter().zip([kind, number()?, number()?]) {
            word.store(value, Ordering::Relaxed);
        }
        let asked = self.asked.fetch_add(1, Ordering::Release) + 1;
        while self.done.load(Ordering::Acquire) < asked {
            wait_any(&[self.bell.as_fd()], None)?;
            self.bell.drain()?;
        }
        match self.fault.each_ref().map(|word| word.load(Ordering::Relaxed)) {
            [0, _, _] => {}
            [1, status, fate] => {
                let (status, fate) = (status as u16, fate as u8);
                bail!("{name}: {:?}, {:?}", Status::from_code(status), Fate::from_code(fate));
            }
            [2, _, _] => bail!("{name}: the session did not take an op"),
            _ => bail!("{name}: an op brought something else than it had to"),
        }
        let named = Counters::LIST.iter().zip(&self.counters);
        let counters: serde_json::Map<_, _> = named
            .map(|(metric, word)| (metric.name.to_string(), word.load(Ordering::Relaxed).into()))
            .collect();
        Ok(json!({ "counters": counters }))
    }

    /// Does the next job, if there is one.
    fn work(&self, nic: &Nic, flood: &mut Flood<'_>) {
        let done = self.done.load(Ordering::Relaxed);
        if self.asked.load(Ordering::Acquire) == done {
            return;
        }
        let [kind, window, count] = self.job.each_ref().map(|word| word.load(Ordering::Relaxed));
        let outcome = flood.run(Kind::ALL[kind as usize].1, window as usize, count);
        let fault = match outcome {
            Ok(()) => [0; 3],
            Err(Fault::Failed(status, fate)) => [1, status.into(), fate.into()],
            Err(Fault::NotTaken) => [2, 0, 0],
            Err(Fault::WrongResult) => [3, 0, 0],
        };
        for (word, value) in self.fault.iter().zip(fault) {
            word.store(value, Ordering::Relaxed);
        }
        for (word, value) in self.counters.iter().zip(nic.counters().unwrap_or_default().values()) {
            word.store(value, Ordering::Relaxed);
        }
        self.done.store(done + 1, Ordering::Release);
        // A doorbell that cannot be rung leaves the test waiting, which it notices.
        let _ = self.bell.ring();
    }
}

/// Makes an engine that the application's own thread drives.
struct Inline;

impl OnPort for Inline {
    type Output = Nic;

    fn on<P: Port + Send + 'static>(self, port: P) -> Result<Nic> {
        Ok(Nic::inline_on::<_, Builtin>(port, EngineConfig::default())?)
    }
}

fn work(options: &InitiatorOptions, watch: &Watch, board: &Board) -> Result<()> {
    let (nic, wait) = match &options.drive {
        Drive::Inline(engine) => (open(engine, watch, Inline)?, wait_of(engine.waiting)),
        Drive::Process(socket) => (Nic::connect(Endpoint::Path(socket.clone()))?, Wait::Adaptive),
    };
    let session = nic.session().depth(256).arena(4 << 20).wait(wait).open()?;
    let data = session.connect(&options.data.parse()?)?;
    let table = RemoteTable::open(&session, &options.table.parse()?)?;
    let mut flood = Flood::new(&session, data, table, options.keys);
    let mut is_watched = matches!(options.drive, Drive::Inline(_));
    loop {
        if !is_watched && watch.is_wanted() {
            // A session that an engine process drives makes no calls but those around sleep.
            watch.watch_this_thread(Allowed::nothing().ring()?.session_sleep()?)?;
            is_watched = true;
        }
        board.work(&nic, &mut flood);
        idle(&session);
    }
}

/// Lets an inline engine turn while there is no job.
fn idle(session: &Session) {
    // Only a fork could make it fail, and this process forks nobody.
    let _ = session.wait(LOOK);
}
