use nic_shm::{Pages, Producer, RingLayout, SharedMemory};
use nic_wire::session::{Completion, Geometry};
use nic_wire::{Fate, Status};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::ops::FetchAdd;

/// A session, and its engine's end of the completion ring.
fn session() -> (State, Producer<32>) {
    let geometry =
        Geometry { depth: 8, arena_bytes: 1 << 16, receive_buffers: 0, receive_buffer_bytes: 0 };
    let places = geometry.places().unwrap();
    let shared = SharedMemory::create("nic-session", places.total, Pages::Small).unwrap();
    let memory = shared.memory();
    memory.write(0, geometry.header().as_bytes()).unwrap();
    let layout = RingLayout::new(geometry.depth, 32).unwrap();
    let ring = memory.slice(places.completions, layout.bytes()).unwrap();
    let (words, entries) = (layout.words(&ring).unwrap(), layout.entries(&ring).unwrap());
    (State::new(&shared, geometry).unwrap(), Producer::new(words, &entries).unwrap())
}

fn submit(state: &mut State) -> Token {
    state.submit(&Op::new(FetchAdd::new(0, 0, 1)), true).unwrap().unwrap()
}

fn complete(engine: &mut Producer<32>, token: Token) {
    let mut completion = Completion::new_zeroed();
    completion.token = token.into();
    completion.length = 8.into();
    completion.fate = Fate::Executed.code();
    assert_eq!(engine.stage(completion.as_bytes().try_into().unwrap()), Ok(true));
    let _sleeps = engine.publish();
}

/// How an op ended, if it did, as polling reports it.
fn ended(state: &mut State) -> Option<(Token, Status, Fate)> {
    state.drain();
    let token = state.ready.pop_front()?;
    let completion = state.completion(token).expect("what is ready is over");
    Some((token, completion.status(), completion.fate()))
}

#[test]
fn what_an_engine_completed_before_its_death_is_reported_as_it_was() {
    let (mut state, mut engine) = session();
    let (first, second) = (submit(&mut state), submit(&mut state));
    complete(&mut engine, first);
    state.engine_died();
    assert_eq!(ended(&mut state), Some((first, Status::Ok, Fate::Executed)));
    assert_eq!(ended(&mut state), Some((second, Status::EngineLost, Fate::Unknown)));
    assert_eq!(ended(&mut state), None);
}

#[test]
fn a_completion_of_an_op_that_was_given_up_changes_nothing() {
    let (mut state, mut engine) = session();
    let token = submit(&mut state);
    // Something broke; the engine goes on for a while.
    state.engine_lost();
    complete(&mut engine, token);
    assert_eq!(ended(&mut state), Some((token, Status::EngineLost, Fate::Unknown)));
    assert!(state.take::<FetchAdd>(token).unwrap().is_err());
    assert_eq!((ended(&mut state), state.slots.in_use()), (None, 0));
}

#[test]
fn a_second_completion_of_an_op_changes_nothing() {
    let (mut state, mut engine) = session();
    let token = submit(&mut state);
    complete(&mut engine, token);
    complete(&mut engine, token);
    assert_eq!(ended(&mut state), Some((token, Status::Ok, Fate::Executed)));
    assert_eq!(ended(&mut state), None);
    assert_eq!(state.take::<FetchAdd>(token).map(|result| result.is_ok()), Some(true));
    assert_eq!(state.slots.in_use(), 0);
}
