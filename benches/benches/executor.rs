//! Scan-and-Reads by kernels and executor on a table larger than a core's own caches, beside raw
//! loads from memory of the same size and page kind. A lookup is at least two loads, the second of
//! which waits for the first.

#![allow(missing_docs)] // made by criterion's macros

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nic_benches::{LookupTarget, RegionWords, is_trial, memory};
use nic_figures::Chase;

const KEYS: u64 = 2_000_000;
const TRIAL_KEYS: u64 = 10_000;
const WINDOWS: [usize; 4] = [1, 8, 32, 128];
/// As many chains as a core can make use of, and some.
const CHAINS: [usize; 4] = [1, 8, 32, 64];

fn executor(criterion: &mut Criterion) {
    let keys = if is_trial() { TRIAL_KEYS } else { KEYS };
    let mut target = LookupTarget::new(keys).expect("the machine has memory for the table");
    let (words, _) = memory(target.bytes()).expect("the machine has as much again");
    let mut chase = Chase::prepare(RegionWords(words), 1).expect("it is larger than two lines");
    let mut group = criterion.benchmark_group("executor");
    for window in WINDOWS {
        group.throughput(Throughput::Elements(window as u64));
        group.bench_function(BenchmarkId::new("scan_and_read", window), |bencher| {
            bencher.iter(|| target.batch(window).expect("every key is there"));
        });
    }
    for chains in CHAINS {
        group.throughput(Throughput::Elements(chains as u64));
        group.bench_function(BenchmarkId::new("limit_loads", chains), |bencher| {
            bencher.iter_custom(|steps| {
                let begun = Instant::now();
                chase.run_interleaved(chains, steps as usize);
                begun.elapsed().max(Duration::from_nanos(1))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, executor);
criterion_main!(benches);
