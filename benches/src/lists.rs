//! Linked lists that no cache holds and no prefetcher guesses.

use anyhow::Result;
use nic_figures::Words;
use nic_shm::RacyMem;

use crate::random::shuffled;

/// Length of what each element has to itself, in bytes: a cache line.
const LINE_BYTES: u64 = 64;
/// Where in an element (StRoM's {key, next, value}) the pointer to the next one stands.
const NEXT_BYTE: u64 = 8;

/// One ring of elements, each in a cache line of its own, in random order. Whoever begins at some
/// position and looks for a key `n - 1` positions on walks a list of `n` elements.
#[derive(Clone, Copy, Debug)]
pub struct Lists {
    /// Address of the first line.
    pub start: u64,
    log2: u32,
}

impl Lists {
    /// `1 << log2` elements from an address on, a multiple of 64 above zero.
    pub fn new(start: u64, log2: u32) -> Self {
        Lists { start, log2 }
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> u64 {
        LINE_BYTES << self.log2
    }

    /// The position that a number stands for.
    #[inline]
    pub fn position(&self, number: u64) -> u64 {
        number & ((1 << self.log2) - 1)
    }

    /// Address of the element at a position.
    #[inline]
    pub fn address(&self, position: u64) -> u64 {
        self.start + LINE_BYTES * shuffled(self.position(position), self.log2)
    }

    /// The key of the element at a position; no other element has it.
    #[inline]
    pub fn key(&self, position: u64) -> u64 {
        self.position(position) + 1
    }

    /// Writes them; `value` tells the address of the value at a position.
    ///
    /// # Errors
    /// The memory ends before they do.
    pub fn write(&self, memory: &RacyMem, value: impl Fn(u64) -> u64) -> Result<()> {
        let mut at = self.address(0);
        for position in 0..1 << self.log2 {
            let next = self.address(position + 1);
            let mut element = [0; 24];
            element[..8].copy_from_slice(&self.key(position).to_le_bytes());
            element[8..16].copy_from_slice(&next.to_le_bytes());
            element[16..].copy_from_slice(&value(position).to_le_bytes());
            memory.write(at, &element)?;
            at = next;
        }
        Ok(())
    }

    /// Their pointers, to be chased by plain loads.
    ///
    /// # Errors
    /// The memory ends before they do.
    pub fn words(&self, memory: &RacyMem) -> Result<ListWords> {
        Ok(ListWords { memory: memory.slice(self.start, self.bytes())?, start: self.start })
    }
}

/// A list's pointers as words to chase through, with the prefetch that the executor uses too.
#[derive(Clone, Debug)]
pub struct ListWords {
    memory: RacyMem,
    start: u64,
}

impl Words for ListWords {
    #[inline]
    fn load(&self, index: usize) -> u64 {
        let next = self.memory.load64(index as u64 * 8 + NEXT_BYTE).unwrap_or(0);
        next.wrapping_sub(self.start) / 8
    }

    fn store(&self, _: usize, _: u64) {
        unreachable!("lists are walked as they are");
    }

    #[inline]
    fn prefetch(&self, index: usize) {
        self.memory.prefetch(index as u64 * 8 + NEXT_BYTE, 8);
    }

    fn len(&self) -> usize {
        (self.memory.len() / 8) as usize
    }
}
