//! Recorded traffic, changed here and there and played again.
//!
//! A world is all decided by its seed: an engine that lives through the same moments once more
//! draws the same ids and cookies, so that it believes the packets of a peer that is no more, if
//! somebody at that peer's address sends them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use nic_engine::Crc32;
use nic_engine::engine::Answer;
use nic_kernels::Access;
use nic_ports::Random;
use nic_ports::sim::Verdict;
use nic_tests::{Ask, Done, HostId, Rogue, under_seeds};
use nic_transport::Protection;
use nic_wire::{Rkey, Span, Time};

use crate::{GEOMETRY, Scene};

const OWN_BYTES: u64 = 8192;
const OPS: usize = 24;

/// Which engine is played to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Listener {
    /// A target: what its initiator sent.
    Target,
    /// An initiator: what its target answered.
    Initiator,
}

/// The scene, and a second pair of hosts: one of them is of the scene and listens, the other one
/// speaks, or is replaced by a recording of what it said.
struct Stage {
    scene: Scene,
    listener: Listener,
    listening: HostId,
    speaking: HostId,
    rkey: Rkey,
    player: Option<Player>,
}

/// Packets, and when they were sent.
type Recording = VecDeque<(Time, Vec<u8>)>;

/// Sends what is left of a recording from the speaker's address.
struct Player {
    rogue: Rogue,
    recording: Recording,
}

fn stage(seed: u64, listener: Listener) -> Stage {
    let mut scene = Scene::new(seed);
    let speaking = scene.world.add_host();
    let (listening, target) = match listener {
        Listener::Target => (scene.target, scene.target),
        Listener::Initiator => (scene.initiator, speaking),
    };
    let owner = scene.world.add_client(target);
    let (_, rkey) = scene.world.exported_region(target, owner, OWN_BYTES, Access::all());
    Stage { scene, listener, listening, speaking, rkey, player: None }
}

fn asks(remote: u16) -> Vec<Ask> {
    let ask = |number: u64| {
        let address = 64 * (number % 16);
        let ask = match number % 6 {
            0 => Ask::read(remote, address, 3000),
            1 => Ask::write(remote, address, &[number as u8; 2500]),
            2 => Ask::fetch_add(remote, address, 1).fenced(),
            3 => Ask::compare_swap(remote, address, number, 0),
            4 => Ask::write(remote, address, &[number as u8; 20]).in_stream(2),
            _ => Ask::read(remote, address, 100).fenced(),
        };
        ask.within(Span::from_ms(20))
    };
    (0..OPS as u64).map(ask).collect()
}

impl Stage {
    /// Lets time pass, in which the player sends what is due.
    fn run_for(&mut self, span: Span) {
        let Stage { scene, listening, player, .. } = self;
        let world = &mut scene.world;
        let end = world.now() + span;
        let to = world.address(*listening);
        if let Some(Player { rogue, recording }) = player {
            while recording.front().is_some_and(|packet| packet.0 <= end)
                && let Some((time, bytes)) = recording.pop_front()
            {
                if time > world.now() {
                    world.run_for(time.since(world.now()));
                }
                rogue.send_raw(to, &bytes);
            }
        }
        if end > world.now() {
            world.run_for(end.since(world.now()));
        }
    }

    /// Connects and runs ops, as far as the other side lets; each op that was submitted ends once.
    fn converse(&mut self) -> Vec<Done> {
        let (initiator, target) = match self.listener {
            Listener::Target => (self.speaking, self.listening),
            Listener::Initiator => (self.listening, self.speaking),
        };
        let mut session = self.scene.world.add_session(initiator, GEOMETRY);
        let work = self.scene.world.connect_work(&session, target, self.rkey);
        let id = self.scene.world.begin(initiator, work);
        self.run_for(Span::from_ms(5));
        let mut done = Vec::new();
        if let Some(Answer::Connected(remote)) = self.scene.world.answer(initiator, id) {
            for chunk in asks(remote).chunks(6) {
                for ask in chunk.iter().take(GEOMETRY.depth as usize - session.out()) {
                    session.submit(ask);
                }
                self.run_for(Span::from_ms(1));
                done.extend(session.poll());
            }
            self.run_for(Span::from_ms(50));
            done.extend(session.poll());
        }
        assert_eq!(session.out(), 0, "every op ends by its deadline");
        self.scene.world.close_session(&session);
        done
    }
}

