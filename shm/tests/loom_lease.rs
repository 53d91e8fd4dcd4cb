//! The life of a lease under every interleaving that loom finds (bounded preemption): the piece of
//! the arena that an op owns is free at the later of {completion drained, handle dropped}.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p nic-shm --release --test loom_lease`
//!
//! Arena, leases and rings are the real ones. The bytes of the one block are a loom cell, so that
//! the engine's write and the application's next use of the block must be ordered by the rings.

#![cfg(loom)]
// Loom lends the content of its cells as raw pointers.
#![allow(unsafe_code)]

mod loom_model;

use loom::sync::Arc;
use loom::thread;
use loom_model::{Bell, Places, Word, model, words};
use nic_shm::{
    Arena, BlockSizes, CompletedLease, ConsumerCursor, Lease, LeaseArena, ProducerCursor, RacyMem,
};

const BLOCK: u32 = 64;
const OPS: u32 = 2;

/// One direction between application and engine.
struct Ring {
    words: nic_shm::RingWords<Word<true>>,
    entries: Arc<Places>,
}

impl Ring {
    fn new() -> Self {
        Ring { words: words(0), entries: Places::new() }
    }

    fn producer(&self) -> ProducerCursor<Word<true>> {
        ProducerCursor::new(self.words.clone(), 2, 0)
    }

    fn consumer(&self) -> ConsumerCursor<Word<true>> {
        ConsumerCursor::new(self.words.clone(), 2, 0)
    }
}

/// How an application loses interest in an op.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// It drains the completion, reads the reply, and drops the handle.
    DrainedFirst,
    /// It drops the handle at once; the lease stays with the op until the completion is drained.
    DroppedFirst,
    /// The same without waiting: what must not be.
    FreedTooEarly,
}

/// What a session keeps of its one op.
enum Stage {
    Out(Lease),
    Over(CompletedLease),
}

struct Application {
    arena: LeaseArena,
    /// The arena's bytes.
    bytes: Arc<Places>,
    commands: ProducerCursor<Word<true>>,
    command_entries: Arc<Places>,
    completions: ConsumerCursor<Word<true>>,
    completion_entries: Arc<Places>,
    bell: Arc<Bell>,
    /// Which of the slot's successive ops is out: names the op in command and completion.
    generation: u32,
}

impl Application {
    /// Builds the payload in the lease and submits; the arena has room for one op at a time.
    fn submit(&mut self) -> Stage {
        let lease = self.arena.lease(BLOCK).expect("the op before has given its block back");
        self.generation += 1;
        self.bytes.write(lease.offset() / BLOCK, self.generation);
        let index = self.commands.next_index().expect("an honest engine").expect("one fits");
        self.command_entries.write(index, self.generation);
        self.commands.advance();
        let _ = self.commands.publish();
        Stage::Out(lease)
    }

    /// Sleeps until the op's completion is there, and takes it.
    fn drain(&mut self, stage: Stage) -> Stage {
        let index = loop {
            match self.completions.next_index().expect("an honest engine") {
                Some(index) => break index,
                None if self.completions.prepare_sleep() => {
                    self.bell.wait();
                    self.completions.awake();
                }
                None => {}
            }
        };
        let token = self.completion_entries.read(index);
        self.completions.advance();
        self.completions.release();
        assert_eq!(token, self.generation, "a completion of another op");
        let Stage::Out(lease) = stage else { unreachable!("the op was out") };
        Stage::Over(lease.completed(4).expect("the reply fits"))
    }

    fn run_op(&mut self, ending: Ending) {
        let stage = self.submit();
        match ending {
            Ending::DrainedFirst => {
                let Stage::Over(lease) = self.drain(stage) else { unreachable!("drained") };
                assert_eq!(self.bytes.read(0), reply_to(self.generation), "the op's own reply");
                drop(lease);
            }
            Ending::DroppedFirst => drop(self.drain(stage)),
            Ending::FreedTooEarly => {
                drop(stage);
                let lease = self.arena.lease(BLOCK).expect("it was given back");
                // The next op's payload.
                self.bytes.write(lease.offset() / BLOCK, 0);
                drop(self.drain(Stage::Out(lease)));
            }
        }
        assert_eq!(self.arena.free_bytes(), BLOCK.into(), "nothing leaks");
    }
}

fn reply_to(payload: u32) -> u32 {
    payload + 1000
}

/// The engine reads each op's payload and lands the reply in the same place.
fn serve(commands: &Ring, completions: &Ring, bytes: &Places, bell: &Bell) {
    let (mut taken, mut posted) = (commands.consumer(), completions.producer());
    for _ in 0..OPS {
        let index = loop {
            match taken.next_index().expect("an honest application") {
                Some(index) => break index,
                None => thread::yield_now(),
            }
        };
        let token = commands.entries.read(index);
        taken.advance();
        taken.release();
        assert_eq!(bytes.read(0), token, "the op's own payload");
        bytes.write(0, reply_to(token));
        let index = posted.next_index().expect("an honest application").expect("one fits");
        completions.entries.write(index, token);
        posted.advance();
        if posted.publish() {
            bell.ring();
        }
    }
}

fn life_cycle(endings: [Ending; OPS as usize]) {
    let (commands, completions) = (Ring::new(), Ring::new());
    let (bytes, bell) = (Places::new(), Bell::new());
    let sizes = BlockSizes { least: BLOCK, greatest: BLOCK };
    let arena = Arena::new(RacyMem::allocate(BLOCK.into()), sizes).expect("sizes that fit");
    let mut application = Application {
        arena: LeaseArena::new(arena),
        bytes: Arc::clone(&bytes),
        commands: commands.producer(),
        command_entries: Arc::clone(&commands.entries),
        completions: completions.consumer(),
        completion_entries: Arc::clone(&completions.entries),
        bell: Arc::clone(&bell),
        generation: 0,
    };
    let engine = thread::spawn(move || serve(&commands, &completions, &bytes, &bell));
    endings.into_iter().for_each(|ending| application.run_op(ending));
    engine.join().expect("the engine succeeds");
}

#[test]
fn drained_and_then_dropped() {
    model(3, || life_cycle([Ending::DrainedFirst; 2]));
}

#[test]
fn dropped_and_then_drained() {
    model(3, || life_cycle([Ending::DroppedFirst, Ending::DrainedFirst]));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn given_back_with_the_handle_it_is_written_by_two() {
    model(3, || life_cycle([Ending::FreedTooEarly, Ending::DrainedFirst]));
}
