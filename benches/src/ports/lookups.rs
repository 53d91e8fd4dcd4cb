//! Scan-and-Reads of a table behind the far engine; every value is compared.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nic_benches::mixed;
use nic_host::{
    Access, BucketTable, Export, Geometry, Identity, Lookup, Nic, Pages, Pending, Region,
    RemoteTable, ScanAndRead, Session, SubmitError, Ticket, Wait,
};
use nic_shm::RacyMem;

pub(super) const VALUE_BYTES: usize = 64;

/// What one pair takes of index and entries together, in bytes, at the fill that tables aim at.
const PAIR_BYTES: u64 = 80 + 144;
const DEPTH: u32 = 256;
/// A window is worked through in so many parts.
const PARTS: usize = 4;

/// The most keys that are asked for, in an order that no prefetcher guesses, before it begins again.
const ASKED_MAX: u64 = 1 << 20;

/// How many keys a table has whose index and entries take so many bytes together.
pub(super) fn keys_in(bytes: u64) -> u64 {
    bytes / PAIR_BYTES
}

/// A table of an application beside the far engine.
pub(super) struct Table {
    export: Export,
    pub(super) index: Region,
    pub(super) entries: Region,
    keys: u64,
}

impl Table {
    pub(super) fn new(owner: &Nic, bytes: u64) -> Result<Table> {
        let keys = keys_in(bytes);
        let [index_bytes, entries_bytes] = lengths(keys);
        let region = |bytes| owner.region(bytes).pages(Pages::TryHuge).create();
        let (index, entries) = (region(index_bytes)?, region(entries_bytes)?);
        fill(index.memory(), entries.memory(), entries.number(), keys)?;
        let export = index.export(Access::READ.follow(&entries))?;
        Ok(Table { export, index, entries, keys })
    }

    pub(super) fn open(&self, nic: &Nic) -> Result<Lookups> {
        Lookups::open(nic, &self.export.ticket(), self.keys)
    }
}

/// What the index and the entries of so many keys take, in bytes.
pub(super) fn lengths(keys: u64) -> [u64; 2] {
    let entries = Geometry::entries_bytes(keys, 16, VALUE_BYTES as u64);
    [Geometry::for_entries(keys).index_bytes(), entries]
}

/// Makes a table in this memory.
pub(super) fn fill(index: RacyMem, entries: RacyMem, entries_region: u8, keys: u64) -> Result<()> {
    let identity = Identity { entries_region, ..Identity::default() };
    let geometry = Geometry::for_entries(keys);
    let mut table = BucketTable::format(index, entries, geometry, identity)?;
    for number in 0..keys {
        table.insert(&key(number), &value(number))?;
    }
    Ok(())
}

/// A session that looks keys up in a table.
pub(super) struct Lookups {
    table: RemoteTable,
    pub(super) session: Session,
    /// What is asked for, one after the other.
    keys: Vec<[u8; 16]>,
    next: Cell<usize>,
    errors: Cell<u64>,
    /// By slot of the session: the key's number.
    asked: RefCell<Vec<u64>>,
}

impl Lookups {
    pub(super) fn open(nic: &Nic, ticket: &Ticket, keys: u64) -> Result<Lookups> {
        let session = nic.session().depth(DEPTH).wait(Wait::Spin).open()?;
        let table = RemoteTable::open(&session, ticket)?.with_values_up_to(VALUE_BYTES as u32);
        let keys = (0..ASKED_MAX.min(4 * keys)).map(|at| key(mixed(at) % keys)).collect();
        let asked = RefCell::new(vec![0; DEPTH as usize]);
        let (next, errors) = (Cell::new(0), Cell::new(0));
        Ok(Lookups { table, session, keys, next, errors, asked })
    }

    /// Lookups that brought a wrong value, or none.
    pub(super) fn errors(&self) -> u64 {
        self.errors.get()
    }

    /// One lookup, there and back.
    #[inline]
    pub(super) fn one(&self) -> Result<()> {
        let (key, number) = self.next();
        let found = self.session.run(self.table.scan_and_read(key))?;
        self.judge(number, &found);
        Ok(())
    }

    /// Lookups for a time, `window` of them out. In millions a second.
    pub(super) fn windowed(&self, window: usize, time: Duration) -> Result<f64> {
        let mut pending: Vec<Option<Pending<'_, ScanAndRead<'_>>>> = Vec::new();
        pending.resize_with(DEPTH as usize, || None);
        let part = window / PARTS;
        let (begun, mut out, mut done) = (Instant::now(), 0, 0_u64);
        let mut is_over = false;
        while !is_over || out > 0 {
            is_over |= begun.elapsed() >= time;
            for _ in 0..part.min(window - out) {
                if is_over || !self.submit(&mut pending)? {
                    break;
                }
                out += 1;
            }
            let mut found = 0;
            for over in self.session.poll()?.take(part) {
                let slot = over.slot();
                let Some(one) = pending[slot].take() else { bail!("an op ended twice") };
                let number = self.asked.borrow()[slot];
                self.judge(number, &one.take(over)?);
                found += 1;
            }
            out -= found;
            done += found as u64;
        }
        Ok(done as f64 / begun.elapsed().as_secs_f64() / 1e6)
    }

    #[inline]
    fn submit<'s>(&'s self, pending: &mut [Option<Pending<'s, ScanAndRead<'s>>>]) -> Result<bool> {
        let (key, number) = self.next();
        match self.session.submit(self.table.scan_and_read(key)) {
            Ok(one) => {
                let slot = one.slot();
                self.asked.borrow_mut()[slot] = number;
                pending[slot] = Some(one);
                Ok(true)
            }
            Err(SubmitError::Full(_)) => Ok(false),
            Err(SubmitError::Invalid(error)) => Err(error.into()),
        }
    }

    #[inline]
    fn judge(&self, number: u64, found: &Lookup) {
        let is_right = match found {
            Lookup::Hit(entry) => entry.value() == value(number),
            // Its bucket has overflowed: answered, and rightly so.
            Lookup::Overflowed => true,
            Lookup::Miss => false,
        };
        self.errors.set(self.errors.get() + u64::from(!is_right));
    }

    /// The next key and its number.
    #[inline]
    fn next(&self) -> (&[u8; 16], u64) {
        let at = self.next.get();
        self.next.set(if at + 1 == self.keys.len() { 0 } else { at + 1 });
        let key = &self.keys[at];
        (key, number(key))
    }
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:............";
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

#[inline]
fn number(key: &[u8; 16]) -> u64 {
    let [_, _, _, _, _, _, _, _, number @ ..] = *key;
    u64::from_le_bytes(number)
}

fn value(number: u64) -> [u8; VALUE_BYTES] {
    [number as u8; VALUE_BYTES]
}
