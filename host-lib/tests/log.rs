//! Logs in regions, as applications use them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use nic_host::log::{Batch, Log};
use nic_host::{Access, Appended, Done, Export, Nic, OpError, Region, Session, Status};

const MIB: u64 = 1 << 20;
const LONG: Duration = Duration::from_secs(60);

/// An application that is its own target, and a log in its region, which is all of it.
fn own(bytes: u64) -> (Nic, Region, Export, Log) {
    let nic = Nic::inline(Default::default()).unwrap();
    let region = nic.region(bytes).create().unwrap();
    let log = Log::format(region.memory(), 0, bytes).unwrap();
    let all = Access::READ.and(Access::WRITE).and(Access::ATOMIC);
    let export = region.export(all).unwrap();
    (nic, region, export, log)
}

fn next_done(session: &Session) -> Done {
    loop {
        if let Some(done) = session.poll().unwrap().next() {
            return done;
        }
    }
}

#[test]
fn a_fetch_waits_for_appends_of_others_and_of_the_owner() {
    let (nic, _region, export, log) = own(MIB);
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let mut from = 0;
    for number in 0..20 {
        let fetch = remote.fetch(0, from, 4096).wait_for_records(LONG).deadline(LONG);
        let waiting = session.submit(fetch).unwrap();
        // Lets it get there: nobody has anything for it.
        for _ in 0..20 {
            assert!(session.poll().unwrap().next().is_none());
        }
        if number % 2 == 0 {
            let appended = session.run(remote.append(0, number, b"apple")).unwrap();
            assert_eq!(appended, Appended::At { position: from, next: from + 64 });
        } else {
            assert_eq!(log.append(number, b"apple"), Ok(from));
        }
        let fetched = waiting.take(next_done(&session)).unwrap();
        let Ok(Batch::Records(mut records)) = fetched.batch() else { panic!() };
        assert_eq!(records.next().map(|record| record.tag), Some(number));
        from = records.next_position();
    }
    assert_eq!((from, log.watermark()), (20 * 64, 20 * 64));
    // One that waits in vain ends well, one whose deadline is earlier does not.
    let short = Duration::from_millis(2);
    let fetched = session.run(remote.fetch(0, from, 4096).wait_for_records(short)).unwrap();
    assert!(matches!(fetched.batch(), Ok(Batch::Records(records)) if records.count() == 0));
    let fetch = remote.fetch(0, from, 4096).wait_for_records(LONG).deadline(short);
    match session.run(fetch) {
        Err(OpError::Failed { status: Status::Expired, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn long_records_arrive_whole() {
    let (nic, _region, export, log) = own(2 * MIB);
    let session = nic.session().arena(16 << 20).open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let payloads: Vec<Vec<u8>> =
        (0..8).map(|tag| (0..100_000 + tag).map(|at| (at * 7 + tag) as u8).collect()).collect();
    let numbered = (0..).zip(&payloads);
    let pending: Vec<_> = numbered
        .map(|(tag, payload)| session.submit(remote.append(0, tag, payload)).unwrap())
        .collect();
    let mut ended = Vec::new();
    while ended.len() < pending.len() {
        ended.extend(session.poll().unwrap());
    }
    for op in pending {
        let done = ended.iter().find(|done| done.token == op.token()).unwrap();
        assert!(matches!(op.take(*done).unwrap(), Appended::At { .. }));
    }
    let (mut from, mut seen) = (0, Vec::new());
    let mut room = 64;
    while from < log.watermark() {
        let fetched = session.run(remote.fetch(0, from, room)).unwrap();
        match fetched.batch().unwrap() {
            Batch::TooLong { needed } => room = needed as u32,
            Batch::Records(records) => {
                from = records.next_position();
                for record in records {
                    assert!(record.payload == payloads[record.tag as usize]);
                    seen.push(record.tag);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7]);
    // The log is full for what is longer than what is left.
    let long = vec![1; 1_000_000];
    let last = session.run(remote.append(0, 9, &long)).unwrap();
    assert!(matches!(last, Appended::At { .. }));
    let full = session.run(remote.append(0, 9, &long)).unwrap();
    assert!(matches!(full, Appended::Full { head: 0, .. }), "{full:?}");
    log.trim(log.watermark()).unwrap();
    assert_eq!(log.head(), log.tail());
    // It is empty, and more than half of it might never fit all the same.
    let longer = vec![1; 1 << 20];
    let too_long = session.run(remote.append(0, 9, &longer)).unwrap();
    assert!(matches!(too_long, Appended::TooLong { most } if most < 1 << 20), "{too_long:?}");
}
