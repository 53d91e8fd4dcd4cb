//! A table as its readers see it.

use zerocopy::FromBytes;

use super::errors::BadTable;
use super::geometry::Geometry;
use super::hash::KeyHash;
use super::layout::{EntryPointer, LAYOUT_VERSION, MAGIC, NO_SERVICE, TableHeader};
use crate::read;
use crate::scan_and_read;

/// What a reader knows of a table, once it has read the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableView {
    /// Where the buckets are.
    pub geometry: Geometry,
    /// What every bucket must say.
    pub config_id: u64,
    /// The number of the entries region.
    pub entries_region: u8,
    /// The service that answers for overflowed keys.
    pub service: Option<u16>,
    /// Which of the tables that were formatted here.
    pub generation: u64,
}

impl TableView {
    /// How many bytes of the index region to read: its header.
    pub const HEADER_BYTES: usize = size_of::<TableHeader>();

    /// Understands a private copy of the index region's start.
    ///
    /// # Errors
    /// It is no table of this layout.
    pub fn parse(header: &[u8]) -> Result<Self, BadTable> {
        let short = BadTable::Short { found: header.len(), expected: Self::HEADER_BYTES };
        let (header, _) = TableHeader::ref_from_prefix(header).map_err(|_| short)?;
        let magic = header.magic.get();
        if magic != MAGIC {
            return Err(BadTable::Magic { found: magic });
        }
        let version = header.layout_version.get();
        if version != LAYOUT_VERSION {
            return Err(BadTable::Version { found: version, expected: LAYOUT_VERSION });
        }
        let geometry = Geometry::of(header.bucket_count.get(), header.bucket_bytes.get())
            .ok_or(BadTable::Damaged { field: "bucket count or size" })?;
        let entries_region = u8::try_from(header.entries_region.get())
            .map_err(|_| BadTable::Damaged { field: "entries region" })?;
        Ok(TableView {
            geometry,
            config_id: header.config_id.get(),
            entries_region,
            service: Some(header.service.get()).filter(|service| *service != NO_SERVICE),
            generation: header.generation.get(),
        })
    }

    /// The address, in the index region, of the bucket for a hash.
    #[inline]
    pub const fn bucket_address(&self, hash: KeyHash) -> u64 {
        self.geometry.bucket_offset(hash.high())
    }

    /// The one op that looks a key up.
    #[inline]
    pub fn scan_and_read(&self, hash: KeyHash) -> scan_and_read::Arguments {
        let bytes = self.geometry.bucket_bytes() as u16;
        scan_and_read::Arguments::new(self.bucket_address(hash), hash, bytes)
    }

    /// The first of two plain READs: the bucket.
    #[inline]
    pub fn read_bucket(&self, hash: KeyHash) -> read::Arguments {
        read::Arguments::home(self.bucket_address(hash), self.geometry.bucket_bytes())
    }

    /// The second of two plain READs: a candidate's data entry.
    #[inline]
    pub fn read_entry(pointer: EntryPointer) -> read::Arguments {
        read::Arguments::new(u16::from(pointer.region()), pointer.offset(), pointer.length())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn header() -> TableHeader {
        TableHeader {
            magic: MAGIC.into(),
            layout_version: LAYOUT_VERSION.into(),
            bucket_bytes: 128.into(),
            bucket_count: 8.into(),
            config_id: 5.into(),
            entries_region: 2.into(),
            service: NO_SERVICE.into(),
            reserved: 0.into(),
            generation: 1.into(),
        }
    }

    #[test]
    fn headers_are_understood() {
        let view = TableView::parse(header().as_bytes()).unwrap();
        assert_eq!((view.config_id, view.entries_region, view.service), (5, 2, None));
        let hash = KeyHash(11 << 64 | 1);
        assert_eq!(view.bucket_address(hash), 256 + 3 * 128);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let parse = |change: fn(&mut TableHeader)| {
            let mut changed = header();
            change(&mut changed);
            TableView::parse(changed.as_bytes())
        };
        assert_eq!(parse(|h| h.magic = 0.into()), Err(BadTable::Magic { found: 0 }));
        let version = BadTable::Version { found: 9, expected: LAYOUT_VERSION };
        assert_eq!(parse(|h| h.layout_version = 9.into()), Err(version));
        let damaged = BadTable::Damaged { field: "bucket count or size" };
        assert_eq!(parse(|h| h.bucket_count = 3.into()), Err(damaged));
        assert_eq!(parse(|h| h.bucket_count = 0.into()), Err(damaged));
        assert_eq!(parse(|h| h.bucket_bytes = 100.into()), Err(damaged));
        let damaged = BadTable::Damaged { field: "entries region" };
        assert_eq!(parse(|h| h.entries_region = 256.into()), Err(damaged));
        let short = BadTable::Short { found: 47, expected: 48 };
        assert_eq!(TableView::parse(&header().as_bytes()[..47]), Err(short));
    }
}
