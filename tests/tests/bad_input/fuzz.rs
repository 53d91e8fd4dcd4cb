//! Random input of every kind. The engines stay up, and the honest session notices nothing.

use std::sync::atomic::Ordering;

use nic_kernels::{compare_swap, fetch_add, read, write};
use nic_ports::Random;
use nic_tests::{Rogue, request_frame, under_seeds};
use nic_wire::frame::{Request, RequestFlags};
use nic_wire::session::{ANSWER, Command, Geometry};
use nic_wire::{KernelId, OpId, Rkey, Span};
use zerocopy::{FromBytes, IntoBytes};

use crate::{GEOMETRY, REGION_BYTES, Scene, stranger};

/// A number that is often small, often near a limit and sometimes anything.
fn number(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => random.below(4),
        1 => random.below(300),
        2 => REGION_BYTES.wrapping_sub(8).wrapping_add(random.below(17)),
        3 => (1 << random.below(64)) - random.below(2),
        4 => 8 * random.below(REGION_BYTES / 8),
        _ => random.next(),
    }
}

/// Kernels that are asked for: of the plain ones all, of the others those that only read, and so
/// leave the honest session's words alone.
const KERNELS: [u16; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 17];

/// Arguments of some kernel, half of them right.
fn arguments(random: &mut Random, kernel: KernelId) -> Vec<u8> {
    // Not where the honest session works.
    let address = 8192 + number(random) % REGION_BYTES;
    let mut bytes = match kernel {
        KernelId::READ => read::Arguments::home(address, number(random) as u32).encode().to_vec(),
        KernelId::WRITE => write::Arguments::home(address).encode().to_vec(),
        KernelId::FETCH_ADD => fetch_add::Arguments::home(address, 1).encode().to_vec(),
        _ => compare_swap::Arguments::home(address, 0, 1).encode().to_vec(),
    };
    if random.below(3) == 0 {
        let length = random.below(29) as usize;
        bytes.resize(length, random.next() as u8);
    }
    bytes
}

#[test]
fn random_commands() {
    under_seeds(120..124, |seed| {
        let mut scene = Scene::new(seed);
        let mut random = Random::new(seed);
        let mut session = scene.world.add_session(scene.initiator, GEOMETRY);
        scene.world.connect(&session, scene.target, scene.rkey);
        let (mut sent, mut ended) = (0u64, 0);
        for round in 0..200 {
            for _ in 0..1 + random.below(4) {
                let mut bytes = [0u8; size_of::<Command>()];
                bytes.iter_mut().for_each(|byte| *byte = random.next() as u8);
                let mut command = Command::read_from_bytes(&bytes).unwrap();
                // Each field is sensible now and then, so that every check is reached.
                let mut sensible = |share| random.below(share) != 0;
                let fields = [(); 6].map(|()| sensible(4));
                let kernel = KernelId(KERNELS[number(&mut random) as usize % KERNELS.len()]);
                if fields[0] {
                    command.kernel = kernel.0.into();
                    let arguments = arguments(&mut random, kernel);
                    command.argument_length = arguments.len() as u8;
                    command.arguments[..arguments.len()].copy_from_slice(&arguments);
                }
                if fields[1] {
                    command.remote = 0.into();
                }
                if fields[2] {
                    command.payload_offset = (number(&mut random) as u32 % 4096).into();
                    command.payload_length = (number(&mut random) as u32 % 9000).into();
                }
                if fields[3] {
                    command.reply_offset = 8192.into();
                    command.reply_capacity = (number(&mut random) as u32 % 9000).into();
                }
                if fields[4] {
                    command.stream = (number(&mut random) as u16 % 9).into();
                }
                if fields[5] {
                    command.budget_us = (number(&mut random) as u32 % 2000).into();
                }
                // Atomics of the fuzz stay away from the honest session's counter: no address that
                // is wholly random may reach it.
                if command.kernel() != ANSWER && is_harmless(&command) {
                    session.push(&command);
                    sent += 1;
                }
            }
            scene.world.run_for(Span::from_ms(3));
            ended += session.poll_raw().len() as u64;
            if round % 10 == 0 {
                scene.nobody_noticed();
            }
        }
        // Those with budgets without end hang on fences of nobody's; all others have ended.
        scene.world.close_session(&session);
        scene.nobody_noticed();
        let counters = scene.world.counters(scene.initiator);
        assert!(counters.bad_commands > 100 && sent > 300);
        assert!(ended <= sent, "{ended} completions for {sent} commands");
        assert!(ended + 8 >= sent, "{ended} completions for {sent} commands");
    });
}

/// Whether a random command surely leaves the honest session's bytes alone.
fn is_harmless(command: &Command) -> bool {
    let address = u64::from_le_bytes(command.arguments[..8].try_into().unwrap());
    !(0..8192).contains(&address)
}

