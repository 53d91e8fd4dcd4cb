//! The promises.

use std::net::SocketAddr;
use std::time::Duration;

use nic_ports::{Burst, Port, Random, Share};
use nic_shm::{Ready, wait_any};
use nic_transport::FrameId;

use crate::harness::{LEAST, Pair, contents, filled, submit};

/// A promise: its name, and the check that it is kept.
type Promise<P> = (&'static str, fn(Pair<P>));

/// Holds ports to every promise, each with a fresh pair.
pub fn run<P: Port>(mut pair: impl FnMut() -> Pair<P>) {
    let promises: [Promise<P>; 16] = [
        ("single packets of every size", every_size),
        ("both directions", both_directions),
        ("bursts of equal lengths", equal_bursts),
        ("bursts of mixed lengths", mixed_bursts),
        ("several destinations", several_destinations),
        ("bursts without room for all", little_room),
        ("exhaustion and recovery", exhaustion),
        ("shares", shares),
        ("retained frames", retained_frames),
        ("a frame to be sent is queued", queued_frames),
        ("stable receive buffers", stable_buffers),
        ("refused packets", refusals),
        ("nothing to do", idleness),
        ("waiting", waiting),
        ("a peer that is gone", gone_peer),
        ("random use", random_use),
    ];
    for (name, promise) in promises {
        eprintln!("promise: {name}");
        promise(pair());
    }
}

/// A length that the suite likes, or the longest that the pair carries.
fn carried<P: Port>(pair: &Pair<P>, length: usize) -> usize {
    length.min(pair.left.capabilities().packet_bytes_max)
}

fn every_size<P: Port>(mut pair: Pair<P>) {
    let max = pair.left.capabilities().packet_bytes_max;
    assert!(max >= 1400);
    for length in LEAST..=max {
        pair.deliver(&[contents(length, length)]);
    }
    let (sent, received) = (pair.left.counters(), pair.right.counters());
    let sizes = (max - LEAST + 1) as u64;
    assert_eq!((sent.transmitted_packets, sent.transmit_calls), (sizes, sizes));
    assert_eq!((received.received_packets, received.receive_calls), (sizes, sizes));
    assert_eq!(sent.transmitted_bytes, (LEAST..=max).sum::<usize>() as u64);
    assert_eq!(received.received_bytes, sent.transmitted_bytes);
    pair.assert_all_free();
}

fn both_directions<P: Port>(mut pair: Pair<P>) {
    for number in 0..200 {
        pair.deliver(&[contents(number, 64)]);
        pair.swap();
    }
    pair.assert_all_free();
}

fn equal_bursts<P: Port>(mut pair: Pair<P>) {
    for (count, length) in [(2, 128), (5, 64), (40, 1400), (32, 2048), (40, 100)] {
        let length = carried(&pair, length);
        let mut packets: Vec<_> = (0..count).map(|number| contents(number, length)).collect();
        pair.deliver(&packets);
        pair.assert_all_free();
        packets.push(contents(99, (length / 2 + 1).max(LEAST)));
        pair.deliver(&packets);
        pair.assert_all_free();
    }
}

fn mixed_bursts<P: Port>(mut pair: Pair<P>) {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let lengths = [64, 65, 72, 700, 1399, 1400, 2048].map(|length| carried(&pair, length));
        let packets: Vec<_> =
            (0..40).map(|number| contents(number, lengths[random.below(7) as usize])).collect();
        pair.deliver(&packets);
        pair.assert_all_free();
    }
}

