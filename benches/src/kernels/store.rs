//! What the target's region holds, and where: computed alike on both sides.
//!
//! ```text
//! values    words of 8 bytes that follow from their place
//! objects   of each length and checksum, one behind the other
//! table     pointers to values
//! buckets   a hash table of StRoM's buckets, then those chained to them
//! links     of the version chains: those of all first entries, of all second ones, ..
//! lists     one ring of elements, each with a pointer to a value
//! ```
//!
//! The version chains have a region of their own.

use anyhow::{Context, Result, ensure};
use nic_benches::{Lists, mixed, shuffled};
use nic_host::consistent_read::{Arguments, Checksum};
use nic_host::version_chain::Pool;
use nic_kernels::consistent_read::writer::seal;
use nic_kernels::traverse::writer::{BUCKET_BYTES, bucket_of};
use nic_shm::RacyMem;

use super::contents;

/// The longest value in bytes.
pub(super) const VALUE_BYTES_MAX: u64 = 4096;
/// Entries of each version chain.
pub(super) const VERSIONS: u64 = 17;
/// Length of a chain's values in bytes: with their headers they fill a cache line.
pub(super) const CHAIN_VALUE_BYTES: usize = 40;
const CHAIN_BUFFER_BYTES: u32 = 64;
/// Keys of a bucket.
const BUCKET_KEYS: u64 = 3;
/// Where the values begin: nothing may lie at address 0.
const VALUES: u64 = 4096;

/// The objects there are: length, with the checksum in their last 8 bytes, and which that is.
pub(super) const OBJECTS: [(u64, Checksum); 5] = [
    (64, Checksum::Xxh3),
    (256, Checksum::Xxh3),
    (1024, Checksum::Xxh3),
    (4096, Checksum::Xxh3),
    (4096, Checksum::Crc64),
];

/// The places of everything. Lengths are powers of two where not said otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Store {
    values_bytes: u64,
    objects: u64,
    /// Of the objects of each kind together.
    objects_bytes: u64,
    pub(super) table: u64,
    table_entries: u64,
    pub(super) buckets: u64,
    pub(super) buckets_count: u64,
    keys: u64,
    chained: u64,
    chained_count: u64,
    links: u64,
    chains_log2: u32,
    pub(super) lists: Lists,
}

impl Store {
    /// Large enough that no cache holds much of it, or small.
    pub(super) fn new(is_small: bool) -> Self {
        let less = if is_small { 10 } else { 0 };
        let values_bytes = 1 << (28 - less);
        let objects = VALUES + values_bytes;
        let objects_bytes = 1 << (27 - less);
        let table = objects + OBJECTS.len() as u64 * objects_bytes;
        let table_entries = 1 << (25 - less);
        let buckets = table + 8 * table_entries;
        let buckets_count = 1 << (21 - less);
        let chained = buckets + BUCKET_BYTES * buckets_count;
        let chained_count = buckets_count / 4;
        let links = chained + BUCKET_BYTES * chained_count;
        let chains_log2 = 18 - less;
        let lists = (links + ((8 * VERSIONS) << chains_log2)).next_multiple_of(4096);
        Store {
            values_bytes,
            objects,
            objects_bytes,
            table,
            table_entries,
            buckets,
            buckets_count,
            // Half of the places in buckets are taken.
            keys: buckets_count * BUCKET_KEYS / 2,
            chained,
            chained_count,
            links,
            chains_log2,
            lists: Lists::new(lists, 23 - less),
        }
    }

    /// Length of the region.
    pub(super) fn bytes(&self) -> u64 {
        self.lists.start + self.lists.bytes()
    }

    /// Length of the region of the chains.
    pub(super) fn chains_bytes(&self) -> u64 {
        // A unit that is no buffer, and shortcuts.
        u64::from(CHAIN_BUFFER_BYTES) * VERSIONS * self.chains() + 64 + 8 * self.chains()
    }

    /// How many chains there are.
    pub(super) fn chains(&self) -> u64 {
        1 << self.chains_log2
    }

    /// The address of the value that a number stands for.
    pub(super) fn value(&self, number: u64) -> u64 {
        VALUES + mixed(!number) % ((self.values_bytes - VALUE_BYTES_MAX) / 64) * 64
    }

    /// Whether these bytes are what lies at an address among the values.
    pub(super) fn is_value(&self, address: u64, bytes: &[u8]) -> bool {
        contents::belong_to(address / 8, bytes)
    }

    /// Some object of a kind, a place in [`OBJECTS`].
    pub(super) fn object(&self, kind: usize, number: u64) -> Arguments {
        let (length, checksum) = OBJECTS[kind];
        let count = self.objects_bytes / length;
        let begin = self.objects + kind as u64 * self.objects_bytes;
        // At most 4096.
        Arguments::trailing(begin + number % count * length, length as u16, checksum)
    }