#[test]
fn random_session_memory() {
    under_seeds(130..134, |seed| {
        let mut scene = Scene::new(seed);
        let mut random = Random::new(seed);
        let client = scene.world.add_client(scene.initiator);
        for _ in 0..12 {
            let geometry = Geometry { receive_buffers: 4, receive_buffer_bytes: 64, ..GEOMETRY };
            let session = scene.world.open_session(scene.initiator, client, geometry);
            scene.world.connect(&session, scene.target, scene.rkey);
            let places = session.places;
            let rings = [places.commands, places.completions, places.receives];
            for _ in 0..40 {
                // The target's region is out of reach: kernels that change memory are left out.
                let end = places.arena / 4;
                let word = match random.below(3) {
                    0 => rings[random.below(3) as usize] / 4 + 16 * random.below(3),
                    _ => random.below(end),
                };
                let value = match random.below(3) {
                    0 => random.below(16) as u32,
                    1 => 0u32.wrapping_sub(random.below(16) as u32),
                    _ => random.next() as u32 & 0xffff_0002,
                };
                session.memory.word32(4 * word).unwrap().store(value, Ordering::Release);
                scene.world.run_for(Span::from_us(20));
            }
            scene.nobody_noticed();
            scene.world.close_session(&session);
        }
        scene.world.run_for(Span::from_ms(2_000));
        scene.nobody_noticed();
    });
}

#[test]
fn random_frames() {
    under_seeds(140..144, |seed| {
        let mut scene = Scene::new(seed);
        let mut random = Random::new(seed);
        let to = scene.target_address();
        let mut rogue = Rogue::new(&scene.world, stranger(1));
        assert!(rogue.connect(&mut scene.world, to));
        for round in 0..300 {
            let mut body = Vec::new();
            while body.len() < 800 && random.below(4) != 0 {
                let frame = frame(&mut random, scene.rkey);
                body.extend(frame);
            }
            if random.below(3) == 0 && !body.is_empty() {
                let place = random.below(body.len() as u64) as usize;
                body[place] = random.next() as u8;
            }
            if rogue.may_send() {
                rogue.send(&scene.world, &body);
            }
            rogue.turns(&mut scene.world, Span::from_us(60));
            assert!(!rogue.closed, "the engine bears with it");
            if round % 20 == 0 {
                scene.honest_ops_go_on();
            }
        }
        let counters = scene.world.counters(scene.target);
        assert!(counters.malformed_frames > 10 && counters.refused > 50 && counters.executed > 20);
        scene.honest_ops_go_on();
        // Budgets were at most 50 ms, but for those that a changed byte made longer. With the flow
        // the last of it ends.
        rogue.turns(&mut scene.world, Span::from_ms(100));
        rogue.close(&mut scene.world);
        assert_eq!(scene.world.counters(scene.target).flows, 1);
        assert_eq!(scene.world.counters(scene.target).ops_in, 0, "nothing is held for ever");
        scene.honest_ops_go_on();
    });
}

impl Scene {
    /// Like [`Scene::nobody_noticed`], where others may change the honest session's bytes too.
    fn honest_ops_go_on(&mut self) {
        let asks = [
            nic_tests::Ask::fetch_add(self.remote, 0, 1),
            nic_tests::Ask::read(self.remote, 4096, 3000),
        ];
        for ask in &asks {
            let done = self.world.run(&mut self.honest, ask);
            assert!(done.is_ok(), "{:?}", done.ended());
        }
    }
}

fn frame(random: &mut Random, rkey: Rkey) -> Vec<u8> {
    let kernel = KernelId(random.below(8) as u16);
    let arguments = arguments(random, kernel);
    let chunk: Vec<u8> = vec![0x77; random.below(3) as usize * random.below(200) as usize];
    let payload_length = match random.below(4) {
        0 => number(random) as u32,
        1 => chunk.len() as u32 + random.below(2000) as u32,
        _ => chunk.len() as u32,
    };
    let request = Request {
        op: OpId::from_raw(random.below(20) as u32),
        kernel,
        stream: random.below(70) as u16,
        sequence: number(random) as u32,
        flags: RequestFlags::from_bits_truncate(u8::from(random.below(4) == 0)),
        rkey: if random.below(4) == 0 { Rkey::new(0, 1, random.next()) } else { rkey },
        budget_us: random.below(50_000) as u32,
        reply_capacity: number(random) as u32,
        payload_length,
        payload_offset: if random.below(4) == 0 { number(random) as u32 } else { 0 },
    };
    let frame = request_frame(&request, &arguments, &chunk);
    assert!(frame.as_bytes().len() >= 48);
    frame
}
