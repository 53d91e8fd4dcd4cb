//! Waiting: ops complete whatever the parties do meanwhile, and who has nothing to do sleeps.

use std::time::Duration;

use nic_host::{Fate, Lookup, Nic, Status};
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
            assert_eq!(before, 0, "a spinning engine slept");
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
