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
use crate::reply::{Reply, ReplyFull};

/// The longest data entry that is fetched whole and gathered, in bytes.
const GATHERED_BYTES_MAX: u32 = (GATHER_BYTES_MAX - BUCKET_HEADER_BYTES - INDEX_ENTRY_BYTES) as u32;
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
#[derive(Clone, Copy, Debug)]
pub struct ScanAndRead {
    bucket: Extent,
    /// Low and high half of the hash.
    hash: [u64; 2],
    header: [u8; BUCKET_HEADER_BYTES],
    candidate: [u8; INDEX_ENTRY_BYTES],
    /// Place of the candidate in the bucket; scanning begins here.
    place: u8,
    retries: u8,
    awaiting: Awaiting,
    doubt: Doubt,
}

impl Kernel for ScanAndRead {
    const ID: KernelId = KernelId::SCAN_AND_READ;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::decode(call.arguments)?;
        if !matches!(arguments.bucket_bytes.get(), 64 | 128 | 192 | 256) {
            return Err(BadArguments::Value { field: "bucket_bytes" });
        }
        if arguments.flags.get() != 0 {
            return Err(BadArguments::Value { field: "flags" });
        }
        let (address, hash) = (arguments.bucket.get(), KeyHash(arguments.hash.get()));
        if address % 64 != 0 {
            return Err(BadArguments::Misaligned { expected: 64 });
        }
        Ok(ScanAndRead {
            bucket: Extent::named(call.home, address, arguments.bucket_bytes.get().into()),
            hash: [hash.low(), hash.high()],
            header: [0; BUCKET_HEADER_BYTES],
            candidate: [0; INDEX_ENTRY_BYTES],
            place: 0,
            retries: 0,
            awaiting: Awaiting::Bucket,
            doubt: Doubt::None,
        })
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match (self.awaiting, event) {
            (Awaiting::Bucket, Event::Start) => Step::Fetch(self.bucket),
            (Awaiting::Bucket, Event::Fetched(bucket)) => self.scan(bucket, reply),
            (Awaiting::Entry, Event::Fetched(entry)) => self.compare(entry, reply),
            (Awaiting::Reply, Event::Replied { .. }) => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }
}

impl ScanAndRead {
    /// Looks for the next index entry that may be the key's.
    #[inline]
    fn scan(&mut self, bucket: &[u8], reply: &mut Reply<'_>) -> Step {
        let Some((header, entries)) = bucket.split_first_chunk() else { return Step::UNEXPECTED };
        self.header = *header;
        let (entries, _) = entries.as_chunks::<INDEX_ENTRY_BYTES>();
        for (place, entry) in entries.iter().enumerate().skip(usize::from(self.place)) {
            let [hash, _, pointer] = words(entry);
            if hash != self.hash[0] {
                continue;
            }
            let Some(pointer) = EntryPointer::from_raw(pointer) else { continue };
            let same = place == usize::from(self.place) && *entry == self.candidate;
            if same && self.doubt == Doubt::OtherKey {
                // It did not change meanwhile: the other key has the same low half.
                continue;
            }
            self.candidate = *entry;
            self.place = place as u8;
            self.awaiting = Awaiting::Entry;
            return fetch(pointer);
        }
        // Only now is the key known to be missing.
        match reply.append(&self.header) {
            Ok(()) => Step::DONE,
            Err(full) => full.into(),
        }
    }

    /// Looks at the candidate's data entry.
    #[inline]
    fn compare(&mut self, bytes: &[u8], reply: &mut Reply<'_>) -> Step {
        let [_, version, pointer] = words(&self.candidate);
        let (Some(pointer), Ok((header, _))) =
            (EntryPointer::from_raw(pointer), EntryHeader::ref_from_prefix(bytes))
        else {
            return Step::UNEXPECTED;
        };
        let hash = KeyHash(header.hash.get());
        let fits = header.used_bytes() <= u64::from(pointer.length());
        self.doubt = if [hash.low(), hash.high()] != self.hash {
            Doubt::OtherKey
        } else if header.version.get() != version || !fits {
            Doubt::OtherVersion
        } else {
            Doubt::None
        };
        if self.doubt != Doubt::None && self.retries < RETRIES_MAX {
            self.retries += 1;
            self.awaiting = Awaiting::Bucket;
            return Step::Fetch(self.bucket);
        }
        // After so many changes the reader gets what there was, and will find it torn.
        let used = header.used_bytes().min(u64::from(pointer.length())) as u32;
        match self.answer(bytes, used, reply) {
            Ok(true) => Step::DONE,
            Ok(false) => {
                self.awaiting = Awaiting::Reply;
                Step::FetchToReply(Extent::followed(place_of(pointer), used))
            }
            Err(full) => full.into(),
        }
    }

    /// Gathers the reply; whether that is all of it.
    #[inline]
    fn answer(&self, bytes: &[u8], used: u32, reply: &mut Reply<'_>) -> Result<bool, ReplyFull> {
        reply.append(&self.header)?;
        reply.append(&self.candidate)?;
        match bytes.get(..used as usize) {
            Some(entry) => reply.append(entry).map(|()| true),
            None => Ok(false),
        }
    }
}

/// Fetches a data entry: whole if it can be gathered, else its header.
#[inline]
fn fetch(pointer: EntryPointer) -> Step {
    let length = pointer.length();
    if length < ENTRY_HEADER_BYTES as u32 {
        return Step::fail(Status::BadPointer);
    }
    // The pointer's length is rounded up to 16; the entry may be shorter.
    let whole = length < GATHERED_BYTES_MAX + 16;
    let wanted = if whole { length.min(GATHERED_BYTES_MAX) } else { ENTRY_HEADER_BYTES as u32 };
    Step::Fetch(Extent::followed(place_of(pointer), wanted))
}

#[inline]
fn place_of(pointer: EntryPointer) -> Pointer {
    Pointer { region: pointer.region(), address: pointer.offset() }
}

/// An index entry's hash, version and pointer.
#[inline]
fn words(entry: &[u8; INDEX_ENTRY_BYTES]) -> [u64; 3] {
    let (words, _) = entry.as_chunks::<8>();
    [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]), u64::from_le_bytes(words[2])]
}
