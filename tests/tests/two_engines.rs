//! Several engines in one process: each has its sessions, its flows and its port, and a packet that
//! comes to the wrong one is handed on.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;

use nic_engine::Crc32;
use nic_engine::engine::{ClientId, EngineConfig, Neighbours};
use nic_kernels::Access;
use nic_shm::RacyMem;
use nic_tests::{AppSession, Ask, Done, HostId, Rogue, World, small_engine};
use nic_transport::Protection;
use nic_wire::packet::{HEADER_BYTES, PacketFlags, PacketHeader, PacketKind};
use nic_wire::session::Geometry;
use nic_wire::{ConnectionId, Rkey, Span};

const GEOMETRY: Geometry = Geometry {
    depth: 8,
    arena_bytes: 8 * (512 << 10),
    receive_buffers: 0,
    receive_buffer_bytes: 0,
};
const REGION_BYTES: u64 = 256 << 10;

/// A process of two engines, and another host.
struct Process {
    world: World,
    engines: [HostId; 2],
    elsewhere: HostId,
    regions: [(ClientId, RacyMem, Rkey); 2],
}

fn process(seed: u64) -> Process {
    let mut world = World::new(seed);
    let elsewhere = world.add_host();
    let engines = [0u8, 1].map(|number| {
        let address = SocketAddr::from(([10, 1, 1, 1], 4791 + u16::from(number)));
        world.add_engine_at(address, EngineConfig { engine: number, ..small_engine() })
    });
    let neighbours = Neighbours::of_process(vec![None, None]);
    for (engine, neighbours) in engines.into_iter().zip(neighbours) {
        world.host(engine).engine.set_neighbours(neighbours);
    }
    let regions = engines.map(|engine| {
        let owner = world.add_client(engine);
        let (memory, rkey) = world.exported_region(engine, owner, REGION_BYTES, Access::all());
        (owner, memory, rkey)
    });
    Process { world, engines, elsewhere, regions }
}

/// A session elsewhere with a way to each of the two engines.
fn session_to_both(process: &mut Process) -> (AppSession, [u16; 2]) {
    let session = process.world.add_session(process.elsewhere, GEOMETRY);
    let remotes =
        [0, 1].map(|n| process.world.connect(&session, process.engines[n], process.regions[n].2));
    (session, remotes)
}

#[test]
fn each_engine_serves_its_own() {
    let mut process = process(1);
    let (mut session, remotes) = session_to_both(&mut process);
    for round in 0..20 {
        for remote in remotes {
            let done = process.world.run(&mut session, &Ask::fetch_add(remote, 0, 1));
            assert!(done.is_ok() && done.word() == round);
        }
    }
    for n in [0, 1] {
        assert_eq!(process.regions[n].1.load64(0).unwrap(), 20);
        let counters = process.world.counters(process.engines[n]);
        assert_eq!((counters.executed, counters.forwarded, counters.taken_over), (20, 0, 0));
        assert_eq!(counters.flows, 1);
    }
    assert_eq!(process.world.counters(process.elsewhere).flows, 2, "a flow to each engine");
}

/// Sessions on each engine work on the other host, on their neighbour, and on their own engine.
#[test]
fn sessions_on_each_engine() {
    let mut process = process(2);
    let owner = process.world.add_client(process.elsewhere);
    let all = Access::all();
    let (memory, rkey) = process.world.exported_region(process.elsewhere, owner, REGION_BYTES, all);
    let mut sessions = Vec::new();
    for n in [0, 1] {
        let session = process.world.add_session(process.engines[n], GEOMETRY);
        let remotes = [
            process.world.connect(&session, process.elsewhere, rkey),
            process.world.connect(&session, process.engines[1 - n], process.regions[1 - n].2),
            process.world.connect(&session, process.engines[n], process.regions[n].2),
        ];
        sessions.push((session, remotes));
    }
    for _ in 0..30 {
        for (session, remotes) in &mut sessions {
            for remote in *remotes {
                session.submit(&Ask::fetch_add(remote, 8, 1));
                session.submit(&Ask::read(remote, 0, 20_000));
            }
        }
        for (session, _) in &mut sessions {
            let done = process.world.wait(session);
            assert!(done.len() == 6 && done.iter().all(Done::is_ok));
        }
    }
    assert_eq!(memory.load64(8).unwrap(), 60);
    for (_, memory, _) in &process.regions {
        assert_eq!(memory.load64(8).unwrap(), 60, "30 of the neighbour, 30 of its own");
    }
}

