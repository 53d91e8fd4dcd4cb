//! Answers of 1 MiB between real processes, and what becomes of them when a side is killed.

use std::collections::BTreeMap;

use nic_host::{Fate, OpError, Status};
use nic_tests::children::Waiting;
use nic_tests::sample::{self, PATTERN};

use super::{LONG, Place};

const WORDS: [u8; 8] = (1_u64 << 17).to_le_bytes();
const BYTES: u32 = 1 << 20;

#[test]
fn long_answers_outlive_callers_that_are_killed() {
    let place = Place::new();
    let _daemons = ["target", "initiator"].map(|name| place.daemon(name, ""));
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    // More often than answers fit the arena of who serves: none stays there with the dead.
    for _ in 0..6 {
        let mut killed = place.application("initiator", Waiting::Adaptive, &tickets);
        let before = place.counter("target", "answers");
        killed.tell("long 100000000");
        while place.counter("target", "answers") < before + 3 {}
        killed.kill();
    }
    place.application("initiator", Waiting::Adaptive, &tickets).ask("long 20");
    place.application("target", Waiting::Block, &tickets).ask("long 5");
}

#[test]
fn a_serving_application_killed_amid_its_answers_is_told_to_its_callers() {
    let place = Place::new();
    let _target_engine = place.daemon("target", "");
    let initiator_engine = place.daemon("initiator", "");
    let (target, tickets) = place.target("target", Waiting::Adaptive);
    let nic = place.nic("initiator");
    let session = nic.session().arena(8 << 20).open().unwrap();
    let data = tickets.region(&session);
    let call = || data.call(PATTERN, &WORDS, BYTES).deadline(LONG);
    assert!(sample::is_pattern(0, &session.run(call()).unwrap()));

    // More than a window of packets holds: some of it is in the application's memory when it dies.
    target.stop();
    let calls = place.counter("target", "calls");
    let pending: Vec<_> = (0..4).map(|_| session.submit(call()).unwrap()).collect();
    while place.counter("target", "calls") < calls + 4 {}
    initiator_engine.stop();
    let answers = place.counter("target", "answers");
    target.resume();
    while place.counter("target", "answers") < answers + 4 {}
    target.kill();
    while place.counter("target", "sessions") > 0 {}
    initiator_engine.resume();
    let mut over = BTreeMap::new();
    while over.len() < 4 {
        session.wait(LONG).unwrap();
        over.extend(session.poll().unwrap().map(|done| (done.token, done)));
    }
    let mut failed = 0;
    for call in pending {
        let done = over[&call.token()];
        match call.take(done) {
            Ok(answer) => assert!(answer.len() == 1 << 20 && sample::is_pattern(0, &answer)),
            Err(error) => {
                let (status, fate) = (Status::ServiceFailed, Fate::Executed);
                assert_eq!(error, OpError::Failed { status, fate, refusal: None });
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "4 MiB are more than a window");
    // Its successor serves.
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let data = tickets.region(&session);
    let call = data.call(PATTERN, &WORDS, BYTES);
    assert!(sample::is_pattern(0, &session.run(call).unwrap()));
}
