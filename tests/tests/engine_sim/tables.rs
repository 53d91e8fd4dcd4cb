//! SCAN_AND_READ on a real table, against a map, over bad links.

use std::collections::BTreeMap;

use nic_kernels::Access;
use nic_kernels::bucket_table::{
    BucketTable, Geometry, Identity, KeyHash, TableView, Verdict, validate,
};
use nic_ports::{Chance, Random};
use nic_shm::RacyMem;
use nic_tests::{AppSession, Ask, HostId, World};

use crate::{session_of, under_seeds};

const KEYS: u64 = 400;
const VALUE_BYTES_MAX: u64 = 3000;

struct Store {
    world: World,
    target: HostId,
    table: BucketTable,
    session: AppSession,
    remote: u16,
}

fn store(seed: u64) -> Store {
    let mut world = World::lossy(seed, Chance::percent(5));
    let (initiator, target) = (world.add_host(), world.add_host());
    let owner = world.add_client(target);
    let geometry = Geometry::for_entries(KEYS);
    let index = RacyMem::allocate(geometry.index_bytes());
    let entries = RacyMem::allocate(Geometry::entries_bytes(KEYS, 32, VALUE_BYTES_MAX));
    let home = world.register(target, owner, &index);
    let entries_region = world.register(target, owner, &entries);
    let identity = Identity { entries_region, ..Identity::default() };
    let table = BucketTable::format(index, entries, geometry, identity).unwrap();
    let rkey = world.export(target, owner, home, Access::READ, &[entries_region]);
    let session = world.add_session(initiator, session_of(32, 4096));
    let remote = world.connect(&session, target, rkey);
    Store { world, target, table, session, remote }
}

fn key(number: u64) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

/// Looks keys up, 32 at a time, and compares with the map.
fn look_up(store: &mut Store, view: &TableView, keys: &[u64], map: &BTreeMap<u64, Vec<u8>>) {
    for batch in keys.chunks(32) {
        let mut out = Vec::new();
        for number in batch {
            let arguments = view.scan_and_read(KeyHash::of(&key(*number)));
            let ask = Ask::scan_and_read(store.remote, &arguments, 4096);
            out.push((store.session.submit(&ask), *number));
        }
        for done in store.world.wait(&mut store.session) {
            assert!(done.is_ok(), "{:?}", done.ended());
            let (_, number) = out.iter().find(|(token, _)| *token == done.token).unwrap();
            let key = key(*number);
            match validate(&done.reply, &key, KeyHash::of(&key), view.config_id) {
                Verdict::Hit { value, .. } => {
                    assert!(map.get(number).map(Vec::as_slice) == Some(&done.reply[value]));
                }
                Verdict::Miss => assert!(!map.contains_key(number), "key {number} was missed"),
                Verdict::Overflowed => assert!(store.table.overflowed() > 0),
                other => panic!("{other:?} without a concurrent writer"),
            }
        }
    }
}

#[test]
fn lookups_agree_with_a_map() {
    under_seeds(80..83, |seed| {
        let mut store = store(seed);
        let header = Ask::read(store.remote, 0, TableView::HEADER_BYTES as u32);
        let done = store.world.run(&mut store.session, &header);
        let view = TableView::parse(&done.reply).unwrap();
        let mut random = Random::new(seed);
        let mut map = BTreeMap::new();
        for _ in 0..5 {
            for _ in 0..150 {
                let number = random.below(KEYS);
                let size = random.below(12);
                let length = random.below(1 << size) as usize;
                let value: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
                if random.below(4) == 0 {
                    assert_eq!(store.table.erase(&key(number)), map.remove(&number).is_some());
                } else {
                    store.table.upsert(&key(number), &value).unwrap();
                    map.insert(number, value);
                }
            }
            let keys: Vec<u64> = (0..160).map(|_| random.below(KEYS + 100)).collect();
            look_up(&mut store, &view, &keys, &map);
        }
        let counters = store.world.counters(store.target);
        assert_eq!(counters.executed, 1 + 5 * 160, "one op for each lookup");
        assert_eq!(counters.refused + counters.failed, 0);
    });
}
