//! Where data entries go: slabs of equal size, each cut into pieces of one class, so that what is
//! freed is used again at once. Bookkeeping is private; the entries region holds entries only.
//!
//! A slab whose pieces are all free may serve another class. Entries longer than half a slab take
//! several slabs in a row; pieces are taken from the low end of the region and rows from the high.

mod classes;

use alloc::vec::Vec;

use classes::{CLASS_COUNT_MAX, class_bytes, class_of};

/// The longest and the shortest slab in bytes.
const SLAB_BYTES_MAX: u64 = 64 << 10;
pub(super) const SLAB_BYTES_MIN: u64 = 2 << 10;
/// About how many slabs a region is cut into if they need not be longer.
const SLAB_COUNT: u64 = 256;
/// The end of a list of slabs.
const NONE: u32 = u32::MAX;

/// What a slab is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Empty,
    /// Pieces of a class.
    Pieces(u8),
    /// The first of so many slabs in a row.
    Row(u32),
    /// One of the others.
    RowRest,
}

#[derive(Clone, Copy, Debug)]
struct Slab {
    used: Use,
    /// How many pieces are taken.
    taken: u16,
    /// Neighbours in the list of slabs of the class that have a free piece.
    previous: u32,
    next: u32,
}

/// Hands out pieces of an entries region.
#[derive(Debug)]
pub(super) struct Slabs {
    slab_bytes: u64,
    slabs: Vec<Slab>,
    /// For every slab `words` words of bits: which pieces are free.
    free: Vec<u64>,
    words: usize,
    /// By class: the first slab with a free piece.
    partial: [u32; CLASS_COUNT_MAX],
    /// No slab below this one is empty.
    first_empty: usize,
}

/// How long the slabs of a region are.
fn slab_bytes(region_bytes: u64) -> u64 {
    (region_bytes / SLAB_COUNT).max(1).next_power_of_two().clamp(SLAB_BYTES_MIN, SLAB_BYTES_MAX)
}

/// How many slabs `count` entries of `bytes` take, where slabs are `slab` long.
fn slabs_for(count: u64, bytes: u64, slab: u64) -> u64 {
    match class_of(bytes, slab) {
        Some(class) => count.div_ceil(slab / class_bytes(class)),
        None => count.saturating_mul(bytes.div_ceil(slab)),
    }
}

/// Length of a region that surely holds `count` entries of `bytes`, and one more.
pub(super) fn bytes_for(count: u64, bytes: u64) -> u64 {
    let mut region = 0u64;
    // Longer regions have longer slabs, of which there are a few lengths: this settles soon.
    loop {
        let slab = slab_bytes(region);
        let needed = slabs_for(count.saturating_add(1), bytes, slab).saturating_mul(slab);
        if needed <= region {
            return region;
        }
        region = needed;
    }
}

impl Slabs {
    /// All of a region is free.
    pub(super) fn new(region_bytes: u64) -> Self {
        let slab_bytes = slab_bytes(region_bytes);
        let count = (region_bytes / slab_bytes) as usize;
        let words = (slab_bytes / class_bytes(0)).div_ceil(64) as usize;
        let empty = Slab { used: Use::Empty, taken: 0, previous: NONE, next: NONE };
        Slabs {
            slab_bytes,
            slabs: alloc::vec![empty; count],
            free: alloc::vec![0; count * words],
            words,
            partial: [NONE; CLASS_COUNT_MAX],
            first_empty: 0,
        }
    }

    /// The offset of a piece of at least `bytes`; `None` if there is none.
    pub(super) fn allocate(&mut self, bytes: u64) -> Option<u64> {
        let Some(class) = class_of(bytes, self.slab_bytes) else {
            return self.take_row(bytes.div_ceil(self.slab_bytes) as usize);
        };
        if self.partial[usize::from(class)] == NONE {
            let slab = self.take_empty()?;
            self.cut(slab, class);
        }
        let slab = self.partial[usize::from(class)] as usize;
        let words = &mut self.free[slab * self.words..(slab + 1) * self.words];
        let (place, word) = words.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        self.slabs[slab].taken += 1;
        if words.iter().all(|word| *word == 0) {
            self.unlink(slab, class);
        }
        let piece = place as u64 * 64 + u64::from(bit);
        Some(slab as u64 * self.slab_bytes + piece * class_bytes(class))
    }

