//! The program.
//!
//! The owner changes the table meanwhile, and reuses freed places at once. So a data entry that is
//! not what its index entry promised proves nothing yet: the bucket is fetched again, and only an
//! index entry that still says the same is passed over. That way a key which is replaced over and
//! over is never reported as missing.

use nic_wire::{KernelId, Status};
use zerocopy::FromBytes;

use super::layout::Arguments;
use crate::GATHER_BYTES_MAX;
use crate::bucket_table::KeyHash;
use crate::bucket_table::layout::{
    BUCKET_HEADER_BYTES, ENTRY_HEADER_BYTES, EntryHeader, EntryPointer, INDEX_ENTRY_BYTES,
};
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Pointer, Step};
use crate::reply::Reply;

/// The longest data entry that is fetched whole and gathered, in bytes.
const GATHERED_BYTES_MAX: u32 = (GATHER_BYTES_MAX - BUCKET_HEADER_BYTES - INDEX_ENTRY_BYTES) as u32;
/// How much of a bucket is fetched at first: one pair of cache lines. At the usual load few buckets
/// have more entries than that holds.
const FIRST_BYTES: u16 = 128;
/// How often a changed entry is looked at again before the reader is told what there was.
const RETRIES_MAX: u8 = 16;

/// What the next private copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    Bucket,
    Entry,
    Reply,
}

/// What is known of the candidate, if its data entry was not what it promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    /// The data entry was of another key.
    OtherKey,
    /// It was of this key, but of another version.
    OtherVersion,
}

/// Scans a bucket and reads the entry that it points to.
///
/// While a data entry is under way, the reply holds what precedes it: the bucket's header and the
/// candidate.
#[derive(Clone, Copy, Debug)]
pub struct ScanAndRead {
    /// The bucket's address in the home region.
    bucket: u64,
    /// Low and high half of the hash.
    hash: [u64; 2],
    /// The candidate's version and pointer.
    version: u64,
    pointer: u64,
    bucket_bytes: u16,
    /// How much of it is fetched.
    fetch_bytes: u16,
    home: u8,
    /// Place of the candidate in the bucket; scanning begins here.
    place: u8,
    retries: u8,
    awaiting: Awaiting,
    doubt: Doubt,
}

impl Kernel for ScanAndRead {
    const ID: KernelId = KernelId::SCAN_AND_READ;
    const IS_BUILT_IN: bool = true;
    const IS_COMMON: bool = true;

    #[inline(always)]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::view(call.arguments)?;
        let bucket_bytes = arguments.bucket_bytes.get();
        if !matches!(bucket_bytes, 64 | 128 | 192 | 256) {
            return Err(BadArguments::Value { field: "bucket_bytes" });
        }
        if arguments.flags.get() != 0 {
            return Err(BadArguments::Value { field: "flags" });
        }
        let (bucket, hash) = (arguments.bucket.get(), KeyHash(arguments.hash.get()));
        if bucket % 64 != 0 {
            return Err(BadArguments::Misaligned { expected: 64 });
        }
        Ok(ScanAndRead {
            bucket,
            hash: [hash.low(), hash.high()],
            version: 0,
            pointer: 0,
            bucket_bytes,
            fetch_bytes: bucket_bytes.min(FIRST_BYTES),
            home: call.home,
            place: 0,
            retries: 0,
            awaiting: Awaiting::Bucket,
            doubt: Doubt::None,
        })
    }

    #[inline(always)]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => self.fetch_bucket(),
            Event::Fetched(bytes) => match self.awaiting {
                Awaiting::Bucket => self.scan(bytes, reply),
                Awaiting::Entry => self.compare(bytes, reply),
                Awaiting::Reply => Step::UNEXPECTED,
            },
            Event::Replied { .. } if self.awaiting == Awaiting::Reply => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }
}

