//! An initiator under load that lives through the deaths of its engine and of its targets. It runs
//! random ops on all targets that it was told of, checks what each brings, and keeps account of
//! when each should have ended.
//!
//! One thread does it all, so that it may fork.

mod account;
mod flights;
mod input;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nic_host::{Endpoint, Nic, RemoteRegion, RemoteTable, Session};
use nic_ports::Random;
use nic_tests::children::LoadOptions;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};

use self::account::{Account, Sum};
use self::flights::{Flights, Samples};
use self::input::Input;
use super::{say, wait_of};

/// Ops that are out at once.
const WINDOW: usize = 16;
/// Ops that have to succeed on each target before a pulse is answered.
const PULSE: u32 = 10;
/// How long it waits for ops before it looks at its input.
const LOOK: Duration = Duration::from_millis(1);

/// Where ops go, as the test told it.
struct Target {
    data: String,
    table: String,
    /// What this process added to its word there.
    sum: Sum,
    /// Ops that have succeeded since the pulse was asked for.
    successes: u32,
}

/// The ways of a session to one target.
struct Way {
    data: RemoteRegion,
    table: RemoteTable,
}

/// What outlives engines.
struct Load {
    options: LoadOptions,
    input: Input,
    random: Random,
    targets: Vec<Option<Target>>,
    account: Account,
    samples: Samples,
    /// Whether ops have to end by their deadlines. Not while the test stops somebody.
    is_strict: bool,
    /// A pulse that was asked for and is not answered: on which targets.
    pulse: Option<Vec<usize>>,
}

pub(super) fn run(options: LoadOptions) -> Result<()> {
    let mut load = Load {
        input: Input::new()?,
        random: Random::new(options.seed),
        targets: Vec::new(),
        account: Account::default(),
        samples: Samples::new(options.keys),
        is_strict: true,
        pulse: None,
        options,
    };
    loop {
        let Ok(nic) = Nic::connect(Endpoint::Path(load.options.socket.clone())) else {
            // The engine is not back yet.
            std::thread::yield_now();
            continue;
        };
        let waiting = wait_of(load.options.waiting);
        if let Ok(session) = nic.session().depth(64).arena(1 << 20).wait(waiting).open() {
            load.work(&session)?;
            load.account.engines_lost += 1;
        }
    }
}

impl Load {
    /// Runs ops until the engine is gone.
    fn work(&mut self, session: &Session) -> Result<()> {
        let mut ways: Vec<_> = self.targets.iter().map(|_| None).collect();
        let mut flights = Flights::new(session);
        while !session.is_lost() {
            while let Some(line) = self.input.next()? {
                match self.command(&line, session, &mut ways, &mut flights) {
                    Ok(Some(answer)) => say(Ok(answer)),
                    Ok(None) => {}
                    Err(error) => say(Err(error)),
                }
            }
            self.find_ways(session, &mut ways, &mut flights);
            self.submit(&ways, &mut flights)?;
            session.wait(LOOK)?;
            self.collect(&mut flights)?;
            if self.has_pulse() {
                self.pulse = None;
                say(Ok(self.account.take()));
            }
        }
        // What was out has ended with the engine.
        self.collect(&mut flights)?;
        ensure!(flights.is_empty(), "{} ops did not end with their engine", flights.len());
        Ok(())
    }

