use std::os::fd::AsFd;

use nic_shm::{RacyMem, Ready, wait_any};
use nic_transport::Frames;

use super::layout::{CONSUMED_AT, PRODUCED_AT, SLEEPING_AT};
use super::*;
use crate::{Burst, Port, PortFault, Random, Share};

fn addresses() -> [SocketAddr; 2] {
    ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]
}

fn small() -> RingConfig {
    RingConfig { pool: PoolConfig::with_frames(16), ..RingConfig::default() }
}

fn send(port: &mut RingPort, to: SocketAddr, bytes: &[u8]) {
    let frame = port.allocate(Share::Reply).unwrap();
    port.bytes_mut(frame)[..bytes.len()].copy_from_slice(bytes);
    port.submit(frame, bytes.len(), to);
    port.release(frame);
    port.transmit();
}

fn rung(port: &RingPort) -> bool {
    let descriptor = port.wait_descriptor().unwrap();
    wait_any(&[descriptor], Some(Duration::ZERO)).unwrap() != Ready::NONE
}

/// A port whose peer is a memory that the test writes as it likes.
fn with_hostile_peer() -> (RingPort, RacyMem) {
    let config = small();
    let [local, peer] = addresses();
    let (own, hostile) =
        (OwnSide::create(&config.pool).unwrap(), OwnSide::create(&config.pool).unwrap());
    let port = RingPort::join(config, own, hostile.lend().unwrap(), [local, peer]).unwrap();
    (port, hostile.memory.memory())
}

fn write_word(memory: &RacyMem, at: u64, value: u32) {
    memory.write(at, &value.to_le_bytes()).unwrap();
}

#[test]
fn a_port_may_move_to_its_engines_thread() {
    fn is_send<T: Send>() {}
    is_send::<RingPort>();
    is_send::<crate::udp::UdpPort>();
}

#[test]
fn frames_come_back_as_the_peer_consumes_and_a_full_ring_waits() {
    let [left_address, right_address] = addresses();
    let (mut left, mut right) = RingPort::pair(small(), addresses()).unwrap();
    let frame = left.allocate(Share::Request).unwrap();
    left.bytes_mut(frame)[0] = 9;
    for _ in 0..20 {
        left.submit(frame, 1, right_address);
    }
    left.transmit();
    assert_eq!(left.counters().transmitted_packets, 16, "as many as there are entries");
    assert!(left.is_queued(frame) && left.counters().transmit_blocked > 0);
    assert!(!left.prepare_wait(), "nobody rings when there is room again");

    let mut burst = Burst::new(64);
    assert_eq!(right.receive(&mut burst), 16);
    assert!(burst.views().iter().all(|view| right.view(view) == [9] && view.from == left_address));
    right.release_burst(&mut burst);
    right.transmit();
    left.transmit();
    assert_eq!(right.receive(&mut burst), 4);
    right.release_burst(&mut burst);
    right.transmit();
    left.transmit();
    assert!(!left.is_queued(frame));
    left.release(frame);
    assert_eq!(left.available(Share::Reply), 14);
}

#[test]
fn a_sleeper_is_woken_once_and_a_spinner_never() {
    let [_, right_address] = addresses();
    let (mut left, mut right) = RingPort::pair(small(), addresses()).unwrap();
    let mut burst = Burst::new(8);
    send(&mut left, right_address, b"x");
    assert!(!right.prepare_wait(), "there is work");
    assert_eq!(right.receive(&mut burst), 1);
    right.release_burst(&mut burst);
    assert_eq!(left.counters().wakes, 0);

    for round in 1..=3 {
        assert!(right.prepare_wait());
        assert!(!rung(&right));
        send(&mut left, right_address, b"x");
        send(&mut left, right_address, b"y");
        assert!(rung(&right), "round {round}");
        assert_eq!(left.counters().wakes, round, "one wake-up for two packets");
        right.end_wait();
        assert!(!rung(&right));
        assert_eq!(right.receive(&mut burst), 2);
        right.release_burst(&mut burst);
    }
    // A sleep that timed out leaves nothing behind.
    assert!(right.prepare_wait());
    right.end_wait();
    send(&mut left, right_address, b"x");
    assert!(!rung(&right));
}