fn several_destinations<P: Port>(mut pair: Pair<P>) {
    let Some(third) = pair.third.as_ref().map(Port::local_address) else { return };
    let right = pair.right.local_address();
    let mut expected = [Vec::new(), Vec::new()];
    let mut random = Random::new(5);
    for number in 0..50 {
        let packet = contents(number, [300, 300, 300, 90][random.below(4) as usize]);
        let choice = random.below(2) as usize;
        submit(&mut pair.left, [right, third][choice], &packet);
        expected[choice].push(packet);
    }
    pair.left.transmit();
    assert!(expected.iter().all(|packets| packets.len() > 10));
    assert_eq!(pair.expect(expected[0].len(), 64), expected[0]);
    assert_eq!(pair.expect_at_third(expected[1].len(), 64), expected[1]);
    pair.assert_all_free();

    // One frame may go to several.
    let frame = filled(&mut pair.left, b"to both");
    pair.left.submit(frame, 7, right);
    pair.left.submit(frame, 7, third);
    pair.left.transmit();
    pair.left.release(frame);
    assert_eq!(
        (pair.expect(1, 4), pair.expect_at_third(1, 4)),
        (vec![b"to both".to_vec()], vec![b"to both".to_vec()])
    );
    pair.assert_all_free();
}

fn little_room<P: Port>(mut pair: Pair<P>) {
    let packets: Vec<_> = (0..40).map(|number| contents(number, 200)).collect();
    for room in [1, 3, 7] {
        pair.send(&packets);
        assert_eq!(pair.expect(packets.len(), room), packets);
        pair.assert_all_free();
    }
    // A full burst receives nothing and loses nothing.
    pair.send(&packets);
    let mut burst = Burst::new(2);
    while burst.room() > 0 {
        pair.receive(&mut burst);
    }
    assert_eq!(pair.right.receive(&mut burst), 0);
    pair.right.release_burst(&mut burst);
    assert_eq!(pair.expect(38, 64), packets[2..]);
    pair.assert_all_free();
}

fn exhaustion<P: Port>(mut pair: Pair<P>) {
    let to = pair.right.local_address();
    for round in 0..3 {
        let mut frames = Vec::new();
        while let Some(frame) = pair.left.allocate(Share::Reply) {
            let packet = contents(frames.len(), LEAST);
            pair.left.bytes_mut(frame)[..LEAST].copy_from_slice(&packet);
            pair.left.submit(frame, LEAST, to);
            frames.push(frame);
        }
        assert_eq!(pair.left.counters().frames_exhausted, round + 1);
        assert!(frames.len() > 16);
        assert_eq!(pair.left.available(Share::Reply), 0);
        pair.left.transmit();
        let expected: Vec<_> = (0..frames.len()).map(|number| contents(number, LEAST)).collect();
        assert_eq!(pair.expect(frames.len(), 64), expected);
        assert!(pair.left.allocate(Share::Control).map(|frame| pair.left.release(frame)).is_some());
        frames.into_iter().for_each(|frame| pair.left.release(frame));
        pair.assert_all_free();
    }
}

fn shares<P: Port>(mut pair: Pair<P>) {
    let mut frames: Vec<FrameId> = Vec::new();
    for share in [Share::Request, Share::Control, Share::Reply] {
        let available = pair.left.available(share);
        assert!(available > 0, "{share:?} is starved by the others");
        for left in (0..available).rev() {
            frames.push(pair.left.allocate(share).expect("as many as it said"));
            assert_eq!(pair.left.available(share), left);
        }
        assert_eq!(pair.left.allocate(share), None);
    }
    assert_eq!(frames.len(), pair.left.capabilities().frames as usize, "together they are all");
    let mut distinct = frames.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), frames.len());
    frames.into_iter().for_each(|frame| pair.left.release(frame));
    pair.assert_all_free();
}

fn retained_frames<P: Port>(mut pair: Pair<P>) {
    let to = pair.right.local_address();
    let packet = contents(3, 900);
    let frame = filled(&mut pair.left, &packet);
    pair.left.retain(frame);
    // Sent, and sent again, as a retransmission would.
    for _ in 0..3 {
        pair.left.submit(frame, packet.len(), to);
        pair.left.transmit();
        assert_eq!(pair.expect(1, 4)[0], packet);
        pair.until_sent(frame);
        assert_eq!(pair.left.bytes(frame)[..packet.len()], packet);
    }
    // Rewritten between sendings.
    pair.left.bytes_mut(frame)[0] ^= 0xff;
    pair.left.submit(frame, packet.len(), to);
    pair.left.transmit();
    assert_eq!(pair.expect(1, 4)[0][0], packet[0] ^ 0xff);
    pair.until_sent(frame);
    // Neither of two owners takes it from the other.
    let others = pair.left.available(Share::Reply);
    pair.left.release(frame);
    assert_eq!(pair.left.available(Share::Reply), others, "one reference is left");
    pair.left.release(frame);
    assert_eq!(pair.left.available(Share::Reply), others + 1);
    pair.assert_all_free();
}

