//! What an initiator makes of the reply to a FETCH.

use zerocopy::FromBytes;

use super::layout::{Kind, RECORD_HEADER_BYTES, RecordHeader, checksum, record_bytes};
use crate::fetch::{Outcome, ReplyHeader};

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where in the log it begins.
    pub position: u64,
    /// What its author wants to know it by.
    pub tag: u64,
    /// What it says.
    pub payload: &'a [u8],
}

/// Why a reply cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    /// It is no reply to such a FETCH.
    #[error("the reply is not one to a FETCH from this position")]
    Foreign,
    /// A record was overwritten while it was read, or is damaged: fetch again. If that does not help
    /// it is damaged in the log.
    #[error("the record at {position} is torn; fetch it again")]
    Torn {
        /// Where it is.
        position: u64,
    },
}

/// A reply that was looked through: every record in it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch<'a> {
    /// Records, perhaps none.
    Records(Records<'a>),
    /// The log begins only at `head` now.
    Trimmed {
        /// From where to fetch.
        head: u64,
    },
    /// The log ends already at `watermark`: no record of it was ever at the position.
    Beyond {
        /// Where it ends.
        watermark: u64,
    },
    /// The next record does not fit the reply's place.
    TooLong {
        /// How many bytes of reply it needs.
        needed: u64,
    },
}

/// Whole records one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    bytes: &'a [u8],
    position: u64,
    next: u64,
    watermark: u64,
}

impl<'a> Batch<'a> {
    /// Looks a reply to a FETCH from a position through. A record at its end that is not there as a
    /// whole is left out.
    ///
    /// # Errors
    /// A reply that is not to be believed.
    pub fn parse(reply: &'a [u8], from: u64) -> Result<Self, BadBatch> {
        let (header, bytes) = ReplyHeader::ref_from_prefix(reply).map_err(|_| BadBatch::Foreign)?;
        let watermark = header.watermark.get();
        match header.outcome().ok_or(BadBatch::Foreign)? {
            Outcome::Trimmed => return Ok(Batch::Trimmed { head: header.head.get() }),
            Outcome::Beyond => return Ok(Batch::Beyond { watermark }),
            Outcome::Records => {}
        }
        let length = u64::from(header.length.get());
        let fits = from.checked_add(length).is_some_and(|end| end <= watermark);
        if header.from.get() != from || bytes.len() as u64 != length || !fits {
            return Err(BadBatch::Foreign);
        }
        let mut rest = Records { bytes, position: from, next: from, watermark };
        let mut needed = 0;
        while !rest.bytes.is_empty() {
            match rest.first()? {
                First::Whole(_, size) => rest.pass(size),
                First::Cut(size) => {
                    needed = size;
                    break;
                }
            }
        }
        let whole = bytes.len() - rest.bytes.len();
        if whole == 0 && needed > 0 {
            return Ok(Batch::TooLong { needed: needed + size_of::<ReplyHeader>() as u64 });
        }
        let (bytes, next) = (&bytes[..whole], rest.position);
        Ok(Batch::Records(Records { bytes, position: from, next, watermark }))
    }
}

impl Records<'_> {
    /// From where to fetch next.
    pub fn next_position(&self) -> u64 {
        self.next
    }

    /// Where the log ended when it was read.
    pub fn watermark(&self) -> u64 {
        self.watermark
    }
}

enum First<'a> {
    /// A whole record (none: a skip) and its size.
    Whole(Option<Record<'a>>, usize),
    /// One of that size of which only the beginning is here.
    Cut(u64),
}

impl<'a> Records<'a> {
    fn first(&self) -> Result<First<'a>, BadBatch> {
        let position = self.position;
        let torn = BadBatch::Torn { position };
        let bytes = self.bytes;
        let (header, behind) = RecordHeader::ref_from_prefix(bytes).map_err(|_| torn)?;
        let (kind, size) = RecordHeader::parse(bytes, position).ok_or(torn)?;
        if size > self.watermark.saturating_sub(position) {
            return Err(torn);
        }
        if size > bytes.len() as u64 {
            return Ok(First::Cut(size));
        }
        if kind == Kind::Skip {
            return Ok(First::Whole(None, size as usize));
        }
        let payload = &behind[..header.length.get() as usize];
        let tag = header.tag.get();
        if checksum(tag, payload) != header.checksum.get() {
            return Err(torn);
        }
        Ok(First::Whole(Some(Record { position, tag, payload }), size as usize))
    }

    fn pass(&mut self, size: usize) {
        self.bytes = &self.bytes[size..];
        self.position += size as u64;
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        while !self.bytes.is_empty() {
            // All were whole when they were looked through.
            let Ok(First::Whole(record, size)) = self.first() else { return None };
            self.pass(size);
            if record.is_some() {
                return record;
            }
        }
        None
    }
}

/// The room that a reply with one record of such a payload needs, in bytes.
pub const fn reply_bytes(payload_length: u32) -> u64 {
    size_of::<ReplyHeader>() as u64 + record_bytes(payload_length)
}

const _: () = assert!(reply_bytes(0) == 32 + RECORD_HEADER_BYTES);
