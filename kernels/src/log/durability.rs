//! Logs in files that crashes meet at any moment.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use super::*;
use crate::append::{self, Appended, Persist};
use crate::bench::{ALL, Bench, also_on_dma, op};
use crate::mapped::{Backing, Flushes};
use crate::memory::AccessError;
use crate::random::Random;
use crate::{Builtin, Finish, Invocation, Limits, SlotId};

/// What a power loss leaves whole or not at all, in bytes.
const SECTOR: u64 = 512;
/// Where the log lies in its region.
const ADDRESS: u64 = 64;

/// A file, and what waits to be written to it.
#[derive(Debug, Default)]
struct Disk {
    /// What a loss of power leaves for sure.
    synced: Vec<u8>,
    /// What was written since, in order.
    written: Vec<(u64, Vec<u8>)>,
    requests: VecDeque<(u64, u64)>,
    /// Requests of `written`, and before it.
    in_flight: u64,
    done: u64,
    is_broken: bool,
    is_full: bool,
}

impl Disk {
    /// Writes some of what waits.
    fn write(&mut self, memory: &RacyMem, count: usize) {
        for _ in 0..count.min(self.requests.len()) {
            let (offset, length) = self.requests.pop_front().unwrap();
            let mut bytes = alloc::vec![0; length as usize];
            memory.read(offset, &mut bytes).unwrap();
            self.written.push((offset, bytes));
            self.in_flight += 1;
        }
    }

