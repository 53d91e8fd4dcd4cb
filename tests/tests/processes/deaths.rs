//! Processes that are killed or fall silent: every op ends, with its fate, and others go on.

use std::time::Duration;

use nic_host::{Fate, Nic, NicError, Status, Wait};
use nic_tests::children::Waiting;
use nic_tests::sample::{self, WORDS};

use super::{LONG, Place, failure};

#[test]
fn the_regions_of_a_killed_application_are_no_longer_exported() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let (target, tickets) = place.target("target", Waiting::Adaptive);
    let nic = Nic::inline(Default::default()).unwrap();
    let session = nic.session().open().unwrap();
    let (data, table) = (tickets.region(&session), tickets.table(&session));
    session.run(data.read(0..64)).unwrap();

    target.kill();
    // Its engine learns of the death by and by; until then the memory is still there.
    let (status, fate) = loop {
        match session.run(data.read(0..64)) {
            Ok(bytes) => assert!(sample::is_pattern(0, &bytes)),
            failed => break failure(failed),
        }
    };
    assert_eq!((status, fate), (Status::Revoked, Fate::NotExecuted));
    let found = failure(session.run(table.scan_and_read(&sample::key(1))));
    assert_eq!(found, (Status::Revoked, Fate::NotExecuted));
    let found = failure(session.run(data.fetch_add(WORDS.0, 1)));
    assert_eq!(found, (Status::Revoked, Fate::NotExecuted));

    // The engine serves others as before.
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    session.run(tickets.region(&session).read(0..64)).unwrap();
}

#[test]
fn ops_of_a_killed_engine_end_and_its_successor_serves() {
    let place = Place::new();
    let target_engine = place.daemon("target", "");
    let initiator_engine = place.daemon("initiator", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let nic = place.nic("initiator");
    let session = nic.session().wait(Wait::Block).open().unwrap();
    let data = tickets.region(&session);

    // With its peer standing still, the engine has these ops out when it is killed.
    target_engine.stop();
    let read = session.submit(data.read(0..64).deadline(LONG)).unwrap();
    let add = session.submit(data.fetch_add(WORDS.0, 1).deadline(LONG)).unwrap();
    let write = session.submit(data.write(sample::WRITTEN.0, b"lost?").deadline(LONG)).unwrap();
    while place.counter("initiator", "requests_sent") < 3 {}
    initiator_engine.kill();
    let mut ended = Vec::new();
    while ended.len() < 3 {
        session.wait(LONG).unwrap();
        ended.extend(session.poll().unwrap());
    }
    let of = |token| *ended.iter().find(|done| done.token == token).unwrap();
    let lost = |fate| (Status::EngineLost, fate);
    let done = of(read.token());
    assert_eq!(failure(read.take(done)), lost(Fate::NotExecuted), "a read is safe to repeat");
    let done = of(add.token());
    assert_eq!(failure(add.take(done)), lost(Fate::Unknown));
    let done = of(write.token());
    assert_eq!(failure(write.take(done)), lost(Fate::Unknown));

    // Whatever is asked of it from now on is refused at once.
    assert_eq!(failure(session.run(data.read(0..64))), lost(Fate::NotExecuted));
    assert!(matches!(nic.status(), Err(NicError::EngineLost)));
    assert_eq!(session.in_use(), 0);

    // The place of the dead is taken over.
    target_engine.resume();
    let _successor = place.daemon("initiator", "");
    let nic = place.nic("initiator");
    let session = nic.session().open().unwrap();
    let bytes = session.run(tickets.region(&session).read(0..64)).unwrap();
    assert!(sample::is_pattern(0, &bytes));
}

#[test]
fn applications_outlive_the_target_engine_and_find_its_successor() {
    let place = Place::new();
    let target_engine = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let nic = Nic::inline(Default::default()).unwrap();
    let session = nic.session().open().unwrap();
    let data = tickets.region(&session);
    session.run(data.read(0..64)).unwrap();

    target_engine.kill();
    // Nobody answers: the deadline ends the op, or the flow does.
    let op = data.fetch_add(WORDS.0, 1).deadline(Duration::from_millis(300));
    let (status, fate) = failure(session.run(op));
    assert!(matches!(status, Status::Expired | Status::PeerLost), "{status}");
    assert_eq!(fate, Fate::Unknown);

    let _successor = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    session.run(tickets.region(&session).read(0..64)).unwrap();
}

#[test]
fn every_op_to_a_silent_peer_expires() {
    let place = Place::new();
    let target_engine = place.daemon("target", "");
    let _initiator_engine = place.daemon("initiator", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let inline = Nic::inline(Default::default()).unwrap();
    let process = place.nic("initiator");
    for nic in [&inline, &process] {
        let session = nic.session().open().unwrap();
        let data = tickets.region(&session);
        session.run(data.read(0..64)).unwrap();
        target_engine.stop();
        let deadline = Duration::from_millis(100);
        let reads: Vec<_> = (0..20u64)
            .map(|_| session.submit(data.read(0..4096).deadline(deadline)).unwrap())
            .collect();
        let adds: Vec<_> = (0..20u64)
            .map(|_| session.submit(data.fetch_add(WORDS.0 + 8, 1).deadline(deadline)).unwrap())
            .collect();
        let mut ended = Vec::new();
        while ended.len() < reads.len() + adds.len() {
            session.wait(LONG).unwrap();
            ended.extend(session.poll().unwrap());
        }
        for done in &ended {
            assert_eq!(done.status, Status::Expired);
            // Not a moment before its time.
            assert!(u128::from(done.total_delay_ns) >= deadline.as_nanos(), "{done:?}");
            let is_read = reads.iter().any(|read| read.token() == done.token);
            let expected = if is_read { Fate::NotExecuted } else { Fate::Unknown };
            assert_eq!(done.fate, expected, "{done:?}");
        }
        drop((reads, adds));
        assert_eq!(session.in_use(), 0);
        target_engine.resume();
        // The peer is back, and so is the flow, or another one.
        session.run(data.read(0..64).deadline(LONG)).unwrap();
    }
    // What expired was done once or never, but not twice: the late requests are still on the way
    // or were refused by their budget.
    let session = inline.session().open().unwrap();
    let added = session.run(tickets.region(&session).fetch_add(WORDS.0 + 8, 0)).unwrap();
    assert!(added <= 40, "{added} of 40 additions were done");
}
