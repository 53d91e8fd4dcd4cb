//! What the data path may not do, counted: a warm engine or session allocates nothing and calls
//! nothing of the system but its port's receive and transmit, doorbells of those found asleep, and,
//! where it sleeps, the sleep itself (design: the turn). And what it may use: one request and one
//! reply packet for an op that travels alone.
//!
//! Each test runs real processes: a target engine, a target application that sleeps between calls,
//! and an initiator with its engine inline or in a process of its own. Every thread that runs an
//! engine or a session is warmed up and then watched: the allocator counts its calls, and a seccomp
//! filter ends the process at the first system call that has no right to be there. See
//! `nic_tests::system_call_trap` for the list.

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nic_tests::children::{
    self, Child, Drive, EngineOptions, InitiatorOptions, Offence, PortKind, Role, TargetOptions,
    Waiting,
};
use nic_tests::system_call_trap::TRAPPED;
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nic-tests");

/// A million ops, by kind.
const MILLION: [(&str, u64); 8] = [
    ("read_64", 200_000),
    ("read_4096", 100_000),
    ("write", 150_000),
    ("compare_swap", 100_000),
    ("fetch_add", 150_000),
    ("hit", 150_000),
    ("miss", 100_000),
    ("call", 50_000),
];
/// Ops of each kind before anyone is watched: tables fill, pages are touched, the port finds out
/// how packets come.
const WARM_UP: u64 = 6_400;
const WINDOW: usize = 64;
const KEYS: u64 = 10_000;

/// One world at a time: its threads need the machine's cores.
static MACHINE: Mutex<()> = Mutex::new(());

/// Real processes around one target. Applications go before their engines.
struct World {
    initiator: Child,
    target: Child,
    /// The target's first.
    engines: Vec<Child>,
    target_socket: PathBuf,
    _folder: TempDir,
    _machine: MutexGuard<'static, ()>,
}

/// How a world is made.
#[derive(Clone, Copy, Default)]
struct Plan {
    port: PortKind,
    loss_percent: u32,
    /// The initiator's engine is a process of its own.
    separate_engine: bool,
    /// Done by the target engine once it is watched.
    offence: Offence,
}

impl World {
    fn new(plan: Plan) -> World {
        let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        // Two threads may spin on two cores; where there are more of them, engines sleep.
        let waiting = if plan.separate_engine { Waiting::Adaptive } else { Waiting::Spin };
        let engine = |name: &str, seed| EngineOptions {
            socket: folder.path().join(name),
            port: plan.port,
            waiting,
            loss_percent: plan.loss_percent,
            seed,
            ..EngineOptions::default()
        };
        let of_target = EngineOptions { offence: plan.offence, ..engine("target", 1) };
        let target_socket = of_target.socket.clone();
        let mut engines = vec![Child::start(PROGRAM, &Role::Engine(of_target))];
        drop(children::connect(&mut engines[0], &target_socket));
        let mut target = Child::start(
            PROGRAM,
            &Role::Target(TargetOptions {
                socket: target_socket.clone(),
                waiting: Waiting::Adaptive,
                keys: KEYS,
            }),
        );
        let tickets = target.answer();
        let drive = if plan.separate_engine {
            let options = engine("initiator", 2);
            let socket = options.socket.clone();
            let mut separate = Child::start(PROGRAM, &Role::Engine(options));
            drop(children::connect(&mut separate, &socket));
            engines.push(separate);
            Drive::Process(socket)
        } else {
            Drive::Inline(engine("unused", 2))
        };
        let ticket = |name: &str| tickets[name].as_str().unwrap().to_owned();
        let initiator = Child::start(
            PROGRAM,
            &Role::Initiator(InitiatorOptions {
                drive,
                data: ticket("data"),
                table: ticket("table"),
                keys: KEYS,
            }),
        );
        World { initiator, target, engines, target_socket, _folder: folder, _machine: machine }
    }

    /// Runs ops in the initiator; its answer.
    fn run(&mut self, kind: &str, window: usize, count: u64) -> Value {
        self.initiator.ask(&format!("run {kind} {window} {count}"))
    }

    fn run_each(&mut self, count: u64) {
        for (kind, _) in MILLION {
            self.run(kind, WINDOW, count);
        }
    }

    /// Every process with a thread that can be watched.
    fn watched(&mut self) -> impl Iterator<Item = &mut Child> {
        self.engines.iter_mut().chain([&mut self.target, &mut self.initiator])
    }

    /// Has every engine's and session's thread be watched. They begin when they next look.
    fn watch(&mut self) {
        for child in self.watched() {
            child.ask("watch");
        }
        self.run_each(WINDOW as u64);
        for child in self.watched() {
            while child.ask("seen")["watched"] != 1 {}
        }
    }

    /// The sums of both engines' counters, by name. The initiator's is inline.
    fn both_counters(&mut self) -> impl Fn(&str) -> u64 + use<> {
        let initiator = self.run("read_64", 1, 0);
        let target = self.target_counters();
        move |name| initiator["counters"][name].as_u64().unwrap() + target(name)
    }