fn queued_frames<P: Port>(mut pair: Pair<P>) {
    let to = pair.right.local_address();
    let frame = filled(&mut pair.left, b"queued");
    assert!(!pair.left.is_queued(frame), "it was not submitted");
    pair.left.submit(frame, 6, to);
    assert!(pair.left.is_queued(frame), "it has not left");
    // The port's own reference keeps it without the caller's.
    pair.left.retain(frame);
    pair.left.release(frame);
    pair.left.transmit();
    assert_eq!(pair.expect(1, 4), [b"queued"]);
    pair.until_sent(frame);
    pair.left.release(frame);
    pair.assert_all_free();
}

fn stable_buffers<P: Port>(mut pair: Pair<P>) {
    let batch = |round: usize| -> Vec<Vec<u8>> {
        (0..5).map(|number| contents(round * 10 + number, 300 + number)).collect()
    };
    let check = |pair: &Pair<P>, burst: &Burst, expected: &[Vec<u8>]| {
        assert_eq!(burst.len(), expected.len());
        for (view, packet) in burst.views().iter().zip(expected) {
            assert_eq!(pair.right.view(view), packet);
        }
    };
    let mut bursts = [Burst::new(64), Burst::new(64), Burst::new(64)];
    for (round, burst) in bursts.iter_mut().enumerate() {
        pair.send(&batch(round));
        while burst.len() < 5 {
            pair.receive(burst);
        }
    }
    for (round, burst) in bursts.iter().enumerate() {
        check(&pair, burst, &batch(round));
    }
    // In any order, and sending meanwhile changes nothing either.
    pair.right.release_burst(&mut bursts[1]);
    pair.swap();
    pair.deliver(&batch(7));
    pair.swap();
    check(&pair, &bursts[0], &batch(0));
    check(&pair, &bursts[2], &batch(2));
    pair.right.release_burst(&mut bursts[0]);
    pair.right.release_burst(&mut bursts[2]);
    pair.deliver(&batch(8));
    pair.assert_all_free();
}

fn refusals<P: Port>(mut pair: Pair<P>) {
    let to = pair.right.local_address();
    let max = pair.left.capabilities().packet_bytes_max;
    let other_family: SocketAddr =
        if to.is_ipv4() { "[::1]:9".parse().unwrap() } else { "127.0.0.1:9".parse().unwrap() };
    let no_port = SocketAddr::new(to.ip(), 0);
    let frame = filled(&mut pair.left, b"x");
    let wrong = [(0, to), (max + 1, to), (usize::MAX, to), (1, other_family), (1, no_port)];
    for (number, (length, to)) in wrong.into_iter().enumerate() {
        pair.left.submit(frame, length, to);
        assert_eq!(pair.left.counters().transmit_refused, number as u64 + 1);
        assert!(!pair.left.is_queued(frame));
    }
    pair.left.transmit();
    assert_eq!(pair.left.counters().transmitted_packets, 0);
    pair.left.release(frame);
    pair.deliver(&[contents(1, max)]);
    pair.assert_all_free();
}

fn idleness<P: Port>(mut pair: Pair<P>) {
    let mut burst = Burst::new(8);
    for polls in 1..4 {
        assert_eq!(pair.right.receive(&mut burst), 0);
        assert!(burst.is_empty());
        assert_eq!(pair.right.counters().empty_polls, polls);
        pair.right.release_burst(&mut burst);
        pair.left.transmit();
    }
    let (left, right) = (pair.left.counters(), pair.right.counters());
    assert_eq!((left.transmit_calls, right.receive_calls), (0, 0), "an idle turn is no call");
    assert_eq!(pair.left.fault(), None);
    let capabilities = pair.left.capabilities();
    assert!(capabilities.window_bytes >= 65_536 || capabilities.window_bytes > 40 * 1400);
    assert!(capabilities.to_string().contains(capabilities.name));
}

