//! The ring's cursors under every interleaving that loom finds (bounded preemption).
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p nic-shm --release --test loom_ring`

#![cfg(loom)]
// Loom lends the content of its cells as raw pointers.
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use nic_shm::{ConsumerCursor, CursorWord, ProducerCursor, RingWords};

/// Loom's stand-in for a word in shared memory; without fences, to see that loom misses them.
#[derive(Clone)]
struct Word<const FENCED: bool>(Arc<AtomicU32>);

impl<const FENCED: bool> Word<FENCED> {
    fn new(value: u32) -> Self {
        Self(Arc::new(AtomicU32::new(value)))
    }
}

impl<const FENCED: bool> CursorWord for Word<FENCED> {
    fn load_relaxed(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
    fn load_acquire(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
    fn store_relaxed(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
    fn store_release(&self, value: u32) {
        self.0.store(value, Ordering::Release);
    }
    fn fence() {
        if FENCED {
            fence(Ordering::SeqCst);
        }
    }
}

/// The entries: loom fails the test if one is read while it is written.
struct Entries([UnsafeCell<u32>; 2]);

impl Entries {
    fn write(&self, index: u32, value: u32) {
        // SAFETY: loom checks that nobody else uses the entry.
        self.0[index as usize % 2].with_mut(|entry| unsafe { *entry = value });
    }
    fn read(&self, index: u32) -> u32 {
        // SAFETY: loom checks that nobody writes the entry.
        self.0[index as usize % 2].with(|entry| unsafe { *entry })
    }
}

/// An eventfd: stays rung until it is waited for.
struct Bell(Mutex<bool>, Condvar);

impl Bell {
    fn ring(&self) {
        *self.0.lock().expect("nobody panics with the lock") = true;
        self.1.notify_one();
    }
    fn wait(&self) {
        let mut rung = self.0.lock().expect("nobody panics with the lock");
        while !*rung {
            rung = self.1.wait(rung).expect("nobody panics with the lock");
        }
        *rung = false;
    }
}

type Ends<const FENCED: bool> =
    (ProducerCursor<Word<FENCED>>, ConsumerCursor<Word<FENCED>>, Arc<Entries>);

fn ring<const FENCED: bool>(position: u32) -> Ends<FENCED> {
    let words = RingWords {
        produced: Word::new(position),
        consumed: Word::new(position),
        sleeping: Word::new(0),
    };
    let entries = Arc::new(Entries([UnsafeCell::new(0), UnsafeCell::new(0)]));
    let producer = ProducerCursor::new(words.clone(), 2, position);
    (producer, ConsumerCursor::new(words, 2, position), entries)
}

fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
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
    let bell = Arc::new(Bell(Mutex::new(false), Condvar::new()));
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
