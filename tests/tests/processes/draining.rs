//! SIGTERM: what is under way ends, nothing new begins, nothing is left.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nic_host::{Access, Fate, Nic, NicError, RemoteRegion, Session, Status};
use nic_tests::children::{Child, Waiting};
use nic_tests::sample::{self, WORDS};
use rustix::process::Signal;

use super::{LONG, Place, failure};

/// Ops that a loaded session has out.
const WINDOW: usize = 32;

/// A daemon, a session on it, and a target whose engine stands still.
struct Stalled {
    place: Place,
    target_engine: Child,
    _target: Child,
    engine: Child,
    nic: Nic,
    session: Session,
    data: RemoteRegion,
}

impl Stalled {
    fn new(engine: &str) -> Stalled {
        let place = Place::new();
        let target_engine = place.daemon("target", "");
        let initiator = place.daemon("initiator", engine);
        let (target, tickets) = place.target("target", Waiting::Adaptive);
        let nic = place.nic("initiator");
        let session = nic.session().open().unwrap();
        let data = tickets.region(&session);
        target_engine.stop();
        Stalled { place, target_engine, _target: target, engine: initiator, nic, session, data }
    }

    /// Asks the engine to end, and waits until it refuses new ops.
    fn terminate(&self) {
        self.engine.signal(Signal::TERM);
        let soon = Duration::from_millis(20);
        loop {
            match failure(self.session.run(self.data.read(0..64).deadline(soon))) {
                (Status::Expired, _) => {}
                ended => return assert_eq!(ended, (Status::Draining, Fate::NotExecuted)),
            }
        }
    }

    /// The daemon has ended well, and nothing of it is left.
    fn assert_gone(&mut self) {
        let ended = self.engine.end();
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        let left: Vec<_> = std::fs::read_dir(self.place.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("initiator.sock"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let lost = (Status::EngineLost, Fate::NotExecuted);
        assert_eq!(failure(self.session.run(self.data.read(0..64))), lost);
    }
}

#[test]
fn ops_under_way_end_well_and_nothing_new_begins() {
    let mut stalled = Stalled::new("");
    let Stalled { session, data, .. } = &stalled;
    let read = session.submit(data.read(0..64).deadline(LONG)).unwrap();
    let add = session.submit(data.fetch_add(WORDS.0, 1).deadline(LONG)).unwrap();
    let write = session.submit(data.write(sample::WRITTEN.0, b"in time").deadline(LONG)).unwrap();
    while stalled.place.counter("initiator", "requests_sent") < 3 {}
    stalled.terminate();

    let draining = |error| match error {
        NicError::Refused { status: Status::Draining, reason } => {
            assert!(reason.contains("successor"), "{reason}");
        }
        other => panic!("{other}"),
    };
    draining(stalled.nic.region(4096).create().map(drop).unwrap_err());
    draining(stalled.nic.session().open().map(drop).unwrap_err());
    let path = stalled.place.socket("initiator");
    draining(Nic::connect(nic_host::Endpoint::Path(path)).map(drop).unwrap_err());

    stalled.target_engine.resume();
    let mut ended = BTreeMap::new();
    while ended.len() < 3 {
        stalled.session.wait(LONG).unwrap();
        ended.extend(stalled.session.poll().unwrap().map(|done| (done.token, done)));
    }
    let of = |token| ended[&token];
    let done = of(read.token());
    assert!(sample::is_pattern(0, &read.take(done).unwrap()));
    let done = of(add.token());
    add.take(done).unwrap();
    let done = of(write.token());
    write.take(done).unwrap();
    stalled.assert_gone();
}

#[test]
fn what_takes_too_long_is_given_up() {
    let mut stalled = Stalled::new("drain_timeout_ms = 300");
    let Stalled { session, data, .. } = &stalled;
    let read = session.submit(data.read(0..64).deadline(LONG)).unwrap();
    let add = session.submit(data.fetch_add(WORDS.0, 1).deadline(LONG)).unwrap();
    while stalled.place.counter("initiator", "requests_sent") < 2 {}
    stalled.terminate();
    let mut ended = BTreeMap::new();
    while ended.len() < 2 {
        session.wait(LONG).unwrap();
        ended.extend(session.poll().unwrap().map(|done| (done.token, done)));
    }
    let done = ended[&read.token()];
    let ends = (Status::Draining, Fate::NotExecuted);
    assert_eq!(failure(read.take(done)), ends, "a read is safe to repeat");
    let done = ended[&add.token()];
    assert_eq!(failure(add.take(done)), (Status::Draining, Fate::Unknown));
    stalled.assert_gone();
}

#[test]
fn a_second_signal_ends_at_once() {
    // Nobody would wait for that.
    let mut stalled = Stalled::new("drain_timeout_ms = 3_600_000");
    let Stalled { session, data, .. } = &stalled;
    let add = session.submit(data.fetch_add(WORDS.0, 1).deadline(LONG)).unwrap();
    while stalled.place.counter("initiator", "requests_sent") < 1 {}
    stalled.terminate();
    stalled.engine.signal(Signal::INT);
    session.wait(LONG).unwrap();
    let done = session.poll().unwrap().next().unwrap();
    assert_eq!(failure(add.take(done)), (Status::EngineLost, Fate::Unknown));
    stalled.assert_gone();
}

/// The engine that is asked to end is the one beside the memory.
#[test]
fn a_loaded_target_answers_what_it_has_and_tells_its_peers() {
    let place = Place::new();
    let mut engine = place.daemon("target", "");
    let owner = place.nic("target");
    let region = owner.region(1 << 16).create().unwrap();
    let export = region.export(Access::READ.and(Access::ATOMIC)).unwrap();
    let nic = Nic::inline(Default::default()).unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();

    let mut out = Vec::new();
    let mut ends = Vec::new();
    let (mut done, mut is_asked) = (0u64, false);
    while ends.is_empty() || !out.is_empty() {
        if done >= 1_000 && !is_asked {
            engine.signal(Signal::TERM);
            is_asked = true;
        }
        while ends.is_empty() && out.len() < WINDOW {
            out.push(session.submit(remote.fetch_add(8, 1).deadline(LONG)).unwrap());
        }
        session.wait(LONG).unwrap();
        for ended in session.poll().unwrap() {
            let place = out.iter().position(|pending| pending.token() == ended.token);
            let pending = out.swap_remove(place.expect("each op ends once"));
            match pending.take(ended) {
                Ok(_) => done += 1,
                failed => ends.push(failure(failed)),
            }
        }
    }
    for (status, fate) in &ends {
        match status {
            Status::Draining => assert_eq!(*fate, Fate::NotExecuted),
            status => assert!(matches!(status, Status::PeerLost | Status::Unreachable), "{status}"),
        }
    }
    let unknown = ends.iter().filter(|(_, fate)| *fate == Fate::Unknown).count() as u64;
    assert_eq!(engine.end().code(), Some(0));
    let counted = region.memory().word64(8).unwrap().load(Ordering::Relaxed);
    assert!((done..=done + unknown).contains(&counted), "{done} and {unknown}: {counted}");
}
