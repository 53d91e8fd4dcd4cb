use nic_transport::Frames;
use nic_wire::Span;

use super::*;
use crate::sim::{SimConfig, SimNetwork, SimPort};

fn pair(plan: FaultPlan, seed: u64) -> (SimNetwork, Faulty<SimPort>, Faulty<SimPort>) {
    let network = SimNetwork::new(0, SimConfig::default());
    let port = |text: &str| network.port(text.parse().unwrap()).unwrap();
    let left = Faulty::new(port("10.0.0.1:1"), plan, seed);
    let right = Faulty::new(port("10.0.0.2:1"), plan, !seed);
    (network, left, right)
}

/// Sends numbered packets of `length` bytes, one per turn, and returns what arrives.
fn exchange(plan: FaultPlan, seed: u64, count: u32) -> (Vec<Vec<u8>>, FaultCounters) {
    let (network, mut left, mut right) = pair(plan, seed);
    let free = left.available(Share::Reply);
    let mut burst = Burst::new(3);
    let mut arrived = Vec::new();
    for number in 0..count + 50 {
        if number < count {
            let frame = left.allocate(Share::Reply).unwrap();
            left.bytes_mut(frame)[..100].fill(0);
            left.bytes_mut(frame)[..4].copy_from_slice(&number.to_le_bytes());
            left.submit(frame, 100, right.local_address());
            left.release(frame);
        }
        left.transmit();
        network.advance_to(network.now() + Span::from_us(10));
        right.receive(&mut burst);
        arrived.extend(burst.views().iter().map(|view| right.view(view).to_vec()));
        right.release_burst(&mut burst);
    }
    assert!(right.prepare_wait() && left.prepare_wait(), "seed {seed}: nothing is held back");
    assert_eq!(left.available(Share::Reply), free, "seed {seed}: all frames are back");
    let (one, other) = (left.faults(), right.faults());
    let counters = FaultCounters {
        lost: one.lost + other.lost,
        duplicated: one.duplicated + other.duplicated,
        reordered: one.reordered + other.reordered,
        corrupted: one.corrupted + other.corrupted,
        forgone: one.forgone + other.forgone,
    };
    (arrived, counters)
}

fn numbers(arrived: &[Vec<u8>]) -> Vec<u32> {
    arrived.iter().map(|bytes| u32::from_le_bytes(bytes[..4].try_into().unwrap())).collect()
}

#[test]
fn without_faults_nothing_changes() {
    let (arrived, counters) = exchange(FaultPlan::default(), 1, 200);
    assert_eq!(numbers(&arrived), (0..200).collect::<Vec<u32>>());
    assert_eq!(counters, FaultCounters::default());
}

#[test]
fn each_fault_in_each_direction_does_what_it_says() {
    type Set = fn(&mut Faults) -> &mut Chance;
    let kinds: [(&str, Set); 4] = [
        ("loss", |faults| &mut faults.loss),
        ("duplication", |faults| &mut faults.duplication),
        ("reordering", |faults| &mut faults.reordering),
        ("corruption", |faults| &mut faults.corruption),
    ];
    for (name, kind) in kinds {
        for outwards in [false, true] {
            let mut faults = Faults::NONE;
            *kind(&mut faults) = Chance::percent(20);
            let mut plan = FaultPlan::default();
            *(if outwards { &mut plan.transmit } else { &mut plan.receive }) = faults;
            let (arrived, counters) = exchange(plan, 3, 1000);
            let of = [counters.lost, counters.duplicated, counters.reordered, counters.corrupted];
            let happened: u64 = of.iter().sum();
            assert!((150..250).contains(&happened), "{name}: {happened} of 1000");
            assert_eq!(of.iter().filter(|&&count| count > 0).count(), 1, "{name} alone");
            let expected = 1000 - counters.lost + counters.duplicated;
            assert_eq!(arrived.len() as u64, expected, "{name}");
            let bits = arrived.iter().map(|bytes| {
                bytes[4..].iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
            });
            // A bit of the number itself is hit now and then, which is not counted here.
            assert!(bits.sum::<u64>() <= counters.corrupted, "{name}");
            if name != "corruption" {
                let found = numbers(&arrived);
                assert_eq!(found.is_sorted(), name != "reordering", "{name}");
            }
        }
    }
}

#[test]
fn a_seed_repeats_itself() {
    let plan = FaultPlan::both(Faults::all(Chance::percent(10)));
    for seed in 0..4 {
        assert_eq!(exchange(plan, seed, 500), exchange(plan, seed, 500), "seed {seed}");
    }
    assert_ne!(exchange(plan, 1, 500), exchange(plan, 2, 500));
}

#[test]
fn a_retained_frame_is_never_the_one_that_is_harmed() {
    let plan = FaultPlan {
        transmit: Faults { corruption: Chance::ALWAYS, ..Faults::NONE },
        receive: Faults::NONE,
    };
    let (network, mut left, mut right) = pair(plan, 9);
    let frame = left.allocate(Share::Request).unwrap();
    left.bytes_mut(frame)[..64].fill(0x77);
    left.submit(frame, 64, right.local_address());
    left.transmit();
    assert_eq!(left.bytes(frame)[..64], [0x77; 64]);
    network.advance_to(network.now() + Span::from_ms(1));
    let mut burst = Burst::new(8);
    assert_eq!(right.receive(&mut burst), 1);
    let harmed = right.view(&burst.views()[0]);
    let bits: u32 = harmed.iter().map(|byte| (byte ^ 0x77).count_ones()).sum();
    assert_eq!(bits, 1);
}

#[test]
fn a_frame_held_back_counts_as_queued() {
    let plan = FaultPlan {
        transmit: Faults { reordering: Chance::ALWAYS, ..Faults::NONE },
        receive: Faults::NONE,
    };
    let (_network, mut left, right) = pair(plan, 9);
    let frame = left.allocate(Share::Request).unwrap();
    left.submit(frame, 64, right.local_address());
    assert!(left.is_queued(frame));
    for _ in 0..PASSES_MAX {
        left.transmit();
    }
    assert!(!left.is_queued(frame));
    assert_eq!(left.counters().transmitted_packets, 1);
    left.release(frame);
}
