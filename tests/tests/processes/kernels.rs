//! Kernels between real processes: an application's structures, walked by the engine beside them for
//! an application on another engine.

use nic_host::consistent_read::{self, Checksum};
use nic_host::ops::{ChainAppended, ChainEnd, Traversal};
use nic_host::prism::{Chain, Primitive, Target};
use nic_host::rpc::{Procedure, Services};
use nic_host::scan::{self, Comparison, Field};
use nic_host::version_chain::{Image, Pool};
use nic_host::{
    Access, HOME_REGION, Nic, OpError, Pointer, Region, RemoteRegion, Session, Status,
    chain_append, chain_read, indirect_read, traverse,
};
use nic_kernels::PointerForm;
use nic_kernels::consistent_read::writer::seal;
use nic_kernels::indirect_read::writer::Table;
use nic_kernels::traverse::writer::Writer;
use nic_tests::children::Child;
use serde::{Deserialize, Serialize};

use super::{Place, failure};

/// An owner on one daemon, and a session with a way to its region on another.
struct Scene {
    _daemons: [Child; 2],
    _nics: [Nic; 2],
    region: Region,
    _export: nic_host::Export,
    session: Session,
    remote: RemoteRegion,
    _place: Place,
}

fn scene() -> Scene {
    let place = Place::new();
    let daemons = ["target", "initiator"].map(|name| place.daemon(name, ""));
    let (owner, user) = (place.nic("target"), place.nic("initiator"));
    let region = owner.region(256 << 10).create().unwrap();
    let rights = Access::READ.and(Access::WRITE).and(Access::ATOMIC).and(Access::CALL);
    let export = region.export(rights).unwrap();
    let session = user.session().depth(16).open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let (_daemons, _nics, _export, _place) = (daemons, [owner, user], export, place);
    Scene { _daemons, _nics, region, _export, session, remote, _place }
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