/// A request goes to the wrong engine's port: it is handed on, counted, and its op completes
/// without any packet being sent twice.
#[test]
fn a_request_at_the_wrong_engine() {
    let mut process = process(3);
    let (mut session, remotes) = session_to_both(&mut process);
    for n in [0, 1] {
        let warm = process.world.run(&mut session, &Ask::fetch_add(remotes[n], 0, 1));
        assert!(warm.is_ok());
        let [right, wrong] = [n, 1 - n].map(|n| process.world.address(process.engines[n]));
        let misdirection = process.world.host(process.elsewhere).misdirection.clone();
        misdirection.set(right, wrong, 1);
        let before = [n, 1 - n].map(|n| process.world.counters(process.engines[n]));
        let done = process.world.run(&mut session, &Ask::fetch_add(remotes[n], 0, 1));
        assert!(done.is_ok() && done.word() == 1, "{:?}", done.ended());
        assert_eq!(misdirection.left(), 0, "it went astray");
        let after = [n, 1 - n].map(|n| process.world.counters(process.engines[n]));
        assert_eq!(after[1].forwarded - before[1].forwarded, 1);
        assert_eq!(after[0].taken_over - before[0].taken_over, 1);
        assert_eq!(after[0].executed - before[0].executed, 1);
        assert_eq!(after[1].executed, before[1].executed);
        let sent_again = process.world.counters(process.elsewhere).retransmissions;
        assert_eq!(sent_again, 0, "it was not lost");
        assert_eq!(process.regions[n].1.load64(0).unwrap(), 2);
    }
}

/// The same with everything that an engine of the process gets as an initiator: the answers to its
/// handshake, replies and acks.
#[test]
fn all_answers_at_the_wrong_engine() {
    let mut process = process(4);
    let owner = process.world.add_client(process.elsewhere);
    let all = Access::all();
    let (memory, rkey) = process.world.exported_region(process.elsewhere, owner, REGION_BYTES, all);
    let [right, wrong] = [1, 0].map(|n| process.world.address(process.engines[n]));
    let misdirection = process.world.host(process.elsewhere).misdirection.clone();
    misdirection.set(right, wrong, u32::MAX);
    let mut session = process.world.add_session(process.engines[1], GEOMETRY);
    let remote = process.world.connect(&session, process.elsewhere, rkey);
    for round in 0..10 {
        let payload = [round; 30_000];
        assert!(process.world.run(&mut session, &Ask::write(remote, 64, &payload)).is_ok());
        let done = process.world.run(&mut session, &Ask::read(remote, 64, 30_000));
        assert!(done.is_ok() && done.reply == payload);
        assert!(process.world.run(&mut session, &Ask::fetch_add(remote, 0, 1)).is_ok());
    }
    assert_eq!(memory.load64(0).unwrap(), 10);
    let counters = process.engines.map(|engine| process.world.counters(engine));
    assert!(counters[0].forwarded > 200, "{} were handed on", counters[0].forwarded);
    assert_eq!(counters[0].forwarded, counters[1].taken_over);
    assert_eq!((counters[0].unforwardable, counters[1].retransmissions), (0, 0));
    assert_eq!(counters[0].flows, 0, "the wrong engine has no part in it");
}

