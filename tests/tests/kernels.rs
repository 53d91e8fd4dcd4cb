//! Kernels between real processes: an application's structures, walked by the engine beside them for
//! an application on another engine.
//!
//! The engines' port is udp unless `NIC_TEST_PORT` says `xdp` (as root) or `vhost` (with the feature
//! `dpdk` and huge pages): see `nic_tests::wire`.

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use nic_engine::daemon::WaitMode;
use nic_host::consistent_read::{self, Checksum};
use nic_host::log::{Batch, Log};
use nic_host::ops::{ChainAppended, ChainEnd, Traversal};
use nic_host::partition_write::{By, Partitions, Shape};
use nic_host::prism::{Chain, Primitive, Target};
use nic_host::rpc::{Procedure, Services};
use nic_host::scan::{self, Comparison, Field};
use nic_host::sketch_write::{Sketch, estimate, sketch_bytes};
use nic_host::version_chain::{Image, Pool};
use nic_host::{
    Access, Appended, Endpoint, Fate, HOME_REGION, Nic, OpError, Pointer, Region, RemoteRegion,
    Session, Status, chain_append, chain_read, indirect_read, traverse,
};
use nic_kernels::PointerForm;
use nic_kernels::consistent_read::writer::seal;
use nic_kernels::indirect_read::writer::Table;
use nic_kernels::traverse::writer::Writer;
use nic_tests::children::{self, Child};
use nic_tests::wire::{Wire, WireKind};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nic-tests");

/// An owner on one daemon, and a session with a way to its region on another.
struct Scene {
    _daemons: [Child; 2],
    _nics: [Nic; 2],
    region: Region,
    _export: nic_host::Export,
    session: Session,
    remote: RemoteRegion,
    _wire: Wire,
    _folder: TempDir,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let wire = Wire::new(WireKind::of_environment());
    let ends = [0, 1].map(|end| folder.path().join(format!("{end}.sock")));
    // One may wait for the other before it answers.
    let mut daemons = [0, 1].map(|end| {
        let file = folder.path().join(format!("{end}.toml"));
        let config = wire.config(end, &ends[end], WaitMode::Adaptive);
        wire.start(end, PROGRAM, &file, &config)
    });
    let [owner, user] = [0, 1].map(|end| {
        drop(children::connect(&mut daemons[end], &ends[end]));
        Nic::connect(Endpoint::Path(ends[end].clone())).unwrap()
    });
    let region = owner.region(256 << 10).create().unwrap();
    let rights = Access::READ.and(Access::WRITE).and(Access::ATOMIC).and(Access::CALL);
    let export = region.export(rights).unwrap();
    let session = user.session().depth(16).open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let (_daemons, _nics, _export) = (daemons, [owner, user], export);
    Scene { _daemons, _nics, region, _export, session, remote, _wire: wire, _folder: folder }
}

/// How an op failed.
fn failure<T: std::fmt::Debug>(result: Result<T, OpError>) -> (Status, Fate) {
    match result {
        Err(OpError::Failed { status, fate, .. }) => (status, fate),
        other => panic!("expected a failed op, found {other:?}"),
    }
}

#[test]
fn a_list_is_walked_in_one_round_trip_or_in_several_ops() {
    let Scene { region, session, remote, .. } = &scene();
    let form = PointerForm::Plain { region: region.number() };
    let mut writer = Writer::new(region.memory(), region.number(), form);
    let entries: Vec<_> = (0..40_u64)
        .map(|number| (100 + number, writer.value(&number.to_le_bytes()).unwrap()))
        .collect();
    let head = writer.list(&entries).unwrap();
    for (hops_max, ops_expected) in [(1000, 1), (10, 4)] {
        let mut arguments = traverse::Arguments::list(head, 139, 8).hops(hops_max);
        let mut ops = 1;
        let found = loop {
            match session.run(remote.traverse(arguments)).unwrap() {
                Traversal::Found(found) => break found,
                Traversal::Continues(further) => arguments = *further,
                Traversal::Missed { .. } => panic!("the key is in the list"),
            }
            ops += 1;
        };
        assert_eq!((found.value(), found.hops()), (&39_u64.to_le_bytes()[..], 40));
        assert_eq!(ops, ops_expected);
    }
    let missing = traverse::Arguments::list(head, 7, 8);
    let missed = session.run(remote.traverse(missing)).unwrap();
    assert!(matches!(missed, Traversal::Missed { hops: 40 }));
}

#[test]
fn a_list_that_leads_outside_or_has_no_end_is_told() {
    let Scene { region, session, remote, .. } = &scene();
    let memory = region.memory();
    let element = |at: u64, next: u64| {
        for (word, offset) in [(1, 0), (next, 8), (0, 16)] {
            memory.write(at + offset, &u64::to_le_bytes(word)).unwrap();
        }
    };
    element(64, 1 << 30);
    let outside = session.run(remote.traverse(traverse::Arguments::list(64, 5, 8)));
    assert_eq!(failure(outside).0, Status::BadPointer);
    element(128, 128);
    let endless = traverse::Arguments::list(128, 5, 8).hops(1000);
    assert!(matches!(session.run(remote.traverse(endless)), Ok(Traversal::Continues(_))));
}

