//! Streams into a sketch, against one that is kept beside.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use super::layout::place;
use super::*;
use crate::bench::{Bench, op};
use crate::random::Random;
use crate::{Access, Builtin, Invocation, PayloadError};

const DATA: u64 = 8192;

/// A region with a sketch at 0 and place for values behind it.
struct Sketched {
    bench: Bench,
    region: RacyMem,
    sketch: Sketch,
    rkey: Rkey,
    precision: u8,
}

impl Sketched {
    fn new(precision: u8) -> Self {
        let mut bench = Bench::<Builtin>::new(8);
        let (region, rkey) = bench.region(DATA + (1 << 20));
        let sketch = Sketch::format(region.clone(), 0, precision).unwrap();
        Sketched { bench, region, sketch, rkey, precision }
    }

    fn start(&mut self, payload_length: u32) -> nic_wire::Status {
        let arguments = Arguments::home(DATA, 0, self.precision).encode();
        let base = op(KernelId::SKETCH_WRITE, &arguments);
        match self.bench.start(&self.rkey, &Invocation { payload_length, ..base }) {
            Ok(slot) => {
                let bench = &mut self.bench;
                bench.executor.cancel(slot, &mut bench.memory);
                bench.run(Time::ZERO);
                Status::Ok
            }
            Err(status) => status,
        }
    }

    /// Writes values, their parts in any order; says how many registers were raised.
    fn write(&mut self, values: &[u64], random: &mut Random) -> u32 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let arguments = Arguments::home(DATA, 0, self.precision).encode();
        let payload_length = bytes.len() as u32;
        let base = op(KernelId::SKETCH_WRITE, &arguments);
        let invocation = Invocation { payload_length, ..base };
        let slot = self.bench.start(&self.rkey, &invocation).unwrap();
        let size = 8 * (1 + random.below(200)) as usize;
        let mut parts: Vec<(usize, &[u8])> =
            bytes.chunks(size).enumerate().map(|(at, part)| (at * size, part)).collect();
        for place in 0..parts.len() {
            let other = place + random.below((parts.len() - place) as u64) as usize;
            parts.swap(place, other);
        }
        for (at, part) in parts {
            let bench = &mut self.bench;
            bench.executor.payload(slot, at as u32, part, &mut bench.memory).unwrap();
        }
        let over = self.bench.run(Time::ZERO);
        assert_eq!((over.len(), over[0].2.status), (1, Status::Ok));
        let raised = decode_reply(&self.bench.reply(slot)).unwrap();
        self.bench.executor.free(slot, &mut self.bench.memory);
        let mut stored = alloc::vec![0; bytes.len()];
        self.region.read(DATA, &mut stored).unwrap();
        assert!(stored == bytes, "the values are stored as they came");
        raised
    }

    fn registers(&self) -> Vec<u8> {
        let mut registers = alloc::vec![0; 1 << self.precision];
        self.region.read(HEADER_BYTES, &mut registers).unwrap();
        registers
    }
}

#[test]
fn the_sketch_is_that_of_all_values_in_whatever_order() {
    for precision in PRECISION_MIN..=PRECISION_MAX {
        let mut random = Random::new(precision.into());
        let mut sketched = Sketched::new(precision);
        let mut oracle = alloc::vec![0; 1 << precision];
        for _ in 0..6 {
            let values: Vec<u64> =
                (0..random.below(1200)).map(|_| random.below(1500) << 20).collect();
            let mut expected = BTreeSet::new();
            for value in &values {
                let (register, rank) = place(&value.to_le_bytes(), precision);
                if rank > oracle[register] {
                    oracle[register] = rank;
                    expected.insert(register);
                }
            }
            assert_eq!(sketched.write(&values, &mut random), expected.len() as u32);
            assert_eq!(sketched.registers(), oracle, "precision {precision}");
        }
        assert!(sketched.bench.executor.is_idle());
    }
}

#[test]
fn estimates_keep_within_three_standard_errors() {
    for precision in [8, 10, 12] {
        let bound = 3.0 * 1.04 / f64::from(1u32 << precision).sqrt();
        let mut sketched = Sketched::new(precision);
        let mut random = Random::new(u64::from(precision) << 8);
        assert!(sketched.sketch.estimate().unwrap() < 0.5);
        let mut count = 0u64;
        for goal in [10, 100, 1000, 5000, 10_000, 20_000, 100_000, 300_000] {
            while count < goal {
                let fresh = (goal - count).min(20_000);
                let mut values: Vec<u64> = (count..count + fresh).collect();
                // Some come again.
                values.extend((0..fresh / 4).map(|_| random.below(count + fresh)));
                sketched.write(&values, &mut random);
                count += fresh;
            }
            let estimate = sketched.sketch.estimate().unwrap();
            let error = (estimate - goal as f64).abs() / goal as f64;
            // A count this small has no fractions of a percent.
            let bound = bound.max(1.5 / goal as f64);
            assert!(error <= bound, "{estimate} for {goal} at precision {precision}");
        }
    }
}

