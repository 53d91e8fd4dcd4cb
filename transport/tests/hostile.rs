//! No bytes, however made, crash an endpoint, make it leak, or disturb the flows that it has.
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used)]

mod world;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use nic_transport::{Config, Handled};
use nic_wire::Span;
use world::{Datagram, Random, World, address};

/// How far an arbitrary packet gets before it is looked at in earnest.
#[derive(Clone, Debug, bolero::TypeGenerator)]
enum Disguise {
    /// Nothing about it is right.
    None,
    /// Its version, kind and checksum are.
    Sealed,
    /// Its connection id is right as well: that of the flow at the host it is sent to.
    Addressed,
    /// And it comes from the peer.
    Impersonating,
}

/// Arbitrary bytes at both ends of an open flow.
#[test]
fn arbitrary_bytes_are_survived() {
    let fates = [const { AtomicU32::new(0) }; 3];
    bolero::check!()
        .with_type::<([u8; 192], u8, bool, Disguise)>()
        .with_iterations(6_000)
        .for_each(|(bytes, length, at_target, disguise)| {
            let mut world = World::pair(1, &Config { flows_max: 4, ..Config::default() });
            let (ours, theirs) = world.open();
            let (host, flow) = if *at_target { (1, theirs) } else { (0, ours) };
            let id = world.hosts[host].endpoint.flow(flow).unwrap().local_id().raw();
            let length = usize::from(*length).min(bytes.len());
            let mut datagram =
                Datagram { from: address(6), to: address(host), bytes: bytes[..length].to_vec() };
            if length >= 64 && !matches!(disguise, Disguise::None) {
                datagram.bytes[0] = nic_wire::WIRE_VERSION;
                datagram.bytes[1] = 1 + bytes[1] % 6;
                let flags = u16::from(bytes[2] & 15) | (length as u16) << 4;
                datagram.bytes[2..4].copy_from_slice(&flags.to_le_bytes());
                if !matches!(disguise, Disguise::Sealed) {
                    datagram.bytes[8..16].copy_from_slice(&id.to_le_bytes());
                }
                if matches!(disguise, Disguise::Impersonating) {
                    datagram.from = address(1 - host);
                }
                datagram.forge(|_| {});
            }
            world.deliver(&datagram);
            world.run_for(Span::from_ms(1));
            assert!(world.hosts[host].endpoint.flows() <= 1, "no state without a cookie");
            let fate = match world.hosts[host].handled.last().unwrap() {
                Handled::Dropped(_) => 0,
                Handled::Foreign { .. } => 1,
                Handled::Control | Handled::Data { .. } | Handled::Ack { .. } => 2,
            };
            fates[fate].fetch_add(1, Relaxed);
            world.tear_down();
        });
    println!("dropped, foreign, taken: {fates:?}");
    assert!(fates.iter().all(|count| count.load(Relaxed) > 10), "{fates:?}");
}

/// Packets of real conversations, changed here and there, sealed again and thrown in at random
/// moments: whatever happens to the flow, nothing panics and everything is given back.
#[test]
fn mutated_packets_are_survived() {
    for seed in 0..150 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let config =
            Config { flows_max: 3, connect_timeout: Span::from_ms(200), ..Config::default() };
        let mut world = World::pair(seed, &config);
        world.hosts[1].echoes = true;
        let mut flows = vec![world.connect(0, 1)];
        for round in 0..200u64 {
            if round % 40 == 39 && flows.len() < 3 {
                let to = world.hosts[1].address;
                flows.extend(world.hosts[0].endpoint.connect(world.now, to, None));
            }
            for flow in &flows {
                let open = world.hosts[0].endpoint.flow(*flow).is_some_and(|flow| flow.is_open());
                if open && world.hosts[0].outbox.len() < 4 {
                    world.hosts[0].outbox.push_back((*flow, vec![round as u8; 200]));
                }
            }
            world.run_for(Span::from_us(random.below(100)));
            if world.log.is_empty() {
                continue;
            }
            let place = random.below(world.log.len() as u64) as usize;
            let mut datagram = world.log[place].1.clone();
            mutate(&mut datagram, &mut random);
            world.deliver(&datagram);
        }
        world.run_for(Span::from_ms(5_000));
        for host in &mut world.hosts {
            assert!(host.endpoint.flows() <= 3);
            let opened: Vec<_> = host.events.clone();
            for event in opened {
                if let nic_transport::FlowEvent::Opened { flow, .. } = event {
                    host.endpoint.remove(flow, &mut host.pool);
                }
            }
            flows.iter().for_each(|flow| host.endpoint.remove(*flow, &mut host.pool));
            assert_eq!(host.endpoint.flows(), 0, "seed {seed}");
            host.pool.transmit();
            host.pool.assert_all_free();
        }
    }
}

fn mutate(datagram: &mut Datagram, random: &mut Random) {
    datagram.forge(|bytes| {
        for _ in 0..random.below(4) {
            // The checksum's own bytes are written by the sealing.
            let place = random.below(bytes.len() as u64) as usize;
            bytes[place] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => bytes[place].wrapping_add(1),
                _ => random.draw() as u8,
            };
        }
        if random.chance(100) {
            let length = 64 + random.below(bytes.len() as u64 - 63) as usize;
            bytes.truncate(length);
        }
    });
}

/// Every single byte of every kind of packet, set to extreme values.
#[test]
fn each_byte_of_each_packet_is_tried() {
    let mut model = World::pair(3, &Config::default());
    model.hosts[1].echoes = true;
    let (ours, _) = model.open();
    model.send(0, ours, b"request");
    model.run_dry();
    let host = &mut model.hosts[0];
    host.endpoint.close(ours, nic_wire::handshake::ResetReason::Closing);
    model.settle();
    let conversation: Vec<_> = model.log.iter().map(|entry| entry.1.clone()).collect();
    assert_eq!(conversation.len(), 8, "handshake, exchange, ack, reset");
    for (index, datagram) in conversation.iter().enumerate() {
        for place in (0..datagram.bytes.len()).filter(|place| !(4..8).contains(place)) {
            for value in [0, 0x7f, 0xff] {
                // The same conversation up to here, then the changed packet in place of the real.
                let mut world = World::pair(3, &Config::default());
                world.hosts[1].echoes = true;
                world.script(move |sent, datagram| {
                    if sent == index {
                        datagram.forge(|bytes| bytes[place] = value);
                    }
                    world::Verdict::Deliver
                });
                world.connect(0, 1);
                world.run_for(Span::from_us(45));
                if let Some(flow) = world.opened(0)
                    && world.hosts[0].endpoint.flow(flow).is_some()
                {
                    world.send(0, flow, b"request");
                }
                world.run_for(Span::from_ms(20));
                let heard = world.hosts.iter().flat_map(|host| &host.handled);
                assert!(heard.clone().count() >= 1);
                assert!(!heard.clone().any(|handled| matches!(
                    handled,
                    Handled::Data { body, .. } if body.end > 2048
                )));
            }
        }
    }
}