/// What the speaker says in a conversation in which all goes well.
fn record(seed: u64, listener: Listener) -> Recording {
    let mut stage = stage(seed, listener);
    let recording = Rc::new(RefCell::new(Recording::new()));
    let shared = Rc::clone(&recording);
    let [from, to] = [stage.speaking, stage.listening].map(|host| stage.scene.world.address(host));
    stage.scene.world.network.set_script(move |packet| {
        if (packet.from, packet.to) == (from, to) {
            shared.borrow_mut().push_back((packet.now, packet.bytes.to_vec()));
        }
        Verdict::Chance
    });
    let done = stage.converse();
    assert!(done.len() == OPS && done.iter().all(Done::is_ok), "{done:?}");
    let recording = recording.take();
    assert!(recording.len() > OPS / 2);
    recording
}

/// Plays a recording to the listener. Returns what came of the listener's own ops and how many ops
/// of others it carried out.
fn play(seed: u64, listener: Listener, recording: Recording) -> (Vec<Done>, u64) {
    let mut stage = stage(seed, listener);
    let untouched = stage.scene.untouched_bytes();
    let before = stage.scene.world.counters(stage.listening);
    stage.scene.world.kill(stage.speaking);
    let rogue = Rogue::new(&stage.scene.world, stage.scene.world.address(stage.speaking));
    stage.player = Some(Player { rogue, recording });
    let done = match listener {
        Listener::Target => {
            stage.run_for(Span::from_ms(80));
            Vec::new()
        }
        Listener::Initiator => stage.converse(),
    };
    let after = stage.scene.world.counters(stage.listening);
    stage.scene.nobody_noticed();
    assert!(untouched == stage.scene.untouched_bytes(), "memory of others was written");
    (done, after.executed - before.executed)
}

/// Changes a packet's bytes; what is not sealed again fails its checksum.
fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let place = random.below(bytes.len() as u64) as usize;
        bytes[place] = match random.below(4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[place] ^ 1 << random.below(8),
            _ => random.next() as u8,
        };
    }
    if random.below(8) == 0 {
        bytes.truncate(64 + random.below(bytes.len() as u64 - 63) as usize);
        // It says so, too.
        let flags = u16::from(bytes[2] & 15) | (bytes.len() as u16) << 4;
        bytes[2..4].copy_from_slice(&flags.to_le_bytes());
    }
    if random.below(6) != 0 {
        Crc32.seal(bytes);
    }
}

/// The recording with some packets changed, lost, doubled or late.
fn changed(recording: &Recording, random: &mut Random) -> Recording {
    let mut played = Vec::new();
    for (time, bytes) in recording {
        let (mut time, mut bytes) = (*time, bytes.clone());
        match random.below(12) {
            0..=2 => change(&mut bytes, random),
            3 => continue,
            4 => played.push((time, bytes.clone())),
            5 => time += Span::from_us(random.below(3_000)),
            _ => {}
        }
        played.push((time, bytes));
    }
    played.sort_by_key(|packet| packet.0);
    played.into()
}

/// Without changes the recording is believed: else what follows would prove nothing.
#[test]
fn a_recording_is_as_good_as_its_speaker() {
    let recording = record(170, Listener::Target);
    assert_eq!(play(170, Listener::Target, recording).1, OPS as u64);
    let recording = record(170, Listener::Initiator);
    let (done, _) = play(170, Listener::Initiator, recording);
    assert!(done.len() == OPS && done.iter().all(Done::is_ok), "{done:?}");
}

#[test]
fn changed_recordings_are_survived() {
    under_seeds(171..174, |seed| {
        for listener in [Listener::Target, Listener::Initiator] {
            let recording = record(seed, listener);
            let mut random = Random::new(seed);
            let (mut executed, mut ok) = (0, 0);
            for _ in 0..60 {
                let (done, ran) = play(seed, listener, changed(&recording, &mut random));
                executed += ran;
                ok += done.iter().filter(|done| done.is_ok()).count();
            }
            assert!(if listener == Listener::Target { executed > 100 } else { ok > 100 });
        }
    });
}
