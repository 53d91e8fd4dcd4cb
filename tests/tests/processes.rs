//! Real daemons and applications, each a process of its own: waiting, deadlines, and every kind of
//! death.
//!
//! Nothing here waits by the clock: what is waited for is looked for, and what is asserted are
//! statuses, fates and counts.

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nic_host::{
    Access, Endpoint, Fate, Lookup, Nic, NicError, OpError, RemoteRegion, RemoteTable, Session,
    Status, SubmitError, Wait,
};
use nic_tests::children::{self, ApplicationOptions, Child, Role, TargetOptions, Waiting};
use nic_tests::sample::{self, INVERT, WORDS};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nic-tests");
const KEYS: u64 = 1_000;
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3_000);

/// Daemons and applications in a folder of their own.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.sock"))
    }

    /// A configuration file.
    fn config(&self, name: &str, engine: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.toml"));
        let text = format!("socket = {:?}\n\n[engine]\n{engine}\n", self.socket(name));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A daemon that answers. `engine` is its configuration's table of that name.
    fn daemon(&self, name: &str, engine: &str) -> Child {
        let mut daemon = Child::start(PROGRAM, &Role::Daemon(self.config(name, engine)));
        drop(children::connect(&mut daemon, &self.socket(name)));
        daemon
    }

    fn nic(&self, name: &str) -> Nic {
        Nic::connect(Endpoint::Path(self.socket(name))).unwrap()
    }

    /// A target application on a daemon, and its tickets.
    fn target(&self, name: &str, waiting: Waiting) -> (Child, Tickets) {
        let options = TargetOptions { socket: self.socket(name), waiting, keys: KEYS };
        let mut target = Child::start(PROGRAM, &Role::Target(options));
        let tickets = Tickets(target.answer());
        (target, tickets)
    }

    fn application(&self, name: &str, waiting: Waiting, tickets: &Tickets) -> Child {
        Child::start(PROGRAM, &Role::Application(self.options(name, waiting, tickets)))
    }

    fn options(&self, name: &str, waiting: Waiting, tickets: &Tickets) -> ApplicationOptions {
        ApplicationOptions { socket: self.socket(name), waiting, data: tickets.data().to_owned() }
    }

    fn counter(&self, name: &str, counter: &str) -> u64 {
        children::engine_counters(&self.nic(name))[counter].as_u64().unwrap()
    }
}

/// What a target application has exported.
struct Tickets(Value);

impl Tickets {
    fn data(&self) -> &str {
        self.0["data"].as_str().unwrap()
    }

    fn region(&self, session: &Session) -> RemoteRegion {
        session.connect(&self.data().parse().unwrap()).unwrap()
    }

    fn table(&self, session: &Session) -> RemoteTable {
        RemoteTable::open(session, &self.0["table"].as_str().unwrap().parse().unwrap()).unwrap()
    }
}

/// How an op failed.
fn failure<T: std::fmt::Debug>(result: Result<T, OpError>) -> (Status, Fate) {
    match result {
        Err(OpError::Failed { status, fate }) => (status, fate),
        other => panic!("expected a failed op, found {other:?}"),
    }
}

/// Whether every thread of a process sleeps.
fn sleeps(child: &Child) -> bool {
    child.states().iter().all(|state| *state == 'S')
}

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
        session.wait(LONG);
        ended.extend(session.poll());
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
            session.wait(LONG);
            ended.extend(session.poll());
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

#[test]
fn a_forked_child_is_refused_and_its_parent_goes_on() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let options = place.options("target", Waiting::Adaptive, &tickets);
    let mut forker = Child::start(PROGRAM, &Role::Forker(options));
    let outcome = forker.answer();
    assert_eq!(outcome["child"], 0, "the child was refused everything: {outcome}");
    assert_eq!(outcome["parent_reads"], 64, "{outcome}");
}

#[test]
fn a_revoked_region_is_out_of_reach_when_revoke_returns() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let owner = place.nic("target");
    let region = owner.region(1 << 16).create().unwrap();
    let export = region.export(Access::READ.and(Access::WRITE)).unwrap();
    let nic = Nic::inline(Default::default()).unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    session.run(remote.write(0, b"before")).unwrap();

    // Ops are under way when the owner takes its region back.
    let under_way: Vec<_> =
        (0..64u64).map(|_| session.submit(remote.write(64, &[7; 64])).unwrap()).collect();
    session.poll().for_each(drop);
    export.revoke().unwrap();
    let mut after = [0; 64];
    region.memory().read(64, &mut after).unwrap();
    assert_eq!(
        failure(session.run(remote.write(64, &[9; 64]))),
        (Status::Revoked, Fate::NotExecuted)
    );
    assert_eq!(failure(session.run(remote.read(0..8))), (Status::Revoked, Fate::NotExecuted));
    // Since revoke returned, no byte has changed, whatever was under way.
    let mut later = [0; 64];
    region.memory().read(64, &mut later).unwrap();
    assert_eq!(after, later);
    drop(under_way);

    // The region may be exported again; the old ticket stays dead.
    let again = region.export(Access::READ).unwrap();
    let fresh = session.connect(&again.ticket()).unwrap();
    assert_eq!(&*session.run(fresh.read(0..6)).unwrap(), b"before");
    assert_eq!(failure(session.run(remote.read(0..6))).0, Status::Revoked);
    assert_eq!(failure(session.run(fresh.write(0, b"x"))).1, Fate::NotExecuted);
}