#[test]
fn every_bad_argument_has_its_status() {
    let mut sketched = Sketched::new(12);
    assert_eq!(sketched.start(12), Status::BadArguments);
    assert_eq!(sketched.start(u32::MAX - 7), Status::BadArguments);
    for precision in [0, 3, 13, 255] {
        sketched.precision = precision;
        assert_eq!(sketched.start(8), Status::BadArguments);
        assert!(Sketch::format(sketched.region.clone(), 0, precision).is_err());
    }
    sketched.precision = 12;
    assert!(Sketch::format(sketched.region.clone(), 8, 12).is_err());
    assert!(Sketch::format(sketched.region.clone(), DATA + (1 << 20), 12).is_err());
    assert!(estimate(&[0; 4160]).is_err() && estimate(&[]).is_err());
    // Another precision than the sketch's is noticed when the values are stored already.
    let arguments = Arguments::home(DATA, 0, 11).encode();
    let (finish, _) =
        sketched.bench.call(&sketched.rkey, KernelId::SKETCH_WRITE, &arguments, &[1; 8]);
    assert_eq!((finish.status, finish.fate), (Status::BadArguments, Fate::Unknown));
    assert_eq!(sketched.registers()[..2048], [0; 2048]);
    // A part that is cut within a value.
    let arguments = Arguments::home(DATA, 0, 12).encode();
    let base = op(KernelId::SKETCH_WRITE, &arguments);
    for (offset, length) in [(0, 12), (4, 8)] {
        let invocation = Invocation { payload_length: 32, ..base };
        let slot = sketched.bench.start(&sketched.rkey, &invocation).unwrap();
        let bench = &mut sketched.bench;
        let part = &[1; 32][..length];
        let refused = bench.executor.payload(slot, offset, part, &mut bench.memory);
        assert_eq!(refused, Err(PayloadError::Refused(Status::Misaligned)));
        assert_eq!(bench.run(Time::ZERO)[0].2.fate, Fate::NotExecuted);
        bench.executor.free(slot, &mut bench.memory);
    }
    // Without the right to atomics nothing is merged, and it is said.
    let bench = &mut sketched.bench;
    let writes = Access::READ | Access::WRITE;
    let rkey = bench.memory.export(bench.domain, 0, writes, &[], 5).unwrap();
    let (finish, _) = bench.call(&rkey, KernelId::SKETCH_WRITE, &arguments, &[1; 8]);
    assert_eq!((finish.status, finish.fate), (Status::Denied, Fate::Unknown));
    assert!(bench.executor.is_idle());
}

#[test]
fn ops_that_end_early_give_their_registers_back() {
    let mut sketched = Sketched::new(12);
    // 1024 blocks of 4 KiB are all there are.
    for _ in 0..3000 {
        assert_eq!(sketched.start(800), Status::Ok);
    }
    let denied = sketched.bench.memory.export(sketched.bench.domain, 0, Access::READ, &[], 5);
    let denied = denied.unwrap();
    let arguments = Arguments::home(DATA, 0, 12).encode();
    for _ in 0..3000 {
        let invocation = Invocation { payload_length: 8, ..op(KernelId::SKETCH_WRITE, &arguments) };
        assert_eq!(sketched.bench.start(&denied, &invocation), Err(Status::Denied));
    }
    assert_eq!(sketched.start(800), Status::Ok);
    assert_eq!(sketched.registers(), [0; 4096]);
}

#[test]
fn streams_that_end_at_once_lose_nothing() {
    use std::thread;
    let region = RacyMem::allocate(DATA + (1 << 20));
    let sketch = Sketch::format(region.clone(), 0, 8).unwrap();
    let registers = |offset: u64| {
        let region = region.clone();
        move || {
            let mut bench = Bench::<Builtin>::new(1);
            let home = bench.register(&region);
            let rkey = bench.memory.export(bench.domain, home, Access::all(), &[], 7).unwrap();
            for number in 0..2000u64 {
                let value = (offset << 32 | number).to_le_bytes();
                let arguments = Arguments::home(DATA + offset * 8, 0, 8).encode();
                let (finish, _) = bench.call(&rkey, KernelId::SKETCH_WRITE, &arguments, &value);
                assert_eq!(finish.status, Status::Ok);
            }
        }
    };
    thread::scope(|scope| {
        let threads = [0, 1].map(|offset| scope.spawn(registers(offset)));
        let mut before = 0.0;
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            let now = sketch.estimate().unwrap();
            assert!(now >= before, "it only grows");
            before = now;
        }
    });
    let mut oracle = [0; 256];
    for value in (0..2u64).flat_map(|offset| (0..2000).map(move |n| offset << 32 | n)) {
        let (register, rank) = place(&value.to_le_bytes(), 8);
        oracle[register] = rank.max(oracle[register]);
    }
    assert_eq!(region.read_array::<256>(HEADER_BYTES), Ok(oracle));
}

crate::bench::also_on_dma!(
    the_sketch_is_that_of_all_values_in_whatever_order,
    every_bad_argument_has_its_status,
    ops_that_end_early_give_their_registers_back,
);
