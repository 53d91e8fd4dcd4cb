//! The owner's side: the only writer.
//!
//! Readers look on while it writes. A data entry is written where nothing points to, then published
//! by one Release store of its pointer; only after a pointer is gone from the index is its entry's
//! place used again. A key that is replaced keeps its index entry, so there is no moment in which a
//! reader could miss it.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use nic_shm::{Permission, RacyMem};
use zerocopy::{FromBytes, IntoBytes};

use super::bucket::Bucket;
use super::entry::{Entry, compose};
use super::errors::{FormatError, InsertError, ReplaceError, Unfit};
use super::geometry::Geometry;
use super::hash::KeyHash;
use super::layout::{
    BUCKET_BYTES_MAX, BUCKET_HEADER_BYTES, BucketHeader, ENTRY_HEADER_BYTES, EntryPointer,
    FLAG_OVERFLOW, INDEX_ENTRY_BYTES, LAYOUT_VERSION, MAGIC, NO_SERVICE, TableHeader,
};
use super::overflow::Overflow;
use super::slab::{SLAB_BYTES_MIN, Slabs};
use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// How a table presents itself to its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The number under which the entries region is registered, with base 0. The export of the
    /// index region must follow it.
    pub entries_region: u8,
    /// The owner's service that answers for overflowed keys.
    pub service: Option<u16>,
    /// Which configuration of the store this table belongs to.
    pub config_id: u64,
    /// Which of the tables that were formatted here.
    pub generation: u64,
}

impl Default for Identity {
    /// The entries region is the second that is registered; no service.
    fn default() -> Self {
        Identity { entries_region: 1, service: None, config_id: 1, generation: 1 }
    }
}

/// A value and its version, as the owner sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The bytes.
    pub value: Vec<u8>,
    /// Grows with every change of the table.
    pub version: u64,
}

/// What the index knows of a key.
enum Found {
    /// Its index entry's offset, and where its data entry is.
    Here(u64, EntryPointer),
    /// It is not there; this index entry is free.
    Free(u64),
    /// It is not there and cannot be: the bucket is full, or another key has the very same hash.
    NoPlace,
}

/// A table that remote readers look into. See the [module](super).
#[derive(Debug)]
pub struct BucketTable {
    index: RacyMem,
    entries: RacyMem,
    geometry: Geometry,
    identity: Identity,
    slabs: Slabs,
    pub(super) overflow: Overflow,
    /// The version last given.
    version: u64,
    /// How many keys stand in buckets.
    indexed: u64,
    /// Where data entries are put together.
    staging: Vec<u8>,
}

impl BucketTable {
    /// Makes an empty table of two memories, whatever they hold. The header's magic is written
    /// last, so a reader never takes half a table for one.
    ///
    /// # Errors
    /// A memory is too short for the geometry, or may not be written.
    pub fn format(
        index: RacyMem,
        entries: RacyMem,
        geometry: Geometry,
        identity: Identity,
    ) -> Result<Self, FormatError> {
        let (found, needed) = (index.len(), geometry.index_bytes());
        if found < needed {
            return Err(FormatError::IndexTooSmall { found, needed });
        }
        if !index.as_ptr().addr().is_multiple_of(64) {
            return Err(FormatError::Misaligned);
        }
        let found = entries.len();
        if !(SLAB_BYTES_MIN..=EntryPointer::OFFSET_LIMIT).contains(&found) {
            return Err(FormatError::EntriesSize { found, minimum: SLAB_BYTES_MIN });
        }
        if [&index, &entries].iter().any(|memory| memory.permission() == Permission::ReadOnly) {
            return Err(FormatError::ReadOnly);
        }
        let table = BucketTable {
            slabs: Slabs::new(entries.len()),
            index,
            entries,
            geometry,
            identity,
            overflow: Overflow::default(),
            version: 0,
            indexed: 0,
            staging: Vec::new(),
        };
        table.write_index();
        Ok(table)
    }