/// A peer that has a bell's other end can flood it, close it, or make it block for its own calls.
#[test]
fn a_bell_that_a_peer_spoils_blocks_nobody() {
    let config = small();
    let [local, peer] = addresses();
    let (own, hostile) =
        (OwnSide::create(&config.pool).unwrap(), OwnSide::create(&config.pool).unwrap());
    let theirs = own.bell.0.as_fd().try_clone_to_owned().unwrap();
    rustix::io::ioctl_fionbio(&theirs, false).unwrap();
    let mut port = RingPort::join(config, own, hostile.lend().unwrap(), [local, peer]).unwrap();
    // Empty and made to block, then full: the sleeper clears it all the same.
    for rings in [0, 100_000] {
        assert!(port.prepare_wait());
        (0..rings).for_each(|_| {
            let flags = rustix::net::SendFlags::DONTWAIT;
            let _ = rustix::net::send(&theirs, &[1], flags);
        });
        assert_eq!(rung(&port), rings > 0);
        port.end_wait();
    }
    // Nobody takes what is rung at a peer that only fills up.
    let asleep = hostile.memory.memory();
    for sleep in 1..=1_000 {
        write_word(&asleep, SLEEPING_AT, sleep);
        write_word(&asleep, CONSUMED_AT, sleep - 1);
        send(&mut port, peer, b"x");
    }
    assert_eq!((port.counters().wakes, port.fault()), (1_000, None));
    // Closed, it would be readable for ever: the port is, too.
    rustix::net::shutdown(&theirs, rustix::net::Shutdown::Both).unwrap();
    let mut waits = 0;
    while port.fault().is_none() {
        assert!(port.prepare_wait() && rung(&port));
        port.end_wait();
        waits += 1;
        assert!(waits < 10_000, "what was left of the flood is taken first");
    }
    assert_eq!(port.fault(), Some(PortFault::PeerGone));
    assert!(port.wait_descriptor().is_none());
}

#[test]
fn a_dead_peer_gives_all_frames_back() {
    let [_, right_address] = addresses();
    let (mut left, right) = RingPort::pair(small(), addresses()).unwrap();
    send(&mut left, right_address, b"in the ring");
    let frame = left.allocate(Share::Reply).unwrap();
    left.submit(frame, 1, right_address);
    drop(right);
    left.peer_gone();
    assert_eq!(left.fault(), Some(PortFault::PeerGone));
    assert!(!left.is_queued(frame));
    left.release(frame);
    assert_eq!(left.available(Share::Reply), 14);

    let lost_before = left.counters().transmit_errors;
    send(&mut left, right_address, b"to nobody");
    assert_eq!(left.counters().transmit_errors, lost_before + 1);
    assert_eq!((left.available(Share::Reply), left.receive(&mut Burst::new(4))), (14, 0));
}

#[test]
fn cursors_that_lie_close_the_port() {
    for found in [17, 1 << 20, u32::MAX] {
        let (mut port, hostile) = with_hostile_peer();
        write_word(&hostile, PRODUCED_AT, found);
        assert_eq!(port.receive(&mut Burst::new(8)), 0);
        let expected_max = 16;
        assert_eq!(port.fault(), Some(PortFault::PeerViolated { found, expected_max }));
        assert_eq!(port.counters().violations, 1);

        let (mut port, hostile) = with_hostile_peer();
        let [_, peer] = addresses();
        send(&mut port, peer, b"x");
        write_word(&hostile, CONSUMED_AT, found);
        port.transmit();
        assert!(matches!(port.fault(), Some(PortFault::PeerViolated { .. })), "{found}");
        assert_eq!(port.available(Share::Reply), 14, "its frames are back all the same");
    }
}

#[test]
fn entries_that_lie_are_dropped_and_counted() {
    let (mut port, hostile) = with_hostile_peer();
    let entries: [(u32, u32); 6] =
        [(16, 10), (u32::MAX, 10), (0, 0), (0, 2049), (0, u32::MAX), (15, 2048)];
    for (place, (frame, length)) in entries.into_iter().enumerate() {
        let entry = u64::from(frame) | u64::from(length) << 32;
        hostile.write(128 + 8 * place as u64, &entry.to_le_bytes()).unwrap();
    }
    write_word(&hostile, PRODUCED_AT, entries.len() as u32);
    let mut burst = Burst::new(64);
    assert_eq!(port.receive(&mut burst), 1);
    assert_eq!((burst.views()[0].length, port.counters().violations), (2048, 5));
    assert_eq!(port.fault(), None, "a peer that only writes nonsense is a lossy one");
}

#[test]
fn a_peer_cannot_change_what_was_received() {
    let (mut port, hostile) = with_hostile_peer();
    let frames_at = 4096;
    hostile.write(frames_at, &[1; 100]).unwrap();
    hostile.write(128, &(100u64 << 32).to_le_bytes()).unwrap();
    write_word(&hostile, PRODUCED_AT, 1);
    let mut burst = Burst::new(4);
    assert_eq!(port.receive(&mut burst), 1);
    hostile.write(frames_at, &[2; 100]).unwrap();
    assert_eq!(port.view(&burst.views()[0]), [1; 100]);
}

