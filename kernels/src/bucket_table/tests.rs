//! The table against an oracle, as its owner and its readers see it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{KernelId, Rkey, Status};

use super::validate::absent;
use super::*;
use crate::Access;
use crate::bench::Bench;
use crate::random::Random;

/// A table, its regions, and an export that follows from the index into the entries.
pub(super) struct Store {
    pub(super) bench: Bench,
    pub(super) table: BucketTable,
    pub(super) entries: RacyMem,
    pub(super) rkey: Rkey,
    pub(super) view: TableView,
}

impl Store {
    pub(super) fn new(geometry: Geometry, entries_bytes: u64) -> Self {
        let mut bench = Bench::new(64);
        let index = RacyMem::allocate(geometry.index_bytes());
        let entries = RacyMem::allocate(entries_bytes);
        let home = bench.register(&index);
        let entries_region = bench.register(&entries);
        let identity = Identity { entries_region, config_id: 7, ..Identity::default() };
        let table =
            BucketTable::format(index.clone(), entries.clone(), geometry, identity).unwrap();
        let follow = [entries_region];
        let rkey = bench.memory.export(bench.domain, home, Access::READ, &follow, 9).unwrap();
        let mut header = [0; TableView::HEADER_BYTES];
        index.read(0, &mut header).unwrap();
        let view = TableView::parse(&header).unwrap();
        Store { bench, table, entries, rkey, view }
    }

    /// Looks a key up by one op.
    fn scan(&mut self, hash: KeyHash, key: &[u8]) -> (Verdict, Vec<u8>) {
        let arguments = self.view.scan_and_read(hash).encode();
        let (finish, reply) = self.bench.call(&self.rkey, KernelId::SCAN_AND_READ, &arguments, &[]);
        assert_eq!(finish.status, Status::Ok);
        let verdict = validate(&reply, key, hash, self.view.config_id);
        let value = match &verdict {
            Verdict::Hit { value, .. } => reply[value.clone()].to_vec(),
            _ => Vec::new(),
        };
        (verdict, value)
    }

    fn read(&mut self, arguments: &crate::read::Arguments) -> Vec<u8> {
        let (finish, reply) = self.bench.call(&self.rkey, KernelId::READ, &arguments.encode(), &[]);
        assert_eq!(finish.status, Status::Ok);
        reply
    }

    /// Looks a key up by two plain READs.
    fn two_reads(&mut self, hash: KeyHash, key: &[u8]) -> (Verdict, Vec<u8>) {
        let bytes = self.read(&self.view.read_bucket(hash).clone());
        let bucket = Bucket::parse(&bytes).unwrap();
        for (index, pointer) in bucket.candidates(hash) {
            let data = self.read(&TableView::read_entry(pointer));
            let config_id = self.view.config_id;
            let verdict = validate_entry(bucket.header(), index, &data, key, hash, config_id);
            match verdict {
                Verdict::Miss | Verdict::Overflowed => {}
                Verdict::Hit { ref value, .. } => {
                    let value = data[value.clone()].to_vec();
                    return (verdict, value);
                }
                _ => return (verdict, Vec::new()),
            }
        }
        (absent(bucket.header(), self.view.config_id), Vec::new())
    }
}

/// Hashes keys: as the table does, or so badly that they collide.
type Hash = fn(&[u8]) -> KeyHash;

