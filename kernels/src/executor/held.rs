//! Payload that the executor holds until it is whole, in blocks of one pool.
//!
//! An op takes all blocks that its payload will need before the first part comes, or none: what is
//! begun can be brought to its end. Ops under one export have a quarter of the pool at the most, so
//! that payload which never comes holds up nobody else.

use alloc::vec::Vec;
use core::array;
use core::ops::Range;

use crate::{ARRANGED_BLOCKS, PRIVATE_BYTES};

/// Bytes of a block: what one step moves at the most.
pub(super) const BLOCK: usize = crate::FETCH_BYTES_MAX;
/// What an export's ops may have at the most is the pool divided by this.
const SHARES: u32 = 4;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// The blocks of one op: those of its payload and the one that was last looked for, and one that it
/// has for itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    first: u32,
    private: u32,
    /// Which of the chain's blocks `at` is.
    ordinal: u32,
    at: u32,
}

impl Chain {
    /// No block.
    pub(super) const NONE: Chain = Chain { first: NONE, private: NONE, ordinal: 0, at: NONE };
}

/// A pool of blocks.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// What follows each block, in its payload or in the list of free blocks.
    next: Vec<u32>,
    free: u32,
    free_count: u32,
    /// How many blocks the ops under each export have.
    taken: Vec<u32>,
}

impl Held {
    pub(super) fn new(bytes: u32) -> Self {
        let count = bytes.div_ceil(BLOCK as u32);
        let next = (1..count).chain([NONE]).take(count as usize).collect();
        let free = if count == 0 { NONE } else { 0 };
        let bytes = alloc::vec![0; count as usize * BLOCK];
        // What is zero takes no memory before it is used.
        let taken = alloc::vec![0; usize::from(u16::MAX) + 1];
        Held { bytes, next, free, free_count: count, taken }
    }

    /// Blocks for so many bytes, all zero, for an op under an export, if there are enough.
    pub(super) fn take(&mut self, length: u32, export: u16) -> Option<Chain> {
        let count = length.div_ceil(BLOCK as u32);
        let taken = &mut self.taken[usize::from(export)];
        let share = self.next.len() as u32 / SHARES;
        if count > self.free_count || *taken + count > share {
            return None;
        }
        *taken += count;
        let (first, mut last) = (self.free, NONE);
        for _ in 0..count {
            last = self.free;
            self.free = self.next[last as usize];
        }
        if last == NONE {
            return Some(Chain::NONE);
        }
        self.next[last as usize] = NONE;
        self.free_count -= count;
        Some(Chain { first, at: first, ..Chain::NONE })
    }

    /// One more block, all zero, that the op has for itself, if there is one.
    pub(super) fn take_private(&mut self, chain: &mut Chain, export: u16) -> bool {
        let Some(taken) = self.take(BLOCK as u32, export) else { return false };
        chain.private = taken.first;
        true
    }

    /// The blocks of a payload are free again, and nobody sees what was there.
    pub(super) fn give_back(&mut self, chain: Chain, export: u16) {
        for mut block in [chain.private, chain.first] {
            while block != NONE {
                let next = self.next[block as usize];
                self.taken[usize::from(export)] -= 1;
                self.bytes[block as usize * BLOCK..][..BLOCK].fill(0);
                self.next[block as usize] = self.free;
                self.free = block;
                self.free_count += 1;
                block = next;
            }
        }
    }

    /// The part of the block at `offset` of a payload that begins there. Offsets that ascend are
    /// found at once.
    pub(super) fn at(&mut self, chain: &mut Chain, offset: u32) -> &mut [u8] {
        let start = self.find(chain, offset);
        &mut self.bytes[start + offset as usize % BLOCK..start + BLOCK]
    }

    /// The memory that an op has for itself; none if it has not taken any.
    pub(super) fn private(&mut self, chain: &Chain) -> &mut [u8] {
        if chain.private == NONE {
            return &mut [];
        }
        &mut self.bytes[private_of(chain)]
    }

    /// The block at `offset` of a payload of some length, and the memory that the op has for itself.
    /// Both must be there.
    pub(super) fn block_and_private(
        &mut self,
        chain: &mut Chain,
        offset: u32,
        length: u32,
    ) -> Option<[&mut [u8]; 2]> {
        let is_begun = offset < length && offset.is_multiple_of(BLOCK as u32);
        let is_there = chain.private != NONE && is_begun;
        let places = is_there.then(|| [self.block(chain, offset, length), private_of(chain)]);
        self.bytes.get_disjoint_mut(places?).ok()
    }