#[test]
fn lookups_through_a_table_come_back_in_their_order() {
    let Scene { region, session, remote, .. } = &scene();
    let form = PointerForm::Plain { region: region.number() };
    let table = Table::new(region.memory(), 0, form);
    for index in 0..20_u32 {
        let address = 4096 + u64::from(index) * 64;
        region.memory().write(address, &[index as u8; 64]).unwrap();
        let to = Pointer { region: region.number(), address };
        assert!(table.publish(index, Some(to)).unwrap());
    }
    assert!(table.publish(20, None).unwrap());
    let asked = [19, 3, 20, 0, 7];
    let arguments = indirect_read::Arguments::new(0, 64, &asked).unwrap();
    let lookups = session.run(remote.indirect_read(arguments)).unwrap();
    let expected = asked.map(|index| if index == 20 { vec![] } else { vec![index as u8; 64] });
    let found: Vec<_> = lookups.iter().map(|value| value.unwrap().to_vec()).collect();
    assert_eq!(found, expected);
}

#[test]
fn an_object_comes_whole_or_not_at_all() {
    let Scene { region, session, remote, .. } = &scene();
    for (number, checksum) in [Checksum::Crc32, Checksum::Crc64, Checksum::Xxh3].iter().enumerate()
    {
        for length in [64, 4096] {
            let at = 8192 * (1 + number as u64);
            let arguments = consistent_read::Arguments::trailing(at, length, *checksum);
            let mut object = vec![0x5a; usize::from(length)];
            assert!(seal(&arguments, &mut object));
            region.memory().write(at, &object).unwrap();
            let found = session.run(remote.consistent_read(arguments)).unwrap();
            assert_eq!(&found[..], &object[..]);
            region.memory().write(at + 9, &[0]).unwrap();
            assert!(session.run(remote.consistent_read(arguments)).is_err(), "{checksum:?}");
        }
    }
}

