//! A ring's end against a peer that writes anything into the words at any time.
//!
//! Whatever stands there, an end touches no place but its own, believes no more than a ring can
//! hold, and goes on as if nothing had been when the words are honest again.
#![cfg(not(loom))]
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering::Relaxed;

use bolero::TypeGenerator;
use nic_shm::{Consumer, Edge, FencedMemory, Producer, RacyMem, RingLayout, RingWords, Word32};

const ITERATIONS: usize = 3_000;

/// What happens between the end's own doings.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Step {
    /// The peer's word becomes anything, or a little more or less than it was.
    Any {
        value: u32,
    },
    Near {
        by: i8,
    },
    /// The peer writes over the words that it does not own.
    OwnWord {
        value: u32,
    },
    Sleeping {
        value: u32,
    },
    /// The peer writes over the entries.
    Entry {
        place: u8,
        byte: u8,
    },
    /// The end stages or takes.
    Move,
    /// The end publishes or gives back.
    Settle,
    Look {
        wanted: u32,
    },
    Sleep,
}

/// A ring whose entries end where memory ends.
struct Ring {
    words: RingWords<Word32>,
    entries: RacyMem,
    capacity: u32,
}

fn ring(exponent: u8) -> Ring {
    let layout = RingLayout::new(2 << (exponent % 5), 16).unwrap();
    let memory = FencedMemory::new(layout.bytes(), Edge::End).unwrap().memory();
    Ring {
        words: layout.words(&memory).unwrap(),
        entries: layout.entries(&memory).unwrap(),
        capacity: layout.capacity(),
    }
}

impl Ring {
    /// What only the peer does. `theirs` is its word, `ours` the end's.
    fn disturb(&self, step: Step, theirs: &Word32, ours: &Word32) {
        match step {
            Step::Any { value } => theirs.store(value, Relaxed),
            Step::Near { by } => {
                theirs.store(theirs.load(Relaxed).wrapping_add_signed(by.into()), Relaxed);
            }
            Step::OwnWord { value } => ours.store(value, Relaxed),
            Step::Sleeping { value } => self.words.sleeping.store(value, Relaxed),
            Step::Entry { place, byte } => {
                let place = u64::from(place) % self.entries.len();
                self.entries.write(place, &[byte]).unwrap();
            }
            Step::Move | Step::Settle | Step::Look { .. } | Step::Sleep => {}
        }
    }
}

#[test]
fn producer_against_a_hostile_consumer() {
    let input = bolero::check!().with_iterations(ITERATIONS);
    input.with_type::<(u8, u32, Vec<Step>)>().for_each(|(exponent, position, steps)| {
        let ring = ring(*exponent);
        let (words, capacity) = (ring.words.clone(), ring.capacity);
        let mut producer = Producer::<16>::resume(words, &ring.entries, *position).unwrap();
        ring.words.consumed.store(*position, Relaxed);
        // The least that the consumer ever gave back; what is staged lies at most a ring ahead.
        let (mut staged, mut published) = (0u64, 0);
        for step in steps {
            ring.disturb(*step, &ring.words.consumed, &ring.words.produced);
            match *step {
                Step::Move => staged += u64::from(producer.stage(&[9; 16]) == Ok(true)),
                Step::Settle => {
                    let _ = producer.publish();
                    published = staged;
                }
                Step::Look { wanted } => {
                    assert!(
                        producer.free_for(wanted).is_ok_and(|free| free <= capacity)
                            || producer.free().is_err()
                            || wanted > capacity
                    );
                }
                _ => {}
            }
            assert!(producer.unpublished() <= capacity);
            assert_eq!(u64::from(producer.unpublished()), staged - published);
            assert_eq!(producer.position(), position.wrapping_add(published as u32));
        }
        // Honest again: everything was given back.
        let _ = producer.publish();
        ring.words.consumed.store(producer.position(), Relaxed);
        assert_eq!(producer.free_for(capacity), Ok(capacity));
        assert_eq!(producer.stage(&[9; 16]), Ok(true));
        let _ = producer.publish();
        let produced = ring.words.produced.load(Relaxed).wrapping_sub(*position);
        assert_eq!(produced, staged as u32 + 1);
    });
}

#[test]
fn consumer_against_a_hostile_producer() {
    let input = bolero::check!().with_iterations(ITERATIONS);
    input.with_type::<(u8, u32, Vec<Step>)>().for_each(|(exponent, position, steps)| {
        let ring = ring(*exponent);
        let (words, capacity) = (ring.words.clone(), ring.capacity);
        let mut consumer = Consumer::<16>::resume(words, &ring.entries, *position).unwrap();
        ring.words.produced.store(*position, Relaxed);
        let (mut taken, mut released) = (0u64, 0);
        for step in steps {
            ring.disturb(*step, &ring.words.produced, &ring.words.consumed);
            match *step {
                Step::Move => taken += u64::from(consumer.take(&mut [0; 16]) == Ok(true)),
                Step::Settle => {
                    consumer.release();
                    released = taken;
                }
                Step::Look { .. } => {
                    let most = u64::from(capacity) - (taken - released);
                    assert!(consumer.available().map_or(true, |count| u64::from(count) <= most));
                }
                Step::Sleep => {
                    if consumer.prepare_sleep() {
                        assert_eq!(consumer.available(), Ok(0), "asleep beside an entry");
                    }
                    released = taken;
                    consumer.awake();
                }
                _ => {}
            }
            assert!(taken - released <= u64::from(capacity), "more was taken than there can be");
            assert_eq!(consumer.position(), position.wrapping_add(released as u32));
        }
        // Honest again: a full ring lies there.
        consumer.release();
        let full = consumer.position().wrapping_add(capacity);
        ring.words.produced.store(full, Relaxed);
        for _ in 0..capacity {
            assert_eq!(consumer.take(&mut [0; 16]), Ok(true));
        }
        assert_eq!(consumer.take(&mut [0; 16]), Ok(false));
    });
}
