//! Lays lists, chained buckets and trees out in a region, as an application would.
//!
//! ```
//! use nic_kernels::PointerForm;
//! use nic_kernels::traverse::writer::Writer;
//! use nic_shm::RacyMem;
//!
//! let form = PointerForm::Plain { region: 0 };
//! let mut writer = Writer::new(RacyMem::allocate(4096), 0, form);
//! let red = writer.value(b"red")?;
//! let head = writer.list(&[(1, red)])?;
//! assert!(head > red, "what is written first lies first");
//! # Ok::<(), nic_kernels::traverse::writer::NoPlace>(())
//! ```

use alloc::vec::Vec;

use nic_shm::RacyMem;

use crate::kernel::Pointer;
use crate::pointer_form::PointerForm;

/// Keys of a bucket that [`Writer::hash_table`] writes.
const BUCKET_KEYS: usize = 3;
/// Length of such a bucket in bytes.
pub const BUCKET_BYTES: u64 = 64;
/// What stands where a node of a tree has no further key; so it is no key itself.
pub const NO_KEY: u64 = u64::MAX;

/// There is no place for what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} bytes at {at:#x} have no place that a pointer can name; use a larger writable region"
)]
pub struct NoPlace {
    /// Length in bytes.
    pub wanted: u64,
    /// Offset in the region.
    pub at: u64,
}

/// Writes structures into a region whose base is 0, one behind the other from byte 64 on.
///
/// Everything that a pointer leads to is written before the pointer.
#[derive(Debug)]
pub struct Writer {
    memory: RacyMem,
    region: u8,
    form: PointerForm,
    used: u64,
}

/// A tree as [`Writer::tree`] lays it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Address of its root.
    pub root: u64,
    /// How many levels lie above the leaves.
    pub levels: u16,
}

impl Writer {
    /// Writes into the region of that number, with pointers of that form.
    pub fn new(memory: RacyMem, region: u8, form: PointerForm) -> Self {
        Writer { memory, region, form, used: 64 }
    }

    /// Writes a value; returns the pointer to it.
    ///
    /// # Errors
    /// The region is full.
    pub fn value(&mut self, value: &[u8]) -> Result<u64, NoPlace> {
        let at = self.place(value.len())?;
        self.put(at, value)?;
        self.pointer(at)
    }

