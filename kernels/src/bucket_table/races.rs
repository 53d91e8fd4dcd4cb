//! Readers race a writer that reuses freed places at once.

use alloc::vec::Vec;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nic_wire::{KernelId, Status, Time};

use super::tests::Store;
use super::*;
use crate::bench::op;
use crate::random::Random;
use crate::{Budget, Invocation, Memory};

/// Keys that are only ever replaced: no reader may miss one.
const STEADY: usize = 2;
/// Keys that come and go.
const FLEETING: usize = 2;
/// Lookups that a run makes at the least, and at the most while no checksum was wrong.
const LOOKUPS_MIN: u64 = 20_000;
const LOOKUPS_MAX: u64 = 20_000_000;

fn key_of(number: usize) -> [u8; 5] {
    [b'k', b'e', b'y', b' ', b'0' + number as u8]
}

/// The words of a value. Every one follows from the key and a counter, which is the first, so that
/// a mixture of two values is noticed.
fn words_of(number: usize, count: u64) -> impl Iterator<Item = u64> {
    let seed = (count << 8 | number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    core::iter::once(count).chain((1..).map(move |place| seed ^ place))
}

fn value_of(number: usize, count: u64, length: usize) -> Vec<u8> {
    words_of(number, count).flat_map(u64::to_le_bytes).take(length).collect()
}

/// Whether a value is whole, and this key's.
fn is_whole(value: &[u8], number: usize, length: usize) -> bool {
    let (words, _) = value.as_chunks::<8>();
    let count = u64::from_le_bytes(words[0]);
    let expected = words_of(number, count);
    value.len() == length && words.iter().zip(expected).all(|(w, e)| u64::from_le_bytes(*w) == e)
}

/// What the readers saw.
#[derive(Debug, Default)]
struct Seen {
    hits: u64,
    misses: u64,
    torn: u64,
    /// Of those, by their checksum alone: bytes of two writings in one copy.
    mixed: u64,
    lookups: u64,
}

/// Changes the table until it is told to stop.
fn write(table: &mut BucketTable, length: usize, seed: u64, stop: &AtomicBool) {
    let mut random = Random::new(seed);
    for count in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let number = random.below((STEADY + FLEETING) as u64) as usize;
        if number >= STEADY && random.below(2) == 0 {
            table.erase(&key_of(number));
        } else {
            table.upsert(&key_of(number), &value_of(number, count, length)).unwrap();
        }
    }
}

/// Looks all keys up, side by side, until enough was seen.
fn read(store: &mut Store, view: TableView, length: usize) -> Seen {
    let mut seen = Seen::default();
    let mut newest = [0; STEADY + FLEETING];
    let grant = store.bench.memory.admit(&store.rkey).unwrap();
    let (memory, executor) = (&mut store.bench.memory, &mut store.bench.executor);
    let mut finished = Vec::new();
    let mut reply = Vec::new();
    while seen.lookups < LOOKUPS_MIN || (seen.mixed == 0 && seen.lookups < LOOKUPS_MAX) {
        for number in 0..STEADY + FLEETING {
            let arguments = view.scan_and_read(KeyHash::of(&key_of(number))).encode();
            let invocation =
                Invocation { owner: number as u64, ..op(KernelId::SCAN_AND_READ, &arguments) };
            executor.start(memory, Time::ZERO, grant, &invocation).unwrap();
        }
        while finished.len() < STEADY + FLEETING {
            executor.run(memory, Time::ZERO, Budget::default(), &mut |slot, owner, finish| {
                finished.push((slot, owner as usize, finish));
            });
        }
        for (slot, number, finish) in finished.drain(..) {
            assert_eq!(finish.status, Status::Ok);
            reply.resize(finish.reply_length as usize, 0);
            executor.copy_reply(slot, memory, 0, &mut reply).unwrap();
            executor.free(slot, memory);
            seen.lookups += 1;
            let key = key_of(number);
            match validate(&reply, &key, KeyHash::of(&key), view.config_id) {
                Verdict::Hit { value, version } => {
                    seen.hits += 1;
                    let whole = is_whole(&reply[value], number, length);
                    assert!(whole, "a torn value was believed");
                    assert!(version >= newest[number], "an older value came after a newer");
                    newest[number] = version;
                }
                Verdict::Miss => {
                    assert!(number >= STEADY, "a key that was only replaced went missing");
                    seen.misses += 1;
                }
                Verdict::Torn(torn) => {
                    seen.torn += 1;
                    seen.mixed += u64::from(torn == Torn::Checksum);
                }
                verdict => panic!("{verdict:?}"),
            }
        }
    }
    seen
}

/// Races take place one at a time: two threads that really run at once are worth more than six
/// that take turns.
static TRACK: Mutex<()> = Mutex::new(());

fn race(length: usize) {
    let _track = TRACK.lock().unwrap_or_else(PoisonError::into_inner);
    let geometry = Geometry::of(2, 256).unwrap();
    // Room for few more entries than there are keys: what is freed is taken again at once.
    let mut store = Store::new(geometry, 24 << 10);
    for number in 0..STEADY {
        store.table.insert(&key_of(number), &value_of(number, 0, length)).unwrap();
    }
    let view = store.view;
    let stop = AtomicBool::new(false);
    let other = Store::new(geometry, 4096).table;
    let mut table = core::mem::replace(&mut store.table, other);
    let seen = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&mut table, length, 5, &stop));
        // The writer is stopped even if an assertion fails, or the scope would wait for ever.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stopping = Stop(&stop);
        let seen = read(&mut store, view, length);
        drop(stopping);
        writer.join().unwrap();
        seen
    });
    std::println!("values of {length} bytes: {seen:?}");
    assert!(seen.mixed > 0, "no copy was mixed in {} lookups: no race", seen.lookups);
    assert!(seen.hits > 0 && seen.misses > 0);
}

#[test]
fn gathered_values_are_never_wrong() {
    race(400);
}

#[test]
fn values_of_eight_cache_lines_are_never_wrong() {
    race(512);
}

#[test]
fn long_values_are_never_wrong() {
    race(1500);
}

crate::bench::also_on_dma!(
    gathered_values_are_never_wrong,
    values_of_eight_cache_lines_are_never_wrong,
    long_values_are_never_wrong,
);
