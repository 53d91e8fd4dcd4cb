use super::*;
use crate::RacyMem;
use crate::seeded::Seeded;
use alloc::collections::VecDeque;
use core::sync::atomic::Ordering::Relaxed;

/// Both ends of a ring with entries of 16 bytes, and the words as a hostile peer has them.
struct Pair {
    producer: Producer<16>,
    consumer: Consumer<16>,
    words: RingWords<Word32>,
}

fn pair(capacity: u32, position: u32) -> Pair {
    let layout = RingLayout::new(capacity, 16).unwrap();
    let memory = RacyMem::allocate(layout.bytes());
    let words = layout.words(&memory).unwrap();
    let entries = layout.entries(&memory).unwrap();
    Pair {
        producer: Producer::resume(words.clone(), &entries, position).unwrap(),
        consumer: Consumer::resume(words.clone(), &entries, position).unwrap(),
        words,
    }
}

fn entry(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&(!number).to_le_bytes());
    bytes
}

#[test]
fn random_operations_match_a_queue() {
    for seed in 0..40 {
        let mut random = Seeded::new(seed);
        let capacity = 1 << random.below(5);
        // So that indices wrap around within the run.
        let position = u32::MAX - random.below(100) as u32;
        let mut ring = pair(capacity, position);
        let mut staged = VecDeque::new();
        let mut published = VecDeque::new();
        // Entries taken whose places were not given back.
        let mut unreleased = 0;
        let mut number = 0;
        for _ in 0..6000 {
            match random.below(5) {
                0 | 1 => {
                    let held = staged.len() + published.len() + unreleased;
                    let fits = held < capacity as usize;
                    assert_eq!(ring.producer.stage(&entry(number)), Ok(fits));
                    if fits {
                        staged.push_back(number);
                        number += 1;
                    }
                }
                2 => {
                    assert!(!ring.producer.publish(), "nobody sleeps");
                    published.append(&mut staged);
                }
                3 => {
                    let mut found = [0; 16];
                    let expected = published.pop_front();
                    assert_eq!(ring.consumer.take(&mut found), Ok(expected.is_some()));
                    if let Some(expected) = expected {
                        assert_eq!(found, entry(expected));
                        unreleased += 1;
                    }
                }
                _ => {
                    ring.consumer.release();
                    unreleased = 0;
                }
            }
            let held = (staged.len() + published.len() + unreleased) as u32;
            assert_eq!(ring.producer.free_for(capacity), Ok(capacity - held));
            assert_eq!(ring.producer.unpublished() as usize, staged.len());
            let available = ring.consumer.available().unwrap() as usize;
            assert!(available <= published.len());
            assert_eq!(available == 0, published.is_empty());
        }
        assert!(number > 100, "the indices did not wrap around");
    }
}

#[test]
fn nothing_is_seen_before_it_is_published() {
    let mut ring = pair(4, 0);
    assert_eq!(ring.producer.stage(&entry(1)), Ok(true));
    assert_eq!(ring.consumer.available(), Ok(0));
    let _ = ring.producer.publish();
    assert_eq!(ring.consumer.available(), Ok(1));
}

#[test]
fn a_sleeper_is_woken_once() {
    let mut ring = pair(4, 0);
    assert!(ring.consumer.prepare_sleep());
    assert!(!ring.producer.publish(), "nothing is staged, nobody is woken");

    assert_eq!(ring.producer.stage(&entry(1)), Ok(true));
    assert_eq!(ring.producer.stage(&entry(2)), Ok(true));
    assert!(ring.producer.publish());
    assert_eq!(ring.producer.stage(&entry(3)), Ok(true));
    assert!(!ring.producer.publish(), "it was woken already");

    ring.consumer.awake();
    assert!(!ring.consumer.prepare_sleep(), "there are entries");
    assert_eq!(ring.words.sleeping.load(Relaxed), 0);

    for _ in 0..3 {
        assert_eq!(ring.consumer.take(&mut [0; 16]), Ok(true));
    }
    assert!(ring.consumer.prepare_sleep());
    assert_eq!(ring.producer.free_for(4), Ok(4), "a sleeper keeps no place");
    ring.consumer.awake();
    assert_eq!(ring.producer.stage(&entry(4)), Ok(true));
    assert!(!ring.producer.publish(), "an awake consumer needs no wake-up");
}

#[test]
fn a_hostile_consumer_is_found_out() {
    let mut ring = pair(4, 0);
    for number in 0..4 {
        assert_eq!(ring.producer.stage(&entry(number)), Ok(true));
    }
    let _ = ring.producer.publish();
    // More than was published, and far behind.
    for found in [5, 1 << 31, u32::MAX] {
        ring.words.consumed.store(found, Relaxed);
        let expected = RingViolation { word: RingWord::Consumed, found, least: 0, most: 4 };
        assert_eq!(ring.producer.stage(&entry(4)), Err(expected));
        assert_eq!(ring.producer.free(), Err(expected));
    }
    ring.words.consumed.store(3, Relaxed);
    assert_eq!(ring.producer.free(), Ok(3), "the own end has not moved");
    // Taking back what was given.
    ring.words.consumed.store(2, Relaxed);
    let expected = RingViolation { word: RingWord::Consumed, found: 2, least: 3, most: 4 };
    assert_eq!(ring.producer.free_for(4), Err(expected));
}