    /// Writes words, at a multiple of 8; returns their address.
    ///
    /// # Errors
    /// The region is full.
    pub fn words(&mut self, words: &[u64]) -> Result<u64, NoPlace> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let at = self.place(bytes.len())?;
        self.put(at, &bytes)?;
        Ok(at)
    }

    /// Links keys and pointers to their values into a list for
    /// [`Arguments::list`](super::Arguments::list), in their order; returns the address of its
    /// first element, zero if it has none.
    ///
    /// # Errors
    /// The region is full.
    pub fn list(&mut self, entries: &[(u64, u64)]) -> Result<u64, NoPlace> {
        let mut next = 0;
        let mut first = 0;
        for (key, value) in entries.iter().rev() {
            first = self.words(&[*key, next, *value])?;
            next = self.pointer(first)?;
        }
        Ok(first)
    }

    /// Distributes keys and pointers to their values over `buckets` chains of buckets, by
    /// [`bucket_of`], for [`Arguments::bucket`](super::Arguments::bucket). Returns the address of
    /// the first bucket; the others follow, [`BUCKET_BYTES`] apart.
    ///
    /// # Errors
    /// The region is full.
    pub fn hash_table(&mut self, buckets: u64, entries: &[(u64, u64)]) -> Result<u64, NoPlace> {
        // The first bucket of each chain stands in the array, which begins at a bucket's multiple.
        let spare = self.used.next_multiple_of(BUCKET_BYTES) - self.used;
        self.used += spare;
        let table = self.place((buckets * BUCKET_BYTES) as usize)?;
        for number in 0..buckets {
            let own: Vec<(u64, u64)> = entries
                .iter()
                .copied()
                .filter(|(key, _)| bucket_of(*key, buckets) == number)
                .collect();
            let mut chunks: Vec<&[(u64, u64)]> = own.chunks(BUCKET_KEYS).collect();
            let first = if chunks.is_empty() { &[][..] } else { chunks.remove(0) };
            let mut next = 0;
            for chunk in chunks.iter().rev() {
                let at = self.words(&bucket(chunk, next))?;
                next = self.pointer(at)?;
            }
            let bytes: Vec<u8> =
                bucket(first, next).iter().flat_map(|word| word.to_le_bytes()).collect();
            self.put(table + number * BUCKET_BYTES, &bytes)?;
        }
        Ok(table)
    }

    /// Lays ascending keys and pointers to their values out as a B-tree for
    /// [`Arguments::tree`](super::Arguments::tree), with up to `keys_per_node` (at least 2) keys in
    /// a node. Leaves point to the next one.
    ///
    /// # Errors
    /// The region is full.
    pub fn tree(&mut self, keys_per_node: u8, entries: &[(u64, u64)]) -> Result<Tree, NoPlace> {
        let keys = usize::from(keys_per_node.max(2));
        // The pointer to each node, and the least key below it; the last node comes first.
        let mut nodes: Vec<(u64, u64)> = Vec::new();
        let mut next = 0;
        for chunk in entries.chunks(keys).rev() {
            let at = self.node(keys, chunk.iter().copied(), next)?;
            next = at;
            nodes.push((chunk[0].0, at));
        }
        if nodes.is_empty() {
            nodes.push((0, self.node(keys, [].into_iter(), 0)?));
        }
        let mut levels = 0;
        while nodes.len() > 1 {
            nodes.reverse();
            let mut above = Vec::new();
            for chunk in nodes.chunks(keys + 1).rev() {
                // Key n separates children n and n + 1; the last place is the child behind all.
                let separators = chunk.windows(2).map(|pair| (pair[1].0, pair[0].1));
                let last = chunk[chunk.len() - 1].1;
                let at = self.inner(keys, separators, last)?;
                above.push((chunk[0].0, at));
            }
            nodes = above;
            levels += 1;
        }
        let root = self.form.follow(nodes[0].1).map_or(0, |at| at.address);
        Ok(Tree { root, levels })
    }

    /// An inner node: the child behind the last key stands where the first unused key's does.
    fn inner(
        &mut self,
        keys: usize,
        separators: impl Iterator<Item = (u64, u64)>,
        last: u64,
    ) -> Result<u64, NoPlace> {
        let mut entries: Vec<(u64, u64)> = separators.collect();
        if entries.len() == keys {
            return self.node(keys, entries.into_iter(), last);
        }
        entries.push((NO_KEY, last));
        self.node(keys, entries.into_iter(), 0)
    }

    /// Keys, then the pointers that belong to them, then one more; returns the pointer to it.
    fn node(
        &mut self,
        keys: usize,
        entries: impl Iterator<Item = (u64, u64)>,
        next: u64,
    ) -> Result<u64, NoPlace> {
        let mut words = alloc::vec![0; 2 * keys + 1];
        words[..keys].fill(NO_KEY);
        for (place, (key, pointer)) in entries.enumerate() {
            words[place] = key;
            words[keys + place] = pointer;
        }
        words[2 * keys] = next;
        let at = self.words(&words)?;
        self.pointer(at)
    }

    /// The next free place of so many bytes.
    fn place(&mut self, length: usize) -> Result<u64, NoPlace> {
        let (at, wanted) = (self.used, length as u64);
        if at > self.memory.len() || wanted > self.memory.len() - at {
            return Err(NoPlace { wanted, at });
        }
        self.used = (at + wanted).next_multiple_of(8);
        Ok(at)
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), NoPlace> {
        self.memory.write(at, bytes).map_err(|_| NoPlace { wanted: bytes.len() as u64, at })
    }

    fn pointer(&self, address: u64) -> Result<u64, NoPlace> {
        let to = Pointer { region: self.region, address };
        self.form.word(to).ok_or(NoPlace { wanted: 0, at: address })
    }
}

/// The chain in which a key stands.
pub fn bucket_of(key: u64, buckets: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15) % buckets.max(1)
}

/// The words of a bucket.
fn bucket(entries: &[(u64, u64)], next: u64) -> [u64; 8] {
    let mut words = [0; 8];
    for (place, (key, value)) in entries.iter().enumerate() {
        words[2 * place] = *key;
        words[2 * place + 1] = *value;
    }
    words[6] = next;
    words
}
