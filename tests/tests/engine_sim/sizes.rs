//! Payloads and replies of every interesting length, moved exactly.

use nic_engine::engine::OP_BYTES_MAX;
use nic_ports::sim::SimConfig;
use nic_ports::{Chance, Random};
use nic_tests::{Ask, World};
use nic_wire::{Fate, Status};

use crate::{Pair, session_of, under_seeds};

/// What a reply packet of 1400 bytes has room for behind packet and frame header.
const REPLY_PACKET: u32 = 1400 - 64 - 24;
/// The same for the payload of a WRITE, whose request has 16 bytes of arguments.
const PAYLOAD_PACKET: u32 = 1400 - 64 - 48 - 16;
const REGION_BYTES: u64 = 2 << 20;

fn bytes(random: &mut Random, length: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length as usize + 8);
    while bytes.len() < length as usize {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length as usize);
    bytes
}

/// Writes `length` bytes, reads them back with a margin, and compares all of the region's bytes
/// around them.
fn there_and_back(pair: &mut Pair, random: &mut Random, address: u64, length: u32) {
    let margin = 32;
    let from = address - margin;
    let whole = length as usize + 2 * margin as usize;
    let mut expected = vec![0; whole];
    pair.memory.read(from, &mut expected).unwrap();
    let payload = bytes(random, length);
    expected[margin as usize..][..length as usize].copy_from_slice(&payload);

    let write = pair.world.run(&mut pair.session, &Ask::write(pair.remote, address, &payload));
    assert!(write.is_ok() && write.reply.is_empty(), "WRITE of {length}: {:?}", write.ended());
    let mut found = vec![0; whole];
    pair.memory.read(from, &mut found).unwrap();
    assert!(found == expected, "a WRITE of {length} bytes at {address}");

    let read = pair.world.run(&mut pair.session, &Ask::read(pair.remote, address, length));
    assert!(read.is_ok(), "READ of {length}: {:?}", read.ended());
    assert!(read.reply == payload, "a READ of {length} bytes at {address}");
}

fn around(length: u32) -> [u32; 5] {
    [length - 8, length - 1, length, length + 1, length + 8]
}

/// Links that carry less than a usual packet, as beside a tunnel.
#[test]
fn packets_are_no_longer_than_a_port_carries() {
    for packet_bytes_max in [1399, 1372, 1024] {
        let network = SimConfig { packet_bytes_max, ..SimConfig::default() };
        let mut pair =
            Pair::new(World::with_network(3, network), REGION_BYTES, session_of(2, 64 << 10));
        let mut random = Random::new(3);
        for length in [8, 900, 1300, 1400, 5000, 60_000] {
            there_and_back(&mut pair, &mut random, 4096, length);
        }
        for host in [pair.initiator, pair.target] {
            assert_eq!(pair.world.port_counters(host).transmit_refused, 0);
        }
    }
}

#[test]
fn lengths_around_one_and_two_packets() {
    let mut pair = Pair::new(World::new(2), REGION_BYTES, session_of(2, 8192));
    let mut random = Random::new(2);
    for length in 0..80 {
        there_and_back(&mut pair, &mut random, 4096 + u64::from(length), length);
    }
    for packets in 1..=3 {
        for length in
            around(packets * REPLY_PACKET).into_iter().chain(around(packets * PAYLOAD_PACKET))
        {
            there_and_back(&mut pair, &mut random, 4096, length);
            there_and_back(&mut pair, &mut random, 8192 + u64::from(length % 7), length);
        }
    }
    let target = pair.world.counters(pair.target);
    assert_eq!((target.refused, target.failed, target.unplaced_parts), (0, 0, 0));
}

#[test]
fn the_longest_ops_and_what_is_longer() {
    let mut pair = Pair::new(World::new(3), REGION_BYTES, session_of(2, OP_BYTES_MAX + 4096));
    let mut random = Random::new(3);
    for length in [1 << 20, OP_BYTES_MAX - 1, OP_BYTES_MAX] {
        there_and_back(&mut pair, &mut random, 4099, length);
    }
    let too_long = Ask::read(pair.remote, 0, OP_BYTES_MAX + 1);
    let done = pair.world.run(&mut pair.session, &too_long);
    assert_eq!(done.ended(), (Status::BadCommand, Fate::NotExecuted));
    let too_long = Ask::write(pair.remote, 0, &vec![1; OP_BYTES_MAX as usize + 1]);
    let done = pair.world.run(&mut pair.session, &too_long);
    assert_eq!(done.ended(), (Status::BadCommand, Fate::NotExecuted));
}

/// Lengths from one byte to a megabyte, over links that lose, double and reorder.
#[test]
fn all_lengths_arrive_whole_over_bad_links() {
    under_seeds(10..14, |seed| {
        let world = World::lossy(seed, Chance::percent(5));
        let mut pair = Pair::new(world, REGION_BYTES, session_of(2, OP_BYTES_MAX));
        let mut random = Random::new(seed);
        for doubling in 0..=20 {
            let length = (1u32 << doubling) + random.below(1 << doubling) as u32;
            let length = length.min(OP_BYTES_MAX);
            let address = 64 + random.below(REGION_BYTES - u64::from(length) - 128);
            there_and_back(&mut pair, &mut random, address, length);
        }
        let counters = pair.world.counters(pair.target);
        assert!(counters.retransmissions > 0 && counters.duplicates > 0, "the links were bad");
        pair.world.run_until_idle();
        assert_eq!(pair.world.counters(pair.target).executed, 2 * 21);
    });
}

/// A reply that does not fit where it should land is not sent; the op ran.
#[test]
fn a_reply_longer_than_its_landing_place() {
    let mut pair = Pair::new(World::new(4), 4096, session_of(2, 4096));
    let read = Ask { reply_capacity: 99, ..Ask::read(pair.remote, 0, 100) };
    let done = pair.world.run(&mut pair.session, &read);
    assert_eq!(done.status, Status::ReplyTooLong);
    let add = Ask { reply_capacity: 7, ..Ask::fetch_add(pair.remote, 0, 5) };
    let done = pair.world.run(&mut pair.session, &add);
    // Whether such an op runs is the target's choice; what it says must be true.
    let fate = if pair.word(0) == 5 { Fate::Executed } else { Fate::NotExecuted };
    assert_eq!(done.ended(), (Status::ReplyTooLong, fate));
}