/// Starts a daemon that must not start; what it says.
fn refusal(config: &Path) -> String {
    let role = serde_json::to_string(&Role::Daemon(config.to_owned())).unwrap();
    // Its input stays open: it is not the end of that which ends the daemon.
    let (input, _open) = std::io::pipe().unwrap();
    let output = Command::new(PROGRAM).arg(role).stdin(input).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_socket_in_use_is_refused_and_its_owner_undisturbed() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let said = refusal(&place.config("target", ""));
    assert!(said.contains("target.sock"), "{said}");
    let nic = place.nic("target");
    let session = nic.session().open().unwrap();
    session.run(tickets.region(&session).read(0..64)).unwrap();
}

#[test]
fn an_address_in_use_is_refused() {
    let place = Place::new();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = place.config("second", &format!("\n[port]\naddress = \"{address}\""));
    let said = refusal(&config);
    assert!(said.contains(&address.to_string()) && said.contains("in use"), "{said}");
}

#[test]
fn an_unknown_config_key_is_refused_by_name_and_line() {
    let place = Place::new();
    let said = refusal(&place.config("typo", "wiat = \"spin\""));
    assert!(said.contains("wiat") && said.contains("typo.toml"), "{said}");
    assert!(said.contains("line 4"), "{said}");
}

#[test]
fn futures_are_driven_side_by_side() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
        let nic = place.nic("target");
        let session = nic.session().depth(8).wait(wait).open().unwrap();
        let data = tickets.region(&session);
        let word = WORDS.0 + 64;
        let before = session.run(data.fetch_add(word, 0)).unwrap();

        let (read, add, call) = session.block_on(async {
            // All three are on their way before the first is waited for.
            let mut read = session.issue(data.read(0..64));
            let mut add = session.issue(data.fetch_add(word, 5));
            let mut call = session.issue(data.call(INVERT, b"future", 16));
            let first = std::future::poll_fn(|context| {
                use std::future::Future;
                use std::pin::Pin;
                let polls = [
                    Pin::new(&mut read).poll(context).map(drop).is_ready(),
                    Pin::new(&mut add).poll(context).map(drop).is_ready(),
                    Pin::new(&mut call).poll(context).map(drop).is_ready(),
                ];
                std::task::Poll::Ready(polls)
            });
            // The first look issues them; none can be over by then.
            assert_eq!(first.await, [false; 3]);
            (read.await, add.await, call.await)
        });
        assert!(sample::is_pattern(0, &read.unwrap()));
        assert_eq!(add.unwrap(), before);
        assert_eq!(call.unwrap().len(), 6);

        // More ops than the session has slots: the others wait for room.
        let sum = session.block_on(async {
            let mut sum = 0;
            let issued: Vec<_> = (0..8).map(|_| session.issue(data.fetch_add(word, 1))).collect();
            for op in issued {
                sum += op.await.unwrap() - before;
            }
            sum
        });
        assert_eq!(sum, (5..13).sum::<u64>());
        assert_eq!(session.in_use(), 0);
    }
}

#[test]
fn what_is_dropped_gives_its_slot_back() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let nic = place.nic("target");
    let session = nic.session().depth(16).open().unwrap();
    let data = tickets.region(&session);

    // Dropped on the way: the slot is free when the op is over, and not before.
    for _ in 0..50 {
        let pending: Vec<_> =
            (0..16u64).map(|_| session.submit(data.read(0..4096)).unwrap()).collect();
        assert!(matches!(session.submit(data.read(0..64)), Err(SubmitError::Full(_))));
        drop(pending);
        while session.in_use() > 0 {
            assert_eq!(session.poll().count(), 0, "what nobody wants is not reported");
        }
    }
    // Dropped when it is over, but not taken.
    let pending = session.submit(data.read(0..64)).unwrap();
    session.wait(LONG);
    let done = session.poll().next().unwrap();
    assert_eq!((done.token, session.in_use()), (pending.token(), 1));
    drop(pending);
    assert_eq!(session.in_use(), 0);
    // Bytes stay readable when their slot serves another op.
    let bytes = session.run(data.read(0..64)).unwrap();
    let others = session.run(data.read(64..128)).unwrap();
    assert_eq!(session.in_use(), 0);
    assert!(sample::is_pattern(0, &bytes) && sample::is_pattern(64, &others));
    // A future dropped on the way.
    let mut issued = session.issue(data.read(0..64));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::Pin::new(&mut issued).poll(&mut context).is_pending());
    drop(issued);
    while session.in_use() > 0 {
        session.poll().for_each(drop);
    }
    // All of it is free: the session takes as many ops as at first.
    let all: Vec<_> = (0..16u64).map(|_| session.submit(data.read(0..64)).unwrap()).collect();
    assert_eq!(all.len(), session.in_use());
}
