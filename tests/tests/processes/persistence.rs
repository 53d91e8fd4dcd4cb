//! Records that are acknowledged as persisted are there after every death.

use std::collections::BTreeMap;

use nic_host::{Appended, Endpoint, InlineConfig, NicError, Pending, ops};
use nic_tests::children::LogOwnerOptions;
use rustix::process::Signal;

use super::*;

const BACKING: &str = "[regions]\nbacking = true";
const BYTES: u64 = 8 << 20;
/// Appends in flight.
const WINDOW: usize = 48;

/// The owner of the log, its ticket, and the tags of the records that it has found, by position.
fn owner(place: &Place, name: &str) -> (Child, String, BTreeMap<u64, u64>) {
    let file = place.folder.path().join("log");
    let options = LogOwnerOptions { socket: place.socket(name), file, bytes: BYTES };
    let mut owner = Child::start(PROGRAM, &Role::LogOwner(options));
    let said = owner.answer();
    let records = said["records"].as_array().unwrap().iter();
    let number = |value: &Value| value.as_u64().unwrap();
    let records = records.map(|record| (number(&record[0]), number(&record[1]))).collect();
    (owner, said["ticket"].as_str().unwrap().to_owned(), records)
}

/// As long as the test runs: ops in flight name it.
fn payload(tag: u64) -> &'static [u8] {
    tag.to_le_bytes().repeat(1 + tag as usize % 40).leak()
}

/// Appends until so many are acknowledged. The others are still on their way when this returns.
fn append(
    session: &Session,
    log: &RemoteRegion,
    next_tag: &mut u64,
    count: usize,
) -> BTreeMap<u64, u64> {
    let mut pending: Vec<(u64, Pending<ops::Append<'static>>)> = Vec::new();
    let mut acknowledged = BTreeMap::new();
    while acknowledged.len() < count {
        while pending.len() < WINDOW {
            *next_tag += 1;
            let op = log.append(0, *next_tag, payload(*next_tag)).persist().deadline(LONG);
            pending.push((*next_tag, session.submit(op).unwrap()));
        }
        session.wait(LONG).unwrap();
        for done in session.poll().unwrap() {
            let place = pending.iter().position(|(_, op)| op.token() == done.token).unwrap();
            let (tag, op) = pending.swap_remove(place);
            let Appended::At { position, .. } = op.take(done).unwrap() else { panic!("full") };
            assert_eq!(acknowledged.insert(position, tag), None);
        }
    }
    acknowledged
}

fn descriptors(child: &Child) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", child.pid())).unwrap().count()
}

#[test]
fn acknowledged_records_survive_the_death_of_engine_and_owner() {
    let place = Place::new();
    let (mut acknowledged, mut tag) = (BTreeMap::new(), 0);
    let mut survivors = BTreeMap::new();
    for round in 0..5 {
        let name = format!("target-{round}");
        let daemon = place.daemon(&name, BACKING);
        let (owner, ticket, found) = owner(&place, &name);
        for (position, tag) in &acknowledged {
            assert_eq!(found.get(position), Some(tag), "round {round}: acknowledged at {position}");
        }
        for (position, tag) in &survivors {
            assert_eq!(found.get(position), Some(tag), "round {round}: once there at {position}");
        }
        let mut tags: Vec<_> = found.values().collect();
        tags.sort_unstable();
        assert!(tags.windows(2).all(|pair| pair[0] < pair[1]), "round {round}: one came twice");
        survivors = found;
        // Nobody needs the owner.
        owner.stop();
        let nic = Nic::inline(InlineConfig::default()).unwrap();
        let session = nic.session().depth(64).open().unwrap();
        let log = session.connect(&ticket.parse().unwrap()).unwrap();
        acknowledged.append(&mut append(&session, &log, &mut tag, 100 + 37 * round));
        // In the middle of others.
        if round % 2 == 0 {
            daemon.kill();
            owner.kill();
        } else {
            owner.kill();
            daemon.kill();
        }
    }
    assert!(acknowledged.len() >= 5 * 100);
}

#[test]
fn appends_in_flight_share_syncs_and_nothing_of_a_region_is_left() {
    let place = Place::new();
    let daemon = place.daemon("target", BACKING);
    let before = descriptors(&daemon);
    for round in 0..3 {
        let (owner, ticket, _) = owner(&place, "target");
        let nic = Nic::inline(InlineConfig::default()).unwrap();
        let session = nic.session().depth(64).open().unwrap();
        let log = session.connect(&ticket.parse().unwrap()).unwrap();
        append(&session, &log, &mut (1000 * round), 300);
        // It dies while flushes are under way; its successor waits until the file is let go of.
        owner.kill();
        let failed = loop {
            match session.run(log.append(0, 0, b"").persist()) {
                Ok(_) => {}
                Err(error) => break failure::<()>(Err(error)),
            }
        };
        assert_eq!(failed.0, Status::Revoked);
    }
    // Counters follow what happens by a moment.
    while place.counter("target", "flushes") < 900 {
        std::thread::yield_now();
    }
    let (flushes, syncs) =
        (place.counter("target", "flushes"), place.counter("target", "flush_syncs"));
    assert!(syncs > 0 && syncs <= flushes, "{syncs} syncs of {flushes} flushes");
    assert_eq!(place.counter("target", "flush_failures"), 0);
    while descriptors(&daemon) > before {
        std::thread::yield_now();
    }
    // Under its filter of system calls it comes to a clean end.
    let mut daemon = daemon;
    daemon.signal(Signal::TERM);
    assert!(daemon.end().success());
}

#[test]
fn a_region_without_a_file_and_a_daemon_that_has_none_say_so() {
    let place = Place::new();
    let _plain = place.daemon("plain", "");
    let nic = place.nic("plain");
    let file = place.folder.path().join("file");
    let refused = nic.region(4096).backed_by(&file).create().map(drop).unwrap_err();
    let NicError::Refused { status: Status::Unsupported, reason } = &refused else {
        panic!("{refused}");
    };
    assert!(reason.contains("regions.backing = true"), "{reason}");
    let region = nic.region(4096).create().unwrap();
    assert!(matches!(region.persist(0..64), Err(NicError::NotBacked)));

    let _backing = place.daemon("backing", BACKING);
    let nic = Nic::connect(Endpoint::Path(place.socket("backing"))).unwrap();
    let region = nic.region(4096).backed_by(&file).create().unwrap();
    assert!(region.persist(0..4097).unwrap_err().to_string().contains("4096"));
    // Two regions of one file would leave neither's.
    let twice = nic.region(4096).backed_by(&file).create().map(drop).unwrap_err().to_string();
    assert!(twice.contains("another region is kept in it"), "{twice}");
    drop(region);
    let longer = nic.region(4095).backed_by(&file).create().map(drop).unwrap_err().to_string();
    assert!(longer.contains("4096") && longer.contains("4095"), "{longer}");
}