#[test]
fn a_hostile_producer_is_found_out() {
    let mut ring = pair(4, u32::MAX);
    for found in [4, 1 << 31, u32::MAX - 1] {
        ring.words.produced.store(found, Relaxed);
        let expected = RingViolation { word: RingWord::Produced, found, least: u32::MAX, most: 3 };
        assert_eq!(ring.consumer.available(), Err(expected));
        assert_eq!(ring.consumer.take(&mut [0; 16]), Err(expected));
        assert!(!ring.consumer.prepare_sleep(), "there is something to complain about");
    }
    ring.words.produced.store(1, Relaxed);
    assert_eq!(ring.consumer.available(), Ok(2));
    for _ in 0..2 {
        assert_eq!(ring.consumer.take(&mut [0; 16]), Ok(true));
    }
    // Going back to entries that were taken, before and after their places are given back.
    for _ in 0..2 {
        ring.words.produced.store(0, Relaxed);
        assert!(ring.consumer.available().is_err());
        ring.consumer.release();
    }
}

#[test]
fn own_words_are_never_read_back() {
    let mut ring = pair(4, 0);
    assert_eq!(ring.producer.stage(&entry(1)), Ok(true));
    let _ = ring.producer.publish();
    assert_eq!(ring.consumer.take(&mut [0; 16]), Ok(true));
    ring.consumer.release();
    // The peer scribbles over what it does not own.
    ring.words.produced.store(77, Relaxed);
    assert_eq!(ring.producer.stage(&entry(2)), Ok(true));
    let _ = ring.producer.publish();
    assert_eq!(ring.words.produced.load(Relaxed), 2);
    ring.words.consumed.store(77, Relaxed);
    assert_eq!(ring.consumer.take(&mut [0; 16]), Ok(true));
    ring.consumer.release();
    assert_eq!(ring.words.consumed.load(Relaxed), 2);
}

#[test]
fn successors_go_on_where_the_ends_stood() {
    let layout = RingLayout::new(4, 16).unwrap();
    let memory = RacyMem::allocate(layout.bytes());
    let (words, entries) = (layout.words(&memory).unwrap(), layout.entries(&memory).unwrap());
    let mut producer = Producer::<16>::new(words.clone(), &entries).unwrap();
    let mut consumer = Consumer::<16>::new(words.clone(), &entries).unwrap();
    for number in 0..3 {
        assert_eq!(producer.stage(&entry(number)), Ok(true));
    }
    let _ = producer.publish();
    assert_eq!(consumer.take(&mut [0; 16]), Ok(true));
    consumer.release();

    let mut producer =
        Producer::<16>::resume(words.clone(), &entries, producer.position()).unwrap();
    let mut consumer = Consumer::<16>::resume(words, &entries, consumer.position()).unwrap();
    assert_eq!(producer.free_for(4), Ok(2));
    assert_eq!(consumer.available(), Ok(2));
    let mut found = [0; 16];
    assert_eq!(consumer.take(&mut found), Ok(true));
    assert_eq!(found, entry(1));
}

#[test]
fn layouts_are_checked() {
    assert_eq!(RingLayout::new(3, 64), Err(RingError::Capacity { found: 3 }));
    assert_eq!(RingLayout::new(0, 64), Err(RingError::Capacity { found: 0 }));
    assert_eq!(RingLayout::new(4, 12), Err(RingError::EntrySize { found: 12 }));
    assert_eq!(RingLayout::new(4, 0), Err(RingError::EntrySize { found: 0 }));
    let layout = RingLayout::new(2, 24).unwrap();
    assert_eq!(layout.bytes(), 192 + 64);

    let short = RacyMem::allocate(255);
    let expected = RingError::MemoryLength { found: 255, expected: 256 };
    assert_eq!(layout.words(&short).unwrap_err(), expected);
    assert_eq!(layout.entries(&short).unwrap_err(), expected);

    let memory = RacyMem::allocate(512);
    let words = layout.words(&memory).unwrap();
    let slice = |offset, len| memory.slice(offset, len).unwrap();
    let failed = |entries| Consumer::<24>::new(words.clone(), &entries).unwrap_err();
    assert_eq!(failed(slice(192, 0)), RingError::Capacity { found: 0 });
    assert_eq!(failed(slice(192, 72)), RingError::Capacity { found: 3 });
    assert_eq!(failed(slice(192, 50)), RingError::EntriesLength { found: 50, expected: 48 });
    assert_eq!(failed(slice(193, 48)), RingError::EntriesMisaligned { excess: 1 });

    let reader = slice(192, 48).to_read_only();
    assert!(Consumer::<24>::new(words.clone(), &reader).is_ok());
    assert_eq!(Producer::<24>::new(words, &reader).unwrap_err(), RingError::EntriesReadOnly);
    let unwritable = layout.words(&memory.to_read_only()).unwrap_err();
    assert!(matches!(unwritable, RingError::Word(crate::WordError::ReadOnly(_))));
}

#[test]
fn two_threads_lose_and_tear_nothing() {
    let count: u64 = if cfg!(miri) { 300 } else { 200_000 };
    let Pair { mut producer, mut consumer, .. } = pair(64, u32::MAX - 1000);
    let sender = std::thread::spawn(move || {
        let mut sleeper_to_wake = false;
        for number in 0..count {
            while !producer.stage(&entry(number)).unwrap() {
                sleeper_to_wake |= producer.publish();
                std::thread::yield_now();
            }
            if number % 5 == 0 {
                sleeper_to_wake |= producer.publish();
            }
        }
        sleeper_to_wake |= producer.publish();
        assert!(!sleeper_to_wake, "nobody asked to be woken");
    });
    for number in 0..count {
        let mut found = [0; 16];
        while !consumer.take(&mut found).unwrap() {
            consumer.release();
            std::thread::yield_now();
        }
        assert_eq!(found, entry(number));
        if number % 7 == 0 {
            consumer.release();
        }
    }
    sender.join().unwrap();
}
