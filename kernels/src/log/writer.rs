//! The log in its owner's hands.

use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use nic_shm::RacyMem;
use zerocopy::{FromBytes, IntoBytes};

use super::layout::{
    ALIGNMENT, CAPACITY_MAX, HEAD, HEADER_BYTES, Header, Kind, MAGIC, POSITION_MAX,
    RECORD_HEADER_BYTES, RecordHeader, TAIL, WATERMARK, checksum, payload_bytes_max, record_bytes,
    state, to_ring_end,
};
use super::validate::Record;

/// The longest skip that [`Log::repair`] and [`Log::recover`] write, in bytes.
pub(super) const SKIP_BYTES_MAX: u64 = 1 << 30;

/// Why a log cannot be had, or does not do what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The memory has no place for a log there: the address must be a multiple of 64, and a header
    /// and at least one record must fit.
    #[error(
        "no log of {bytes} bytes fits at {address:#x}; it needs a multiple of 64 and 128 bytes"
    )]
    NoPlace {
        /// Where it was to be.
        address: u64,
        /// How long it was to be.
        bytes: u64,
    },
    /// What lies there is no log: format one.
    #[error("there is no log at {address:#x}; format one")]
    NoLog {
        /// Where it was looked for.
        address: u64,
    },
    /// The record does not fit before the head: trim the log, or take a new segment.
    #[error(
        "{wanted} bytes do not fit: {free} of {capacity} are free; trim the log or take another"
    )]
    Full {
        /// What the record takes.
        wanted: u64,
        /// What is free.
        free: u64,
        /// Bytes of the ring.
        capacity: u64,
    },
    /// The record would take more than half of the ring: split it, or take a longer log.
    #[error("{length} bytes of payload are no record of this log; it takes {most} at the most")]
    TooLong {
        /// Length of the payload in bytes.
        length: u64,
        /// The longest that the log takes.
        most: u64,
    },
    /// A position that the log has not, or no longer.
    #[error("position {position} is not one of {head} to {watermark}")]
    NoPosition {
        /// What was asked for.
        position: u64,
        /// Where the log begins.
        head: u64,
        /// Where it ends.
        watermark: u64,
    },
    /// The record is not what was written, or was overwritten while it was read.
    #[error("the record at {position} is damaged")]
    Damaged {
        /// Where it is.
        position: u64,
    },
}

/// A log as its owner sees it. See the [module](crate::log).
///
/// ```
/// use nic_kernels::log::Log;
/// use nic_shm::RacyMem;
///
/// let log = Log::format(RacyMem::allocate(4096), 0, 4096)?;
/// let first = log.append(7, b"apple")?;
/// let mut buffer = Vec::new();
/// let (record, next) = log.read(first, &mut buffer)?;
/// let record = record.ok_or("it is no skip")?;
/// assert_eq!((record.tag, record.payload, next), (7, &b"apple"[..], log.watermark()));
/// log.trim(next)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Log {
    pub(super) memory: RacyMem,
    pub(super) address: u64,
    pub(super) capacity: u64,
}

impl Log {
    /// Lays an empty log over `bytes` bytes from `address` on, an offset into the memory.
    ///
    /// # Errors
    /// [`LogError::NoPlace`], also if the memory cannot be written.
    pub fn format(memory: RacyMem, address: u64, bytes: u64) -> Result<Self, LogError> {
        let no_place = LogError::NoPlace { address, bytes };
        let capacity = (bytes.saturating_sub(HEADER_BYTES) & !(ALIGNMENT - 1)).min(CAPACITY_MAX);
        if !address.is_multiple_of(HEADER_BYTES) || capacity < 2 * ALIGNMENT {
            return Err(no_place);
        }
        memory.fill(address, HEADER_BYTES + capacity, 0).map_err(|_| no_place)?;
        let log = Log { memory, address, capacity };
        log.word(8)?.store(capacity, Ordering::Relaxed);
        log.word(0)?.store(MAGIC, Ordering::Release);
        Ok(log)
    }

    /// The log that was formatted there.
    ///
    /// # Errors
    /// [`LogError::NoLog`].
    pub fn open(memory: RacyMem, address: u64) -> Result<Self, LogError> {
        let no_log = LogError::NoLog { address };
        let bytes: [u8; HEADER_BYTES as usize] = memory.read_array(address).map_err(|_| no_log)?;
        let capacity = Header::parse(&bytes).ok_or(no_log)?.capacity.get();
        let fits = address.is_multiple_of(HEADER_BYTES)
            && memory
                .len()
                .checked_sub(address)
                .is_some_and(|left| left >= HEADER_BYTES + capacity);
        if fits { Ok(Log { memory, address, capacity }) } else { Err(no_log) }
    }