    /// Gives a piece back. An offset that was not handed out is ignored: it was read from memory
    /// that others might have been allowed to write.
    pub(super) fn free(&mut self, offset: u64) {
        let slab = (offset / self.slab_bytes) as usize;
        let within = offset % self.slab_bytes;
        match self.slabs.get(slab).map(|found| found.used) {
            Some(Use::Pieces(class)) if within.is_multiple_of(class_bytes(class)) => {
                self.free_piece(slab, class, within / class_bytes(class));
            }
            Some(Use::Row(count)) if within == 0 => {
                for slab in &mut self.slabs[slab..slab + count as usize] {
                    slab.used = Use::Empty;
                }
                self.first_empty = self.first_empty.min(slab);
            }
            _ => {}
        }
    }

    /// How many bytes are in slabs that nothing uses.
    pub(super) fn empty_bytes(&self) -> u64 {
        let empty = self.slabs.iter().filter(|slab| slab.used == Use::Empty).count();
        empty as u64 * self.slab_bytes
    }

    fn free_piece(&mut self, slab: usize, class: u8, piece: u64) {
        let word = &mut self.free[slab * self.words + (piece / 64) as usize];
        let bit = 1 << (piece % 64);
        let pieces = self.slab_bytes / class_bytes(class);
        if piece >= pieces || *word & bit != 0 {
            return;
        }
        *word |= bit;
        let was_full = u64::from(self.slabs[slab].taken) == pieces;
        self.slabs[slab].taken -= 1;
        // To the front, so that the piece is used again at once.
        if !was_full {
            self.unlink(slab, class);
        }
        if self.slabs[slab].taken == 0 {
            self.slabs[slab].used = Use::Empty;
            self.free[slab * self.words..(slab + 1) * self.words].fill(0);
            self.first_empty = self.first_empty.min(slab);
        } else {
            self.link(slab, class);
        }
    }

    fn take_empty(&mut self) -> Option<usize> {
        let rest = &self.slabs[self.first_empty..];
        let Some(found) = rest.iter().position(|slab| slab.used == Use::Empty) else {
            self.first_empty = self.slabs.len();
            return None;
        };
        let slab = self.first_empty + found;
        self.first_empty = slab + 1;
        Some(slab)
    }

    /// Finds `count` empty slabs in a row, from the high end.
    fn take_row(&mut self, count: usize) -> Option<u64> {
        let mut length = 0;
        for slab in (self.first_empty..self.slabs.len()).rev() {
            length = if self.slabs[slab].used == Use::Empty { length + 1 } else { 0 };
            if length == count {
                self.slabs[slab + 1..slab + count].iter_mut().for_each(|s| s.used = Use::RowRest);
                self.slabs[slab].used = Use::Row(count as u32);
                return Some(slab as u64 * self.slab_bytes);
            }
        }
        None
    }

    /// Cuts an empty slab into free pieces.
    fn cut(&mut self, slab: usize, class: u8) {
        let pieces = (self.slab_bytes / class_bytes(class)) as usize;
        let words = &mut self.free[slab * self.words..(slab + 1) * self.words];
        for (place, word) in words.iter_mut().enumerate() {
            let bits = pieces.saturating_sub(place * 64).min(64);
            *word = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        }
        self.slabs[slab].used = Use::Pieces(class);
        self.slabs[slab].taken = 0;
        self.link(slab, class);
    }

    fn link(&mut self, slab: usize, class: u8) {
        let first = core::mem::replace(&mut self.partial[usize::from(class)], slab as u32);
        self.slabs[slab].previous = NONE;
        self.slabs[slab].next = first;
        if let Some(first) = self.slabs.get_mut(first as usize) {
            first.previous = slab as u32;
        }
    }

    fn unlink(&mut self, slab: usize, class: u8) {
        let Slab { previous, next, .. } = self.slabs[slab];
        match self.slabs.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.partial[usize::from(class)] = next,
        }
        if let Some(next) = self.slabs.get_mut(next as usize) {
            next.previous = previous;
        }
    }
}

#[cfg(test)]
mod tests;
