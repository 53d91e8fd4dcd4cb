//! Self-validation: what a reader got may be torn, stale or another's, and the bytes tell.
//!
//! CliqueMap §3: the reader checks checksum, full key, version and configuration; each check is a
//! function here. A verdict other than [`Verdict::Hit`] never yields bytes.

use core::ops::Range;

use zerocopy::FromBytes;

use super::entry::Entry;
use super::hash::KeyHash;
use super::layout::{
    BUCKET_HEADER_BYTES, BucketHeader, ENTRY_HEADER_BYTES, EntryHeader, INDEX_ENTRY_BYTES,
    IndexEntry,
};

/// What a reader may conclude.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The key is there.
    Hit {
        /// Where in the validated bytes its value is.
        value: Range<usize>,
        /// The value's version.
        version: u64,
    },
    /// The table does not have the key.
    Miss,
    /// The bucket does not have the key, but others of it are elsewhere: ask the owner by CALL.
    Overflowed,
    /// What was read is not whole: read again.
    Torn(Torn),
    /// The bucket belongs to another configuration: learn where the key is now.
    WrongConfig {
        /// The configuration that the bucket names.
        found: u64,
    },
}

/// How it was found out that what was read is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Torn {
    /// There are too few bytes.
    Truncated,
    /// The index entry is of another key.
    IndexHash,
    /// The data entry's lengths do not fit its bytes.
    Lengths,
    /// The data entry's checksum is wrong.
    Checksum,
    /// Index entry and data entry have different versions: one of them is older.
    Version,
}

/// Judges the reply of a Scan-and-Read: bucket header, index entry, data entry; or the bucket
/// header alone. Positions in a hit count from the start of `reply`.
pub fn validate(reply: &[u8], key: &[u8], hash: KeyHash, config_id: u64) -> Verdict {
    let Ok((header, rest)) = BucketHeader::ref_from_prefix(reply) else {
        return Verdict::Torn(Torn::Truncated);
    };
    if rest.is_empty() {
        return absent(header, config_id);
    }
    let Ok((index, data)) = IndexEntry::ref_from_prefix(rest) else {
        return Verdict::Torn(Torn::Truncated);
    };
    match validate_entry(header, index, data, key, hash, config_id) {
        Verdict::Hit { value, version } => {
            let before = BUCKET_HEADER_BYTES + INDEX_ENTRY_BYTES;
            Verdict::Hit { value: value.start + before..value.end + before, version }
        }
        verdict => verdict,
    }
}

/// Judges one candidate of a bucket and its data entry, which may be followed by other bytes.
/// Positions in a hit count from the start of `data`. [`Verdict::Miss`] and
/// [`Verdict::Overflowed`] mean that the candidate is another key's: go on to the next, and if
/// there is none, that is the verdict.
pub fn validate_entry(
    header: &BucketHeader,
    index: &IndexEntry,
    data: &[u8],
    key: &[u8],
    hash: KeyHash,
    config_id: u64,
) -> Verdict {
    if !config_matches(header, config_id) {
        return Verdict::WrongConfig { found: header.config_id.get() };
    }
    if index.hash.get() != hash.low() {
        return Verdict::Torn(Torn::IndexHash);
    }
    let Some(entry) = Entry::parse(data) else {
        let cut = data.len() < ENTRY_HEADER_BYTES;
        return Verdict::Torn(if cut { Torn::Truncated } else { Torn::Lengths });
    };
    if !checksum_matches(&entry) {
        return Verdict::Torn(Torn::Checksum);
    }
    if !version_matches(index, entry.header) {
        return Verdict::Torn(Torn::Version);
    }
    // From here on the data entry is known to be whole, and the one that the index meant.
    if !hash_matches(entry.header, hash) || entry.key != key {
        return absent(header, config_id);
    }
    let value = ENTRY_HEADER_BYTES + entry.key.len()..entry.used.len();
    Verdict::Hit { value, version: entry.header.version.get() }
}

/// What follows from a bucket in which no candidate is the key's.
pub fn absent(header: &BucketHeader, config_id: u64) -> Verdict {
    if !config_matches(header, config_id) {
        Verdict::WrongConfig { found: header.config_id.get() }
    } else if header.overflowed() {
        Verdict::Overflowed
    } else {
        Verdict::Miss
    }
}

/// The bucket belongs to the configuration that the reader believes in.
fn config_matches(header: &BucketHeader, config_id: u64) -> bool {
    header.config_id.get() == config_id
}

/// Every byte of the data entry is of one writing. It runs over the private copy, once.
fn checksum_matches(entry: &Entry<'_>) -> bool {
    // Built without this check, the tests that race readers against a writer must fail.
    cfg!(nic_break = "checksum") || entry.header.checksum.get() == entry.checksum()
}

/// Index entry and data entry are of one writing.
fn version_matches(index: &IndexEntry, header: &EntryHeader) -> bool {
    index.version == header.version
}

/// All 128 bits are those of the key.
fn hash_matches(header: &EntryHeader, hash: KeyHash) -> bool {
    header.hash.get() == hash.0
}

#[cfg(test)]
mod tests;