#[test]
fn a_chain_grows_and_its_latest_is_found_from_the_first() {
    let Scene { region, session, remote, .. } = &scene();
    let mut pool = Pool::format(&[(region.number(), region.memory())], 64, 256).unwrap();
    let chain = pool.create(b"0").unwrap();
    for number in 1..=16_u8 {
        let fresh = pool.allocate().unwrap();
        let image = Image::compose(fresh, 256, &[number; 100]).unwrap();
        let append = chain_append::Arguments::new(chain.first, fresh).with_shortcut(
            HOME_REGION,
            chain.shortcut,
            false,
        );
        let appended = session.run(remote.chain_append(append, &image)).unwrap();
        assert!(matches!(appended, ChainAppended::Linked { .. }), "{appended:?}");
        let read = chain_read::Arguments::from_cursor(chain.first);
        match session.run(remote.chain_read(read, 256)).unwrap() {
            ChainEnd::Latest(entry) => {
                assert_eq!(entry.value(), [number; 100]);
                assert_eq!(entry.hops(), u16::from(number));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn records_are_scanned_and_primitives_are_chained() {
    let Scene { region, session, remote, .. } = &scene();
    for number in 0..1000_u64 {
        region.memory().write(number * 16, &number.to_le_bytes()).unwrap();
        region.memory().write(number * 16 + 8, &(number * number).to_le_bytes()).unwrap();
    }
    let all = scan::Arguments::home(0, 16, 1000);
    let (key, square) = (Field::unsigned(0, 8), Field::unsigned(8, 8));
    let sum = session.run(remote.scan(all.only(key, Comparison::Less, 10).sum(square))).unwrap();
    assert_eq!((sum.matched(), sum.number()), (10, 285));
    region.memory().write(100_000, b"apple").unwrap();
    region.memory().write(65_536, &100_000_u64.to_le_bytes()).unwrap();
    let get = Chain::first(Primitive::Read { target: Target::home(65_536).indirect(), length: 5 });
    let done = session.run(remote.prism(&get, &[])).unwrap();
    assert_eq!(done.report().reads(), b"apple");
}

/// Asks for a sum.
#[derive(Debug, Serialize, Deserialize)]
struct Sum(Vec<u32>);

impl Procedure for Sum {
    const SERVICE: u16 = 3;
    type Answer = u64;
}

#[test]
fn typed_calls_are_answered_and_nonsense_is_not() {
    let scene = scene();
    let serving = scene._nics[0].session().receive_buffers(16, 512).open().unwrap();
    let mut services = Services::new();
    services.add(|Sum(numbers)| numbers.iter().map(|number| u64::from(*number)).sum());
    services.open(&serving).unwrap();
    let Scene { session, remote, .. } = &scene;
    let mut ask = |op| -> Result<u64, OpError> {
        let pending = session.submit(op).unwrap();
        loop {
            services.answer(&serving).unwrap();
            if let Some(done) = session.poll().unwrap().next() {
                return pending.take(done);
            }
        }
    };
    assert_eq!(ask(remote.rpc(&Sum(vec![1, 2, 300_000])).unwrap()), Ok(300_003));
    assert_eq!(ask(remote.rpc(&Sum(vec![])).unwrap()), Ok(0));
    let long = Sum(vec![u32::MAX; 100]);
    let refused = remote.rpc(&long).unwrap_err().to_string();
    assert!(refused.contains("256 bytes"), "{refused}");
    // A request that no procedure encodes: a length without what it counts.
    let nonsense = session.submit(remote.call(Sum::SERVICE, &[200], 16)).unwrap();
    let outcome = loop {
        services.answer(&serving).unwrap();
        if let Some(done) = session.poll().unwrap().next() {
            break nonsense.take(done);
        }
    };
    assert_eq!(failure(outcome).0, Status::ServiceFailed);
}

#[test]
fn a_log_grows_and_who_is_early_is_woken() {
    let Scene { region, session, remote, .. } = &scene();
    Log::format(region.memory(), 0, 64 << 10).unwrap();
    // Somebody waits for the first record; the op is parked at the target.
    let early = remote.fetch(0, 0, 4096).wait_for_records(Duration::from_secs(20));
    let early = session.submit(early.deadline(Duration::from_secs(30))).unwrap();
    let mut next = 0;
    for number in 0..100_u64 {
        let payload = vec![number as u8; 3 * number as usize];
        match session.run(remote.append(0, number, &payload)).unwrap() {
            Appended::At { position, next: after } => {
                assert_eq!(position, next, "the segment is longer than all records");
                next = after;
            }
            full => panic!("there is room: {full:?}"),
        }
    }
    let first = session.block_on(async {
        loop {
            session.wait(Duration::from_secs(1)).unwrap();
            if let Some(done) = session.poll().unwrap().find(|done| done.slot() == early.slot()) {
                break early.take(done).unwrap();
            }
        }
    });
    let Batch::Records(mut records) = first.batch().unwrap() else { panic!("nothing is trimmed") };
    assert_eq!(records.next().map(|record| record.tag), Some(0));
    // All of them, in their order, a few at a time.
    let (mut position, mut found) = (0, 0);
    while position != next {
        let fetched = session.run(remote.fetch(0, position, 2048)).unwrap();
        let Batch::Records(mut records) = fetched.batch().unwrap() else { panic!("as above") };
        for record in records.by_ref() {
            assert_eq!(record.tag, found);
            assert_eq!(record.payload, vec![found as u8; 3 * found as usize]);
            found += 1;
        }
        position = records.next_position();
    }
    assert_eq!(found, 100);
}

#[test]
fn streams_are_partitioned_and_counted_in_passing() {
    let Scene { region, session, remote, .. } = &scene();
    let by = By::Radix { shift: 3 };
    let shape = Shape { bits: 4, record_bytes: 16, key_offset: 8, by, capacity: 400 };
    let partitions = Partitions::format(region.memory(), 0, shape).unwrap();
    let records: Vec<u8> =
        (0..6000_u64).flat_map(|key| [!key, key]).flat_map(u64::to_le_bytes).collect();
    let answer = session.run(remote.partition_write(0, &records)).unwrap();
    assert_eq!((answer.rest_from(), answer.records()), (None, 6000));
    for partition in 0..16 {
        let whole = partitions.counters(partition).whole().unwrap();
        assert!((368..=376).contains(&whole), "{whole} of 6000 in one of 16");
        let mut found = vec![0; whole as usize * 16];
        partitions.read(partition, 0, &mut found).unwrap();
        for record in found.as_chunks::<16>().0 {
            let (words, _) = record.as_chunks::<8>();
            let [value, key] = [words[0], words[1]].map(u64::from_le_bytes);
            assert_eq!((value, (key >> 3 & 15) as u16), (!key, partition));
        }
    }
    // There is no room for as many again: what is said to be written is.
    let answer = session.run(remote.partition_write(0, &records)).unwrap();
    assert!(answer.rest_from().is_some(), "{answer:?}");
    let counts = (0..16).map(|partition| partitions.counters(partition).whole().unwrap());
    assert_eq!(counts.sum::<u64>(), 6000 + answer.records());

    let (values, at) = (200 << 10, 180 << 10);
    let sketch = Sketch::format(region.memory(), at, 10).unwrap();
    let stream: Vec<u8> = (0..6000_u64).flat_map(|n| (n % 2000).to_le_bytes()).collect();
    assert!(session.run(remote.sketch_write(values, at, 10, &stream)).unwrap() > 500);
    let seen = sketch.estimate().unwrap();
    assert!((1800.0..2200.0).contains(&seen), "{seen}");
    let read = session.run(remote.read(at..at + sketch_bytes(10))).unwrap();
    assert_eq!(estimate(&read), Ok(seen));
    let stored = session.run(remote.read(values..values + stream.len() as u64)).unwrap();
    assert!(stored[..] == stream[..]);
    let other = remote.sketch_write(values, at, 11, &stream);
    assert_eq!(failure(session.run(other)), (Status::BadArguments, Fate::Unknown));
}
