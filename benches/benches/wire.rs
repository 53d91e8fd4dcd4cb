//! Writing and reading a packet full of small requests, beside copying as many bytes.

#![allow(missing_docs)] // made by criterion's macros

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nic_benches::{emit_requests, parse_requests, request_count};

const PACKET_BYTES: usize = 1400;

fn wire(criterion: &mut Criterion) {
    let mut packet = [0; PACKET_BYTES];
    let mut copy = [0; PACKET_BYTES];
    emit_requests(&mut packet, 0);
    let requests = request_count(PACKET_BYTES);
    let mut group = criterion.benchmark_group(format!("packet_of_{requests}_requests"));
    group.throughput(Throughput::Elements(1));
    group.bench_function("emit", |bencher| {
        bencher.iter(|| emit_requests(black_box(&mut packet), black_box(0)));
    });
    group.bench_function("parse", |bencher| {
        bencher.iter(|| assert_eq!(parse_requests(black_box(&packet)).0, requests));
    });
    group.bench_function("limit_memcpy", |bencher| {
        bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&packet)));
    });
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
