//! Appends that wait for those before them, and fetches that wait for records.

use alloc::vec::Vec;

use nic_wire::{Fate, Span, Status, Time};

use super::layout::{Kind, TAIL, WATERMARK, state};
use super::tests::{ADDRESS, Logged, word_of};
use super::*;
use crate::append::Appended;
use crate::bench::Bench;
use crate::{Budget, Finish, Limits, SlotId};

#[test]
fn an_append_waits_for_those_before_it() {
    let mut logged = Logged::new(4096);
    // Somebody else has reserved and is slow.
    logged.set(TAIL, 64);
    let deadline = Time::from_ns(5_000_000);
    let slots = [1, 2].map(|tag| {
        let slot = logged.start_append(tag, &[tag as u8; 10], deadline);
        let bench = &mut logged.bench;
        bench.executor.payload(slot, 0, &[tag as u8; 10], &mut bench.memory).unwrap();
        slot
    });
    assert!(logged.bench.run(Time::ZERO).is_empty());
    assert_eq!((logged.log.watermark(), logged.log.tail()), (0, 192));
    let look_again = logged.bench.executor.next_deadline();
    assert_eq!(look_again, Time::ZERO + Limits::default().look_again);
    // Now that is done; whoever looks first takes the other along.
    let memory = word_of(&logged.log);
    let first = ADDRESS + HEADER_BYTES;
    memory.write(first + 8, &20u64.to_le_bytes()).unwrap();
    memory.write(first, &state(0, Kind::Skip).to_le_bytes()).unwrap();
    let _ = memory;
    assert!(logged.bench.run(Time::from_ns(1)).is_empty(), "nobody has told them");
    logged.set(WATERMARK, 64);
    let over = logged.bench.run(look_again);
    assert_eq!(over.len(), 2);
    assert!(over.iter().all(|(_, _, finish)| finish.status == Status::Ok));
    assert_eq!(logged.log.watermark(), 192);
    logged.free(&slots);

    // One that gives up while it waits is taken along by the next.
    logged.set(TAIL, 256);
    let slot = logged.start_append(3, &[3; 10], deadline);
    let bench = &mut logged.bench;
    bench.executor.payload(slot, 0, &[3; 10], &mut bench.memory).unwrap();
    assert!(bench.run(Time::from_ns(7)).is_empty());
    let over = bench.run(deadline);
    let finish = Finish { status: Status::Expired, fate: Fate::Unknown, reply_length: 0 };
    assert_eq!(over, [(slot, 3, finish)]);
    logged.free(&[slot]);
    let memory = word_of(&logged.log);
    memory.write(first + 192 + 8, &20u64.to_le_bytes()).unwrap();
    memory.write(first + 192, &state(192, Kind::Skip).to_le_bytes()).unwrap();
    let Appended::At { position: 320, .. } = logged.append(4, b"last") else { panic!() };
    let tags: Vec<u64> = logged.read_all(0).iter().map(|(_, tag, _)| *tag).collect();
    assert_eq!(tags, [1, 2, 3, 4]);
}

#[test]
fn a_parked_fetch_costs_nothing_and_is_woken_by_an_append() {
    let mut logged = Logged::new(4096);
    let slots = [0; 3].map(|from| logged.start_fetch(from, 1_000_000, Time::NEVER));
    assert!(logged.bench.run(Time::ZERO).is_empty());
    assert!(slots.iter().all(|slot| logged.bench.executor.waits(*slot)));
    for now in [1, 999_999] {
        let Bench { executor, memory, .. } = &mut logged.bench;
        let now = Time::from_ns(now);
        let progress = executor.run(memory, now, Budget::default(), &mut |_, _, _| {});
        assert_eq!((progress.ready, progress.waiting, progress.cost), (0, 3, 0));
    }
    let append = logged.start_append(7, b"apple", Time::NEVER);
    let bench = &mut logged.bench;
    bench.executor.payload(append, 0, b"apple", &mut bench.memory).unwrap();
    let over = bench.run(Time::from_ns(999_999));
    assert_eq!(over.len(), 4);
    for slot in slots {
        let reply = logged.bench.reply(slot);
        let Ok(Batch::Records(mut records)) = Batch::parse(&reply, 0) else { panic!() };
        let record = Record { position: 0, tag: 7, payload: b"apple" };
        assert_eq!((records.next_position(), records.next()), (64, Some(record)));
        assert_eq!(records.next(), None);
    }
    let ended: Vec<SlotId> = over.iter().map(|(slot, _, _)| *slot).collect();
    logged.free(&ended);
}