    fn sync(&mut self) {
        for (offset, bytes) in self.written.drain(..) {
            let offset = offset as usize;
            self.synced[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        self.done += core::mem::take(&mut self.in_flight);
    }

    /// What the file may hold after a loss of power: of what was not synced, any sectors.
    fn image(&self, random: &mut Random) -> Vec<u8> {
        let mut image = self.synced.clone();
        let (often, torn) = (1 + random.below(4), random.below(self.written.len() as u64 + 1));
        for (number, (offset, bytes)) in self.written.iter().enumerate() {
            let end = offset + bytes.len() as u64;
            let mut from = *offset;
            // One write ends in the midst of it, wherever that is.
            let most = match number as u64 == torn {
                true => offset + 8 * random.below(bytes.len() as u64 / 8 + 1),
                false => end,
            };
            while from < end {
                let to = ((from / SECTOR + 1) * SECTOR).min(end);
                if random.below(often) != 0 || often == 1 {
                    let part = from as usize..to.min(most).max(from) as usize;
                    let within = (from - offset) as usize..part.end - *offset as usize;
                    image[part].copy_from_slice(&bytes[within]);
                }
                from = to;
            }
        }
        image
    }
}

#[derive(Debug)]
struct Handle {
    disk: Arc<Mutex<Disk>>,
    asked: u64,
}

impl Backing for Handle {
    fn check(&self) -> Result<(), AccessError> {
        let disk = self.disk.lock().unwrap();
        match (disk.is_broken, disk.is_full) {
            (true, _) => Err(AccessError::NotPersisted),
            (_, true) => Err(AccessError::FlushesFull),
            _ => Ok(()),
        }
    }

    fn request(&mut self, offset: u64, length: u64) -> Result<u64, AccessError> {
        self.check()?;
        self.disk.lock().unwrap().requests.push_back((offset, length));
        self.asked += 1;
        Ok(self.asked)
    }

    fn outcome(&self, number: u64) -> Option<Result<(), AccessError>> {
        let disk = self.disk.lock().unwrap();
        match (disk.is_broken, disk.done >= number) {
            (true, _) => Some(Err(AccessError::NotPersisted)),
            (false, true) => Some(Ok(())),
            (false, false) => None,
        }
    }
}

/// From one crash to the next.
struct Epoch {
    bench: Bench,
    memory: RacyMem,
    log: Log,
    rkey: Rkey,
    number: u8,
    disk: Arc<Mutex<Disk>>,
    flushes: Arc<Flushes>,
}

impl Epoch {
    fn new(image: Vec<u8>, recover: bool) -> (Epoch, Recovery) {
        let mut bench = Bench::<Builtin>::new(32);
        let memory = RacyMem::allocate(image.len() as u64);
        memory.write(0, &image).unwrap();
        let (log, recovery) = match recover {
            true => Log::recover(memory.clone(), ADDRESS).unwrap(),
            false => {
                let bytes = image.len() as u64 - ADDRESS;
                (Log::format(memory.clone(), ADDRESS, bytes).unwrap(), Recovery::default())
            }
        };
        let number = bench.register(&memory);
        let rkey = bench.memory.export(bench.domain, number, ALL, &[], 7).unwrap();
        let mut disk = Disk { synced: image, ..Disk::default() };
        if !recover {
            // The owner writes what he formats.
            memory.read(0, &mut disk.synced).unwrap();
        }
        let disk = Arc::new(Mutex::new(disk));
        let backing = Box::new(Handle { disk: Arc::clone(&disk), asked: 0 });
        bench.memory.back(bench.domain, number, backing).unwrap();
        let flushes = bench.memory.flushes();
        (Epoch { bench, memory, log, rkey, number, disk, flushes }, recovery)
    }

    fn start(&mut self, tag: u64, payload: &[u8], persist: Persist, deadline: Time) -> SlotId {
        let arguments = append::Arguments::new(0xffff, ADDRESS, tag, payload, persist).encode();
        let payload_length = payload.len() as u32;
        let base = op(KernelId::APPEND, &arguments);
        let invocation = Invocation { owner: tag, payload_length, deadline, ..base };
        let slot = self.bench.start(&self.rkey, &invocation).unwrap();
        if !payload.is_empty() {
            let Bench { executor, memory, .. } = &mut self.bench;
            executor.payload(slot, 0, payload, memory).unwrap();
        }
        slot
    }

    /// Ops that are over, with their replies.
    fn run(&mut self, now: Time) -> Vec<(u64, Finish, Option<Appended>)> {
        let over = self.bench.run(now);
        let mut told = Vec::new();
        for (slot, tag, finish) in over {
            let is_well = finish.status == Status::Ok;
            let reply = is_well.then(|| append::decode_reply(&self.bench.reply(slot)).unwrap());
            self.bench.executor.free(slot, &mut self.bench.memory);
            told.push((tag, finish, reply));
        }
        told
    }

    fn write_and_sync(&mut self) {
        let mut disk = self.disk.lock().unwrap();
        disk.write(&self.memory, usize::MAX);
        disk.sync();
        self.over();
    }

    fn over(&self) {
        self.flushes.over.fetch_add(1, core::sync::atomic::Ordering::Release);
    }

    fn holds(&self) -> u32 {
        self.bench.memory.holds(self.rkey.export.get(), self.rkey.generation.get())
    }
}

/// All that readers see of a log.
fn records(log: &Log) -> BTreeMap<u64, (u64, Vec<u8>)> {
    let (mut position, mut buffer, mut found) = (log.head(), Vec::new(), BTreeMap::new());
    while position < log.watermark() {
        let (record, next) = log.read(position, &mut buffer).unwrap();
        if let Some(record) = record {
            found.insert(position, (record.tag, record.payload.to_vec()));
        }
        position = next;
    }
    found
}

/// Appends, flushes and trims in any order, crashes, and is recovered, several times.
fn crashes(seed: u64) {
    let mut random = Random::new(seed);
    let capacity = 2048 + 32 * random.below(64);
    let image = alloc::vec![0x5a; (ADDRESS + HEADER_BYTES + capacity) as usize];
    let mut epoch = Epoch::new(image, false).0;
    // By position: what must be found, unless it is trimmed. By tag: what was ever appended.
    let (mut owed, mut appended) = (BTreeMap::new(), BTreeMap::new());
    let (mut persists, mut tag) = (BTreeSet::new(), 0);
    for _ in 0..5 {
        for _ in 0..random.below(120) {
            match random.below(8) {
                0..3 => {
                    let payload: Vec<u8> =
                        (0..random.below(700)).map(|_| random.next() as u8).collect();
                    let persist = if random.below(4) == 0 { Persist::None } else { Persist::Flush };
                    if epoch.bench.executor.room() > 0 {
                        tag += 1;
                        appended.insert(tag, payload.clone());
                        if persist == Persist::Flush {
                            persists.insert(tag);
                        }
                        epoch.start(tag, &payload, persist, Time::NEVER);
                    }
                }
                3 => epoch.disk.lock().unwrap().write(&epoch.memory, random.below(6) as usize),
                4 => {
                    epoch.disk.lock().unwrap().sync();
                    epoch.over();
                }
                5 if random.below(2) == 0 => {
                    let found = records(&epoch.log);
                    let place = random.below(found.len() as u64 + 1) as usize;
                    let to = found.keys().nth(place).copied().unwrap_or(epoch.log.watermark());
                    epoch.log.trim(to).unwrap();
                    owed.retain(|position, _| *position >= to);
                    if random.below(2) == 0 {
                        // The owner makes sure of it.
                        let mut disk = epoch.disk.lock().unwrap();
                        let header = ADDRESS as usize..(ADDRESS + HEADER_BYTES) as usize;
                        epoch.memory.read(ADDRESS, &mut disk.synced[header]).unwrap();
                    }
                }
                _ => {
                    for (tag, finish, reply) in epoch.run(Time::ZERO) {
                        assert_eq!(finish.status, Status::Ok, "seed {seed}");
                        if let Some(Appended::At { position, .. }) = reply
                            && persists.contains(&tag)
                        {
                            owed.insert(position, tag);
                        }
                    }
                }
            }
        }
        let head = epoch.log.head();
        let image = epoch.disk.lock().unwrap().image(&mut random);
        let (next, recovery) = Epoch::new(image.clone(), true);
        let found = records(&next.log);
        assert_eq!(recovery.records, found.len() as u64, "seed {seed}");
        for (position, (tag, payload)) in &found {
            assert_eq!(Some(payload), appended.get(tag), "seed {seed} at {position}");
        }
        let mut tags: Vec<u64> = found.values().map(|(tag, _)| *tag).collect();
        tags.sort_unstable();
        assert!(tags.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: one came twice");
        for (position, tag) in owed.range(head..) {
            let is_there = found.get(position).is_some_and(|(found, _)| found == tag);
            assert!(is_there, "seed {seed}: record {tag} at {position} was acknowledged");
        }
        // Who recovers the same file again finds the same.
        let (again, _) = Epoch::new(image, true);
        let again = again.log;
        assert_eq!((records(&again), again.tail()), (found.clone(), next.log.tail()));
        // What was found once stays.
        owed = found.iter().map(|(position, (tag, _))| (*position, *tag)).collect();
        epoch = next;
    }
}

#[test]
fn what_was_acknowledged_survives_every_crash() {
    let seeds = std::env::var("NIC_SEEDS").map_or(300, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        crashes(seed);
    }
}

#[test]
fn an_append_that_persists_parks_until_its_record_is_synced() {
    let mut epoch = Epoch::new(alloc::vec![0; 4096], false).0;
    for tag in 0..3 {
        epoch.start(tag, b"apple", Persist::Flush, Time::NEVER);
    }
    assert!(epoch.run(Time::ZERO).is_empty());
    // Readers see them; nothing more is done for them until the file has them.
    assert_eq!((records(&epoch.log).len(), epoch.holds()), (3, 3));
    epoch.disk.lock().unwrap().write(&epoch.memory, 2);
    epoch.over();
    assert!(epoch.run(Time::ZERO).is_empty());
    for now in [2, 999_999] {
        let Bench { executor, memory, .. } = &mut epoch.bench;
        let progress =
            executor.run(memory, Time::from_ns(now), Default::default(), &mut |_, _, _| {});
        assert_eq!((progress.ready, progress.waiting, progress.cost), (0, 3, 0));
    }
    // Told by the count, or found by looking again.
    epoch.disk.lock().unwrap().sync();
    assert!(epoch.run(Time::from_ns(999_999)).is_empty(), "nobody has told them");
    let look_again = epoch.bench.executor.next_deadline();
    assert_eq!(look_again, Time::ZERO + Limits::default().look_again);
    assert_eq!(epoch.run(look_again).len(), 2);
    epoch.write_and_sync();
    let over = epoch.run(look_again);
    let at = Appended::At { position: 128, next: 192 };
    assert_eq!((over.len(), over[0].2), (1, Some(at)));
    assert_eq!((epoch.holds(), epoch.bench.executor.is_idle()), (0, true));
}

#[test]
fn what_cannot_be_persisted_says_so_and_how_far_it_got() {
    let mut epoch = Epoch::new(alloc::vec![0; 4096], false).0;
    let tell = |over: Vec<(u64, Finish, Option<Appended>)>| {
        over.iter().map(|(_, finish, _)| (finish.status, finish.fate)).collect::<Vec<_>>()
    };
    // Before anything is reserved.
    epoch.disk.lock().unwrap().is_full = true;
    epoch.start(1, b"apple", Persist::Flush, Time::NEVER);
    assert_eq!(tell(epoch.run(Time::ZERO)), [(Status::Busy, Fate::NotExecuted)]);
    epoch.disk.lock().unwrap().is_full = false;
    assert_eq!(epoch.log.tail(), 0);
    // Its deadline passes while the file is slow: the record is there.
    epoch.start(2, b"apple", Persist::Flush, Time::from_ns(50));
    assert!(epoch.run(Time::ZERO).is_empty());
    assert_eq!(tell(epoch.run(Time::from_ns(50))), [(Status::Expired, Fate::Unknown)]);
    assert_eq!((epoch.log.watermark(), epoch.holds()), (64, 0));
    // Its initiator goes away, with it or without.
    let slot = epoch.start(3, b"apple", Persist::Flush, Time::NEVER);
    assert!(epoch.run(Time::from_ns(60)).is_empty());
    let Bench { executor, memory, .. } = &mut epoch.bench;
    assert_eq!(executor.cancel(slot, memory), Fate::Unknown);
    assert_eq!((epoch.holds(), epoch.bench.executor.is_idle()), (0, true));
    // Its right is revoked: the revocation does not wait for the file.
    epoch.start(4, b"apple", Persist::Flush, Time::NEVER);
    assert!(epoch.run(Time::from_ns(60)).is_empty());
    let (export, generation) = (epoch.rkey.export.get(), epoch.rkey.generation.get());
    epoch.bench.memory.revoke(export, generation).unwrap();
    let Bench { executor, memory, .. } = &mut epoch.bench;
    executor.release_revoked(memory);
    assert_eq!(epoch.holds(), 0);
    assert_eq!(tell(epoch.run(Time::from_ns(60))), [(Status::Revoked, Fate::Unknown)]);
    epoch.rkey = epoch.bench.memory.export(epoch.bench.domain, epoch.number, ALL, &[], 9).unwrap();
    // The file fails.
    epoch.start(5, b"apple", Persist::Flush, Time::NEVER);
    assert!(epoch.run(Time::from_ns(60)).is_empty());
    epoch.disk.lock().unwrap().is_broken = true;
    epoch.over();
    assert_eq!(tell(epoch.run(Time::from_ns(60))), [(Status::NotPersisted, Fate::Unknown)]);
    assert_eq!(epoch.log.watermark(), 256);
    epoch.start(6, b"apple", Persist::Flush, Time::NEVER);
    assert_eq!(tell(epoch.run(Time::from_ns(60))), [(Status::NotPersisted, Fate::NotExecuted)]);
    // Who does not ask for the file is not hurt.
    epoch.start(7, b"apple", Persist::None, Time::NEVER);
    assert_eq!(tell(epoch.run(Time::from_ns(60))), [(Status::Ok, Fate::Executed)]);
    assert_eq!((epoch.holds(), epoch.bench.executor.is_idle()), (0, true));
}

#[test]
fn what_is_torn_is_never_taken_for_a_record_of_a_later_round() {
    for torn_at in [96, 224] {
        let memory = RacyMem::allocate(ADDRESS + HEADER_BYTES + 256);
        let log = Log::format(memory.clone(), ADDRESS, HEADER_BYTES + 256).unwrap();
        for tag in 0..3 {
            log.append(tag, b"apple").unwrap();
        }
        // The second record is torn, and so is one that was to come later, in it or behind them all.
        let ring = ADDRESS + HEADER_BYTES;
        memory.write(ring + 64 + 16, &[0; 8]).unwrap();
        let later = layout::state(torn_at + 256, layout::Kind::Data);
        memory.write(ring + torn_at, &later.to_le_bytes()).unwrap();
        let (log, found) = Log::recover(memory, ADDRESS).unwrap();
        assert_eq!(found, Recovery { records: 2, skipped_bytes: 64 });
        assert_eq!(records(&log).into_keys().collect::<Vec<_>>(), [0, 128]);
        log.trim(log.watermark()).unwrap();
        while log.tail() < torn_at + 256 {
            assert_eq!(log.append(7, b"").map(|at| at + 32), Ok(log.watermark()));
            assert_eq!(log.watermark(), log.tail());
            log.trim(log.watermark()).unwrap();
        }
    }
}

#[test]
fn a_header_that_is_none_is_not_recovered() {
    let image = |place: usize, value: u8| {
        let mut epoch = Epoch::new(alloc::vec![0; 1024], false).0;
        epoch.log = Log::format(epoch.memory.clone(), ADDRESS, 512).unwrap();
        epoch.memory.write(ADDRESS + place as u64, &[value]).unwrap();
        Log::recover(epoch.memory, ADDRESS).map(|(log, found)| (log.head(), found))
    };
    let no_log = Err(LogError::NoLog { address: ADDRESS });
    for (place, value) in [(0, 0), (8, 7), (10, 1), (16, 1), (23, 0xff)] {
        assert_eq!(image(place, value), no_log, "{place}");
    }
    // Tail and watermark are not looked at, and a log without records is one.
    for place in [24, 32, 39] {
        assert_eq!(image(place, 0x60), Ok((0, Recovery::default())));
    }
}

/// A record of an earlier round whose last piece has one byte of payload, and in that piece the
/// acknowledged record of this round: whatever the byte is, the later one is found.
#[test]
fn a_record_that_begins_in_the_last_piece_of_an_older_one_is_found() {
    const CAPACITY: u64 = 1024;
    for last in 0..=255 {
        let memory = RacyMem::allocate(ADDRESS + HEADER_BYTES + CAPACITY);
        let log = Log::format(memory.clone(), ADDRESS, HEADER_BYTES + CAPACITY).unwrap();
        let mut payload = [1; 33];
        payload[32] = last;
        assert_eq!(log.append(1, &payload), Ok(0));
        let mut file = alloc::vec![0; memory.len() as usize];
        memory.read(0, &mut file).unwrap();
        // Up to the ring's end, and what overwrites the old one's start, never reach the file.
        log.append(2, &[2; 416]).unwrap();
        assert_eq!(log.append(2, &[2; 448]), Ok(96 + 448));
        log.trim(log.watermark()).unwrap();
        assert_eq!(log.append(3, &[3; 32]), Ok(1024));
        let position = log.append(4, b"kept").unwrap();
        assert_eq!(position, 1024 + 64);
        let place = (ADDRESS + HEADER_BYTES + 64) as usize;
        let mut record = [0; 64];
        memory.read(place as u64, &mut record).unwrap();
        file[place..place + 64].copy_from_slice(&record);
        let back = RacyMem::allocate(memory.len());
        back.write(0, &file).unwrap();
        let (log, _) = Log::recover(back, ADDRESS).unwrap();
        let mut buffer = Vec::new();
        let (found, _) = log.read(position, &mut buffer).unwrap();
        assert_eq!(found.map(|record| record.tag), Some(4), "a byte of {last}");
    }
}

also_on_dma!(
    what_was_acknowledged_survives_every_crash,
    an_append_that_persists_parks_until_its_record_is_synced,
    what_cannot_be_persisted_says_so_and_how_far_it_got,
);
