//! Appenders that race each other, and readers that race a writer which recycles.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nic_wire::{KernelId, Status, Time};

use super::tests::{Store, bench_of};
use super::*;
use crate::bench::{ALL, op};
use crate::chain_append::{self, Outcome};
use crate::chain_read::{self, Verdict};
use crate::{HOME_REGION, Invocation};

const APPENDERS: u64 = 3;
const APPENDS: u64 = 400;

/// A value that says whose it is and how many went before; long enough to be torn.
fn value_of(writer: u64, count: u64) -> Vec<u8> {
    let words = (0..12).map(|place| (place * 0x0101) ^ ((writer << 32) | count));
    words.flat_map(u64::to_le_bytes).collect()
}

fn parse(value: &[u8]) -> (u64, u64) {
    let first = u64::from_le_bytes(*value.first_chunk().expect("a value of ours"));
    assert_eq!(value_of(first >> 32, first & 0xffff_ffff), value, "a mixture");
    (first >> 32, first & 0xffff_ffff)
}

/// Engines on their own threads append to one chain, several ops each at once, all from its first
/// entry or the shortcut: each value has exactly one place, and each writer's are in their order.
#[test]
fn racing_appenders_lose_nothing() {
    let mut store = Store::new(APPENDERS * APPENDS / 3 + 2);
    let chain = store.pool.create(&value_of(9, 0)).unwrap();
    let mut given: Vec<Vec<Link>> = Vec::new();
    for _ in 0..APPENDERS {
        given.push((0..APPENDS).map(|_| store.pool.allocate().unwrap()).collect());
    }
    let regions = store.regions.clone();
    thread::scope(|scope| {
        for (writer, fresh) in (0..).zip(&given) {
            let regions = &regions;
            scope.spawn(move || {
                let (mut bench, rkey) = bench_of(regions, ALL, &[1, 2]);
                let mut cursor = chain.first;
                for (count, fresh) in (0..).zip(fresh) {
                    let image = Image::compose(*fresh, 128, &value_of(writer, count)).unwrap();
                    let mut arguments = chain_append::Arguments::new(cursor, *fresh);
                    if count % 2 == 0 {
                        let first = count % 4 == 0;
                        arguments = arguments.with_shortcut(HOME_REGION, chain.shortcut, first);
                    }
                    let mut payload = image.bytes();
                    loop {
                        let encoded = arguments.encode();
                        let (finish, reply) =
                            bench.call(&rkey, KernelId::CHAIN_APPEND, &encoded, payload);
                        if finish.status == Status::Continues {
                            arguments = chain_append::Arguments::decode(&reply).unwrap();
                            payload = &[];
                            continue;
                        }
                        assert_eq!(finish.status, Status::Ok);
                        let reply = chain_append::Reply::decode(&reply).unwrap();
                        assert_eq!(reply.outcome(), Some(Outcome::Linked));
                        cursor = reply.at();
                        break;
                    }
                }
            });
        }
    });
    let (mut at, mut seen, mut newest) = (chain.first, BTreeSet::new(), [None; 3]);
    loop {
        let (writer, count) = parse(&store.pool.value(at).unwrap());
        assert!(seen.insert((writer, count)), "twice in the chain");
        if writer < APPENDERS {
            let newest = &mut newest[writer as usize];
            assert!(newest.is_none_or(|newest| newest < count), "a writer's order");
            *newest = Some(count);
        }
        match store.pool.next(at).unwrap() {
            Link::NONE => break,
            next => at = next,
        }
    }
    assert_eq!(seen.len() as u64, APPENDERS * APPENDS + 1, "one place for each");
    // The shortcut leads to the end as well.
    let (_, reply) = store.read(chain_read::Arguments::from_shortcut(chain.shortcut));
    assert!(matches!(chain_read::validate(&reply), Verdict::Latest { at: end, .. } if end == at));
}

/// Several appends side by side in one executor, from one stale cursor.
#[test]
fn appends_of_one_turn_find_their_places() {
    let mut store = Store::new(24);
    let chain = store.pool.create(&value_of(9, 0)).unwrap();
    let images: Vec<Image> = (0..32)
        .map(|count| {
            let fresh = store.pool.allocate().unwrap();
            Image::compose(fresh, 128, &value_of(0, count)).unwrap()
        })
        .collect();
    for image in &images {
        let arguments = chain_append::Arguments::new(chain.first, image.fresh()).encode();
        let invocation = Invocation {
            payload_length: image.bytes().len() as u32,
            ..op(KernelId::CHAIN_APPEND, &arguments)
        };
        let slot = store.bench.start(&store.rkey, &invocation).unwrap();
        let bench = &mut store.bench;
        bench.executor.payload(slot, 0, image.bytes(), &mut bench.memory).unwrap();
    }
    let over = store.bench.run(Time::ZERO);
    assert_eq!(over.len(), 32);
    assert!(over.iter().all(|(_, _, finish)| finish.status == Status::Ok));
    let (mut at, mut seen) = (chain.first, BTreeSet::new());
    while store.pool.next(at).unwrap() != Link::NONE {
        at = store.pool.next(at).unwrap();
        assert!(seen.insert(parse(&store.pool.value(at).unwrap())));
    }
    assert_eq!(seen.len(), 32);
}

/// A writer appends and recycles as fast as it can, far faster than epochs would; a reader with
/// stale cursors never believes a wrong value, and never goes back in time.
#[test]
fn readers_of_recycled_buffers_are_never_wrong() {
    let store = Store::new(2);
    let (mut bench, rkey) = bench_of(&store.regions, ALL, &[1, 2]);
    let mut pool = store.pool;
    let chain = pool.create(&value_of(0, 0)).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stopping = Stop(&stop);
        scope.spawn(|| {
            let mut at = chain.first;
            for count in 1.. {
                let next = pool.append(at, &value_of(0, count)).unwrap();
                pool.set_shortcut(&chain, next);
                pool.retire(at);
                pool.begin_epoch();
                at = next;
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let (mut reads, mut latest, mut recycled, mut torn) = (0u64, 0, 0u64, 0u64);
        let (mut cursor, mut newest) = (chain.first, 0);
        while reads < 20_000 || ((latest == 0 || recycled == 0) && reads < 5_000_000) {
            reads += 1;
            let mut arguments = chain_read::Arguments::from_cursor(cursor);
            if reads % 2 == 0 {
                arguments = arguments.or_shortcut(HOME_REGION, chain.shortcut, 1);
            }
            let (finish, reply) = bench.call(&rkey, KernelId::CHAIN_READ, &arguments.encode(), &[]);
            if finish.status != Status::Ok {
                // A header of two lives can claim any length.
                let is_torn = matches!(finish.status, Status::BadPointer | Status::ReplyTooLong);
                assert!(is_torn || finish.status == Status::Continues, "{finish:?}");
                torn += u64::from(is_torn);
                continue;
            }
            match chain_read::validate(&reply) {
                Verdict::Latest { at, value, .. } => {
                    let (_, count) = parse(&reply[value]);
                    // A cursor whose version has wrapped might name an older life.
                    assert!(count >= newest, "{count} after {newest}");
                    (cursor, newest) = (at, count);
                    latest += 1;
                }
                Verdict::Recycled => recycled += 1,
                Verdict::Torn => torn += 1,
                Verdict::Malformed => panic!("{reply:?}"),
            }
        }
        drop(stopping);
        std::println!("{reads} reads: {latest} latest, {recycled} recycled, {torn} torn");
        assert!(latest > 0 && recycled > 0);
    });
}
