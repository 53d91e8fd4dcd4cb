//! Scan-and-Reads by the executor alone: no packets, no other process.

use anyhow::Result;
use nic_kernels::bucket_table::layout::{BucketHeader, TableHeader};
use nic_kernels::bucket_table::{BucketTable, Geometry, Identity, KeyHash, TableView};
use nic_kernels::mapped::{MappedMemory, Tables};
use nic_kernels::{Access, Memory};
use nic_shm::{PageKind, Pages, RacyMem, SharedMemory};
use nic_wire::KernelId;
use zerocopy::FromBytes;

use crate::in_flight::InFlight;

/// Length of a value in bytes.
pub const VALUE_BYTES: usize = 64;

/// Memory such as regions have, populated; on huge pages if the machine has them to give.
///
/// # Errors
/// The machine has no such memory.
pub fn memory(bytes: u64) -> Result<(RacyMem, PageKind)> {
    let mut shared = SharedMemory::create("nic-bench", bytes, Pages::TryHuge)?;
    shared.populate()?;
    Ok((shared.memory(), shared.page_kind()))
}

/// A table, and an executor that looks keys up in it.
pub struct LookupTarget {
    ops: InFlight,
    view: TableView,
    keys: u64,
    bytes: u64,
    page_kind: PageKind,
    /// State of the sequence of keys.
    random: u64,
}

impl LookupTarget {
    /// A table of so many keys of 16 B with values of [`VALUE_BYTES`].
    ///
    /// # Errors
    /// The machine has no memory for it.
    pub fn new(keys: u64) -> Result<Self> {
        let geometry = Geometry::for_entries(keys);
        let (index, page_kind) = memory(geometry.index_bytes())?;
        let (entries, _) = memory(Geometry::entries_bytes(keys, 16, VALUE_BYTES as u64))?;
        let bytes = index.len() + entries.len();
        let identity = Identity::default();
        let mut table = BucketTable::format(index.clone(), entries.clone(), geometry, identity)?;
        for number in 0..keys {
            table.insert(&key(number), &[number as u8; VALUE_BYTES])?;
        }
        let mut memory = MappedMemory::new(Tables::default());
        let domain = memory.add_domain()?;
        let home = memory.register(domain, index.clone(), 0)?;
        let follow = [memory.register(domain, entries, 0)?];
        anyhow::ensure!(follow[0] == identity.entries_region, "entries have the default's number");
        let rkey = memory.export(domain, home, Access::READ, &follow, 1)?;
        let header = index.read_array::<{ size_of::<TableHeader>() }>(0)?;
        let grant = memory.admit(&rkey)?;
        Ok(LookupTarget {
            ops: InFlight::new(memory, grant),
            view: TableView::parse(&header)?,
            keys,
            bytes,
            page_kind,
            random: 1,
        })
    }

    /// Length of index and entries together in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Which pages the index lies on.
    pub fn page_kind(&self) -> PageKind {
        self.page_kind
    }

    /// Looks `window` random keys up, all in flight at once, and copies each reply out, as into a
    /// packet. About one key in some thousands is answered by its bucket's overflow mark.
    ///
    /// # Errors
    /// A lookup failed or missed its key, or `window` is more than 128.
    pub fn batch(&mut self, window: usize) -> Result<()> {
        for _ in 0..window {
            let key = key(self.next());
            let arguments = self.view.scan_and_read(KeyHash::of(&key)).encode();
            self.ops.start(0, KernelId::SCAN_AND_READ, &arguments)?;
        }
        self.ops.finish(window, |_, reply| {
            let header = BucketHeader::ref_from_prefix(reply).map(|(header, _)| header);
            reply.len() > VALUE_BYTES || header.is_ok_and(|header| header.overflowed())
        })
    }

    /// The next key's number, in an order that no prefetcher guesses (Knuth's MMIX generator).
    #[inline]
    fn next(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % self.keys
    }
}

#[inline]
fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:............";
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_in_every_window() {
        let mut target = LookupTarget::new(50_000).unwrap();
        for window in [1, 2, 32, 128] {
            for _ in 0..20_000 / window {
                target.batch(window).unwrap();
            }
        }
        assert!(target.batch(129).is_err());
    }
}
