use alloc::collections::BTreeMap;

use super::*;
use crate::random::Random;

#[test]
fn pieces_never_overlap_and_all_comes_back() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let region = 16 << 10 << random.below(8);
        let mut slabs = Slabs::new(region);
        let whole = slabs.empty_bytes();
        let mut live = BTreeMap::new();
        for _ in 0..2000 {
            if random.below(5) < 3 {
                let limit = [100, 600, 5000, 40_000][random.below(4) as usize];
                let bytes = 1 + random.below(limit);
                let Some(offset) = slabs.allocate(bytes) else { continue };
                assert!(offset % 16 == 0 && offset + bytes <= region, "seed {seed}");
                let before = live.range(..offset + bytes).next_back();
                let clear = before.is_none_or(|(start, length)| start + length <= offset);
                assert!(clear, "seed {seed}: {offset} + {bytes} overlaps {before:?}");
                live.insert(offset, bytes);
            } else if let Some(offset) = live.keys().nth(random.below(20) as usize).copied() {
                live.remove(&offset);
                slabs.free(offset);
            }
        }
        live.keys().for_each(|offset| slabs.free(*offset));
        assert_eq!(slabs.empty_bytes(), whole, "seed {seed}");
    }
}

#[test]
fn a_freed_piece_is_used_again_at_once() {
    let mut slabs = Slabs::new(1 << 20);
    let pieces: Vec<u64> = (0..500).map(|_| slabs.allocate(600).unwrap()).collect();
    for piece in [pieces[400], pieces[3], pieces[250]] {
        slabs.free(piece);
        assert_eq!(slabs.allocate(600), Some(piece));
    }
}

#[test]
fn what_was_not_handed_out_is_not_taken_back() {
    let mut slabs = Slabs::new(64 << 10);
    let piece = slabs.allocate(100).unwrap();
    let row = slabs.allocate(5000).unwrap();
    let empty = slabs.empty_bytes();
    for wrong in [piece + 16, row + 16, row + 2048, 1 << 30, !15, 8192] {
        slabs.free(wrong);
    }
    assert_eq!(slabs.empty_bytes(), empty);
    slabs.free(piece);
    slabs.free(piece);
    slabs.free(row);
    slabs.free(row);
    assert_eq!(slabs.empty_bytes(), 64 << 10);
}

#[test]
fn the_computed_region_holds_what_it_is_for() {
    for (count, bytes) in
        [(1, 41), (10, 600), (1000, 104), (100_000, 48), (30, 70_000), (3, 1 << 20)]
    {
        let region = bytes_for(count, bytes);
        let mut slabs = Slabs::new(region);
        for place in 0..=count {
            assert!(slabs.allocate(bytes).is_some(), "{place} of {count} x {bytes} in {region}");
        }
        assert!(region <= (count + 2) * bytes * 3 / 2 + (130 << 10), "{count} x {bytes}: {region}");
    }
}