#[test]
fn a_parked_fetch_finds_what_the_owner_appends_and_ends_in_time() {
    let mut logged = Logged::new(4096);
    let start = Time::ZERO;
    let slot = logged.start_fetch(0, 5_000, Time::NEVER);
    assert!(logged.bench.run(start).is_empty());
    logged.log.append(7, b"apple").unwrap();
    assert!(logged.bench.run(start + Span::from_us(999)).is_empty());
    assert_eq!(logged.bench.executor.next_deadline(), start + Span::from_ms(1));
    assert_eq!(logged.bench.run(start + Span::from_ms(1)).len(), 1);
    let reply = logged.bench.reply(slot);
    assert!(matches!(Batch::parse(&reply, 0), Ok(Batch::Records(records)) if records.count() == 1));
    logged.free(&[slot]);

    // Without records it ends when it has waited long enough, or as it ends that it belongs to.
    let patient = logged.start_fetch(64, 2_500, Time::NEVER);
    let hasty = logged.start_fetch(64, 2_500, Time::from_ns(1_500_000));
    let cancelled = logged.start_fetch(64, 2_500, Time::NEVER);
    let mut ends = Vec::new();
    for us in (0..=3000).step_by(100) {
        let over = logged.bench.run(start + Span::from_us(us));
        ends.extend(over.iter().map(|(slot, _, finish)| (us, *slot, finish.status)));
        if us == 1000 {
            let bench = &mut logged.bench;
            let fate = bench.executor.cancel(cancelled, &mut bench.memory);
            assert_eq!(fate, Fate::NotExecuted);
        }
    }
    assert_eq!(ends, [(1500, hasty, Status::Expired), (2500, patient, Status::Ok)]);
    let reply = logged.bench.reply(patient);
    assert!(
        matches!(Batch::parse(&reply, 64), Ok(Batch::Records(records)) if records.count() == 0)
    );
    logged.free(&[patient, hasty]);

    let revoked = logged.start_fetch(64, 2_500, Time::NEVER);
    assert!(logged.bench.run(start).is_empty());
    let (export, generation) = (logged.rkey.export.get(), logged.rkey.generation.get());
    logged.bench.memory.revoke(export, generation).unwrap();
    logged.bench.executor.release_revoked(&mut logged.bench.memory);
    assert_eq!(logged.bench.run(start)[0].2.status, Status::Revoked);
    assert_eq!(logged.holds(), 0);
    logged.free(&[revoked]);
}

#[test]
fn more_than_may_wait_do_not() {
    let mut logged = Logged::with_limits(4096, Limits { waits: 2, ..Limits::default() });
    let slots = [0; 3].map(|from| logged.start_fetch(from, 1_000_000, Time::NEVER));
    let over = logged.bench.run(Time::ZERO);
    assert_eq!(over.len(), 1);
    assert_eq!((over[0].0, over[0].2.status), (slots[2], Status::Ok));
    let reply = logged.bench.reply(slots[2]);
    assert!(matches!(Batch::parse(&reply, 0), Ok(Batch::Records(records)) if records.count() == 0));
    let bench = &mut logged.bench;
    bench.executor.free(slots[2], &mut bench.memory);

    // An append behind one that is slow cannot end well without a wait; the next takes it along.
    logged.set(TAIL, 64);
    let slow = logged.start_append(1, &[1; 10], Time::NEVER);
    let bench = &mut logged.bench;
    bench.executor.payload(slow, 0, &[1; 10], &mut bench.memory).unwrap();
    let finish = Finish { status: Status::Busy, fate: Fate::Unknown, reply_length: 0 };
    assert_eq!(bench.run(Time::ZERO), [(slow, 1, finish)]);
    bench.executor.free(slow, &mut bench.memory);
    let (memory, first) = (word_of(&logged.log), ADDRESS + HEADER_BYTES);
    memory.write(first + 8, &20u64.to_le_bytes()).unwrap();
    memory.write(first, &state(0, Kind::Skip).to_le_bytes()).unwrap();
    logged.start_append(2, b"", Time::NEVER);
    // Both who waited hear of it.
    assert_eq!(logged.bench.run(Time::ZERO).len(), 3);
    let tags: Vec<u64> = logged.read_all(0).iter().map(|(_, tag, _)| *tag).collect();
    assert_eq!(tags, [1, 2]);
}

crate::bench::also_on_dma!(a_parked_fetch_finds_what_the_owner_appends_and_ends_in_time);
