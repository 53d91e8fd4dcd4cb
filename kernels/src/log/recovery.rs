//! A log after a crash, as its file had it.

use core::sync::atomic::Ordering;

use nic_shm::RacyMem;
use zerocopy::FromBytes;

use super::layout::{
    ALIGNMENT, HEAD, HEADER_BYTES, POSITION_MAX, RECORD_HEADER_BYTES, RecordHeader, TAIL,
    WATERMARK, to_ring_end,
};
use super::writer::{Log, LogError, SKIP_BYTES_MAX};

/// What [`Log::recover`] has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whole records.
    pub records: u64,
    /// Bytes between them that readers now pass over: torn records, and what was one of these or a
    /// ring's end before.
    pub skipped_bytes: u64,
}

impl Log {
    /// The log whose memory was read back from a file, after whatever end its engine and its owner
    /// came to. Every record whose append was acknowledged as persisted is there, at its position;
    /// of others, those that got into the file whole. What is torn is passed over, and the log ends
    /// behind its last whole record. Recovering it again finds the same.
    ///
    /// The head is the file's. If that is older than the head was in memory, records that were
    /// trimmed and not yet overwritten are there again. Nobody may use the log meanwhile: recover it
    /// before its region is exported.
    ///
    /// It reads the whole ring, whose parts may be of different rounds: a record that was not
    /// acknowledged may have overwritten, in part, one that had been trimmed.
    ///
    /// # Errors
    /// [`LogError::NoLog`].
    pub fn recover(memory: RacyMem, address: u64) -> Result<(Log, Recovery), LogError> {
        let log = Log::open(memory, address)?;
        let oldest = log.head();
        if oldest > POSITION_MAX || !oldest.is_multiple_of(ALIGNMENT) {
            return Err(LogError::NoLog { address });
        }
        let tail = log.last_end(oldest)?;
        // What is a ring's length before the end was given up, or it could not be overwritten.
        let head = oldest.max(tail.saturating_sub(log.capacity));
        let recovery = log.skip_holes(head, tail)?;
        log.clear(tail, log.capacity - (tail - head))?;
        log.word(HEAD)?.store(head, Ordering::Relaxed);
        log.word(TAIL)?.store(tail, Ordering::Relaxed);
        log.word(WATERMARK)?.store(tail, Ordering::Release);
        Ok((log, recovery))
    }

    /// Where the last whole record ends of those that begin at `oldest` or later.
    fn last_end(&self, oldest: u64) -> Result<u64, LogError> {
        let (mut place, mut last) = (0, oldest);
        while place < self.capacity {
            let end = self.end_at(place, oldest)?;
            // Of a record's last piece little may be payload: what begins there later may agree with
            // its checksum.
            place += end.map_or(0, |(_, size)| size - ALIGNMENT).max(ALIGNMENT);
            last = last.max(end.map_or(0, |(end, _)| end));
        }
        Ok(last)
    }

    /// Where the whole record at a place of the ring ends, if there is one that begins at `oldest` or
    /// later; and its size.
    fn end_at(&self, place: u64, oldest: u64) -> Result<Option<(u64, u64)>, LogError> {
        let Some(position) = self.position_at(place)? else { return Ok(None) };
        if position < oldest {
            return Ok(None);
        }
        Ok(self.whole_data(position)?.map(|size| (position + size, size)))
    }

    /// The position that a place of the ring claims to be, if it can be.
    fn position_at(&self, place: u64) -> Result<Option<u64>, LogError> {
        let at = self.address + HEADER_BYTES + place;
        let no_log = LogError::NoLog { address: self.address };
        let bytes: [u8; RECORD_HEADER_BYTES as usize] =
            self.memory.read_array(at).map_err(|_| no_log)?;
        let header = RecordHeader::read_from_bytes(&bytes).map_err(|_| no_log)?;
        let position = header.position();
        let is_possible = position <= POSITION_MAX && position % self.capacity == place;
        Ok(is_possible.then_some(position))
    }

    /// Makes all that is no whole record one to be passed over. Skips that are there are not
    /// believed: they carry no checksum.
    fn skip_holes(&self, head: u64, tail: u64) -> Result<Recovery, LogError> {
        let (mut at, mut recovery) = (head, Recovery::default());
        while at < tail {
            if let Some(size) = self.whole_data(at)? {
                recovery.records += 1;
                at += size;
                continue;
            }
            let most = to_ring_end(at, self.capacity).min(tail - at).min(SKIP_BYTES_MAX);
            let mut length = ALIGNMENT;
            while length < most && self.whole_data(at + length)?.is_none() {
                length += ALIGNMENT;
            }
            self.clear(at, length)?;
            self.write_skip(at, length)?;
            recovery.skipped_bytes += length;
            at += length;
        }
        Ok(recovery)
    }

    /// Makes nothing of so many bytes from a position on: a torn record's state would be taken for
    /// that of a whole one when the log comes to where it is.
    fn clear(&self, from: u64, bytes: u64) -> Result<(), LogError> {
        let first = bytes.min(to_ring_end(from, self.capacity));
        let pieces = [(self.place(from), first), (self.place(0), bytes - first)];
        for (place, bytes) in pieces {
            let no_log = |_| LogError::NoLog { address: self.address };
            self.memory.fill(place, bytes, 0).map_err(no_log)?;
        }
        Ok(())
    }
}
