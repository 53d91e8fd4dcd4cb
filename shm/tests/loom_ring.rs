//! The ring's cursors under every interleaving that loom finds (bounded preemption).
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p nic-shm --release --test loom_ring`
//!
//! With `--cfg nic_break="wake_fence"` as well the producer forgets its fence, and
//! `no_wake_up_is_lost` has to fail.

#![cfg(loom)]
// Loom lends the content of its cells as raw pointers.
#![allow(unsafe_code)]

mod loom_model;

use loom::sync::Arc;
use loom::thread;
use loom_model::{Bell, Places, Word, model, words};
use nic_shm::{ConsumerCursor, ProducerCursor};

type Ends<const FENCED: bool> =
    (ProducerCursor<Word<FENCED>>, ConsumerCursor<Word<FENCED>>, Arc<Places>);

fn ring<const FENCED: bool>(position: u32) -> Ends<FENCED> {
    let words = words(position);
    let producer = ProducerCursor::new(words.clone(), 2, position);
    (producer, ConsumerCursor::new(words, 2, position), Places::new())
}

#[test]
fn no_entry_is_lost_or_torn() {
    const COUNT: u32 = 4;
    model(4, || {
        // The indices wrap around in the middle, and so do the places.
        let (mut producer, mut consumer, entries) = ring::<true>(u32::MAX - 1);
        let sender = thread::spawn({
            let entries = Arc::clone(&entries);
            move || {
                for value in 0..COUNT {
                    let index = loop {
                        match producer.next_index().expect("an honest peer") {
                            Some(index) => break index,
                            None => {
                                producer.publish();
                                thread::yield_now();
                            }
                        }
                    };
                    entries.write(index, value);
                    producer.advance();
                    if value % 2 == 0 {
                        producer.publish();
                    }
                }
                producer.publish();
            }
        });
        for expected in 0..COUNT {
            let index = loop {
                match consumer.next_index().expect("an honest peer") {
                    Some(index) => break index,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(entries.read(index), expected);
            consumer.advance();
            consumer.release();
        }
        sender.join().expect("the sender succeeds");
    });
}

/// The producer sends two entries, each published by itself; the consumer sleeps whenever it may.
/// If a wake-up were lost it would wait for ever, which loom reports as a deadlock.
fn send_to_a_sleeper<const FENCED: bool>() {
    const COUNT: u32 = 2;
    let (mut producer, mut consumer, entries) = ring::<FENCED>(0);
    let bell = Bell::new();
    let sender = thread::spawn({
        let (entries, bell) = (Arc::clone(&entries), Arc::clone(&bell));
        move || {
            for value in 0..COUNT {
                let index = producer.next_index().expect("an honest peer").expect("two fit");
                entries.write(index, value);
                producer.advance();
                if producer.publish() {
                    bell.ring();
                }
            }
        }
    });
    let mut taken = 0;
    while taken < COUNT {
        while let Some(index) = consumer.next_index().expect("an honest peer") {
            assert_eq!(entries.read(index), taken);
            consumer.advance();
            taken += 1;
        }
        consumer.release();
        if taken < COUNT && consumer.prepare_sleep() {
            bell.wait();
            consumer.awake();
        }
    }
    sender.join().expect("the sender succeeds");
}

#[test]
fn no_wake_up_is_lost() {
    model(6, send_to_a_sleeper::<true>);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_up_is_lost() {
    model(6, send_to_a_sleeper::<false>);
}

/// A session's consumer sleeps on two rings at once and has one doorbell. The producer publishes
/// both and rings once for both.
#[test]
fn no_wake_up_is_lost_on_two_rings() {
    model(4, || {
        let (mut first, mut completions, _) = ring::<true>(0);
        let (mut second, mut receives, _) = ring::<true>(0);
        let bell = Bell::new();
        let sender = thread::spawn({
            let bell = Arc::clone(&bell);
            move || {
                for ring in [&mut first, &mut second] {
                    ring.next_index().expect("an honest peer").expect("one fits");
                    ring.advance();
                }
                if first.publish() | second.publish() {
                    bell.ring();
                }
            }
        });
        let mut taken = 0;
        while taken < 2 {
            for ring in [&mut completions, &mut receives] {
                while ring.next_index().expect("an honest peer").is_some() {
                    ring.advance();
                    taken += 1;
                }
                ring.release();
            }
            if taken < 2 {
                if completions.prepare_sleep() && receives.prepare_sleep() {
                    bell.wait();
                }
                completions.awake();
                receives.awake();
            }
        }
        sender.join().expect("the sender succeeds");
    });
}