    /// Carries a command out. What is answered later has no answer here.
    fn command(
        &mut self,
        line: &str,
        session: &Session,
        ways: &mut Vec<Option<Way>>,
        flights: &mut Flights<'_>,
    ) -> Result<Option<Value>> {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["target", place, data, table] => {
                let place: usize = place.parse()?;
                let (data, table) = (data.to_owned(), table.to_owned());
                let count = self.targets.len().max(place + 1);
                self.targets.resize_with(count, || None);
                ways.resize_with(count, || None);
                ways[place] = None;
                self.targets[place] =
                    Some(Target { data, table, sum: Sum::default(), successes: 0 });
            }
            ["gone", place] => {
                let place: usize = place.parse()?;
                ways[place] = None;
                self.targets[place] = None;
            }
            ["lenient"] => {
                self.is_strict = false;
                flights.forgive();
            }
            ["strict"] => {
                flights.forgive();
                self.is_strict = true;
            }
            ["pulse", places] => {
                self.targets.iter_mut().flatten().for_each(|target| target.successes = 0);
                let places: Result<_, _> = places.split(',').map(str::parse).collect();
                self.pulse = Some(places?);
                return Ok(None);
            }
            ["settle"] => return self.settle(session, ways, flights).map(Some),
            ["fork"] => return fork().map(Some),
            _ => bail!("found the command {line:?}, expected target, lenient, pulse and the like"),
        }
        Ok(Some(json!({})))
    }

    /// Opens the ways that are missing. One that cannot be opened now is tried again.
    fn find_ways(&self, session: &Session, ways: &mut Vec<Option<Way>>, flights: &mut Flights<'_>) {
        ways.resize_with(self.targets.len(), || None);
        for (target, way) in self.targets.iter().zip(ways) {
            let (Some(target), None) = (target, &way) else { continue };
            let begin = Instant::now();
            *way = open_way(session, target).ok();
            if begin.elapsed() > LOOK {
                // Nobody looked for completions meanwhile.
                flights.forgive();
            }
        }
    }

    fn submit(&mut self, ways: &[Option<Way>], flights: &mut Flights<'_>) -> Result<()> {
        let open: Vec<_> = (0..ways.len()).filter(|place| ways[*place].is_some()).collect();
        if open.is_empty() {
            return Ok(());
        }
        while flights.len() < WINDOW {
            let place = open[self.random.below(open.len() as u64) as usize];
            let (Some(way), Some(target)) = (&ways[place], &mut self.targets[place]) else { break };
            let way = (&way.data, &way.table);
            let started = flights.start(
                place,
                way,
                &mut target.sum,
                (&self.samples, self.options.id, self.is_strict),
                &mut self.random,
                &mut self.account,
            )?;
            if !started {
                break;
            }
        }
        Ok(())
    }

    fn collect(&mut self, flights: &mut Flights<'_>) -> Result<()> {
        flights.collect(&mut self.account, &self.samples, &mut self.targets)
    }

    fn has_pulse(&self) -> bool {
        let beats = |place: &usize| match self.targets.get(*place) {
            Some(Some(target)) => target.successes >= PULSE,
            _ => false,
        };
        self.pulse.as_ref().is_some_and(|places| places.iter().all(beats))
    }

    /// Lets all ops end and looks whether the targets hold what was added.
    fn settle(
        &mut self,
        session: &Session,
        ways: &mut [Option<Way>],
        flights: &mut Flights<'_>,
    ) -> Result<Value> {
        while !flights.is_empty() {
            session.wait(LOOK)?;
            self.collect(flights)?;
            ensure!(!session.is_lost(), "the engine is gone while it was to be quiet");
        }
        for (target, way) in self.targets.iter().zip(ways) {
            let (Some(target), Some(way)) = (target, way) else { continue };
            let read = way.data.fetch_add(account::word(self.options.id), 0);
            let found = session.run(read.deadline(Duration::from_secs(30)));
            target.sum.check(found.context("reading the sum")?)?;
        }
        Ok(self.account.take())
    }
}

fn open_way(session: &Session, target: &Target) -> Result<Way> {
    let data = session.connect(&target.data.parse()?)?;
    let table = RemoteTable::open(session, &target.table.parse()?)?;
    Ok(Way { data, table })
}

/// Leaves a child behind that has all that this process has open, until its input ends or it is
/// killed.
fn fork() -> Result<Value> {
    match fork::fork().context("fork")? {
        fork::Fork::Parent(child) => Ok(json!({ "child": child })),
        fork::Fork::Child => {
            // Nothing but system calls, so that it does not matter what the parent was about.
            let mut byte = [0; 1];
            while rustix::io::read(rustix::stdio::stdin(), &mut byte).is_ok_and(|count| count > 0) {
            }
            let _ = kill_process(getpid(), Signal::KILL);
            std::process::abort();
        }
    }
}