fn waiting<P: Port>(mut pair: Pair<P>) {
    let readable = |port: &P| {
        let descriptor = port.wait_descriptor()?;
        Some(wait_any(&[descriptor], Some(Duration::ZERO)).unwrap() != Ready::NONE)
    };
    for number in 0..5 {
        assert!(pair.right.prepare_wait(), "round {number}: nothing to do");
        assert_ne!(readable(&pair.right), Some(true), "round {number}");
        pair.send(&[contents(number, 100)]);
        (pair.pass_time)();
        if let Some(descriptor) = pair.right.wait_descriptor() {
            let ready = wait_any(&[descriptor], Some(Duration::from_secs(5))).unwrap();
            assert_ne!(ready, Ready::NONE, "round {number}: nobody is woken");
        }
        pair.right.end_wait();
        assert!(!pair.right.prepare_wait() || readable(&pair.right) == Some(true), "work is there");
        pair.right.end_wait();
        assert_eq!(pair.expect(1, 4), [contents(number, 100)]);
    }
    pair.assert_all_free();
}

fn gone_peer<P: Port>(mut pair: Pair<P>) {
    pair.deliver(&[contents(1, 100)]);
    pair.assert_all_free();
    let to = pair.right.local_address();
    let free = pair.left.available(Share::Reply);
    let Pair { mut left, right, mut pass_time, peer_lost, .. } = pair;
    drop(right);
    let mut burst = Burst::new(8);
    for number in 0..10 {
        submit(&mut left, to, &contents(number, 500));
        left.transmit();
        pass_time();
        assert_eq!(left.receive(&mut burst), 0);
        left.release_burst(&mut burst);
    }
    peer_lost(&mut left);
    for _ in 0..20 {
        pass_time();
        left.transmit();
    }
    assert_eq!(left.available(Share::Reply), free, "frames to a dead peer come back");
}

fn random_use<P: Port>(mut pair: Pair<P>) {
    let seed = 11;
    let mut random = Random::new(seed);
    let to = pair.right.local_address();
    let (mut sent, mut received, mut kept) = (0, 0, Vec::new());
    let longest = carried(&pair, 2048);
    let length = |number: usize| LEAST + number * number * 13 % (longest + 1 - LEAST);
    let mut burst = Burst::new(16);
    while received < 2000 {
        for _ in 0..random.below(30) {
            let Some(frame) = pair.left.allocate(Share::Reply) else { break };
            let packet = contents(sent, length(sent));
            pair.left.bytes_mut(frame)[..packet.len()].copy_from_slice(&packet);
            pair.left.submit(frame, packet.len(), to);
            kept.push((sent, frame));
            sent += 1;
        }
        pair.left.transmit();
        (pair.pass_time)();
        for _ in 0..random.below(4) {
            pair.right.receive(&mut burst);
            for view in burst.views() {
                let expected = contents(received, length(received));
                assert_eq!(pair.right.view(view), expected, "seed {seed}: packet {received}");
                received += 1;
            }
            pair.right.release_burst(&mut burst);
        }
        pair.right.transmit();
        // As acks would: the oldest are released, some late.
        for _ in 0..random.below(40) {
            if kept.is_empty() {
                break;
            }
            let (number, frame) = kept.remove(0);
            let packet = contents(number, length(number));
            assert_eq!(pair.left.bytes(frame)[..packet.len()], packet, "seed {seed}");
            pair.left.release(frame);
        }
    }
    kept.into_iter().for_each(|(_, frame)| pair.left.release(frame));
    let rest = sent - received;
    let expected: Vec<_> =
        (received..sent).map(|number| contents(number, length(number))).collect();
    assert_eq!(pair.expect(rest, 64), expected);
    pair.assert_all_free();
}