    /// The memory that it lies in.
    #[cfg(test)]
    pub(super) fn memory(&self) -> &RacyMem {
        &self.memory
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Where the log begins.
    pub fn head(&self) -> u64 {
        self.load(HEAD)
    }

    /// Where it ends for readers.
    pub fn watermark(&self) -> u64 {
        self.load(WATERMARK)
    }

    /// Where it ends for those who append.
    pub fn tail(&self) -> u64 {
        self.load(TAIL)
    }

    /// Gives up what is before a position, so that it can be overwritten.
    ///
    /// # Errors
    /// [`LogError::NoPosition`]: beyond the watermark, before the head or not at a multiple of 32.
    pub fn trim(&self, to: u64) -> Result<(), LogError> {
        self.check(to)?;
        self.word(HEAD)?.store(to, Ordering::Release);
        Ok(())
    }

    /// Appends a record. Remote appends may go on meanwhile; if they are slow, the record becomes
    /// visible when theirs do. Ops that wait for records of this log find this one when they look
    /// again. Returns its position.
    ///
    /// # Errors
    /// [`LogError::Full`]; [`LogError::TooLong`]; [`LogError::NoLog`] if the header was overwritten.
    pub fn append(&self, tag: u64, payload: &[u8]) -> Result<u64, LogError> {
        let most = payload_bytes_max(self.capacity);
        let too_long = LogError::TooLong { length: payload.len() as u64, most };
        let length = u32::try_from(payload.len()).map_err(|_| too_long)?;
        if u64::from(length) > most {
            return Err(too_long);
        }
        let size = record_bytes(length);
        let (start, position) = loop {
            let (tail, head) = (self.tail(), self.head());
            if tail > POSITION_MAX {
                return Err(LogError::NoLog { address: self.address });
            }
            let to_end = to_ring_end(tail, self.capacity);
            let gap = if size > to_end { to_end } else { 0 };
            let free = self.capacity.saturating_add(head).saturating_sub(tail);
            if gap + size > free {
                return Err(LogError::Full { wanted: gap + size, free, capacity: self.capacity });
            }
            let word = self.word(TAIL)?;
            let (ordering, end) = (Ordering::AcqRel, tail + gap + size);
            if word.compare_exchange(tail, end, ordering, Ordering::Relaxed).is_ok() {
                break (tail, tail + gap);
            }
        };
        if start != position {
            self.write_skip(start, position - start)?;
        }
        let header = RecordHeader {
            state: 0.into(),
            length: length.into(),
            reserved: 0.into(),
            checksum: checksum(tag, payload).into(),
            tag: tag.into(),
        };
        let place = self.place(position);
        self.write(place, header.as_bytes())?;
        self.write(place + RECORD_HEADER_BYTES, payload)?;
        self.mark(position, Kind::Data)?;
        self.commit()?;
        Ok(position)
    }

    /// Reads the record at a position into a buffer, and says where the next begins. `None`: a
    /// record to be passed over.
    ///
    /// # Errors
    /// [`LogError::NoPosition`], also for the watermark; [`LogError::Damaged`].
    pub fn read<'a>(
        &self,
        position: u64,
        buffer: &'a mut Vec<u8>,
    ) -> Result<(Option<Record<'a>>, u64), LogError> {
        self.check(position)?;
        let (head, watermark) = (self.head(), self.watermark());
        let damaged = LogError::Damaged { position };
        if position == watermark {
            return Err(LogError::NoPosition { position, head, watermark });
        }
        let place = self.place(position);
        let bytes = self.record_header(position)?;
        let (kind, size) = RecordHeader::parse(&bytes, position).ok_or(damaged)?;
        let next = position.saturating_add(size);
        if next > watermark || size > to_ring_end(position, self.capacity) {
            return Err(damaged);
        }
        if kind == Kind::Skip {
            return Ok((None, next));
        }
        let (header, _) = RecordHeader::read_from_prefix(&bytes).map_err(|_| damaged)?;
        buffer.clear();
        buffer.resize(header.length.get() as usize, 0);
        self.memory.read(place + RECORD_HEADER_BYTES, buffer).map_err(|_| damaged)?;
        let tag = header.tag.get();
        if checksum(tag, buffer) != header.checksum.get() {
            return Err(damaged);
        }
        Ok((Some(Record { position, tag, payload: buffer }), next))
    }

