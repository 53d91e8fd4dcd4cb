//! Partitions in their owner's hands.

use core::sync::atomic::Ordering;

use nic_shm::{OutOfBounds, RacyMem};
use zerocopy::IntoBytes;

use super::layout::{HEADER_BYTES, HeaderLayout, Shape};
use super::validate::Counters;

/// Why there cannot be partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no partitions of {shape:?} at {address:#x}: see what its fields may be; the address must be a \
     multiple of 64, and the memory hold {} bytes from there on",
    shape.bytes().unwrap_or(u64::MAX)
)]
pub struct FormatError {
    /// What was asked for.
    pub shape: Shape,
    /// The address asked for.
    pub address: u64,
}

/// Partitions as their owner sees them. See the [module](super).
#[derive(Clone, Debug)]
pub struct Partitions {
    memory: RacyMem,
    address: u64,
    shape: Shape,
}

impl Partitions {
    /// Lays empty partitions there, over whatever there was.
    ///
    /// # Errors
    /// A shape that cannot be, or no place for it.
    pub fn format(memory: RacyMem, address: u64, shape: Shape) -> Result<Self, FormatError> {
        let error = FormatError { shape, address };
        let length = shape.makes_sense().then(|| shape.bytes()).flatten().ok_or(error)?;
        let end = address.checked_add(length).ok_or(error)?;
        if !address.is_multiple_of(HEADER_BYTES) || end > memory.len() {
            return Err(error);
        }
        memory.fill(address, shape.counters_bytes().into(), 0).map_err(|_| error)?;
        let header = HeaderLayout::new(&shape);
        memory.write(address + 8, &header.as_bytes()[8..]).map_err(|_| error)?;
        let magic = memory.word64(address).map_err(|_| error)?;
        magic.store(super::MAGIC, Ordering::Release);
        Ok(Partitions { memory, address, shape })
    }

    /// What they are.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How many records a partition has.
    ///
    /// # Panics
    /// There is no such partition.
    pub fn counters(&self, partition: u16) -> Counters {
        assert!(partition < self.shape.count(), "there are {} partitions", self.shape.count());
        let at = self.address + self.shape.counters(partition);
        let word = |at| {
            let word = self.memory.word64(at).expect("it was there when it was formatted");
            word.load(Ordering::Acquire)
        };
        // Written first: then what is found whole was.
        let written = word(at + 8);
        Counters { reserved: word(at), written }
    }

    /// Reads records of a partition, from one on, as many as there is room for in whole records.
    ///
    /// # Errors
    /// They are not all within the partition.
    ///
    /// # Panics
    /// There is no such partition.
    pub fn read(&self, partition: u16, from: u64, into: &mut [u8]) -> Result<(), OutOfBounds> {
        assert!(partition < self.shape.count(), "there are {} partitions", self.shape.count());
        let size = usize::from(self.shape.record_bytes);
        let count = (into.len() / size) as u64;
        let is_within = from.checked_add(count).is_some_and(|end| end <= self.shape.capacity);
        // What is outside of all memory is outside of the partition as well.
        let place = if is_within { self.shape.place(partition, from) } else { u64::MAX / 2 };
        self.memory.read(self.address + place, &mut into[..count as usize * size])
    }
}
