//! The sketch in its owner's hands.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use nic_shm::RacyMem;

use super::layout::{HEADER_BYTES, PRECISION_MAX, PRECISION_MIN, header, sketch_bytes};
use super::validate::{BadSketch, estimate};

/// Why there cannot be a sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no sketch of precision {precision} at {address:#x}: the precision must be {PRECISION_MIN} to \
     {PRECISION_MAX}, the address a multiple of 64, and the memory hold and take it"
)]
pub struct FormatError {
    /// The precision asked for.
    pub precision: u8,
    /// The address asked for.
    pub address: u64,
}

/// A sketch as its owner sees it. See the [module](super).
#[derive(Clone, Debug)]
pub struct Sketch {
    memory: RacyMem,
    address: u64,
    precision: u8,
}

impl Sketch {
    /// Lays an empty sketch there, over whatever there was.
    ///
    /// # Errors
    /// No place for it.
    pub fn format(memory: RacyMem, address: u64, precision: u8) -> Result<Self, FormatError> {
        let error = FormatError { precision, address };
        let is_precise = (PRECISION_MIN..=PRECISION_MAX).contains(&precision);
        if !is_precise || !address.is_multiple_of(HEADER_BYTES) {
            return Err(error);
        }
        memory.fill(address, sketch_bytes(precision), 0).map_err(|_| error)?;
        for (place, word) in [8, 0].into_iter().zip(header(precision).into_iter().rev()) {
            let place = memory.word64(address + place).map_err(|_| error)?;
            place.store(word, Ordering::Release);
        }
        Ok(Sketch { memory, address, precision })
    }

    /// How many different values it has seen, about.
    ///
    /// # Errors
    /// Its header was overwritten.
    pub fn estimate(&self) -> Result<f64, BadSketch> {
        let mut bytes: Vec<u8> = alloc::vec![0; sketch_bytes(self.precision) as usize];
        let length = bytes.len();
        self.memory.read(self.address, &mut bytes).map_err(|_| BadSketch { length })?;
        estimate(&bytes)
    }
}