#[test]
fn random_nonsense_from_a_peer_is_survived() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let (mut port, hostile) = with_hostile_peer();
        let [_, peer] = addresses();
        let mut burst = Burst::new(8);
        let (mut produced, mut sent) = (0u32, 0u32);
        for _ in 0..200 {
            match random.below(6) {
                0 => {
                    let place = random.below(16);
                    let nonsense = random.next() & random.next() & 0x0000_0fff_0000_001f;
                    hostile.write(128 + 8 * place, &nonsense.to_le_bytes()).unwrap();
                }
                1 => {
                    produced = produced.wrapping_add(random.below(6) as u32);
                    write_word(&hostile, PRODUCED_AT, produced);
                }
                2 => {
                    let honest = sent.wrapping_sub(random.below(2) as u32);
                    write_word(&hostile, CONSUMED_AT, honest);
                }
                3 => write_word(&hostile, SLEEPING_AT, random.below(3) as u32),
                4 => {
                    if let Some(frame) = port.allocate(Share::Reply) {
                        port.submit(frame, 1 + random.below(2048) as usize, peer);
                        port.release(frame);
                        port.transmit();
                        sent = port.counters().transmitted_packets as u32;
                    }
                }
                _ => {
                    port.receive(&mut burst);
                    for view in burst.views() {
                        assert!((1..=2048).contains(&port.view(view).len()), "seed {seed}");
                    }
                    port.release_burst(&mut burst);
                }
            }
        }
        port.peer_gone();
        assert_eq!(port.available(Share::Reply), 14, "seed {seed}: all frames are back");
    }
}

#[test]
fn both_ends_find_together_through_a_socket() {
    let (one, other) = ControlSocket::pair().unwrap();
    let [left_address, right_address] = addresses();
    let far = std::thread::spawn(move || {
        RingPort::connect(&other, small(), right_address, left_address).unwrap()
    });
    let config = RingConfig::default();
    let mut left = RingPort::connect(&one, config, left_address, right_address).unwrap();
    let mut right = far.join().unwrap();
    assert_eq!((left.capabilities().frames, right.capabilities().frames), (1024, 16));
    send(&mut left, right_address, b"to the right");
    send(&mut right, left_address, b"to the left");
    let mut burst = Burst::new(4);
    assert_eq!(right.receive(&mut burst), 1);
    assert_eq!(right.view(&burst.views()[0]), b"to the right");
    right.release_burst(&mut burst);
    assert_eq!(left.receive(&mut burst), 1);
    assert_eq!(left.view(&burst.views()[0]), b"to the left");
}

#[test]
fn offers_that_are_none_are_typed() {
    let [left, right] = addresses();
    let answer = |act: fn(&ControlSocket)| {
        let (one, other) = ControlSocket::pair().unwrap();
        act(&other);
        let config = RingConfig { patience: Duration::ZERO, ..small() };
        let error = RingPort::connect(&one, config, left, right).err().unwrap();
        drop(other);
        error
    };
    assert!(matches!(answer(|_| {}), RingError::Silent { patience_ms: 0 }));
    let text = answer(|socket| socket.send(b"hello!!!", &[]).unwrap());
    assert!(matches!(text, RingError::NotOffer { bytes: 8, descriptors: 0 }));
    let bare = answer(|socket| socket.send(b"ring\x02\0\0\0", &[]).unwrap());
    assert!(matches!(bare, RingError::NotOffer { bytes: 8, descriptors: 0 }));
    let newer = answer(|socket| socket.send(b"ring\x09\0\0\0", &[]).unwrap());
    assert!(matches!(newer, RingError::Version { found: 9 }));
    let wrong = answer(|socket| {
        socket.send(b"ring\x02\0\0\0", &[socket.as_fd(), socket.as_fd()]).unwrap();
    });
    assert!(matches!(wrong, RingError::Memory(_)));

    let (one, other) = ControlSocket::pair().unwrap();
    drop(other);
    let closed = RingPort::connect(&one, small(), left, right).err().unwrap();
    assert!(matches!(closed, RingError::Closed | RingError::Send(_)));
}

#[test]
fn neither_side_can_write_the_others_memory() {
    let own = OwnSide::create(&small().pool).unwrap();
    let lent = own.lend().unwrap();
    assert!(lent.memory.write(0, &[0]).is_err());
    assert!(lent.memory.word32(PRODUCED_AT).is_err());
    let descriptor = own.memory.fd().try_clone_to_owned().unwrap();
    assert!(nic_shm::SharedMemory::open(descriptor, 1).is_err(), "the kernel refuses as well");
}
