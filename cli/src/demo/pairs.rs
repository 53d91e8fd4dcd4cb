//! The pairs that are looked up: keys and values one after the other in one buffer, so that going
//! through them costs the measured loop no cache miss of its own.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use nic_host::Geometry;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::random::Random;

/// Length of a generated key, and of a generated value, in bytes.
pub const KEY_BYTES: usize = 16;
/// See [`KEY_BYTES`].
pub const VALUE_BYTES: usize = 64;

/// Before each pair: length of the key u16, length of the value u32, little-endian.
const HEADER_BYTES: usize = 6;

/// Keys with their values, in some order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pairs {
    bytes: Vec<u8>,
    /// Where each pair begins.
    starts: Vec<usize>,
    sizes: Sizes,
}

/// Lengths over all pairs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sizes {
    /// The longest key.
    pub key_max: usize,
    /// The longest value.
    pub value_max: usize,
    /// All keys and values.
    pub total: u64,
}

impl Pairs {
    /// `count` pairs with keys "key-000000000000" and so on. Equal seeds give equal values.
    pub fn generate(count: u32, seed: u64) -> Self {
        let mut pairs = Pairs::default();
        pairs.bytes.reserve_exact(count as usize * (HEADER_BYTES + KEY_BYTES + VALUE_BYTES));
        pairs.starts.reserve_exact(count as usize);
        let mut random = Random::new(seed);
        for number in 0..count {
            let key = format!("key-{number:012}");
            let words: [u64; 4] = std::array::from_fn(|_| random.next());
            let [a, b, c, d] = words;
            pairs.push(key.as_bytes(), format!("{a:016x}{b:016x}{c:016x}{d:016x}").as_bytes());
        }
        pairs
    }

    /// Adds a pair; its lengths were checked.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.sizes.key_max = self.sizes.key_max.max(key.len());
        self.sizes.value_max = self.sizes.value_max.max(value.len());
        self.sizes.total += (key.len() + value.len()) as u64;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Their lengths.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The pair at a place below [`Pairs::len`].
    #[inline]
    pub fn get(&self, place: usize) -> (&[u8], &[u8]) {
        split(&self.bytes[self.starts[place]..]).expect("a pair was put together by push").0
    }

    /// The same pairs in random order.
    pub fn shuffled(&self, seed: u64) -> Self {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        Random::new(seed).shuffle(&mut order);
        let mut pairs = Pairs::default();
        pairs.bytes.reserve_exact(self.bytes.len());
        pairs.starts.reserve_exact(self.len());
        for place in order {
            let (key, value) = self.get(place as usize);
            pairs.push(key, value);
        }
        pairs
    }

    /// Without the pairs at these places, which ascend.
    #[must_use]
    pub fn without(self, places: &[usize]) -> Self {
        let mut left = self;
        let mut leaving = places.iter().peekable();
        let mut place = 0;
        left.starts.retain(|_| {
            let leaves = leaving.next_if(|leaving| **leaving == place).is_some();
            place += 1;
            !leaves
        });
        left
    }

    /// How large a table of these pairs is.
    pub fn geometry(&self) -> Geometry {
        Geometry::for_entries(self.len() as u64)
    }

    /// Length of an entries region that surely holds them, in bytes.
    pub fn entries_bytes(&self) -> u64 {
        let Sizes { key_max, value_max, total } = self.sizes;
        let count = self.len() as u64;
        let as_if_longest = Geometry::entries_bytes(count, key_max as u64, value_max as u64);
        // Pieces of different lengths: none takes twice its length with its header, and each
        // class of lengths leaves at most one slab half empty.
        let by_total = 2 * (total + 64 * count) + (4 << 20);
        as_if_longest.min(by_total)
    }

    /// Puts them into a file in memory that other processes can be given.
    pub fn to_file(&self) -> Result<OwnedFd> {
        let descriptor = memfd_create("nic-demo-pairs", MemfdFlags::CLOEXEC)
            .context("the system gives no memory for the pairs")?;
        let mut file = File::from(descriptor);
        file.write_all(&self.bytes).context("the system gives no memory for the pairs")?;
        file.rewind()?;
        Ok(file.into())
    }

    /// Takes them out of such a file.
    pub fn from_file(descriptor: OwnedFd) -> Result<Self> {
        let file = File::from(descriptor);
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
        file.read_exact_at(&mut bytes, 0).context("the pairs cannot be read")?;
        let mut pairs = Pairs::default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let found = split(rest);
            ensure!(found.is_some(), "the pairs end in the middle of one");
            let Some(((key, value), after)) = found else { break };
            pairs.starts.push(bytes.len() - rest.len());
            pairs.sizes.key_max = pairs.sizes.key_max.max(key.len());
            pairs.sizes.value_max = pairs.sizes.value_max.max(value.len());
            pairs.sizes.total += (key.len() + value.len()) as u64;
            rest = after;
        }
        pairs.bytes = bytes;
        Ok(pairs)
    }
}

/// A key, its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// The first pair, and the bytes after it.
#[inline]
fn split(bytes: &[u8]) -> Option<(Pair<'_>, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [k0, k1, v0, v1, v2, v3] = *header;
    let key_length = usize::from(u16::from_le_bytes([k0, k1]));
    let value_length = u32::from_le_bytes([v0, v1, v2, v3]) as usize;
    let (key, rest) = rest.split_at_checked(key_length)?;
    let (value, rest) = rest.split_at_checked(value_length)?;
    Some(((key, value), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_every_pair() {
        let pairs = Pairs::generate(500, 7);
        let shuffled = pairs.shuffled(3);
        assert_ne!(pairs, shuffled);
        assert_eq!(pairs.sizes(), shuffled.sizes());
        let sorted = |pairs: &Pairs| {
            let mut all: Vec<_> = (0..pairs.len()).map(|place| pairs.get(place)).collect();
            all.sort_unstable();
            all.into_iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect::<Vec<_>>()
        };
        assert_eq!(sorted(&pairs), sorted(&shuffled));
        assert_eq!(pairs.get(1).0, b"key-000000000001");
        assert_eq!(pairs.get(1).1.len(), VALUE_BYTES);
    }

    #[test]
    fn what_is_put_into_a_file_is_taken_out_of_it() {
        let mut pairs = Pairs::generate(20, 1);
        pairs.push(b"k", b"");
        pairs.push(&[9; 512], &[7; 70_000]);
        assert_eq!(Pairs::from_file(pairs.to_file().unwrap()).unwrap(), pairs);
    }

    #[test]
    fn pairs_can_be_left_out() {
        let pairs = Pairs::generate(5, 1);
        let left = pairs.clone().without(&[0, 3]);
        let keys: Vec<_> = (0..left.len()).map(|place| left.get(place).0.to_vec()).collect();
        let expected: Vec<_> = [1, 2, 4].map(|place: usize| pairs.get(place).0.to_vec()).to_vec();
        assert_eq!(keys, expected);
    }
}
