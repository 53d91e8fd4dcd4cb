//! Kernels race an owner's process that changes what they work on without a pause, or that looks at
//! what they change: every op ends with a status that says what happened, what is said to be whole
//! is, and nothing is lost or handed out twice.
//!
//! The owner's memory is read by an engine's process of its own, on another core where there is one.
//! Every word of a value follows from its key and the change that wrote it, so a mixture is noticed.

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use nic_host::consistent_read::{self, Checksum};
use nic_host::log::Batch;
use nic_host::ops::{ChainAppended, ChainEnd, Traversal};
use nic_host::prism::{Chain, Primitive};
use nic_host::scan::{self, Comparison, Field};
use nic_host::version_chain::{Image, Link};
use nic_host::{
    Appended, Fate, HOME_REGION, Nic, OpError, RemoteRegion, Session, Status, Wait, chain_append,
    chain_read, indirect_read, traverse,
};
use nic_tests::children::{self, Child, RacerOptions, Role, Structure};
use nic_tests::racing::{self, KEYS, STEADY, VALUE_BYTES, places};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nic-tests");
/// Ops that a race has at the least.
const OPS: u64 = 20_000;
/// And at the most while what it is about has not happened often enough: then there was no race.
const OPS_MAX: u64 = 2_000_000;

/// The turns of a race, which goes on until enough has happened.
fn goes_on(turn: u64, is_enough: bool) -> bool {
    turn < OPS || (turn < OPS_MAX && !is_enough)
}

/// An owner, the engine that works on its memory, and a session with a way there.
struct Race {
    owner: Child,
    session: Session,
    remote: RemoteRegion,
    told: Value,
    _nic: Nic,
    _engine: Child,
    _folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Race {
    fn of(structure: Structure) -> Race {
        /// Owner and engine that really run at once are worth more than many that take turns.
        static TRACK: Mutex<()> = Mutex::new(());
        let alone = TRACK.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("nic.sock");
        let mut engine = children::racing_engine(PROGRAM, &socket);
        let core = children::racing_core(0);
        let options = RacerOptions { socket: socket.clone(), core, structure };
        let mut owner = Child::start(PROGRAM, &Role::Racer(options));
        let answer = owner.answer();
        let nic = children::connect(&mut engine, &socket);
        let session = nic.session().depth(64).wait(Wait::Block).open().unwrap();
        let ticket = answer["ticket"].as_str().unwrap().parse().unwrap();
        let remote = session.connect(&ticket).unwrap();
        let told = answer["told"].clone();
        let (_nic, _engine, _folder, _alone) = (nic, engine, folder, alone);
        Race { owner, session, remote, told, _nic, _engine, _folder, _alone }
    }

    /// How many changes the owner has made; it fails if the owner has found something wrong.
    fn changes(&mut self) -> u64 {
        self.owner.ask("changes")["changes"].as_u64().unwrap()
    }
}

/// Values that were seen of each key.
#[derive(Default)]
struct Seen {
    newest: [u64; KEYS as usize],
    whole: u64,
    mixed: u64,
}

impl Seen {
    /// Notes a value that nothing but its own words proves.
    fn note(&mut self, key: u64, value: &[u8]) {
        match racing::written_by(key, value) {
            Some(count) => {
                self.newest[key as usize] = self.newest[key as usize].max(count);
                self.whole += 1;
            }
            None => self.mixed += 1,
        }
    }

    fn is_enough(&self) -> bool {
        self.whole > OPS / 10 && self.newest.iter().all(|count| *count > 1000)
    }

