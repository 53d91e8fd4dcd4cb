//! The ring between an application and its engine, beside the copies that it cannot do without.

#![allow(missing_docs)] // made by criterion's macros

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nic_shm::{Consumer, Producer, RacyMem, RingLayout};

const ENTRIES: u32 = 256;
const ENTRY_BYTES: usize = 64;
const BATCHES: [usize; 2] = [1, 32];

/// Entries of 64 B go in and come out, a batch at a time; then the same two copies by memcpy.
fn ring(criterion: &mut Criterion) {
    let layout = RingLayout::new(ENTRIES, ENTRY_BYTES as u32).expect("a power of two");
    let memory = RacyMem::allocate(layout.bytes());
    let words = || layout.words(&memory).expect("the memory has the layout's length");
    let entries = layout.entries(&memory).expect("the memory has the layout's length");
    let mut producer: Producer<ENTRY_BYTES> = Producer::new(words(), &entries).expect("new");
    let mut consumer: Consumer<ENTRY_BYTES> = Consumer::new(words(), &entries).expect("new");
    let entry = [7; ENTRY_BYTES];
    let mut taken = [0; ENTRY_BYTES];
    for batch in BATCHES {
        let mut group = criterion.benchmark_group(format!("ring_64B_batch_{batch}"));
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function("stage_and_take", |bencher| {
            bencher.iter(|| {
                for _ in 0..batch {
                    assert_eq!(producer.stage(black_box(&entry)), Ok(true));
                }
                // Nobody sleeps here.
                black_box(producer.publish());
                for _ in 0..batch {
                    assert_eq!(consumer.take(black_box(&mut taken)), Ok(true));
                }
                consumer.release();
            });
        });
        // As one piece: no copy of so many entries is cheaper.
        let entries = vec![entry; batch];
        let mut places = vec![[0; ENTRY_BYTES]; ENTRIES as usize];
        let mut results = entries.clone();
        let mut next = 0;
        group.bench_function("limit_memcpy_in_and_out", |bencher| {
            bencher.iter(|| {
                let part = &mut places[next..next + batch];
                part.copy_from_slice(black_box(&entries));
                black_box(&mut results).copy_from_slice(black_box(part));
                next = (next + batch) % ENTRIES as usize;
            });
        });
        group.finish();
    }
}

criterion_group!(benches, ring);
criterion_main!(benches);