/// Random changes; after each, what owner and readers see is what the oracle says.
fn against_an_oracle(seed: u64, geometry: Geometry, hash: Hash, keys: u64, lengths: &[u64]) {
    let longest = lengths.iter().max().unwrap();
    let mut random = Random::new(seed);
    let mut store = Store::new(geometry, Geometry::entries_bytes(keys + 40, 20, longest + 1));
    let mut oracle = BTreeMap::<Vec<u8>, (Vec<u8>, u64)>::new();
    for step in 0..600 {
        let context = || alloc::format!("seed {seed}, step {step}");
        let key = Vec::from(alloc::format!("key {}", random.below(keys)));
        let key_hash = hash(&key);
        let length = lengths[random.below(lengths.len() as u64) as usize];
        let value: Vec<u8> = (0..length + random.below(2)).map(|_| random.next() as u8).collect();
        let known = oracle.contains_key(&key);
        match random.below(4) {
            0 => match store.table.insert_hashed(key_hash, &key, &value) {
                Ok(version) => assert!(oracle.insert(key, (value, version)).is_none()),
                Err(error) => assert!(known && error == InsertError::Duplicate, "{}", context()),
            },
            1 => match store.table.replace_hashed(key_hash, &key, &value) {
                Ok(version) => assert!(oracle.insert(key, (value, version)).is_some()),
                Err(error) => assert!(!known && error == ReplaceError::Missing, "{}", context()),
            },
            2 => {
                let erased = store.table.erase_hashed(key_hash, &key);
                assert_eq!(erased, oracle.remove(&key).is_some(), "{}", context());
            }
            _ => {}
        }
        assert_eq!(store.table.len(), oracle.len() as u64);
        let key = Vec::from(alloc::format!("key {}", random.below(keys)));
        look_up(&mut store, &oracle, hash, &key, &context());
    }
    for number in 0..keys {
        let key = Vec::from(alloc::format!("key {number}"));
        look_up(&mut store, &oracle, hash, &key, &alloc::format!("seed {seed}, at the end"));
    }
    let all: Vec<Vec<u8>> = oracle.keys().cloned().collect();
    all.iter().for_each(|key| assert!(store.table.erase_hashed(hash(key), key)));
    assert_eq!((store.table.len(), store.table.overflowed()), (0, 0));
    let fresh = slab::Slabs::new(store.entries.len()).empty_bytes();
    assert_eq!(store.table.empty_bytes(), fresh, "seed {seed}: pieces were lost");
}

fn look_up(
    store: &mut Store,
    oracle: &BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    hash: Hash,
    key: &[u8],
    context: &String,
) {
    let key_hash = hash(key);
    let expected = oracle.get(key);
    let found = store.table.get_hashed(key_hash, key);
    let found = found.map(|stored| (stored.value, stored.version));
    assert_eq!(found.as_ref(), expected, "{context}");
    let scanned = store.scan(key_hash, key);
    let read = store.two_reads(key_hash, key);
    assert_eq!(scanned.1, read.1, "{context}");
    for (verdict, value) in [scanned, read] {
        match (verdict, expected) {
            (Verdict::Hit { version, .. }, Some((stored, stored_version))) => {
                assert_eq!((&value, version), (stored, *stored_version), "{context}");
            }
            (Verdict::Miss, None) => {}
            (Verdict::Overflowed, _) => {
                // The owner answers, as its CALL handler would.
                let bucket = store.view.bucket_address(key_hash);
                let overflowed = store.table.overflow.get(bucket, key);
                assert_eq!(overflowed.map(|s| &s.value), expected.map(|(v, _)| v), "{context}");
            }
            (verdict, expected) => panic!("{context}: {verdict:?} where {expected:?}"),
        }
    }
}

#[test]
fn readers_and_owner_see_what_was_stored() {
    for seed in 0..12 {
        let geometry = Geometry::for_entries(100);
        against_an_oracle(seed, geometry, KeyHash::of, 100, &[0, 10, 400, 411, 420, 3000]);
    }
}

#[test]
fn small_buckets_overflow_and_recover() {
    for seed in 0..12 {
        for bucket_bytes in [64, 128, 192, 256] {
            let geometry = Geometry::of(2, bucket_bytes).unwrap();
            against_an_oracle(seed, geometry, KeyHash::of, 40, &[8, 100]);
        }
    }
}

