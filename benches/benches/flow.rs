//! What a flow costs per packet at both ends together, beside the copy and the checksum of such a
//! packet.

#![allow(missing_docs)] // made by criterion's macros

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nic_benches::FlowPair;
use nic_engine::Crc32;
use nic_transport::{NotAuthentic, Protection};
use nic_wire::packet::HEADER_BYTES;

/// Packets that one ack answers.
const BURST: usize = 32;
const LENGTHS: [usize; 2] = [128, 1400];

/// No checksum at all: what remains is the flow itself.
struct Unprotected;

impl Protection for Unprotected {
    fn seal(&mut self, _: &mut [u8]) {}

    fn open(&mut self, packet: &[u8]) -> Result<std::ops::Range<usize>, NotAuthentic> {
        Ok(HEADER_BYTES..packet.len())
    }
}

/// Send, handle, accept; an ack for each burst.
fn flow(criterion: &mut Criterion) {
    let mut plain = FlowPair::open(Unprotected).expect("a flow between two endpoints opens");
    let mut checked = FlowPair::open(Crc32).expect("a flow between two endpoints opens");
    for length in LENGTHS {
        let mut group = criterion.benchmark_group(format!("flow_{length}B"));
        group.throughput(Throughput::Elements(BURST as u64));
        group.bench_function("send_handle_accept", |bencher| {
            bencher.iter(|| plain.burst(BURST, length).expect("the window takes a burst"));
        });
        group.bench_function("send_handle_accept_with_crc", |bencher| {
            bencher.iter(|| checked.burst(BURST, length).expect("the window takes a burst"));
        });
        let packet = vec![7; length];
        let mut copy = vec![0; length];
        group.bench_function("limit_memcpy", |bencher| {
            bencher.iter(|| {
                for _ in 0..BURST {
                    black_box(&mut copy).copy_from_slice(black_box(&packet));
                }
            });
        });
        group.bench_function("limit_two_crc32", |bencher| {
            bencher.iter(|| {
                for _ in 0..2 * BURST {
                    black_box(crc32fast::hash(black_box(&packet)));
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, flow);
criterion_main!(benches);
