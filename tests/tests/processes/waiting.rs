//! Waiting: ops complete whatever the parties do meanwhile, and who has nothing to do sleeps.

use std::time::{Duration, Instant};

use nic_engine::daemon::CountersFile;
use nic_host::{
    Access, Endpoint, Export, Fate, Lookup, Nic, Region, RemoteRegion, Session, Status,
};
use nic_tests::children::Waiting;
use nic_tests::sample::{self, INVERT, WORDS};
use serde_json::Value;

use super::{KEYS, LONG, Place, failure, sleeps};

#[test]
fn every_way_of_waiting_completes_ops_and_all_but_spinning_sleep() {
    let place = Place::new();
    let modes = [
        (Waiting::Spin, "wait = \"spin\""),
        (Waiting::Adaptive, "wait = \"adaptive\""),
        (Waiting::Block, "wait = \"block\""),
    ];
    for (waiting, engine) in modes {
        let name = format!("{waiting:?}");
        let _daemon = place.daemon(&name, engine);
        // The target's application never spins here, so that it is known by its calls alone.
        let (target, tickets) = place.target(&name, Waiting::Block);
        let mut application = place.application(&name, waiting, &tickets);
        assert_eq!(application.ask("ops")["in_use"], 0, "{name}");

        // While its call is in the hands of a target that stands still, it waits.
        target.stop();
        application.tell("call");
        if waiting == Waiting::Spin {
            let looks = (0..1_000).filter(|_| sleeps(&application)).count();
            assert!(looks < 1_000, "a spinning session was always asleep");
        } else {
            while !sleeps(&application) {
                std::thread::yield_now();
            }
        }
        target.resume();
        let answer = application.answer();
        let expected: Vec<Value> = b"wake up".iter().map(|byte| (*byte).into()).collect();
        assert_eq!(answer["answer"], Value::Array(expected), "{name}");

        let before = place.counter(&name, "sleeps");
        if waiting == Waiting::Spin {
            let is_crowded = place.counter(&name, "crowded") > 0;
            assert!(before == 0 || is_crowded, "an engine that had its core to itself slept");
        } else {
            // Each question is answered by the control thread; the engine goes back to sleep.
            while place.counter(&name, "sleeps") == before {}
        }
    }
}

#[test]
fn a_sleeping_target_sleeps_through_everything_but_calls() {
    let place = Place::new();
    let _daemon = place.daemon("target", "wait = \"spin\"");
    let (target, tickets) = place.target("target", Waiting::Block);
    let nic = Nic::inline(Default::default()).unwrap();
    let session = nic.session().open().unwrap();
    let (data, table) = (tickets.region(&session), tickets.table(&session));

    while !sleeps(&target) {
        std::thread::yield_now();
    }
    let asleep = target.threads();
    for number in 0..5_000 {
        let key = sample::key(number % KEYS);
        let Lookup::Hit(entry) = session.run(table.scan_and_read(&key)).unwrap() else {
            panic!("key {number} is missing");
        };
        assert_eq!(entry.value(), sample::value(number % KEYS));
        session.run(data.write(sample::WRITTEN.0, &key)).unwrap();
        session.run(data.fetch_add(WORDS.0, 1)).unwrap();
    }
    // Not one of its threads has run since.
    assert_eq!(target.threads(), asleep);

    let answer = session.run(data.call(INVERT, b"hello", 16)).unwrap();
    assert!(answer.iter().zip(b"hello").all(|(answer, request)| *answer == !request));
    assert_ne!(target.threads(), asleep, "a call is answered by the application");
    // The engine rang for it; its counters are published when it has time.
    while place.counter("target", "wakes") == 0 {}
}

#[test]
fn a_stopped_target_is_read_and_its_calls_expire() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let (target, tickets) = place.target("target", Waiting::Adaptive);
    let nic = Nic::inline(Default::default()).unwrap();
    let session = nic.session().open().unwrap();
    let (data, table) = (tickets.region(&session), tickets.table(&session));

    target.stop();
    for number in 0..KEYS {
        let key = sample::key(number);
        assert!(matches!(session.run(table.scan_and_read(&key)), Ok(Lookup::Hit(_))), "{number}");
    }
    let call = data.call(INVERT, b"anyone?", 16).deadline(Duration::from_millis(50));
    let (status, fate) = failure(session.run(call));
    // The application had it in hand, or would have had.
    assert_eq!((status, fate), (Status::Expired, Fate::Unknown));

    target.resume();
    session.run(data.call(INVERT, b"back", 16).deadline(LONG)).unwrap();
}

/// An application on an engine of a process: a region, and a session.
struct Application {
    session: Session,
    export: Export,
    _region: Region,
    nic: Nic,
}