    /// Stores a new key. Returns its version.
    ///
    /// # Errors
    /// The table has the key, key or value are unfit, or there is no room.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<u64, InsertError> {
        self.insert_hashed(KeyHash::of(key), key, value)
    }

    /// Stores another value for a key that the table has. Readers see the old one or the new one.
    /// Returns the new version.
    ///
    /// # Errors
    /// The table does not have the key, the value is too long, or there is no room: the new value
    /// stands beside the old one for a moment.
    pub fn replace(&mut self, key: &[u8], value: &[u8]) -> Result<u64, ReplaceError> {
        self.replace_hashed(KeyHash::of(key), key, value)
    }

    /// Stores a value for a key, be it new or not. Returns its version.
    ///
    /// # Errors
    /// Key or value are unfit, or there is no room.
    pub fn upsert(&mut self, key: &[u8], value: &[u8]) -> Result<u64, Unfit> {
        let hash = KeyHash::of(key);
        match self.insert_hashed(hash, key, value) {
            Err(InsertError::Unfit(unfit)) => Err(unfit),
            Ok(version) => Ok(version),
            Err(InsertError::Duplicate) => match self.replace_hashed(hash, key, value) {
                Ok(version) => Ok(version),
                Err(ReplaceError::Unfit(unfit)) => Err(unfit),
                Err(ReplaceError::Missing) => unreachable!("the key was just found"),
            },
        }
    }

    /// Removes a key; whether the table had it.
    pub fn erase(&mut self, key: &[u8]) -> bool {
        self.erase_hashed(KeyHash::of(key), key)
    }

    /// The value of a key, wherever it is: in its bucket or overflowed.
    pub fn get(&self, key: &[u8]) -> Option<Stored> {
        self.get_hashed(KeyHash::of(key), key)
    }

    /// Version and value of a key, wherever it is, without allocating: for handlers of calls, which
    /// bring the same `buffer` every time. It grows to the longest entry, and its contents mean
    /// nothing else.
    pub fn get_with<'a>(&'a self, key: &[u8], buffer: &'a mut Vec<u8>) -> Option<(u64, &'a [u8])> {
        self.get_hashed_with(KeyHash::of(key), key, buffer)
    }

    /// The value of a key that overflowed: what readers cannot see by themselves. Answer calls with
    /// [`get`](Self::get), since the key may have been erased and inserted again meanwhile.
    pub fn overflow_get(&self, key: &[u8]) -> Option<Stored> {
        self.overflow.get(self.bucket_of(KeyHash::of(key)), key).cloned()
    }

    /// How many keys the table has, overflowed ones included.
    pub fn len(&self) -> u64 {
        self.indexed + self.overflow.len()
    }

    /// Whether the table has no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys overflowed: if more than a few in a hundred, the geometry is too small.
    pub fn overflowed(&self) -> u64 {
        self.overflow.len()
    }

    /// How many bytes of the entries region are in slabs that nothing uses yet.
    pub fn empty_bytes(&self) -> u64 {
        self.slabs.empty_bytes()
    }

    /// Size and number of the buckets.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// How the table presents itself.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub(super) fn insert_hashed(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: &[u8],
    ) -> Result<u64, InsertError> {
        check_key(key)?;
        check_value(value)?;
        let bucket = self.bucket_of(hash);
        if self.overflow.get(bucket, key).is_some() {
            return Err(InsertError::Duplicate);
        }
        match self.find(bucket, hash, key) {
            Found::Here(..) => Err(InsertError::Duplicate),
            Found::Free(at) => {
                let (version, pointer) = self.write_entry(hash, key, value)?;
                self.word(at).store(hash.low(), Ordering::Relaxed);
                self.word(at + 8).store(version, Ordering::Relaxed);
                self.word(at + 16).store(pointer.raw(), Ordering::Release);
                let place = (at - bucket) as usize / INDEX_ENTRY_BYTES;
                self.note_used(bucket, place as u64 + 1);
                self.indexed += 1;
                Ok(version)
            }
            Found::NoPlace => {
                // Readers are told first: they ask the owner, who has the key when they do.
                self.set_overflow(bucket, true);
                self.version += 1;
                self.overflow.put(bucket, key, value, self.version);
                Ok(self.version)
            }
        }
    }

    pub(super) fn replace_hashed(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: &[u8],
    ) -> Result<u64, ReplaceError> {
        check_value(value)?;
        let bucket = self.bucket_of(hash);
        if self.overflow.get(bucket, key).is_some() {
            self.version += 1;
            self.overflow.put(bucket, key, value, self.version);
            return Ok(self.version);
        }
        let Found::Here(at, old) = self.find(bucket, hash, key) else {
            return Err(ReplaceError::Missing);
        };
        let (version, pointer) = self.write_entry(hash, key, value)?;
        self.word(at + 8).store(version, Ordering::Relaxed);
        self.word(at + 16).store(pointer.raw(), Ordering::Release);
        self.slabs.free(old.offset());
        Ok(version)
    }

    pub(super) fn erase_hashed(&mut self, hash: KeyHash, key: &[u8]) -> bool {
        let bucket = self.bucket_of(hash);
        if self.overflow.remove(bucket, key) {
            if !self.overflow.holds(bucket) {
                self.set_overflow(bucket, false);
            }
            return true;
        }
        let Found::Here(at, old) = self.find(bucket, hash, key) else { return false };
        self.word(at + 16).store(0, Ordering::Release);
        self.slabs.free(old.offset());
        self.indexed -= 1;
        true
    }

    pub(super) fn get_hashed(&self, hash: KeyHash, key: &[u8]) -> Option<Stored> {
        let mut buffer = Vec::new();
        let (version, value) = self.get_hashed_with(hash, key, &mut buffer)?;
        Some(Stored { value: value.to_vec(), version })
    }

    fn get_hashed_with<'a>(
        &'a self,
        hash: KeyHash,
        key: &[u8],
        buffer: &'a mut Vec<u8>,
    ) -> Option<(u64, &'a [u8])> {
        let bucket = self.bucket_of(hash);
        if let Some(stored) = self.overflow.get(bucket, key) {
            return Some((stored.version, &stored.value));
        }
        let Found::Here(_, pointer) = self.find(bucket, hash, key) else { return None };
        let length = pointer.length() as usize;
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let bytes = &mut buffer[..length];
        self.read_entry(pointer, bytes)?;
        let entry = Entry::parse(bytes)?;
        Some((entry.header.version.get(), &entry.used[ENTRY_HEADER_BYTES + entry.key.len()..]))
    }

    /// Offset of the bucket for a hash.
    fn bucket_of(&self, hash: KeyHash) -> u64 {
        self.geometry.bucket_offset(hash.high())
    }

    /// Looks for a key in its bucket.
    fn find(&self, bucket: u64, hash: KeyHash, key: &[u8]) -> Found {
        let mut bytes = [0; BUCKET_BYTES_MAX];
        let bytes = &mut bytes[..self.geometry.bucket_bytes() as usize];
        let read = self.index.read(bucket, bytes).is_ok();
        let Some(bucket_copy) = Bucket::parse(bytes).filter(|_| read) else {
            return Found::NoPlace;
        };
        let (mut free, mut same_hash) = (None, false);
        for (place, entry) in bucket_copy.entries().iter().enumerate() {
            let at = bucket + (BUCKET_HEADER_BYTES + place * INDEX_ENTRY_BYTES) as u64;
            let Some(pointer) = EntryPointer::from_raw(entry.pointer.get()) else {
                free = free.or(Some(at));
                continue;
            };
            if entry.hash.get() != hash.low() {
                continue;
            }
            let mut bytes = [0; ENTRY_HEADER_BYTES + KEY_BYTES_MAX];
            let length = bytes.len().min(pointer.length() as usize);
            let bytes = &mut bytes[..length];
            let Some(found_key) = self.read_entry(pointer, bytes).and_then(|()| key_of(bytes))
            else {
                continue;
            };
            if found_key == key {
                return Found::Here(at, pointer);
            }
            // A kernel stops at the first entry whose whole hash matches, so readers would never
            // see a second.
            same_hash |= bytes[8..24] == hash.0.to_le_bytes();
        }
        match free {
            Some(at) if !same_hash => Found::Free(at),
            _ => Found::NoPlace,
        }
    }

    /// Copies a data entry's start; `None` if the pointer leads outside, which only somebody who
    /// may write the index can bring about.
    fn read_entry(&self, pointer: EntryPointer, into: &mut [u8]) -> Option<()> {
        self.entries.read(pointer.offset(), into).ok()
    }

    /// Writes a data entry where nothing points to yet.
    fn write_entry(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: &[u8],
    ) -> Result<(u64, EntryPointer), Unfit> {
        let needed = ENTRY_HEADER_BYTES + key.len() + value.len();
        let full = Unfit::Full { needed };
        let offset = self.slabs.allocate(needed as u64).ok_or(full)?;
        let region = self.identity.entries_region;
        let pointer = EntryPointer::new(region, offset, needed as u32).ok_or(full)?;
        let version = self.version + 1;
        compose(&mut self.staging, hash, version, key, value);
        // The place was somebody's until a moment ago. Whoever sees the first new byte there, and
        // then looks at the index again, sees that the pointer to it is gone.
        fence(Ordering::Release);
        self.entries.write(offset, &self.staging).map_err(|_| full)?;
        self.version = version;
        Ok((version, pointer))
    }

    fn set_overflow(&self, bucket: u64, overflowed: bool) {
        // The bucket's second word is {flags, used}.
        let word = self.word(bucket + 8);
        let used = word.load(Ordering::Relaxed) & !u64::from(u32::MAX);
        let flags = if overflowed { u64::from(FLAG_OVERFLOW) } else { 0 };
        word.store(used | flags, Ordering::Release);
    }

    /// Notes that so many places of a bucket have been filled. A reader who has not seen it yet
    /// misses the newest key, as if it had come before that was inserted.
    fn note_used(&self, bucket: u64, used: u64) {
        let word = self.word(bucket + 8);
        let before = word.load(Ordering::Relaxed);
        if before >> 32 < used {
            word.store(before & u64::from(u32::MAX) | used << 32, Ordering::Release);
        }
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        self.index.word64(offset).expect("the geometry fits the index, which was checked at format")
    }

    fn write_index(&self) {
        self.word(0).store(0, Ordering::Release);
        fence(Ordering::Release);
        let identity = &self.identity;
        let header = TableHeader {
            magic: 0.into(),
            layout_version: LAYOUT_VERSION.into(),
            bucket_bytes: self.geometry.bucket_bytes().into(),
            bucket_count: self.geometry.bucket_count().into(),
            config_id: identity.config_id.into(),
            entries_region: u16::from(identity.entries_region).into(),
            service: identity.service.unwrap_or(NO_SERVICE).into(),
            reserved: 0.into(),
            generation: identity.generation.into(),
        };
        let bucket =
            BucketHeader { config_id: identity.config_id.into(), flags: 0.into(), used: 0.into() };
        let mut bytes = [0; BUCKET_BYTES_MAX];
        bytes[..BUCKET_HEADER_BYTES].copy_from_slice(bucket.as_bytes());
        let bytes = &bytes[..self.geometry.bucket_bytes() as usize];
        let fits = "the geometry fits the index, which was checked at format";
        self.index.write(0, header.as_bytes()).expect(fits);
        for number in 0..self.geometry.bucket_count() {
            self.index.write(self.geometry.bucket_offset(number), bytes).expect(fits);
        }
        self.word(0).store(MAGIC, Ordering::Release);
    }
}

/// The key of a data entry of which at least the key is there.
fn key_of(bytes: &[u8]) -> Option<&[u8]> {
    let (header, rest) = super::layout::EntryHeader::ref_from_prefix(bytes).ok()?;
    rest.get(..usize::from(header.key_length.get()))
}

fn check_key(key: &[u8]) -> Result<(), Unfit> {
    match key.len() {
        0 => Err(Unfit::EmptyKey),
        1..=KEY_BYTES_MAX => Ok(()),
        found => Err(Unfit::KeyTooLong { found }),
    }
}

fn check_value(value: &[u8]) -> Result<(), Unfit> {
    match value.len() {
        0..=VALUE_BYTES_MAX => Ok(()),
        found => Err(Unfit::ValueTooLong { found }),
    }
}
