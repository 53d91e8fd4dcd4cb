//! Keys whose bucket was full, in the owner's private memory.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::table::Stored;

/// By bucket, then key; few, so order matters more than speed.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    buckets: BTreeMap<u64, BTreeMap<Box<[u8]>, Stored>>,
    len: u64,
}

impl Overflow {
    pub(super) fn get(&self, bucket: u64, key: &[u8]) -> Option<&Stored> {
        self.buckets.get(&bucket)?.get(key)
    }

    /// Stores or replaces.
    pub(super) fn put(&mut self, bucket: u64, key: &[u8], value: &[u8], version: u64) {
        let keys = self.buckets.entry(bucket).or_default();
        let stored = Stored { value: Vec::from(value), version };
        if keys.insert(key.into(), stored).is_none() {
            self.len += 1;
        }
    }

    /// Whether the key was there. An emptied bucket is forgotten.
    pub(super) fn remove(&mut self, bucket: u64, key: &[u8]) -> bool {
        let Some(keys) = self.buckets.get_mut(&bucket) else { return false };
        let removed = keys.remove(key).is_some();
        if keys.is_empty() {
            self.buckets.remove(&bucket);
        }
        self.len -= u64::from(removed);
        removed
    }

    pub(super) fn holds(&self, bucket: u64) -> bool {
        self.buckets.contains_key(&bucket)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }
}
