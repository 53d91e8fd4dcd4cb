//! Scan-and-Reads by the executor alone: no packets, no other process.

use anyhow::{Context, Result, bail};
use nic_kernels::bucket_table::layout::{BucketHeader, TableHeader};
use nic_kernels::bucket_table::{BucketTable, Geometry, Identity, KeyHash, TableView};
use nic_kernels::mapped::{MappedMemory, Tables};
use nic_kernels::{Access, Budget, Builtin, Executor, Grant, Invocation, Limits, Memory, SlotId};
use nic_shm::{PageKind, Pages, RacyMem, SharedMemory};
use nic_wire::{KernelId, Status, Time};
use zerocopy::FromBytes;

/// Length of a value in bytes.
pub const VALUE_BYTES: usize = 64;
/// The most lookups in flight.
const WINDOW_MAX: usize = 128;

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
    memory: MappedMemory,
    executor: Executor<Builtin, MappedMemory>,
    grant: Grant,
    view: TableView,
    keys: u64,
    bytes: u64,
    page_kind: PageKind,
    /// State of the sequence of keys.
    random: u64,
    over: Vec<SlotId>,
    reply: [u8; 512],
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
        Ok(LookupTarget {
            grant: memory.admit(&rkey)?,
            view: TableView::parse(&header)?,
            executor: Executor::new(WINDOW_MAX as u32, Limits::default()),
            memory,
            keys,
            bytes,
            page_kind,
            random: 1,
            over: Vec::with_capacity(WINDOW_MAX),
            reply: [0; 512],
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
            self.start().map_err(failed)?;
        }
        let LookupTarget { executor, memory, over, .. } = self;
        let budget = Budget { rounds: u32::MAX, cost: u64::MAX };
        executor.run(memory, Time::ZERO, budget, &mut |slot, _, finish| {
            if finish.status == Status::Ok {
                over.push(slot);
            }
        });
        if self.over.len() != window {
            bail!("{} of {window} lookups came to a good end", self.over.len());
        }
        for slot in self.over.drain(..) {
            let length = self.executor.reply_length(slot) as usize;
            let reply = self.reply.get_mut(..length).context("a reply is one entry")?;
            self.executor.copy_reply(slot, &self.memory, 0, reply).map_err(failed)?;
            self.executor.free(slot, &mut self.memory);
            let header = BucketHeader::ref_from_prefix(reply).map(|(header, _)| header);
            let is_answered =
                length > VALUE_BYTES || header.is_ok_and(|header| header.overflowed());
            if !is_answered {
                bail!("a key of the table was not found");
            }
        }
        Ok(())
    }

    #[inline]
    fn start(&mut self) -> Result<(), Status> {
        let key = key(self.next());
        let arguments = self.view.scan_and_read(KeyHash::of(&key)).encode();
        let invocation = Invocation {
            owner: 0,
            kernel: KernelId::SCAN_AND_READ,
            arguments: &arguments,
            payload_length: 0,
            reply_capacity: 4096,
            deadline: Time::NEVER,
        };
        self.executor.start(&mut self.memory, Time::ZERO, self.grant, &invocation).map(drop)
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

fn failed(status: Status) -> anyhow::Error {
    anyhow::anyhow!("a lookup failed: {status}")
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