    /// Mends a log that nobody appends to any more, because the exports were revoked or the engine
    /// died: what was reserved and never became whole is passed over from now on, and all that is
    /// whole is visible. Returns how many bytes are passed over.
    ///
    /// # Errors
    /// [`LogError::NoLog`]: the header is damaged as well.
    pub fn repair(&self) -> Result<u64, LogError> {
        let (mut at, tail, mut skipped) = (self.watermark(), self.tail(), 0);
        if at > tail
            || tail > POSITION_MAX
            || tail - at > self.capacity
            || (at | tail) % ALIGNMENT != 0
        {
            return Err(LogError::NoLog { address: self.address });
        }
        while at < tail {
            if let Some(size) = self.whole_record(at, tail)? {
                at += size;
                continue;
            }
            // Records know their positions, so the next whole one is found by looking for it.
            let most = to_ring_end(at, self.capacity).min(tail - at).min(SKIP_BYTES_MAX);
            let mut length = ALIGNMENT;
            while length < most && self.whole_record(at + length, tail)?.is_none() {
                length += ALIGNMENT;
            }
            self.write_skip(at, length)?;
            skipped += length;
            at += length;
        }
        self.word(WATERMARK)?.store(tail, Ordering::Release);
        Ok(skipped)
    }

    /// Length of the whole, undamaged record at a position, if there is one.
    fn whole_record(&self, position: u64, tail: u64) -> Result<Option<u64>, LogError> {
        let bytes = self.record_header(position)?;
        match RecordHeader::parse(&bytes, position) {
            Some((_, size)) if size > tail - position => Ok(None),
            Some((Kind::Skip, size)) if size <= to_ring_end(position, self.capacity) => {
                Ok(Some(size))
            }
            Some((Kind::Data, _)) => self.whole_data(position),
            _ => Ok(None),
        }
    }

    /// The same for one that is no skip.
    pub(super) fn whole_data(&self, position: u64) -> Result<Option<u64>, LogError> {
        let bytes = self.record_header(position)?;
        let Some((Kind::Data, size)) = RecordHeader::parse(&bytes, position) else {
            return Ok(None);
        };
        if size > to_ring_end(position, self.capacity) {
            return Ok(None);
        }
        let Ok((header, _)) = RecordHeader::read_from_prefix(&bytes) else { return Ok(None) };
        let mut payload = alloc::vec![0; header.length.get() as usize];
        let damaged = LogError::Damaged { position };
        let place = self.place(position) + RECORD_HEADER_BYTES;
        self.memory.read(place, &mut payload).map_err(|_| damaged)?;
        let is_good = checksum(header.tag.get(), &payload) == header.checksum.get();
        Ok(is_good.then_some(size))
    }

    /// Moves the watermark over all whole records that it finds there.
    fn commit(&self) -> Result<(), LogError> {
        // Either who moves the watermark up to this record finds it whole, or this finds it there.
        fence(Ordering::SeqCst);
        loop {
            let at = self.watermark();
            let bytes = self.record_header(at)?;
            let Some((_, size)) = RecordHeader::parse(&bytes, at) else { return Ok(()) };
            let word = self.word(WATERMARK)?;
            // Whoever was faster looks further.
            let next = at.saturating_add(size);
            let _ = word.compare_exchange(at, next, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    pub(super) fn write_skip(&self, position: u64, length: u64) -> Result<(), LogError> {
        // At most one ring's end or a gigabyte.
        let length = (length - RECORD_HEADER_BYTES) as u32;
        self.write(self.place(position) + 8, &u64::from(length).to_le_bytes())?;
        self.mark(position, Kind::Skip)
    }

    /// The record is whole.
    fn mark(&self, position: u64, kind: Kind) -> Result<(), LogError> {
        let damaged = LogError::Damaged { position };
        let word = self.memory.word64(self.place(position)).map_err(|_| damaged)?;
        word.store(state(position, kind), Ordering::SeqCst);
        Ok(())
    }

    fn check(&self, position: u64) -> Result<(), LogError> {
        let (head, watermark) = (self.head(), self.watermark());
        if position < head || position > watermark || !position.is_multiple_of(ALIGNMENT) {
            return Err(LogError::NoPosition { position, head, watermark });
        }
        Ok(())
    }

    pub(super) fn record_header(
        &self,
        position: u64,
    ) -> Result<[u8; RECORD_HEADER_BYTES as usize], LogError> {
        let bytes = self.memory.read_array(self.place(position));
        bytes.map_err(|_| LogError::Damaged { position })
    }

    pub(super) fn place(&self, position: u64) -> u64 {
        self.address + HEADER_BYTES + position % self.capacity
    }

    fn write(&self, place: u64, bytes: &[u8]) -> Result<(), LogError> {
        self.memory.write(place, bytes).map_err(|_| LogError::NoLog { address: self.address })
    }

    pub(super) fn word(&self, offset: u64) -> Result<&core::sync::atomic::AtomicU64, LogError> {
        let word = self.memory.word64(self.address + offset);
        word.map_err(|_| LogError::NoLog { address: self.address })
    }

    fn load(&self, offset: u64) -> u64 {
        // The log's place was looked at when it was opened.
        self.memory.load64(self.address + offset).unwrap_or_default()
    }
}