/// More in one turn than the queue between engines holds: what is dropped comes again.
#[test]
fn a_burst_at_the_wrong_engine() {
    let mut process = process(5);
    let (mut session, remotes) = session_to_both(&mut process);
    let [right, wrong] = [1, 0].map(|n| process.world.address(process.engines[n]));
    process.world.host(process.elsewhere).misdirection.set(right, wrong, u32::MAX);
    let payload: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
    let done = process.world.run(&mut session, &Ask::write(remotes[1], 0, &payload));
    assert!(done.is_ok(), "{:?}", done.ended());
    let mut found = vec![0; payload.len()];
    process.regions[1].1.read(0, &mut found).unwrap();
    assert!(found == payload);
    let counters = process.engines.map(|engine| process.world.counters(engine));
    assert!(counters[0].unforwardable > 0, "the queue was full");
    assert_eq!(counters[0].forwarded, counters[1].taken_over);
    assert_eq!(counters[1].executed, 1);
}

/// Packets for an engine that the process does not have.
#[test]
fn packets_for_no_engine() {
    let mut process = process(6);
    let (mut session, remotes) = session_to_both(&mut process);
    let mut rogue = Rogue::new(&process.world, SocketAddr::from(([10, 9, 9, 9], 1)));
    let mut header = PacketHeader::new(PacketKind::Data, ConnectionId::new(7, 0, 1234));
    header.flags = PacketFlags::NUMBERED.bits().into();
    let mut packet = vec![0; HEADER_BYTES + 48];
    header.write(&mut packet);
    Crc32.seal(&mut packet);
    for engine in process.engines {
        rogue.send_raw(process.world.address(engine), &packet);
    }
    // One engine that is alone in its process.
    rogue.send_raw(process.world.address(process.elsewhere), &packet);
    process.world.run_for(Span::from_ms(1));
    for host in [process.engines[0], process.engines[1], process.elsewhere] {
        let counters = process.world.counters(host);
        assert_eq!((counters.unforwardable, counters.forwarded), (1, 0));
        assert_eq!(counters.malformed_packets, 0);
    }
    for remote in remotes {
        assert!(process.world.run(&mut session, &Ask::fetch_add(remote, 0, 1)).is_ok());
    }
}

/// An engine hands on what only its neighbour can judge: damaged packets too, which end there.
#[test]
fn damaged_packets_for_a_neighbour() {
    let mut process = process(7);
    let mut rogue = Rogue::new(&process.world, SocketAddr::from(([10, 9, 9, 9], 1)));
    let header = PacketHeader::new(PacketKind::Data, ConnectionId::new(1, 0, 1234));
    let mut packet = vec![0; HEADER_BYTES + 48];
    header.write(&mut packet);
    packet[4] ^= 1;
    rogue.send_raw(process.world.address(process.engines[0]), &packet);
    process.world.run_for(Span::from_ms(1));
    let counters = process.engines.map(|engine| process.world.counters(engine));
    assert_eq!((counters[0].forwarded, counters[1].taken_over), (1, 1));
    assert_eq!((counters[0].corrupted_packets, counters[1].corrupted_packets), (0, 1));
}

/// A device's queue brings a handshake to the wrong engine: it says to which UDP port it was sent, so
/// the right one answers, and what follows names it by itself.
#[test]
fn a_handshake_at_the_wrong_engine() {
    let mut process = process(6);
    let [right, wrong] = [0, 1].map(|n| process.world.address(process.engines[n]));
    process.world.host(process.elsewhere).misdirection.set(right, wrong, u32::MAX);
    process.world.host(process.engines[1]).misdirection.receive_for(right.port());
    let mut session = process.world.add_session(process.elsewhere, GEOMETRY);
    let remote = process.world.connect(&session, process.engines[0], process.regions[0].2);
    let done = process.world.run(&mut session, &Ask::fetch_add(remote, 0, 1));
    assert!(done.is_ok(), "{:?}", done.ended());
    let counters = process.engines.map(|engine| process.world.counters(engine));
    assert_eq!((counters[0].flows, counters[1].flows), (1, 0), "the engine that was asked for");
    assert_eq!((counters[0].executed, counters[1].executed), (1, 0));
    assert!(counters[1].forwarded >= 3 && counters[0].taken_over == counters[1].forwarded);
}
