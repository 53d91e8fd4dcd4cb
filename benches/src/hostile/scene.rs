//! The engine, those who are polite, those who are not, and those who are killed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nic_engine::daemon::{Config, EngineSettings};
use nic_figures::{cores, median};
use nic_ports::Random;
use serde_json::Value;
use tempfile::TempDir;

use super::link::Child;
use super::owner::Found;
use super::polite::Account;
use super::roles::{Options, Order, Role, Tickets, Way};
use super::{COMMAND, misuser, stranger, vandal};
use crate::waiting::ENGINE_COMMAND;

/// How long a storm lasts, and the time between two kills in it.
const STORM: Duration = Duration::from_secs(2);
const GAP: Duration = Duration::from_millis(40);
/// How long the misuser goes on before it is asked how far it is, and how long it may take in all.
const MISUSE: Duration = Duration::from_millis(500);
const MISUSE_MAX: Duration = Duration::from_secs(300);
/// Who is killed and started again in a storm.
const PASSERS: [Role; 3] = [Role::Neighbour, Role::Neighbour, Role::Peer];

/// Who is at work besides the polite application.
#[derive(Clone, Copy, Debug)]
pub(super) enum Beside {
    Nobody,
    /// A session of the same engine that reads so many bytes at a time.
    Greedy(u64),
    /// The same, of a peer.
    GreedyPeer(u64),
    Vandal,
}

pub(super) struct Scene {
    engine: RefCell<Child>,
    owner: RefCell<Child>,
    polite: RefCell<Child>,
    greedy: Child,
    greedy_peer: Child,
    vandal: Child,
    misuser: Child,
    stranger: Child,
    options: Options,
    events: RefCell<Events>,
    _folder: TempDir,
}

/// What has happened in storms.
struct Events {
    random: Random,
    kills: u64,
    refused_starts: u64,
}

/// What came of it all.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Of engine, owner and polite application: those that have died.
    pub(super) crashes: u64,
    /// Bytes changed or brought that nobody had a right to, ops granted that had to be refused.
    pub(super) outside_accesses: u64,
    /// Ops of survivors that were not over in time, or not once.
    pub(super) ops_lost: u64,
    pub(super) ops_lost_of: BTreeMap<&'static str, u64>,
    pub(super) ops: u64,
    /// The longest that the polite application has not looked for its ops.
    pub(super) polite_gap_ms: u64,
    /// Ops that ended badly, by status and fate.
    pub(super) failed_as: BTreeMap<String, u64>,
    pub(super) watched_bytes: u64,
    pub(super) kills: u64,
    pub(super) refused_starts: u64,
    pub(super) vandal: vandal::Deeds,
    pub(super) misuser: misuser::Deeds,
    pub(super) stranger: stranger::Deeds,
}