    /// Whether this is that object.
    pub(super) fn is_object(&self, arguments: &Arguments, bytes: &[u8]) -> bool {
        let covered = bytes.get(..usize::from(arguments.to.get()));
        covered.is_some_and(|covered| contents::belong_to(arguments.address.get() / 8, covered))
    }

    /// Some entry of the table of pointers.
    pub(super) fn table_entry(&self, number: u64) -> u32 {
        (number % self.table_entries) as u32
    }

    /// Some key of the hash table, and the address of its value.
    pub(super) fn key(&self, number: u64) -> (u64, u64) {
        let key = 1 + number % self.keys;
        (key, self.value(key))
    }

    /// The address of a key's first bucket.
    pub(super) fn bucket(&self, key: u64) -> u64 {
        self.buckets + BUCKET_BYTES * bucket_of(key, self.buckets_count)
    }

    /// Where the links of all chains' entries of a version stand, a word each.
    pub(super) fn links(&self, version: u64) -> std::ops::Range<u64> {
        let bytes = 8 * self.chains();
        self.links + version * bytes..self.links + (version + 1) * bytes
    }

    /// What an entry of a chain holds.
    pub(super) fn chain_value(&self, chain: u64, version: u64) -> [u8; CHAIN_VALUE_BYTES] {
        let mut value = [0; CHAIN_VALUE_BYTES];
        contents::fill(1 << 50 | (chain * VERSIONS + version) << 4, &mut value);
        value
    }

    /// Writes all of it.
    pub(super) fn write(&self, memory: &RacyMem, chains: (u8, RacyMem)) -> Result<()> {
        let mut page = [0; 4096];
        for at in (VALUES..self.objects).step_by(page.len()) {
            contents::fill(at / 8, &mut page);
            memory.write(at, &page)?;
        }
        self.write_objects(memory)?;
        for entry in 0..self.table_entries {
            memory.write(self.table + 8 * entry, &self.value(entry).to_le_bytes())?;
        }
        self.write_buckets(memory)?;
        self.lists.write(memory, |position| self.value(position))?;
        self.write_chains(memory, chains)
    }

    fn write_objects(&self, memory: &RacyMem) -> Result<()> {
        for (kind, (length, _)) in OBJECTS.iter().enumerate() {
            let mut object = vec![0; *length as usize];
            for number in 0..self.objects_bytes / length {
                let arguments = self.object(kind, number);
                let address = arguments.address.get();
                contents::fill(address / 8, &mut object);
                ensure!(seal(&arguments, &mut object), "an object has room for its checksum");
                memory.write(address, &object)?;
            }
        }
        Ok(())
    }

    fn write_buckets(&self, memory: &RacyMem) -> Result<()> {
        let mut spare = (0..self.chained_count).map(|at| self.chained + BUCKET_BYTES * at);
        for number in 0..self.keys {
            let (key, value) = self.key(number);
            let mut at = self.bucket(key);
            loop {
                let words: Vec<u64> =
                    (0..8).map(|word| memory.load64(at + 8 * word)).collect::<Result<_, _>>()?;
                let free = (0..BUCKET_KEYS as usize).find(|place| words[2 * place] == 0);
                if let Some(place) = free {
                    memory.write(at + 16 * place as u64 + 8, &value.to_le_bytes())?;
                    memory.write(at + 16 * place as u64, &key.to_le_bytes())?;
                    break;
                }
                let next = match words[6] {
                    0 => spare.next().context("there is no room for another chained bucket")?,
                    next => next,
                };
                memory.write(at + 48, &next.to_le_bytes())?;
                at = next;
            }
        }
        Ok(())
    }

    /// Each chain's next entry lies anywhere but behind the one before.
    fn write_chains(&self, memory: &RacyMem, chains: (u8, RacyMem)) -> Result<()> {
        let shortcuts = self.chains() as u32;
        let mut pool = Pool::format(&[chains], shortcuts, CHAIN_BUFFER_BYTES)?;
        for version in 0..VERSIONS {
            let aside = mixed(version);
            for place in 0..self.chains() {
                let chain = (shuffled(place, self.chains_log2) ^ aside) & (self.chains() - 1);
                let value = self.chain_value(chain, version);
                let link = match version {
                    0 => pool.create(&value)?.first,
                    _ => {
                        let before = memory.load64(self.links(version - 1).start + 8 * chain)?;
                        pool.append(nic_host::version_chain::Link::from_raw(before), &value)?
                    }
                };
                let at = self.links(version).start + 8 * chain;
                memory.write(at, &link.raw().to_le_bytes())?;
            }
        }
        Ok(())
    }
}