impl Application {
    fn new(place: &Place, name: &str) -> Application {
        let nic = Nic::connect(Endpoint::Path(place.socket(name))).unwrap();
        let region = nic.region(4096).create().unwrap();
        let export = region.export(Access::READ.and(Access::ATOMIC)).unwrap();
        let session = nic.session().open().unwrap();
        Application { session, export, _region: region, nic }
    }

    fn way_to(&self, other: &Application) -> RemoteRegion {
        self.session.connect(&other.export.ticket()).unwrap()
    }

    /// What the engines tell of themselves.
    fn status(&self) -> Value {
        serde_json::from_str(&self.nic.status().unwrap()).unwrap()
    }
}

/// A core that this process may use.
fn some_core() -> usize {
    let affinity = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).find(|core| affinity.is_set(*core)).unwrap()
}

#[test]
fn engines_that_spin_on_one_core_let_each_other_run_and_say_so() {
    let place = Place::new();
    let core = some_core();
    let daemon = format!("wait = \"spin\"\ncores = [{core}, {core}]");
    let _daemon = place.daemon("crowd", &daemon);
    let (left, right) = (Application::new(&place, "crowd"), Application::new(&place, "crowd"));
    assert_ne!(left.nic.address(), right.nic.address(), "each has an engine of its own");
    let (there, back) = (left.way_to(&right), right.way_to(&left));
    for number in 0..1_000 {
        for (session, way) in [(&left.session, &there), (&right.session, &back)] {
            // The deadline is a second: two thousand slices of the scheduler would take longer.
            assert_eq!(session.run(way.fetch_add(0, 1)).unwrap(), number);
        }
    }

    // Counters are published when there is time.
    let yields = |engine: usize| left.status()["engines"][engine]["counters"]["yields"].as_u64();
    while [yields(0), yields(1)].contains(&Some(0)) {}
    let warnings = left.status()["warnings"].to_string();
    assert!(warnings.contains(&format!("engines 0, 1 spin on core {core}")), "{warnings}");
}

#[test]
fn engines_of_two_processes_notice_that_they_spin_on_one_core() {
    let place = Place::new();
    let daemon = format!("wait = \"spin\"\ncores = [{}]", some_core());
    let _daemons = ["one", "other"].map(|name| place.daemon(name, &daemon));
    let (one, other) = (Application::new(&place, "one"), Application::new(&place, "other"));
    let way = one.way_to(&other);
    let mut number = 0;
    let is_noticed = |application: &Application| {
        let status = application.status();
        let count = status["engines"][0]["counters"]["crowded"].as_u64();
        let said = status["warnings"].to_string().contains("others keep its core from it");
        assert!(count == Some(0) || said, "{status}");
        said
    };
    // Either lets the other run once it has noticed, so that one may have no reason to.
    while !is_noticed(&one) && !is_noticed(&other) {
        assert_eq!(one.session.run(way.fetch_add(0, 1)).unwrap(), number);
        number += 1;
    }
    for number in number..number + 1_000 {
        assert_eq!(one.session.run(way.fetch_add(0, 1)).unwrap(), number);
    }
}

#[test]
fn an_idle_daemon_is_woken_once_a_second() {
    for wait in ["adaptive", "block"] {
        let place = Place::new();
        let engine = format!("wait = \"{wait}\"\n[metrics]\nlisten = \"127.0.0.1:0\"");
        let daemon = place.daemon("idle", &engine);
        let application = Application::new(&place, "idle");
        let way = application.way_to(&application);
        assert_eq!(application.session.run(way.fetch_add(0, 1)).unwrap(), 0);

        let file = CountersFile::open(&CountersFile::path(&place.socket("idle"))).unwrap();
        let place_of = file.metrics().iter().position(|metric| metric.name == "sleeps").unwrap();
        let sleeps = || file.values(0).unwrap()[place_of];
        // What is left to do for the op, such as a lone ack, may end the first sleeps early.
        let mut at_rest = (sleeps(), Instant::now());
        let mut rests = 0;
        while rests < 3 {
            let now = sleeps();
            if now != at_rest.0 {
                let is_whole = at_rest.1.elapsed() >= Duration::from_millis(900);
                rests = if is_whole { rests + 1 } else { 0 };
                at_rest = (now, Instant::now());
                assert!(now < 50, "{wait}: an idle engine wakes all the time");
            }
            std::thread::yield_now();
        }
        // Nobody else was woken while the engine slept.
        let others = || {
            let threads = daemon.threads().into_iter();
            threads.filter(|thread| !thread.name.starts_with("engine-")).collect::<Vec<_>>()
        };
        let (before, from) = (others(), sleeps());
        assert!(before.iter().any(|thread| thread.name == "metrics"), "{before:?}");
        while sleeps() < from + 2 {
            std::thread::yield_now();
        }
        assert_eq!(others(), before, "{wait}");
    }
}