    /// The target engine's counters, once they stand still.
    fn target_counters(&mut self) -> impl Fn(&str) -> u64 + use<> {
        let nic = children::connect(&mut self.engines[0], &self.target_socket);
        // They are published word by word, when the engine has done something: read until two
        // readings agree.
        let mut counters = children::engine_counters(&nic);
        loop {
            let later = children::engine_counters(&nic);
            if later == counters {
                break;
            }
            counters = later;
        }
        move |name| counters[name].as_u64().unwrap()
    }
}

/// A million ops under watch.
fn counts_nothing(plan: Plan) {
    let mut world = World::new(plan);
    world.run_each(WARM_UP);
    world.watch();
    let mut retransmissions = 0;
    for (kind, count) in MILLION {
        let answer = world.run(kind, WINDOW, count);
        retransmissions = answer["counters"]["retransmissions"].as_u64().unwrap();
    }
    let total: u64 = MILLION.iter().map(|(_, count)| count).sum();
    assert_eq!(total, 1_000_000);
    for child in world.watched() {
        let seen = child.ask("seen");
        let counts = (&seen["watched"], &seen["allocations"], &seen["frees"]);
        assert_eq!(counts, (&1.into(), &0.into(), &0.into()), "{seen}");
    }
    if plan.loss_percent > 0 {
        retransmissions += world.target_counters()("retransmissions");
        assert!(retransmissions > 100, "{retransmissions} retransmissions: nothing was lost");
    }
}

#[test]
fn an_inline_engine_allocates_nothing_and_calls_only_its_port() {
    counts_nothing(Plan::default());
}

#[test]
fn an_inline_engine_on_io_uring_allocates_nothing_and_makes_one_kind_of_call() {
    counts_nothing(Plan { port: PortKind::Uring, ..Plan::default() });
}

#[test]
fn an_inline_engine_allocates_nothing_and_calls_only_its_port_under_loss() {
    counts_nothing(Plan { loss_percent: 1, ..Plan::default() });
}

#[test]
fn engine_processes_allocate_nothing_and_call_only_port_bells_and_sleep() {
    counts_nothing(Plan { separate_engine: true, ..Plan::default() });
}

#[test]
fn engine_processes_allocate_nothing_and_call_only_port_bells_and_sleep_under_loss() {
    counts_nothing(Plan { separate_engine: true, loss_percent: 1, ..Plan::default() });
}

/// Has the target engine be watched, whereupon it does what it must not: perhaps before it has
/// answered, so its answer is not waited for.
fn offend(offence: Offence) -> World {
    let mut world = World::new(Plan { offence, ..Plan::default() });
    world.run_each(WINDOW as u64);
    world.engines[0].tell("watch");
    world
}

#[test]
fn a_single_allocation_is_seen() {
    let mut world = offend(Offence::Allocation);
    let engine = &mut world.engines[0];
    engine.answer();
    while engine.ask("seen")["allocations"] == 0 {}
    let seen = engine.ask("seen");
    assert_eq!((&seen["allocations"], &seen["frees"]), (&1.into(), &1.into()), "{seen}");
    assert_eq!(seen["first_bytes"], 4, "{seen}");
}

#[test]
fn a_single_system_call_ends_the_process() {
    let mut world = offend(Offence::SystemCall);
    let status: ExitStatus = world.engines[0].end();
    assert_eq!(status.code(), Some(TRAPPED), "{status}");
}

/// What an op costs that travels alone: its request and its reply. Acks that found no packet to
/// ride on and what was sent again after a pause of the machine are counted apart; in a round in
/// which the machine did not pause there is only the ack that ends the exchange.
#[test]
fn an_op_that_travels_alone_costs_two_packets() {
    /// Few, so that some rounds are undisturbed on a busy machine too.
    const OPS: u64 = 50;
    const ROUNDS_MAX: usize = 2_000;
    let mut world = World::new(Plan::default());
    world.run_each(WINDOW as u64);
    for (kind, _) in MILLION {
        // The port first finds out that packets now come singly.
        world.run(kind, 1, 1_200);
        let mut before = world.both_counters();
        let mut is_exact = false;
        for _ in 0..ROUNDS_MAX {
            world.run(kind, 1, OPS);
            let after = world.both_counters();
            let cost = |name: &str| after(name) - before(name);
            is_exact |= costs_two_packets(kind, OPS, cost);
            if is_exact {
                break;
            }
            before = after;
        }
        // A call waits for its application, and is acknowledged meanwhile.
        assert!(is_exact || kind == "call", "{kind}: no round of {ROUNDS_MAX} was undisturbed");
    }
}

/// Checks what ops that travelled alone have cost. True: and nothing was counted apart.
fn costs_two_packets(kind: &str, ops: u64, cost: impl Fn(&str) -> u64) -> bool {
    // A write is read back.
    let ops = if kind == "write" { 2 * ops } else { ops };
    // A long reply needs more packets than one, each full but the last.
    let replies = if kind == "read_4096" { 4 * ops } else { ops };
    let (acks, again) = (cost("lone_acks") + cost("lone_probes"), cost("retransmissions"));
    assert_eq!(cost("requests_sent"), ops, "{kind}: request frames");
    assert_eq!(cost("replies_sent"), replies, "{kind}: reply frames");
    let packets = cost("packets_sent") - acks - again;
    assert_eq!(packets, ops + replies, "{kind}: besides {acks} acks and {again} sent again");
    again == 0 && acks <= 2
}
