//! A private copy of a bucket.

use zerocopy::FromBytes;

use super::hash::KeyHash;
use super::layout::{
    BUCKET_HEADER_BYTES, BucketHeader, EntryPointer, INDEX_ENTRY_BYTES, IndexEntry,
};

/// A private copy of a bucket: fetched by a kernel, or by a READ of [`TableView`]'s bucket range.
///
/// [`TableView`]: super::TableView
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    header: &'a BucketHeader,
    entries: &'a [IndexEntry],
}

impl<'a> Bucket<'a> {
    /// Looks at a bucket's bytes; `None` if they are too few for its header.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(BUCKET_HEADER_BYTES)?;
        let header = BucketHeader::ref_from_bytes(header).ok()?;
        let count = rest.len() / INDEX_ENTRY_BYTES;
        let entries = <[IndexEntry]>::ref_from_bytes(&rest[..count * INDEX_ENTRY_BYTES]).ok()?;
        Some(Bucket { header, entries })
    }

    /// The bucket's header.
    #[inline]
    pub const fn header(&self) -> &'a BucketHeader {
        self.header
    }

    /// All its entries, empty ones included.
    #[inline]
    pub const fn entries(&self) -> &'a [IndexEntry] {
        self.entries
    }

    /// The entries that may be of a key with this hash, and where their data entries are: to be
    /// read, and judged by [`validate_entry`](super::validate_entry), in this order.
    pub fn candidates(
        &self,
        hash: KeyHash,
    ) -> impl Iterator<Item = (&'a IndexEntry, EntryPointer)> + use<'a> {
        let entries = self.entries.iter().filter(move |entry| entry.hash.get() == hash.low());
        entries.filter_map(|entry| Some((entry, EntryPointer::from_raw(entry.pointer.get())?)))
    }
}
