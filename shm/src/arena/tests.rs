use super::*;
use crate::OutOfBounds;
use crate::seeded::Seeded;
use alloc::vec;
use alloc::vec::Vec;

const SIZES: BlockSizes = BlockSizes { least: 256, greatest: 1 << 16 };

fn arena(len: u64) -> Arena {
    Arena::new(RacyMem::allocate(len), SIZES).unwrap()
}

#[test]
fn live_blocks_never_overlap_and_all_memory_returns() {
    // The odd length leaves a remainder behind the last block.
    for (seed, len) in [(1, 1 << 18), (2, (1 << 18) + 3 * 256 + 100), (3, 5 * 256), (4, 256)] {
        let mut random = Seeded::new(seed);
        let mut arena = arena(len);
        let units = (len / 256) as usize;
        assert_eq!(arena.free_bytes(), units as u64 * 256);
        let mut used = vec![false; units];
        let mut blocks: Vec<Block> = Vec::new();
        let mut refusals = 0;
        for _ in 0..20_000 {
            if random.below(100) < 55 {
                let bound = 1 << random.below(17);
                let asked = 1 + random.below(bound) as u32;
                match arena.allocate(asked) {
                    Some(block) => {
                        assert!(block.len() >= asked && block.len().is_power_of_two());
                        assert!(block.len() == 256 || block.len() / 2 < asked);
                        assert_eq!(block.offset() % block.len(), 0);
                        mark(&mut used, &block, true);
                        blocks.push(block);
                    }
                    None => {
                        refusals += 1;
                        assert!(!has_room(&used, asked), "{asked} bytes were refused");
                    }
                }
            } else if !blocks.is_empty() {
                let block = blocks.swap_remove(random.below(blocks.len() as u64) as usize);
                mark(&mut used, &block, false);
                arena.free(block);
            }
            let free = used.iter().filter(|used| !**used).count();
            assert_eq!(arena.free_bytes(), free as u64 * 256);
        }
        assert!(refusals > 0, "the arena was never full");
        blocks.drain(..).for_each(|block| arena.free(block));
        assert_eq!(arena.free_bytes(), units as u64 * 256);
        // All has been joined again: the largest block that ever fitted fits.
        let largest = SIZES.greatest.min(1 << (units as u32 * 256).ilog2());
        assert!(arena.allocate(largest).is_some());
    }
}

fn mark(used: &mut [bool], block: &Block, value: bool) {
    for unit in &mut used[block.offset() as usize / 256..][..block.len() as usize / 256] {
        assert_ne!(*unit, value, "{block:?} overlaps another");
        *unit = value;
    }
}

/// Whether an aligned piece is free that holds `asked` bytes.
fn has_room(used: &[bool], asked: u32) -> bool {
    let units = asked.max(256).next_power_of_two() as usize / 256;
    used.chunks_exact(units).any(|piece| piece.iter().all(|used| !used))
}

#[test]
fn requests_are_rounded_up_to_a_class() {
    let mut arena = arena(1 << 18);
    for (asked, given) in [(0, 256), (1, 256), (256, 256), (257, 512), (1 << 16, 1 << 16)] {
        let block = arena.allocate(asked).unwrap();
        assert_eq!(block.len(), given);
        arena.free(block);
    }
    assert_eq!(arena.allocate((1 << 16) + 1), None);
    assert_eq!(arena.allocate(u32::MAX), None);
}

#[test]
fn the_largest_arena_and_block_fit() {
    let sizes = BlockSizes { least: 1 << 20, greatest: 1 << 31 };
    let memory = RacyMem::allocate(1 << 32);
    let mut arena = Arena::new(memory, sizes).unwrap();
    assert_eq!(arena.free_bytes(), 1 << 32);
    let blocks = [arena.allocate(1 << 31).unwrap(), arena.allocate(1 << 31).unwrap()];
    assert_eq!(blocks[0].offset() ^ blocks[1].offset(), 1 << 31);
    assert_eq!(arena.allocate(1), None);
    blocks.into_iter().for_each(|block| arena.free(block));
    assert_eq!(arena.free_bytes(), 1 << 32);
}

#[test]
fn impossible_arenas_are_refused() {
    let failed = |len, least, greatest| {
        let memory = RacyMem::allocate(len);
        Arena::new(memory, BlockSizes { least, greatest }).unwrap_err()
    };
    for (least, greatest) in [(0, 256), (300, 512), (256, 300), (512, 256)] {
        let sizes = BlockSizes { least, greatest };
        assert_eq!(failed(4096, least, greatest), ArenaError::Sizes(sizes));
    }
    assert_eq!(failed(255, 256, 256), ArenaError::TooSmall { found: 255, expected: 256 });
    let found = (1 << 32) + 1;
    assert_eq!(failed(found, 1 << 20, 1 << 20), ArenaError::TooLarge { found, expected: 1 << 32 });
    let reader = RacyMem::allocate(4096).to_read_only();
    assert_eq!(Arena::new(reader, SIZES).unwrap_err(), ArenaError::ReadOnly);
}

#[test]
#[should_panic(expected = "did not hand out")]
fn a_foreign_block_is_noticed() {
    let block = arena(4096).allocate(256).unwrap();
    arena(4096).free(block);
}

#[test]
fn leases_give_themselves_back() {
    let arena = LeaseArena::new(arena(4096));
    let first = arena.lease(1000).unwrap();
    let second = arena.lease(2048).unwrap();
    assert_eq!((first.capacity(), arena.free_bytes()), (1024, 1024));
    assert!(arena.lease(2048).is_none());
    drop(first);
    drop(second.completed(5).unwrap());
    assert_eq!(arena.free_bytes(), 4096);

    core::mem::forget(arena.lease(256));
    assert_eq!(arena.free_bytes(), 4096 - 256, "a forgotten lease is never given out again");
}

#[test]
fn a_lease_outlives_its_arena_handle() {
    let lease = LeaseArena::new(arena(4096)).lease(64).unwrap();
    let mut lease = lease;
    lease.write(0, b"still there").unwrap();
    assert_eq!(lease.completed(11).unwrap().bytes(), b"still there");
}

#[test]
fn a_lease_is_written_and_seen_within_its_bounds() {
    let arena = LeaseArena::new(arena(4096));
    let neighbour = arena.lease(256).unwrap();
    let mut lease = arena.lease(256).unwrap();
    lease.write(6, b"bytes").unwrap();
    let out = OutOfBounds { offset: 252, len: 5, memory_len: 256 };
    assert_eq!(lease.write(252, b"bytes"), Err(out.into()));
    assert!(lease.write(u32::MAX, b"bytes").is_err());
    assert!(lease.read(256, &mut [0]).is_err());

    // The engine knows the offset and places the reply.
    let engine = arena.memory().clone();
    engine.write(u64::from(lease.offset()), b"reply ").unwrap();
    let mut copy = [0; 11];
    lease.read(0, &mut copy).unwrap();
    assert_eq!(&copy, b"reply bytes");

    let completed = lease.completed(11).unwrap();
    assert_eq!(completed.bytes(), b"reply bytes");
    assert_eq!((completed.len(), completed.is_empty()), (11, false));
    assert_eq!(completed.get(6..11), Some(&b"bytes"[..]));
    assert_eq!(completed.get(6..12), None);
    let inverted = core::ops::Range { start: 7, end: 6 };
    assert_eq!(completed.get(inverted), None);

    let lease = completed.into_lease();
    assert_eq!(lease.capacity(), 256);
    assert!(lease.completed(257).is_err());
    assert_eq!(neighbour.completed(256).unwrap().bytes(), [0; 256]);
}