impl ScanAndRead {
    /// Looks for the next index entry that may be the key's.
    #[inline(always)]
    fn scan(&mut self, bucket: &[u8], reply: &mut Reply<'_>) -> Step {
        let Some((header, entries)) = bucket.split_first_chunk() else { return Step::UNEXPECTED };
        let header: &[u8; BUCKET_HEADER_BYTES] = header;
        let (entries, _) = entries.as_chunks::<INDEX_ENTRY_BYTES>();
        reply.clear();
        let mut rest = entries.get(usize::from(self.place)..).unwrap_or_default();
        while let Some(found) = rest.iter().position(|entry| words(entry)[0] == self.hash[0]) {
            let (entry, behind) = (&rest[found], &rest[found + 1..]);
            let [_, version, pointer] = words(entry);
            let place = entries.len() - behind.len() - 1;
            rest = behind;
            if pointer == 0 || self.is_refuted(place, version, pointer) {
                continue;
            }
            (self.version, self.pointer) = (version, pointer);
            self.place = place as u8;
            self.awaiting = Awaiting::Entry;
            return match reply.append(header).and_then(|()| reply.append(entry)) {
                Ok(()) => fetch_entry(pointer),
                Err(full) => full.into(),
            };
        }
        let used = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        if self.fetch_bytes < self.bucket_bytes && used as usize > entries.len() {
            self.fetch_bytes = self.bucket_bytes;
            return self.fetch_bucket();
        }
        // Only now is the key known to be missing.
        match reply.append(header) {
            Ok(()) => Step::DONE,
            Err(full) => full.into(),
        }
    }

    /// Whether an index entry is known to be of another key with the same low half: the candidate,
    /// whose data entry was another key's, if it did not change meanwhile.
    #[inline(always)]
    fn is_refuted(&self, place: usize, version: u64, pointer: u64) -> bool {
        self.doubt == Doubt::OtherKey
            && place == usize::from(self.place)
            && (version, pointer) == (self.version, self.pointer)
    }

    /// Looks at the candidate's data entry.
    #[inline(always)]
    fn compare(&mut self, bytes: &[u8], reply: &mut Reply<'_>) -> Step {
        let (Some(pointer), Ok((header, _))) =
            (EntryPointer::from_raw(self.pointer), EntryHeader::ref_from_prefix(bytes))
        else {
            return Step::UNEXPECTED;
        };
        let hash = KeyHash(header.hash.get());
        let fits = header.used_bytes() <= u64::from(pointer.length());
        self.doubt = if [hash.low(), hash.high()] != self.hash {
            Doubt::OtherKey
        } else if header.version.get() != self.version || !fits {
            Doubt::OtherVersion
        } else {
            Doubt::None
        };
        if self.doubt != Doubt::None && self.retries < RETRIES_MAX {
            self.retries += 1;
            self.awaiting = Awaiting::Bucket;
            return self.fetch_bucket();
        }
        // After so many changes the reader gets what there was, and will find it torn.
        let used = header.used_bytes().min(u64::from(pointer.length())) as u32;
        match bytes.get(..used as usize) {
            Some(entry) => match reply.append(entry) {
                Ok(()) => Step::DONE,
                Err(full) => full.into(),
            },
            None => {
                self.awaiting = Awaiting::Reply;
                Step::FetchToReply(Extent::followed(place_of(pointer), used))
            }
        }
    }

    #[inline(always)]
    fn fetch_bucket(&self) -> Step {
        Step::Fetch(Extent::named(self.home, self.bucket, self.fetch_bytes.into()))
    }
}

/// Fetches a data entry: whole if it can be gathered, else its header.
#[inline(always)]
fn fetch_entry(pointer: u64) -> Step {
    let Some(pointer) = EntryPointer::from_raw(pointer) else { return Step::UNEXPECTED };
    let length = pointer.length();
    if length < ENTRY_HEADER_BYTES as u32 {
        return Step::fail(Status::BadPointer);
    }
    // The pointer's length is rounded up to 16; the entry may be shorter.
    let whole = length < GATHERED_BYTES_MAX + 16;
    let wanted = if whole { length.min(GATHERED_BYTES_MAX) } else { ENTRY_HEADER_BYTES as u32 };
    Step::Fetch(Extent::followed(place_of(pointer), wanted))
}

#[inline(always)]
fn place_of(pointer: EntryPointer) -> Pointer {
    Pointer { region: pointer.region(), address: pointer.offset() }
}

/// An index entry's hash, version and pointer.
#[inline(always)]
fn words(entry: &[u8; INDEX_ENTRY_BYTES]) -> [u64; 3] {
    let (words, _) = entry.as_chunks::<8>();
    [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]), u64::from_le_bytes(words[2])]
}