impl Scene {
    pub(super) fn set(seed: u64) -> Result<Scene> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("engine");
        let pair = cores::pick_pair().ok();
        let cores = pair.iter().map(|pair| pair.target).collect();
        let settings = EngineSettings { cores, ..EngineSettings::default() };
        let config = Config { socket: Some(socket.clone()), engine: settings, ..Config::default() };
        let config = serde_json::to_string(&config)?;
        let engine = Child::start("engine", ENGINE_COMMAND, &config)?;
        let core = pair.map(|pair| pair.initiator);
        let role = Role::Owner;
        let mut options = Options { role, socket, core, seed, tickets: None, polite: None };
        let owner = start(role, &options)?;
        let tickets: Tickets = owner.ask(&Order::Introduce)?;
        options.tickets = Some(tickets);
        let polite = start(Role::Polite, &options)?;
        options.polite = Some(polite.ask(&Order::Introduce)?);
        let scene = Scene {
            engine: RefCell::new(engine),
            owner: RefCell::new(owner),
            polite: RefCell::new(polite),
            greedy: start(Role::Greedy, &options)?,
            greedy_peer: start(Role::GreedyPeer, &options)?,
            vandal: start(Role::Vandal, &options)?,
            misuser: start(Role::Misuser, &options)?,
            stranger: start(Role::Stranger, &options)?,
            options,
            events: RefCell::new(Events { random: Random::new(seed), kills: 0, refused_starts: 0 }),
            _folder: folder,
        };
        // All are up before anything is measured.
        for child in
            [&scene.greedy, &scene.greedy_peer, &scene.vandal, &scene.misuser, &scene.stranger]
        {
            child.ask::<Value>(&Order::Rest)?;
        }
        Ok(scene)
    }

    /// The process numbers of those that live all the time.
    pub(super) fn pids(&self) -> Vec<u32> {
        let [engine, owner, polite] =
            [&self.engine, &self.owner, &self.polite].map(|child| child.borrow().pid());
        let others = [&self.greedy, &self.greedy_peer, &self.vandal, &self.misuser, &self.stranger];
        [engine, owner, polite].into_iter().chain(others.map(Child::pid)).collect()
    }

    /// One slice of the polite application's ops, one after the other. The p50 in microseconds, and
    /// what whoever was there besides has to say of the slice.
    pub(super) fn latency(&self, way: Way, beside: Beside, time: Duration) -> Result<(f64, Value)> {
        let (other, order) = match beside {
            Beside::Nobody => (None, Order::Go(0)),
            Beside::Greedy(bytes) => (Some(&self.greedy), Order::Go(bytes)),
            Beside::GreedyPeer(bytes) => (Some(&self.greedy_peer), Order::Go(bytes)),
            Beside::Vandal => (Some(&self.vandal), Order::Go(0)),
        };
        if let Some(other) = other {
            other.ask::<Value>(&order)?;
        }
        let p50 = self.polite.borrow().ask(&Order::Latency(way, time));
        let said = other.map_or(Ok(Value::Null), |other| other.ask(&Order::Rest))?;
        Ok((p50?, said))
    }

    /// Ops per second of the polite application in each slice.
    pub(super) fn rates(&self, slices: u32, time: Duration) -> Result<Vec<f64>> {
        self.polite.borrow().ask(&Order::Rate(slices, time))
    }

    /// Clients and peers are killed and started anew, while a vandal and a hostile peer are at
    /// work. Returns the polite application's rate meanwhile.
    pub(super) fn storm(&self, slice: Duration) -> Result<f64> {
        let slices = STORM.as_millis() / slice.as_millis();
        let polite = self.polite.borrow();
        polite.tell(&Order::Rate(u32::try_from(slices)?, slice))?;
        let raged = self.rage();
        let mut rates: Vec<f64> = polite.answer()?;
        raged?;
        median(&mut rates).context("a storm has slices")
    }

    fn rage(&self) -> Result<()> {
        let begun = Instant::now();
        self.vandal.ask::<Value>(&Order::Go(0))?;
        self.misuser.ask::<Value>(&Order::Go(0))?;
        self.stranger.ask::<Value>(&Order::Go(0))?;
        let mut events = self.events.borrow_mut();
        let mut passers = Vec::new();
        for role in PASSERS {
            passers.push(start(role, &self.options)?);
        }
        while begun.elapsed() < STORM {
            std::thread::sleep(GAP);
            let which = events.random.below(PASSERS.len() as u64) as usize;
            // Some are killed while they are still starting.
            if events.random.below(4) != 0
                && passers[which].ask::<Value>(&Order::Introduce).is_err()
            {
                events.refused_starts += 1;
            }
            passers[which] = start(PASSERS[which], &self.options)?;
            events.kills += 1;
        }
        events.kills += passers.len() as u64;
        drop(passers);
        self.stranger.ask::<Value>(&Order::Rest)?;
        self.misuser.ask::<Value>(&Order::Rest)?;
        self.vandal.ask::<Value>(&Order::Rest)?;
        Ok(())
    }

    /// The misuser goes on by itself, faster than beside others, until so many of its ops are over.
    pub(super) fn misuse(&self, ops: u64) -> Result<()> {
        let begun = Instant::now();
        while self.misuser.ask::<misuser::Deeds>(&Order::Rest)?.completed < ops {
            ensure!(begun.elapsed() < MISUSE_MAX, "{ops} ops of kernels take too long");
            self.misuser.ask::<Value>(&Order::Go(0))?;
            std::thread::sleep(MISUSE);
        }
        Ok(())
    }

    /// Hears everyone's account, and ends all.
    pub(super) fn end(self) -> Result<Verdict> {
        let Events { kills, refused_starts, .. } = self.events.into_inner();
        let mut verdict = Verdict { kills, refused_starts, ..Verdict::default() };
        verdict.vandal = self.vandal.ask(&Order::Rest)?;
        verdict.misuser = self.misuser.ask(&Order::Rest)?;
        verdict.stranger = self.stranger.ask(&Order::Rest)?;
        let found: Result<Found> = self.owner.borrow().ask(&Order::Look);
        let accounts: Result<Vec<Account>> = self.polite.borrow().ask(&Order::Look);
        for child in [&self.engine, &self.owner, &self.polite] {
            verdict.crashes += u64::from(child.borrow_mut().ended()?.is_some());
        }
        if verdict.crashes > 0 {
            // Whoever has died gives no account, and nothing else matters.
            return Ok(verdict);
        }
        let (found, mut accounts) = (found?, accounts?);
        for greedy in [&self.greedy, &self.greedy_peer] {
            accounts.push(greedy.ask(&Order::Look)?);
        }
        let vandal::Deeds { lives, leaks, .. } = verdict.vandal;
        let stranger = verdict.stranger;
        // Who has not even begun has proven nothing.
        ensure!(lives > 0 && stranger.changed > 0 && stranger.guesses > 0, "{verdict:?}");
        ensure!(verdict.misuser.is_thorough(), "a kernel was not misused: {verdict:?}");
        let misuser = &verdict.misuser;
        verdict.watched_bytes = found.watched;
        verdict.outside_accesses = found.changed + leaks + stranger.leaks + stranger.granted;
        verdict.outside_accesses += misuser.leaks + misuser.granted;
        let lost_kernels = misuser.submitted - misuser.completed + misuser.twice;
        verdict.ops_lost_of.insert("misuser of kernels", lost_kernels);
        // The polite one's two ways, then the greedy.
        let whose = ["polite session", "polite peer", "greedy session", "greedy peer"];
        for (account, whose) in accounts.into_iter().zip(whose) {
            verdict.ops += account.submitted;
            verdict.polite_gap_ms = verdict.polite_gap_ms.max(account.gap_ms);
            for (how, count) in account.failed {
                *verdict.failed_as.entry(how).or_default() += count;
            }
            let lost = account.submitted - account.completed + account.twice;
            verdict.ops_lost_of.insert(whose, lost);
            verdict.outside_accesses += account.wrong_bytes;
        }
        verdict.ops_lost = verdict.ops_lost_of.values().sum();
        Ok(verdict)
    }
}

fn start(role: Role, options: &Options) -> Result<Child> {
    let options = Options { role, ..options.clone() };
    Child::start(role.name(), COMMAND, &serde_json::to_string(&options)?)
}
