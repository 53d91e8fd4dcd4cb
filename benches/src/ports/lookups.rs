//! Scan-and-Reads of a table behind the far engine; every value is compared.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nic_host::{
    Access, BucketTable, Export, Geometry, Identity, Lookup, Nic, Pages, Pending, Region,
    RemoteTable, ScanAndRead, Session, SubmitError, Wait,
};

use super::far::Far;

pub(super) const VALUE_BYTES: usize = 64;

/// What one pair takes of index and entries together, in bytes, at the fill that tables aim at.
const PAIR_BYTES: u64 = 80 + 144;
const DEPTH: u32 = 256;
/// A window is worked through in so many parts.
const PARTS: usize = 4;

/// A table, and a session that looks keys up in it.
pub(super) struct Lookups {
    table: RemoteTable,
    session: Session,
    nic: Nic,
    keys: Vec<[u8; 16]>,
    /// State of the sequence of keys.
    random: Cell<u64>,
    errors: Cell<u64>,
    /// By slot of the session: the key's number.
    asked: RefCell<Vec<u64>>,
    _memory: (Export, Region, Region),
}

impl Lookups {
    pub(super) fn open(nic: Nic, far: &Far, bytes: u64) -> Result<Lookups> {
        let keys: Vec<_> = (0..bytes / PAIR_BYTES).map(key).collect();
        let count = keys.len() as u64;
        let geometry = Geometry::for_entries(count);
        let region = |bytes| far.owner.region(bytes).pages(Pages::TryHuge).create();
        let index = region(geometry.index_bytes())?;
        let entries = region(Geometry::entries_bytes(count, 16, VALUE_BYTES as u64))?;
        let identity = Identity { entries_region: entries.number(), ..Identity::default() };
        let mut table = BucketTable::format(index.memory(), entries.memory(), geometry, identity)?;
        for (key, number) in keys.iter().zip(0..) {
            table.insert(key, &value(number))?;
        }
        let export = index.export(Access::READ.follow(&entries))?;
        let session = nic.session().depth(DEPTH).wait(Wait::Spin).open()?;
        let table =
            RemoteTable::open(&session, &export.ticket())?.with_values_up_to(VALUE_BYTES as u32);
        let asked = RefCell::new(vec![0; DEPTH as usize]);
        let (random, errors) = (Cell::new(1), Cell::new(0));
        let _memory = (export, index, entries);
        Ok(Lookups { table, session, nic, keys, random, errors, asked, _memory })
    }

    /// What the near port says of itself.
    pub(super) fn port(&self) -> String {
        self.nic.port()
    }

    /// Lookups that brought a wrong value, or none.
    pub(super) fn errors(&self) -> u64 {
        self.errors.get()
    }

    /// One lookup, there and back.
    #[inline]
    pub(super) fn one(&self) -> Result<()> {
        let number = self.next();
        let found = self.session.run(self.table.scan_and_read(&self.keys[number as usize]))?;
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
        let number = self.next();
        match self.session.submit(self.table.scan_and_read(&self.keys[number as usize])) {
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

    /// The next key's number, in an order that no prefetcher guesses (Knuth's MMIX generator).
    #[inline]
    fn next(&self) -> u64 {
        let next = self
            .random
            .get()
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random.set(next);
        (next >> 33) % self.keys.len() as u64
    }
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:............";
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

fn value(number: u64) -> [u8; VALUE_BYTES] {
    [number as u8; VALUE_BYTES]
}
