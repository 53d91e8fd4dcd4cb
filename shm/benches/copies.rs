//! Copies out of and into racy memory against `memcpy`, interleaved in one run, with racy and
//! private memory so many bytes past a multiple of 64: medians of many short slices, and their
//! ratio. `cargo bench -p nic-shm --bench copies`

use nic_shm::{Consumer, Producer, RacyMem, RingLayout};
use std::hint::black_box;
use std::time::Instant;

const SIZES: [usize; 10] = [8, 24, 50, 64, 128, 256, 512, 1400, 4096, 65536];
const SLICES: usize = 200;

fn main() {
    let memory = RacyMem::allocate(1 << 17);
    // Aligned like racy memory, so that an offset says how the private side lies.
    let mut private = vec![1_u8; (1 << 17) + 64];
    let aligned = private.as_ptr().align_offset(64);
    let private = &mut private[aligned..];
    let other = vec![2_u8; 1 << 17];
    println!(
        "{:>6} {:>6} {:>7} {:>9} {:>9} {:>9} {:>6} {:>6}",
        "bytes", "racy", "private", "memcpy ns", "read ns", "write ns", "read", "write"
    );
    for size in SIZES {
        for (offset, ahead) in [(0_usize, 0_usize), (5, 0), (0, 5)] {
            let rounds = (200_000 / (size + 40)).max(2);
            let [memcpy, read, write] = interleaved(
                rounds,
                [
                    &mut |private: &mut [u8]| {
                        let (from, to) = (black_box(&other[offset..][..black_box(size)]), private);
                        to[ahead..][..size].copy_from_slice(from);
                    },
                    &mut |private: &mut [u8]| {
                        let into = &mut private[ahead..][..black_box(size)];
                        memory.read(black_box(offset as u64), into).expect("in bounds");
                    },
                    &mut |private: &mut [u8]| {
                        let from = &private[ahead..][..black_box(size)];
                        memory.write(black_box(offset as u64), from).expect("in bounds");
                    },
                ],
                private,
            );
            print!("{size:>6} {offset:>6} {ahead:>7} {memcpy:>9.1} {read:>9.1} {write:>9.1}");
            println!(" {:>6.2} {:>6.2}", read / memcpy, write / memcpy);
        }
    }
    ring();
}

/// What is measured: something with the private buffer.
type Call<'a> = &'a mut dyn FnMut(&mut [u8]);

/// Median nanoseconds of one call of each, measured in turns.
fn interleaved<const K: usize>(
    rounds: usize,
    mut calls: [Call<'_>; K],
    private: &mut [u8],
) -> [f64; K] {
    let mut samples: [Vec<f64>; K] = std::array::from_fn(|_| Vec::new());
    for _ in 0..SLICES {
        for (call, samples) in calls.iter_mut().zip(&mut samples) {
            let start = Instant::now();
            for _ in 0..rounds {
                call(black_box(&mut *private));
            }
            samples.push(start.elapsed().as_nanos() as f64 / rounds as f64);
        }
    }
    samples.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    })
}

/// Both ends of a ring on one thread: the instructions, without the cache misses between cores.
fn ring() {
    let layout = RingLayout::new(256, 64).expect("a valid layout");
    let memory = RacyMem::allocate(layout.bytes());
    let words = || layout.words(&memory).expect("long enough");
    let entries = layout.entries(&memory).expect("long enough");
    let mut producer = Producer::<64>::new(words(), &entries).expect("a valid ring");
    let mut consumer = Consumer::<64>::new(words(), &entries).expect("a valid ring");
    let mut entry = [3_u8; 64];
    let mut samples = Vec::new();
    for _ in 0..SLICES {
        let start = Instant::now();
        for _ in 0..100 {
            for _ in 0..32 {
                producer.stage(black_box(&entry)).expect("an honest peer");
            }
            let _ = producer.publish();
            while consumer.take(&mut entry).expect("an honest peer") {
                black_box(&mut entry);
            }
            consumer.release();
        }
        samples.push(start.elapsed().as_nanos() as f64 / 3200.0);
    }
    samples.sort_by(f64::total_cmp);
    println!("ring, 64 B, batches of 32, one thread: {:.2} ns per entry", samples[SLICES / 2]);
}