#[test]
fn keys_whose_low_halves_collide_are_told_apart() {
    // All in one bucket, all with the same low half.
    let hash: Hash = |key| KeyHash(KeyHash::of(key).0 & !(u64::MAX as u128) & !(0xff << 64) | 42);
    for seed in 0..12 {
        against_an_oracle(seed, Geometry::of(4, 256).unwrap(), hash, 14, &[8, 1000]);
    }
}

#[test]
fn keys_whose_whole_hashes_collide_are_told_apart() {
    let hash: Hash = |key| KeyHash(KeyHash::of(key).0 & 3);
    for seed in 0..12 {
        against_an_oracle(seed, Geometry::of(4, 256).unwrap(), hash, 20, &[8, 1000]);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let geometry = Geometry::for_entries(10);
    let mut store = Store::new(geometry, 16 << 10);
    let table = &mut store.table;
    assert_eq!(table.insert(b"", b"v"), Err(InsertError::Unfit(Unfit::EmptyKey)));
    assert_eq!(table.upsert(b"", b"v"), Err(Unfit::EmptyKey));
    let long_key = [1; KEY_BYTES_MAX + 1];
    assert_eq!(table.upsert(&long_key, b"v"), Err(Unfit::KeyTooLong { found: 513 }));
    let long_value = alloc::vec![1; VALUE_BYTES_MAX + 1];
    let too_long = Unfit::ValueTooLong { found: VALUE_BYTES_MAX + 1 };
    assert_eq!(table.upsert(b"k", &long_value), Err(too_long));
    assert_eq!(table.replace(b"k", b"v"), Err(ReplaceError::Missing));
    assert!(!table.erase(b"k"));
    assert_eq!(table.insert(&[1; KEY_BYTES_MAX], b""), Ok(1));
    assert_eq!(table.insert(&[1; KEY_BYTES_MAX], b""), Err(InsertError::Duplicate));
    assert_eq!(table.get(&long_key), None);
    let full = Unfit::Full { needed: 40 + 1 + 20_000 };
    assert_eq!(table.insert(b"k", &[0; 20_000]), Err(InsertError::Unfit(full)));
    assert_eq!(table.upsert(&[1; KEY_BYTES_MAX], b"again"), Ok(2));
    let replaced = table.replace(&[1; KEY_BYTES_MAX], &[0; 20_000]);
    assert_eq!(replaced, Err(ReplaceError::Unfit(Unfit::Full { needed: 40 + 512 + 20_000 })));
    assert_eq!(table.get(&[1; KEY_BYTES_MAX]).unwrap().value, b"again");
    assert_eq!(table.len(), 1);
}

#[test]
fn a_full_table_says_so_and_goes_on_when_keys_are_erased() {
    let mut store = Store::new(Geometry::for_entries(1000), 32 << 10);
    let mut stored = 0u32;
    while store.table.insert(&stored.to_le_bytes(), &[1; 200]).is_ok() {
        stored += 1;
    }
    assert!(stored > 90, "{stored} entries of 244 bytes in 32 KiB");
    assert_eq!(store.table.len(), u64::from(stored));
    assert!(store.table.erase(&7u32.to_le_bytes()));
    assert!(store.table.insert(b"another", &[1; 200]).is_ok());
}

#[test]
fn the_longest_key_and_value_are_served() {
    let bytes = Geometry::entries_bytes(1, KEY_BYTES_MAX as u64, VALUE_BYTES_MAX as u64);
    let mut store = Store::new(Geometry::for_entries(10), bytes);
    let key = [3; KEY_BYTES_MAX];
    for fill in [5, 6] {
        let value = alloc::vec![fill; VALUE_BYTES_MAX];
        store.table.upsert(&key, &value).unwrap();
        let hash = KeyHash::of(&key);
        assert!(store.scan(hash, &key).1 == value);
        assert!(store.two_reads(hash, &key).1 == value);
    }
}

#[test]
fn a_reply_carries_no_more_than_the_entry() {
    let mut store = Store::new(Geometry::for_entries(10), 64 << 10);
    // Around the gathered maximum, in steps smaller than the rounding of pointers.
    for length in 400..450 {
        store.table.upsert(b"key", &alloc::vec![9; length]).unwrap();
        let arguments = store.view.scan_and_read(KeyHash::of(b"key")).encode();
        let (finish, reply) =
            store.bench.call(&store.rkey, KernelId::SCAN_AND_READ, &arguments, &[]);
        let expected = crate::scan_and_read::reply_bytes(3, length as u32);
        assert_eq!((finish.reply_length, reply.len()), (expected, expected as usize));
    }
}

#[test]
fn formatting_checks_its_memories() {
    let geometry = Geometry::for_entries(100);
    let needed = geometry.index_bytes();
    let format = |index: RacyMem, entries: RacyMem| {
        BucketTable::format(index, entries, geometry, Identity::default()).err()
    };
    let entries = RacyMem::allocate(4096);
    let short = RacyMem::allocate(needed - 1);
    let too_small = FormatError::IndexTooSmall { found: needed - 1, needed };
    assert_eq!(format(short, entries.clone()), Some(too_small));
    let tiny = FormatError::EntriesSize { found: 2047, minimum: 2048 };
    assert_eq!(format(RacyMem::allocate(needed), RacyMem::allocate(2047)), Some(tiny));
    let read_only = RacyMem::allocate(needed).to_read_only();
    assert_eq!(format(read_only, entries.clone()), Some(FormatError::ReadOnly));
    let shifted = RacyMem::allocate(needed + 16).slice(16, needed).unwrap();
    assert_eq!(format(shifted, entries), Some(FormatError::Misaligned));
}

#[test]
fn a_table_may_be_formatted_over_whatever_there_was() {
    let geometry = Geometry::for_entries(100);
    let index = RacyMem::allocate(geometry.index_bytes());
    let entries = RacyMem::allocate(64 << 10);
    index.fill(0, index.len(), 0xff).unwrap();
    let identity = Identity { service: Some(4), generation: 2, ..Identity::default() };
    let mut table = BucketTable::format(index.clone(), entries, geometry, identity).unwrap();
    let header = index.read_array::<48>(0).unwrap();
    let view = TableView::parse(&header).unwrap();
    assert_eq!((view.geometry, view.service, view.generation), (geometry, Some(4), 2));
    assert_eq!(table.get(b"key"), None);
    table.insert(b"key", b"value").unwrap();
    assert_eq!(table.get(b"key").unwrap().value, b"value");
}

#[test]
fn one_buffer_serves_every_lookup_of_the_owner() {
    // One bucket, so that some keys overflow.
    let mut store = Store::new(Geometry::of(1, 64).unwrap(), 1 << 20);
    let values: Vec<Vec<u8>> = (0..8_u8).map(|n| alloc::vec![n; 1000 >> n]).collect();
    for (key, value) in (0_u8..).zip(&values) {
        store.table.insert(&[key], value).unwrap();
    }
    assert!(store.table.overflowed() > 0 && store.table.overflowed() < 8);
    let mut buffer = Vec::with_capacity(2048);
    let place = buffer.as_ptr();
    for (key, value) in (0_u8..).zip(&values) {
        let found = store.table.get_with(&[key], &mut buffer);
        assert_eq!(found, Some((u64::from(key) + 1, value.as_slice())));
        assert_eq!(store.table.get_with(&[100 + key], &mut buffer), None);
    }
    assert_eq!(buffer.as_ptr(), place, "never reallocated");
}

crate::bench::also_on_dma!(
    readers_and_owner_see_what_was_stored,
    small_buckets_overflow_and_recover,
    keys_whose_low_halves_collide_are_told_apart,
    keys_whose_whole_hashes_collide_are_told_apart,
    the_longest_key_and_value_are_served,
    a_reply_carries_no_more_than_the_entry,
);
