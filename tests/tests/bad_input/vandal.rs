//! Applications that write anything into their session memory while their engine works with it: a
//! thread of its own scribbles, so that words change between any two of the engine's looks at them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use nic_engine::engine::Work;
use nic_kernels::Access;
use nic_ports::Random;
use nic_shm::RacyMem;
use nic_tests::{AppSession, Ask, under_seeds};
use nic_wire::session::{Command, Geometry, Places, RING_WORDS_BYTES};
use nic_wire::{Span, Status};
use zerocopy::{FromZeros, IntoBytes};

use crate::{GEOMETRY, Scene};

const SESSION: Geometry = Geometry { receive_buffers: 4, receive_buffer_bytes: 64, ..GEOMETRY };
/// Bytes of the vandal's own region: the only one that its commands reach.
const OWN_BYTES: u64 = 4096;
const SERVICE: u16 = 9;

/// What is scribbled on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    /// Everything: the session soon counts as broken.
    Everything,
    /// Everything but the words of the rings, so that the engine goes on working with it.
    AllButRingWords,
}

/// A thread that writes into session memory until it is told to stop.
struct Vandal {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Vandal {
    fn begin(session: &AppSession, target: Target, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let (memory, places) = (session.memory.clone(), session.places);
        let rings = [places.commands, places.completions, places.receives];
        let (should_stop, count) = (Arc::clone(&stop), Arc::clone(&written));
        let scribble = move || {
            let mut random = Random::new(seed);
            while !should_stop.load(Ordering::Relaxed) {
                let at = place(&mut random, &memory, &places);
                let is_ring_word =
                    rings.iter().any(|ring| (*ring..ring + RING_WORDS_BYTES as u64).contains(&at));
                if target == Target::Everything || !is_ring_word {
                    let value = word(&mut random);
                    memory.word32(at).unwrap().store(value, Ordering::Relaxed);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        Vandal { stop, written, thread: thread::spawn(scribble) }
    }

    /// Waits for some more words to be written, however busy the machine is.
    fn let_scribble(&self) {
        let enough = self.written.load(Ordering::Relaxed) + 40;
        while self.written.load(Ordering::Relaxed) < enough {
            thread::yield_now();
        }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// Most words of a session lie in its header and its arena; most of the writes do not.
fn place(random: &mut Random, memory: &RacyMem, places: &Places) -> u64 {
    let (start, end) = match random.below(8) {
        0 => (0, memory.len()),
        _ => (places.commands, places.arena),
    };
    start + 4 * random.below((end - start) / 4)
}

fn word(random: &mut Random) -> u32 {
    match random.below(5) {
        0 => 0,
        1 => random.below(64) as u32,
        2 => 1 << random.below(32),
        3 => u32::MAX - random.below(16) as u32,
        _ => random.next() as u32,
    }
}

/// A command that makes sense, until the vandal changes it.
fn plausible(random: &mut Random, remote: u16, address: u64) -> Command {
    let mut command = Command::new_zeroed();
    command.kernel = (2 + random.below(4) as u16).into();
    command.remote = remote.into();
    command.argument_length = [16, 16, 28, 24][usize::from(command.kernel.get() - 2)];
    command.payload_length = if command.kernel.get() == 3 { 64 } else { 0 }.into();
    command.reply_offset = 4096.into();
    command.reply_capacity = 1024.into();
    command.budget_us = 200.into();
    command.arguments[2..10].copy_from_slice(&address.to_le_bytes());
    command
}

/// Makes the engine take what stands in the next slot of the command ring, whatever that is by
/// then.
fn publish(session: &AppSession, command: &Command, index: u32) {
    let slot = u64::from(index % SESSION.depth) * size_of::<Command>() as u64;
    let at = session.places.commands + RING_WORDS_BYTES as u64 + slot;
    session.memory.write(at, command.as_bytes()).unwrap();
    let word = session.memory.word32(session.places.commands).unwrap();
    word.store(index + 1, Ordering::Release);
}

/// One session's life under the vandal. `is_serving`: it belongs to the target application and is
/// what calls arrive at.
fn one_life(scene: &mut Scene, target: Target, is_serving: bool, random: &mut Random) {
    let (host, client) = if is_serving {
        (scene.target, scene.owner)
    } else {
        (scene.initiator, scene.world.add_client(scene.initiator))
    };
    let session = scene.world.open_session(host, client, SESSION);
    let own = scene.world.add_client(scene.target);
    let (_memory, rkey) = scene.world.exported_region(scene.target, own, OWN_BYTES, Access::all());
    let remote = scene.world.connect(&session, scene.target, rkey);
    if is_serving {
        let work = Work::Serve { client, session: session.id, service: SERVICE };
        scene.world.released(host, work);
    }
    let vandal = Vandal::begin(&session, target, random.next());
    for round in 0..60 {
        if target == Target::AllButRingWords {
            // The completions that it was given are drained, so that there is room for more.
            let [completed, drained] = [0, 64]
                .map(|word| session.memory.word32(session.places.completions + word).unwrap());
            drained.store(completed.load(Ordering::Acquire), Ordering::Release);
            let address = 8 * random.below(OWN_BYTES / 8);
            publish(&session, &plausible(random, remote, address), round);
        }
        vandal.let_scribble();
        scene.world.run_for(Span::from_us(20));
        if is_serving && round % 20 == 0 {
            let call = Ask::call(scene.remote, SERVICE, b"hello", 64).within(Span::from_ms(2));
            let done = scene.world.run(&mut scene.honest, &call);
            let expected = [Status::Expired, Status::Busy, Status::Ok, Status::ServiceFailed];
            assert!(expected.contains(&done.status), "{:?}", done.ended());
        }
        if round % 15 == 0 {
            scene.nobody_noticed();
        }
    }
    scene.world.close_session(&session);
    scene.nobody_noticed();
    vandal.end();
    for (host, client) in [(host, client), (scene.target, own)] {
        if client != scene.owner || host != scene.target {
            scene.world.released(host, Work::RemoveClient { client });
        }
    }
}

#[test]
fn scribbling_disturbs_nobody_else() {
    under_seeds(160..162, |seed| {
        let mut scene = Scene::new(seed);
        let mut random = Random::new(seed);
        let untouched = scene.untouched_bytes();
        let mut lives = 0;
        for is_serving in [false, true] {
            for target in [Target::Everything, Target::AllButRingWords] {
                for _ in 0..4 {
                    one_life(&mut scene, target, is_serving, &mut random);
                    lives += 1;
                }
            }
        }
        let [initiator, target] =
            [scene.initiator, scene.target].map(|host| scene.world.counters(host));
        let violations = initiator.ring_violations + target.ring_violations;
        let bad_commands = initiator.bad_commands + target.bad_commands;
        assert!((lives / 4..=lives).contains(&violations), "{violations} in {lives} lives");
        assert!(bad_commands > 10, "{bad_commands}");
        assert!(untouched == scene.untouched_bytes(), "nothing was written but the vandal's own");
        // Whatever of the vandal's was under way has ended.
        scene.world.run_for(Span::from_ms(3_000));
        let ended = scene.world.counters(scene.initiator);
        assert_eq!((ended.ops_out, scene.world.counters(scene.target).ops_in), (0, 0));
        scene.nobody_noticed();
    });
}
