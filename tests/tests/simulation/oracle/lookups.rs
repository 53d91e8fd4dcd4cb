//! A bucket table, its owner's changes and what lookups bring.

use nic_kernels::bucket_table::{
    BucketTable, Geometry, Identity, KeyHash, TableView, Verdict, validate,
};
use nic_kernels::scan_and_read;
use nic_shm::RacyMem;
use nic_tests::{fenced, sample::pattern};

use super::Tick;

/// Keys that may be in the table.
pub const KEYS: u64 = 24;
/// The longest value in bytes.
pub const VALUE_BYTES_MAX: u64 = 2600;
/// The entries' region: registered behind the plain region and the index.
pub const ENTRIES_REGION: u8 = 2;

/// What a key had from a moment on.
#[derive(Clone, Copy, Debug)]
struct Version {
    from: Tick,
    to: Tick,
    /// The number that its value is made of; none while the key is not there.
    value: Option<u64>,
}

/// See the module's description.
pub struct Lookups {
    table: BucketTable,
    view: TableView,
    /// The table's two memories.
    pub index: RacyMem,
    pub entries: RacyMem,
    keys: Vec<Vec<Version>>,
    changed: Tick,
    serial: u64,
    /// Lookups that found their value, found none, and were told to look again.
    pub hits: u64,
    pub misses: u64,
    pub torn: u64,
}

fn key(number: u64) -> [u8; 16] {
    nic_tests::sample::key(number)
}

/// A value is its number, again and again, up to a length that follows from it.
fn value(number: u64) -> Vec<u8> {
    let length = pattern(number) % (1 << (1 + pattern(number + 1) % 12));
    let length = length.min(VALUE_BYTES_MAX) as usize;
    number.to_le_bytes().into_iter().cycle().take(length).collect()
}

impl Lookups {
    /// An empty table in memory of its own.
    pub fn new() -> Self {
        let geometry = Geometry::for_entries(KEYS);
        let index = fenced(geometry.index_bytes());
        let entries = fenced(Geometry::entries_bytes(4 * KEYS, 32, VALUE_BYTES_MAX));
        let identity = Identity { entries_region: ENTRIES_REGION, ..Identity::default() };
        let table = BucketTable::format(index.clone(), entries.clone(), geometry, identity);
        let mut header = [0; TableView::HEADER_BYTES];
        index.read(0, &mut header).unwrap();
        let nothing = Version { from: 0, to: Tick::MAX, value: None };
        Lookups {
            table: table.unwrap(),
            view: TableView::parse(&header).unwrap(),
            index,
            entries,
            keys: vec![vec![nothing]; KEYS as usize],
            changed: 0,
            serial: 0,
            hits: 0,
            misses: 0,
            torn: 0,
        }
    }

    /// The owner sets a key, or erases it. No lookup under way began before `horizon`.
    pub fn change(&mut self, number: u64, erase: bool, tick: Tick, horizon: Tick) {
        self.serial += 1;
        self.changed = tick;
        let new = if erase {
            self.table.erase(&key(number));
            None
        } else {
            self.table.upsert(&key(number), &value(self.serial)).unwrap();
            Some(self.serial)
        };
        let versions = &mut self.keys[number as usize];
        versions.last_mut().expect("a key has a version").to = tick;
        versions.retain(|version| version.to >= horizon);
        versions.push(Version { from: tick, to: Tick::MAX, value: new });
    }

    /// The arguments of a lookup.
    pub fn arguments(&self, number: u64) -> scan_and_read::Arguments {
        self.view.scan_and_read(KeyHash::of(&key(number)))
    }

    /// Compares what a lookup brought with what it may have found.
    pub fn look(&mut self, number: u64, begun: Tick, over: Tick, reply: &[u8]) {
        let key = key(number);
        let possible = self.keys[number as usize]
            .iter()
            .filter(|version| version.from <= over && begun <= version.to)
            .map(|version| version.value);
        let hash = KeyHash::of(&key);
        match validate(reply, &key, hash, self.view.config_id) {
            Verdict::Hit { value: place, .. } => {
                let found = &reply[place];
                let is_it = possible.flatten().any(|number| value(number) == found);
                assert!(is_it, "key {number} had no such value of {} bytes", found.len());
                self.hits += 1;
            }
            Verdict::Miss => {
                let mut possible = possible;
                assert!(possible.any(|value| value.is_none()), "key {number} was there");
                self.misses += 1;
            }
            Verdict::Overflowed => {
                assert!(self.table.overflowed() > 0 || self.changed >= begun);
            }
            Verdict::Torn(torn) => {
                assert!(self.changed >= begun, "{torn:?} in a table at rest");
                self.torn += 1;
            }
            verdict @ Verdict::WrongConfig { .. } => panic!("{verdict:?}"),
        }
    }
}
