//! Bytes that are no packets of this protocol.

use nic_engine::Crc32;
use nic_ports::Random;
use nic_tests::Rogue;
use nic_transport::{Config, ConnectFailure, Protection};
use nic_wire::packet::{HEADER_BYTES, PacketFlags, PacketHeader, PacketKind};
use nic_wire::{ConnectionId, Span, Status, WIRE_VERSION};

use crate::{Scene, stranger};

/// A sealed packet with this header and body.
fn packet(header: PacketHeader, body: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0; HEADER_BYTES], body].concat();
    header.write(&mut bytes);
    Crc32.seal(&mut bytes);
    bytes
}

/// Sends the packets to the target and returns what it counted.
fn counted(scene: &mut Scene, packets: &[Vec<u8>]) -> nic_engine::engine::Counters {
    let mut rogue = Rogue::new(&scene.world, stranger(1));
    let counted = scene.counted(|scene| {
        for packet in packets {
            rogue.send_raw(scene.target_address(), packet);
        }
        scene.world.run_for(Span::from_ms(1));
    });
    assert_eq!(counted.packets_received, packets.len() as u64);
    scene.nobody_noticed();
    counted
}

#[test]
fn packets_that_are_too_short() {
    let mut scene = Scene::new(1);
    let packets: Vec<Vec<u8>> = (1..HEADER_BYTES).map(|length| vec![1; length]).collect();
    let counted = counted(&mut scene, &packets);
    assert_eq!(counted.malformed_packets, 63);
    assert_eq!(counted.packets_sent, 0, "nothing is answered");
}

#[test]
fn packets_of_unknown_kind() {
    let mut scene = Scene::new(2);
    let mut header = PacketHeader::new(PacketKind::Data, ConnectionId::NONE);
    let mut packets = Vec::new();
    for kind in [0, 7, 8, 77, 255] {
        header.kind = kind;
        packets.push(packet(header, &[0; 40]));
    }
    let counted = counted(&mut scene, &packets);
    assert_eq!((counted.malformed_packets, counted.packets_sent), (5, 0));
}

#[test]
fn handshakes_that_are_cut_short() {
    let mut scene = Scene::new(3);
    let kinds = [
        PacketKind::Init,
        PacketKind::Retry,
        PacketKind::Accept,
        PacketKind::Reset,
        PacketKind::Versions,
    ];
    let packets = kinds.map(|kind| packet(PacketHeader::new(kind, ConnectionId::NONE), &[0; 3]));
    let counted = counted(&mut scene, &packets);
    assert_eq!((counted.malformed_packets, counted.packets_sent), (5, 0));
}

#[test]
fn packets_that_were_changed_on_their_way() {
    let mut scene = Scene::new(4);
    let header = PacketHeader::new(PacketKind::Data, ConnectionId::new(0, 0, 99));
    let good = packet(header, &[0; 100]);
    let packets: Vec<Vec<u8>> = (8..good.len())
        .map(|place| {
            let mut bad = good.clone();
            // Not the engine's number, which says whom the packet is for.
            if place == 10 {
                bad[9] ^= 4
            } else {
                bad[place] ^= 4
            }
            bad
        })
        .collect();
    let counted = counted(&mut scene, &packets);
    assert_eq!(counted.corrupted_packets, packets.len() as u64);
    assert_eq!(counted.packets_sent, 0);
}

#[test]
fn packets_of_unknown_flows() {
    let mut scene = Scene::new(5);
    let mut header = PacketHeader::new(PacketKind::Data, ConnectionId::new(0, 3, 99));
    let lone_ack = packet(header, &[]);
    header.flags = PacketFlags::NUMBERED.bits().into();
    let counted = counted(&mut scene, &[packet(header, &[0; 48]), lone_ack]);
    assert_eq!(counted.dropped_packets, 2);
    assert_eq!(counted.packets_sent, 1, "the numbered one is told that its flow is gone");
}

#[test]
fn packets_of_another_version() {
    let mut scene = Scene::new(6);
    let mut header = PacketHeader::new(PacketKind::Data, ConnectionId::NONE);
    let mut packets = Vec::new();
    for version in [0, WIRE_VERSION - 1, WIRE_VERSION + 1, 255] {
        header.version = version;
        packets.push(packet(header, &[0; 40]));
    }
    let counted = counted(&mut scene, &packets);
    assert_eq!((counted.foreign_versions, counted.packets_sent), (4, 0));
}

/// Two that have no version in common: both sides are told, and nothing is opened.
#[test]
fn no_version_in_common() {
    let mut scene = Scene::new(7);
    let config = Config { versions: [9, 8, 0, 0, 0, 0, 0, 0], ..Config::default() };
    let mut rogue = Rogue::with_config(&scene.world, stranger(1), config);
    let to = scene.target_address();
    let counted = scene.counted(|scene| assert!(!rogue.connect(&mut scene.world, to)));
    let failure = rogue.failure.expect("the initiator is told");
    let ConnectFailure::VersionMismatch { ours, theirs } = failure else { panic!("{failure}") };
    assert_eq!((ours[0], theirs[0]), (9, WIRE_VERSION));
    assert_eq!((counted.flows_opened, counted.flows), (0, 0));

    // The other way round.
    let client = scene.world.add_client(scene.initiator);
    let session = scene.world.open_session(scene.initiator, client, crate::GEOMETRY);
    let work = nic_engine::engine::Work::Connect {
        client,
        session: session.id,
        engine: stranger(1),
        rkey: scene.rkey,
    };
    let id = scene.world.begin(scene.initiator, work);
    rogue.turns(&mut scene.world, Span::from_ms(2));
    match scene.world.answer(scene.initiator, id) {
        Some(nic_engine::engine::Answer::Refused(refusal)) => {
            assert_eq!(refusal.status, Status::VersionMismatch);
            assert!(refusal.reason.contains("[9, 8,"), "{}", refusal.reason);
        }
        other => panic!("{other:?}"),
    }
    scene.nobody_noticed();
}

/// Random bytes, and packets that are right but for random bytes.
#[test]
fn random_packets() {
    let mut scene = Scene::new(8);
    let mut random = Random::new(8);
    let kinds = [
        PacketKind::Data,
        PacketKind::Init,
        PacketKind::Retry,
        PacketKind::Accept,
        PacketKind::Reset,
        PacketKind::Versions,
    ];
    for _ in 0..40 {
        let mut packets = Vec::new();
        for _ in 0..100 {
            let length = random.below(300) as usize + 1;
            let mut bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            if random.below(4) != 0 && length > HEADER_BYTES {
                let slot = random.below(10) as u16;
                let kind = kinds[random.below(6) as usize];
                let header = PacketHeader::new(kind, ConnectionId::new(0, slot, random.next()));
                let from = if random.below(2) == 0 { 8 } else { HEADER_BYTES };
                header.write(&mut bytes);
                for byte in &mut bytes[from..] {
                    if random.below(8) == 0 {
                        *byte = random.next() as u8;
                    }
                }
                // Those for other engines are another test's.
                bytes[10] = 0;
                Crc32.seal(&mut bytes);
            }
            packets.push(bytes);
        }
        counted(&mut scene, &packets);
    }
    assert_eq!(scene.world.counters(scene.target).flows, 1, "only the honest flow is there");
}
