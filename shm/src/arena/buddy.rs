//! A binary buddy allocator over offsets; it never touches the memory that it hands out.
//!
//! The space is cut into units of the smallest class. All bookkeeping lies in vectors sized at the
//! start: for each unit the class and state of the block that begins there, and the links of the
//! free lists. Allocating and freeing take at most as many steps as there are classes.

use alloc::vec;
use alloc::vec::Vec;

/// No unit: the end of a free list.
const NONE: u32 = u32::MAX;

/// What begins at a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Nothing: the unit is the inside of a block, or beyond the end.
    Inside,
    /// A free block of that class.
    Free(u8),
    /// A block of that class that somebody holds.
    Held(u8),
}

/// Blocks of 2^class units, aligned to their own size.
#[derive(Debug)]
pub(super) struct Buddy {
    units: Vec<Unit>,
    /// The next block of the same free list, for units at which a free block begins.
    next: Vec<u32>,
    /// The block before in the same free list.
    previous: Vec<u32>,
    /// The first free block of each class.
    heads: Vec<u32>,
    /// Bit `class` is set while that class has a free block.
    nonempty: u32,
    free_units: u32,
}

impl Buddy {
    /// An allocator over `units` units with `classes` classes (1 to 32), all free.
    pub(super) fn new(units: u32, classes: u8) -> Self {
        assert!((1..=32).contains(&classes), "between 1 and 32 classes");
        let count = units as usize;
        let mut buddy = Self {
            units: vec![Unit::Inside; count],
            next: vec![NONE; count],
            previous: vec![NONE; count],
            heads: vec![NONE; usize::from(classes)],
            nonempty: 0,
            free_units: units,
        };
        buddy.cover(units, classes);
        buddy
    }

    /// Takes a block of `class`; gives its first unit.
    pub(super) fn allocate(&mut self, class: u8) -> Option<u32> {
        let large_enough = self.nonempty.checked_shr(u32::from(class))? << class;
        if large_enough == 0 {
            return None;
        }
        // The smallest class that has a block: larger ones stay whole.
        let mut found = large_enough.trailing_zeros() as u8;
        let first = self.heads[usize::from(found)];
        self.unlink(first, found);
        while found > class {
            found -= 1;
            self.link(first + (1 << found), found);
        }
        self.units[first as usize] = Unit::Held(class);
        self.free_units -= 1 << class;
        Some(first)
    }

    /// Whether a block of `class` at `first` is handed out.
    #[inline]
    pub(super) fn is_held(&self, first: u32, class: u8) -> bool {
        self.units.get(first as usize) == Some(&Unit::Held(class))
    }

    /// Gives back the block of `class` at `first`, and joins it with its free neighbours.
    pub(super) fn free(&mut self, first: u32, class: u8) {
        assert!(self.is_held(first, class), "only a block that is handed out is given back");
        self.units[first as usize] = Unit::Inside;
        self.free_units += 1 << class;
        let (mut first, mut class) = (first, class);
        while usize::from(class) + 1 < self.heads.len() {
            let buddy = first ^ (1 << class);
            if self.units.get(buddy as usize) != Some(&Unit::Free(class)) {
                break;
            }
            self.unlink(buddy, class);
            first = first.min(buddy);
            class += 1;
        }
        self.link(first, class);
    }

    /// Units that nobody holds.
    pub(super) fn free_units(&self) -> u32 {
        self.free_units
    }

    /// Puts the largest aligned blocks that fit over all units.
    fn cover(&mut self, units: u32, classes: u8) {
        let mut first = 0;
        while first < units {
            let fits = (units - first).ilog2();
            let aligned = if first == 0 { 31 } else { first.trailing_zeros() };
            let class = fits.min(aligned).min(u32::from(classes) - 1);
            self.link(first, class as u8);
            first += 1 << class;
        }
    }

    fn link(&mut self, first: u32, class: u8) {
        let head = self.heads[usize::from(class)];
        if head != NONE {
            self.previous[head as usize] = first;
        }
        self.next[first as usize] = head;
        self.previous[first as usize] = NONE;
        self.heads[usize::from(class)] = first;
        self.units[first as usize] = Unit::Free(class);
        self.nonempty |= 1 << class;
    }

    fn unlink(&mut self, first: u32, class: u8) {
        let (next, previous) = (self.next[first as usize], self.previous[first as usize]);
        if next != NONE {
            self.previous[next as usize] = previous;
        }
        if previous == NONE {
            self.heads[usize::from(class)] = next;
            if next == NONE {
                self.nonempty &= !(1 << class);
            }
        } else {
            self.next[previous as usize] = next;
        }
        self.units[first as usize] = Unit::Inside;
    }
}