    fn check(&self) {
        println!("{} whole, {} mixed", self.whole, self.mixed);
        assert!(self.is_enough(), "{} whole, the newest {:?}", self.whole, self.newest);
    }
}

#[test]
fn a_list_that_is_relinked_is_walked_to_the_key_or_its_end() {
    let mut race = Race::of(Structure::List);
    let (mut seen, mut missed) = (Seen::default(), 0);
    let mut turns = 0..;
    while let Some(turn) =
        turns.next().filter(|turn| goes_on(*turn, seen.is_enough() && missed > 0))
    {
        let key = turn % KEYS;
        let arguments =
            traverse::Arguments::list(places::LIST, key + 1, VALUE_BYTES as u32).hops(64);
        match race.session.run(race.remote.traverse(arguments)).unwrap() {
            Traversal::Found(found) => seen.note(key, found.value()),
            Traversal::Missed { hops } => {
                assert!(key >= STEADY, "a key that is never unlinked went missing");
                assert!((STEADY..=KEYS).contains(&u64::from(hops)));
                missed += 1;
            }
            Traversal::Continues(_) => panic!("the list is shorter than its bound"),
        }
    }
    seen.check();
    assert!(missed > 0 && race.changes() > 1000);
}

#[test]
fn lookups_of_entries_that_move_come_each_from_its_own() {
    let mut race = Race::of(Structure::Table);
    let (mut seen, mut empty) = (Seen::default(), 0);
    let keys: Vec<u32> = (0..KEYS as u32).rev().collect();
    let mut turns = (0..).step_by(KEYS as usize);
    while turns.next().is_some_and(|turn| goes_on(turn, seen.is_enough() && empty > 0)) {
        let arguments = indirect_read::Arguments::new(0, VALUE_BYTES as u32, &keys).unwrap();
        let lookups = race.session.run(race.remote.indirect_read(arguments)).unwrap();
        for (key, value) in keys.iter().zip(lookups.iter()) {
            match value.unwrap() {
                [] => {
                    assert!(u64::from(*key) >= STEADY, "an entry that is never emptied is empty");
                    empty += 1;
                }
                value => seen.note(u64::from(*key), value),
            }
        }
    }
    seen.check();
    assert!(empty > 0 && race.changes() > 1000);
}

#[test]
fn an_object_that_is_written_over_comes_whole_or_is_said_to_be_torn() {
    let mut race = Race::of(Structure::Object);
    let arguments = consistent_read::Arguments::trailing(0, places::OBJECT_BYTES, Checksum::Xxh3);
    let (mut newest, mut whole, mut torn) = (0, 0, 0);
    while goes_on(whole + torn, newest > 1000) {
        match race.session.run(race.remote.consistent_read(arguments)) {
            Ok(object) => {
                let count = racing::written_by(0, &object[..VALUE_BYTES]);
                let count = count.expect("an object with a right checksum is whole");
                assert!(count >= newest, "{count} after {newest}");
                newest = count;
                whole += 1;
            }
            Err(OpError::Failed { status: Status::Torn, .. }) => torn += 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!("{whole} whole, {torn} torn");
    assert!(newest > 1000 && race.changes() > 1000);
}

#[test]
fn a_chain_that_others_extend_and_recycle_is_read_and_extended() {
    let mut race = Race::of(Structure::Chain);
    let link = |value: &Value| Link::from_raw(value.as_u64().unwrap());
    let fresh: Vec<Link> = race.told["fresh"].as_array().unwrap().iter().map(link).collect();
    assert_eq!(fresh.len(), places::FRESH);
    let mut fresh = fresh.into_iter();
    let shortcut = race.told["shortcut"].as_u64().unwrap();
    let Race { session, remote, .. } = &race;
    let mut cursor = link(&race.told["first"]);
    let (mut newest, mut recycled, mut linked) = (0, 0, Vec::new());
    let mut turns = 0..;
    while let Some(turn) = turns.next().filter(|turn| {
        goes_on(*turn, newest > 100 && recycled > 0 && linked.len() == places::FRESH)
    }) {
        let arguments = match turn % 7 {
            0 => chain_read::Arguments::from_shortcut(shortcut),
            1 => chain_read::Arguments::from_cursor(cursor),
            _ => chain_read::Arguments::from_cursor(cursor).or_shortcut(HOME_REGION, shortcut, 4),
        };
        match session.run(remote.chain_read(arguments, places::BUFFER_BYTES)) {
            Ok(ChainEnd::Latest(entry)) => {
                let owners = racing::written_by(0, entry.value());
                let own = racing::written_by(1, entry.value());
                assert!(owners.is_some() || own.is_some(), "an entry is whole");
                newest = newest.max(owners.unwrap_or(0));
                // The others begin where the chain was a while ago.
                if turn % 7 == 0 {
                    cursor = entry.at();
                }
            }
            Ok(ChainEnd::Recycled) => recycled += 1,
            Ok(ChainEnd::Bound(_)) => panic!("a chain of few entries has no bound"),
            // It kept changing until the op's end.
            Err(OpError::Failed { status: Status::Torn | Status::Expired, .. }) => {}
            Err(error) => panic!("{error}"),
        }
        // Now and then an entry of one's own.
        if turn % (OPS / 100) == 0
            && let Some(at) = fresh.next()
        {
            let image = Image::compose(at, places::BUFFER_BYTES, &racing::value(1, turn)).unwrap();
            loop {
                let arguments = chain_append::Arguments::new(cursor, at);
                match session.run(remote.chain_append(arguments, &image)).unwrap() {
                    ChainAppended::Linked { .. } => break linked.push(at),
                    ChainAppended::Recycled => {
                        let read = chain_read::Arguments::from_shortcut(shortcut);
                        let end = session.run(remote.chain_read(read, places::BUFFER_BYTES));
                        if let Ok(ChainEnd::Latest(entry)) = end {
                            cursor = entry.at();
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    println!("{recycled} recycled, {} linked, the newest {newest}", linked.len());
    assert!(newest > 100 && recycled > 0 && linked.len() == places::FRESH);
    // The owner goes along the chain, ours included, and would have stopped at what is not there.
    let before = race.changes();
    assert!(race.changes() >= before);
}

#[test]
fn a_free_buffer_is_handed_out_once() {
    let mut race = Race::of(Structure::FreeList);
    let allocate = Chain::first(Primitive::Allocate { region: HOME_REGION, list: 0 });
    let (mut taken, mut none) = (Vec::new(), 0);
    while (taken.len() as u64) < OPS {
        let done = match race.session.run(race.remote.prism(&allocate, &[])) {
            Ok(done) => done,
            // The owner was faster again and again.
            Err(OpError::Failed { status: Status::Busy, fate: Fate::NotExecuted, .. }) => {
                none += 1;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let report = done.report();
        if !report.succeeded(0) {
            none += 1;
            continue;
        }
        // Its region's number stands above its address.
        let number = (report.word(0).unwrap() & ((1 << 56) - 1)) / 64;
        assert!(taken.last().is_none_or(|last| *last < number), "{number} came after a later one");
        taken.push(number);
    }
    let words = places::TAKEN..places::TAKEN + 8 * places::TAKEN_COUNT;
    let owners = race.session.run(race.remote.read(words)).unwrap();
    let owners: Vec<u64> = owners
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word) / 64)
        .filter(|number| *number != 0)
        .collect();
    println!("{} taken, {none} times none, the owner's last {}", taken.len(), owners.len());
    assert!(!owners.is_empty(), "the owner takes some as well");
    assert!(owners.iter().all(|number| taken.binary_search(number).is_err()));
    assert!(race.changes() > 100);
}

#[test]
fn a_log_that_is_trimmed_meanwhile_has_every_record_whole_and_in_order() {
    let mut race = Race::of(Structure::Log);
    let Race { session, remote, .. } = &race;
    let (mut position, mut owners_count, mut own_found) = (0, 0, 0);
    let (mut appended, mut full) = (0, 0);
    let mut turns = 1..;
    while let Some(turn) = turns
        .next()
        .filter(|turn| goes_on(*turn, appended > 1000 && owners_count > 1000 && own_found > 1000))
    {
        let payload = racing::value(1, turn);
        let payload = &payload[..8 + (turn % 300) as usize];
        match session.run(remote.append(0, turn, payload)).unwrap() {
            Appended::At { .. } => appended += 1,
            Appended::Full { .. } => full += 1,
            long @ Appended::TooLong { .. } => panic!("{long:?}"),
        }
        let fetched = session.run(remote.fetch(0, position, 4096)).unwrap();
        match fetched.batch().unwrap() {
            Batch::Records(mut records) => {
                for record in records.by_ref() {
                    let key = u64::from(record.tag != 0);
                    let (word, _) = record.payload.split_first_chunk::<8>().unwrap();
                    let count = u64::from_le_bytes(*word);
                    let whole = racing::value(key, count);
                    assert!(record.payload == &whole[..record.payload.len()], "tag {}", record.tag);
                    let newest = if key == 0 { &mut owners_count } else { &mut own_found };
                    assert!(count > *newest, "{count} after {newest}");
                    *newest = count;
                }
                position = records.next_position();
            }
            Batch::Trimmed { head } => {
                assert!(head > position);
                position = head;
            }
            Batch::Beyond { .. } | Batch::TooLong { .. } => panic!("{position} is no place of it"),
        }
    }
    println!("{appended} appended, {full} times full, the owner's newest {owners_count}");
    assert!(appended > 1000 && owners_count > 1000 && own_found > 1000);
    assert!(race.changes() > 1000);
}

#[test]
fn records_that_change_meanwhile_are_what_the_predicate_saw() {
    let mut race = Race::of(Structure::Records);
    let (low, mut rows) = (Field::unsigned(0, 4), 0);
    let all = scan::Arguments::home(0, 16, places::RECORDS as u32);
    let mut turns = (0..).step_by(100);
    while turns.next().is_some_and(|turn| goes_on(turn, rows > 1000)) {
        let mut next = Some(all.only(low, Comparison::Less, 50).rows(0, 8));
        while let Some(arguments) = next {
            let found = race.session.run(race.remote.scan(arguments)).unwrap();
            for row in found.rows() {
                let (low, high) = row.split_at(4);
                let [low, high] =
                    [low, high].map(|half| u32::from_le_bytes(half.try_into().unwrap()));
                assert_eq!(high, !low, "a word is torn");
                assert!(low < 50, "{low} was not what the predicate saw");
                rows += 1;
            }
            next = found.rest();
        }
    }
    assert!(rows > 1000 && race.changes() > 1000);
}

#[test]
fn what_a_partition_counts_as_written_is_whole_to_its_owner() {
    let mut race = Race::of(Structure::Partitions);
    let mut written = 0;
    let mut batch = 0..;
    loop {
        let keys = batch.by_ref().take(23);
        let records: Vec<u8> =
            keys.flat_map(|key: u64| [key; 8]).flat_map(u64::to_le_bytes).collect();
        let answer = race.session.run(race.remote.partition_write(0, &records)).unwrap();
        written += answer.records();
        race.changes();
        if answer.rest_from().is_some() {
            break;
        }
    }
    assert!(written > 3 * places::CAPACITY, "{written} records");
    race.changes();
}

#[test]
fn a_sketch_only_grows_to_its_owner() {
    let mut race = Race::of(Structure::Sketch);
    for first in 0..OPS / 100 {
        let values: Vec<u8> = (first * 50..first * 50 + 100).flat_map(u64::to_le_bytes).collect();
        race.session.run(race.remote.sketch_write(32 << 10, 0, 10, &values)).unwrap();
        if first % 16 == 0 {
            race.changes();
        }
    }
    let before = race.changes();
    assert!(before > 0);
}