    /// The same with the blocks behind it, as far as the payload has any.
    pub(super) fn blocks_and_private(
        &mut self,
        chain: &mut Chain,
        offset: u32,
        length: u32,
    ) -> Option<([&mut [u8]; ARRANGED_BLOCKS], &mut [u8])> {
        let is_begun = offset < length && offset.is_multiple_of(BLOCK as u32);
        let is_there = chain.private != NONE && is_begun;
        let places: [_; ARRANGED_BLOCKS + 1] = array::from_fn(|place| match place {
            _ if !is_there => 0..0,
            ARRANGED_BLOCKS => private_of(chain),
            // Payloads are far shorter than what 32 bits count.
            place => self.block(chain, offset + (place * BLOCK) as u32, length),
        });
        let [blocks @ .., private] = self.bytes.get_disjoint_mut(places).ok()?;
        is_there.then_some((blocks, private))
    }

    /// Where in the pool the block at `offset` of a payload of some length is; nothing behind its
    /// end.
    fn block(&self, chain: &mut Chain, offset: u32, length: u32) -> Range<usize> {
        let count = BLOCK.min(length.saturating_sub(offset) as usize);
        let start = if count > 0 { self.find(chain, offset) } else { 0 };
        start..start + count
    }

    /// Where in the pool the block begins that has `offset` of a payload.
    fn find(&self, chain: &mut Chain, offset: u32) -> usize {
        let ordinal = offset / BLOCK as u32;
        if ordinal < chain.ordinal {
            (chain.ordinal, chain.at) = (0, chain.first);
        }
        while chain.ordinal < ordinal {
            chain.at = self.next[chain.at as usize];
            chain.ordinal += 1;
        }
        chain.at as usize * BLOCK
    }

    /// Keeps a part of a payload.
    pub(super) fn keep(&mut self, chain: &mut Chain, offset: u32, part: &[u8]) {
        let (mut offset, mut rest) = (offset, part);
        while !rest.is_empty() {
            let place = self.at(chain, offset);
            let (now, later) = rest.split_at(rest.len().min(place.len()));
            place[..now.len()].copy_from_slice(now);
            // Within the payload, whose length is 32 bits wide.
            offset += now.len() as u32;
            rest = later;
        }
    }
}

/// Where in the pool the memory is that an op has for itself, and which there must be.
fn private_of(chain: &Chain) -> Range<usize> {
    let start = chain.private as usize * BLOCK;
    start..start + PRIVATE_BYTES
}

const _: () = assert!(PRIVATE_BYTES <= BLOCK);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn what_is_kept_comes_back_whatever_the_order() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut pool = Held::new(64 * BLOCK as u32);
            let lengths = [0, 1, 4096, 4097, 20_000].map(|most| random.below(most + 1) as u32);
            let mut chains = lengths.map(|length| pool.take(length, 3).unwrap());
            for chain in &mut chains {
                assert!(pool.private(chain).is_empty() && pool.take_private(chain, 3));
                assert_eq!(pool.private(chain), [0; PRIVATE_BYTES]);
                pool.private(chain).fill(1);
            }
            for (number, length) in lengths.iter().enumerate() {
                let mut parts: Vec<u32> = (0..*length).step_by(700).collect();
                for place in 0..parts.len() {
                    let other = random.below(parts.len() as u64) as usize;
                    parts.swap(place, other);
                }
                for offset in parts {
                    let end = (offset + 700).min(*length);
                    let part: Vec<u8> = (offset..end).map(|at| at as u8 ^ number as u8).collect();
                    pool.keep(&mut chains[number], offset, &part);
                }
            }
            for (number, length) in lengths.iter().enumerate() {
                let chain = &mut chains[number];
                for offset in (0..*length).step_by(BLOCK) {
                    let block = pool.at(chain, offset);
                    let count = block.len().min((*length - offset) as usize);
                    let expected: Vec<u8> =
                        (offset..*length).map(|at| at as u8 ^ number as u8).collect();
                    assert!(block[..count] == expected[..count], "seed {seed}");
                    let [block, private] = pool.block_and_private(chain, offset, *length).unwrap();
                    assert!(*block == expected[..count] && *private == [1; PRIVATE_BYTES]);
                    let (blocks, _) = pool.blocks_and_private(chain, offset, *length).unwrap();
                    let together = expected.len().min(ARRANGED_BLOCKS * BLOCK);
                    assert!(blocks.concat() == expected[..together], "seed {seed}");
                }
                assert!(pool.block_and_private(chain, *length, *length).is_none());
            }
            chains.into_iter().for_each(|chain| pool.give_back(chain, 3));
            assert_eq!(pool.free_count, 64, "seed {seed}");
            assert!(pool.take(16 * BLOCK as u32 + 1, 3).is_none());
            let all = pool.take(16 * BLOCK as u32, 3).unwrap();
            assert!(pool.take(1, 3).is_none() && pool.take(0, 3).is_some());
            assert!(pool.take(1, 4).is_some_and(|chain| chain.first != NONE), "others have theirs");
            pool.give_back(all, 3);
            assert!(pool.bytes.iter().all(|byte| *byte == 0), "nobody sees what was there");
        }
    }
}
