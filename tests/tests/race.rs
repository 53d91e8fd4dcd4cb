//! Readers race a writer process that reuses freed places at once: torn reads are seen, and none
//! of them is ever believed.
//!
//! The writer owns a table of few keys with values of eight cache lines and changes it without a
//! pause: replaces, erases, inserts. Its engine's process reads the memory for others, on another
//! core where there is one. Readers look keys up by Scan-and-Read and by two plain READs. Every
//! word of a value follows from its key and the change that wrote it, so a mixture is noticed.
//!
//! What keeps torn reads out is each reader's check of the checksum. Built without that check, this
//! test fails; that it does was seen with
//!
//! ```text
//! RUSTFLAGS='--cfg nic_break="checksum"' CARGO_TARGET_DIR=target/broken \
//!     cargo test -p nic-tests --test race
//! ```

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Mutex;

use nic_host::{Lookup, Nic, OpError, RemoteRegion, RemoteTable, Session, SubmitError, Wait};
use nic_kernels::bucket_table::layout::BucketHeader;
use nic_kernels::bucket_table::{Bucket, KeyHash, TableView, Torn, Verdict, validate_entry};
use nic_tests::children::{self, Child, Role, WriterOptions};
use nic_tests::racing::{self, KEYS, STEADY};
use tempfile::TempDir;
use zerocopy::FromBytes;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nic-tests");
/// Lookups that a race makes at the least.
const LOOKUPS_MIN: u64 = 200_000;
/// And at the most while nothing was torn: then there was no race.
const LOOKUPS_MAX: u64 = 30_000_000;
/// Lookups in flight.
const WINDOW: usize = 48;

/// One race at a time: writer and engine that really run at once are worth more than four that
/// take turns.
static TRACK: Mutex<()> = Mutex::new(());

/// A writer, and the engine that reads its memory.
struct Race {
    writer: Child,
    engine: Child,
    socket: PathBuf,
    table: String,
    entries: String,
    _folder: TempDir,
}

impl Race {
    fn start() -> Race {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("nic.sock");
        let engine = children::racing_engine(PROGRAM, &socket);
        let core = children::racing_core(0);
        let options = WriterOptions { socket: socket.clone(), core, seed: 11 };
        let mut writer = Child::start(PROGRAM, &Role::Writer(options));
        let tickets = writer.answer();
        let ticket = |name: &str| tickets[name].as_str().unwrap().to_owned();
        Race {
            table: ticket("table"),
            entries: ticket("entries"),
            writer,
            engine,
            socket,
            _folder: folder,
        }
    }

    /// A reader that leaves the cores to writer and engine while its ops are out.
    fn reader(&mut self) -> (Nic, Session) {
        let nic = children::connect(&mut self.engine, &self.socket);
        let session = nic.session().depth(64).wait(Wait::Block).open().unwrap();
        (nic, session)
    }
}

/// What readers have seen.
#[derive(Debug, Default)]
struct Seen {
    lookups: u64,
    hits: u64,
    misses: u64,
    /// Replies that were not whole.
    torn: u64,
    /// The latest change seen of each key: none may come back.
    newest: [u64; KEYS as usize],
}

impl Seen {
    /// Takes a value that passed all checks.
    fn hit(&mut self, number: u64, value: &[u8], issued_after: u64) {
        let count = racing::written_by(number, value).expect("a torn value was believed");
        assert!(
            count >= issued_after,
            "a value came that had been replaced before it was asked for"
        );
        let newest = &mut self.newest[number as usize];
        *newest = count.max(*newest);
        self.hits += 1;
    }

    fn miss(&mut self, number: u64) {
        assert!(number >= STEADY, "a key that was only ever replaced went missing");
        self.misses += 1;
    }

    fn goes_on(&self) -> bool {
        self.lookups < LOOKUPS_MIN || (self.torn == 0 && self.lookups < LOOKUPS_MAX)
    }

    /// There was a race, and it was lost by nobody.
    fn check(&self, race: &mut Race) {
        let changes = race.writer.ask("changes")["changes"].as_u64().unwrap();
        println!("{self:?}, {changes} changes");
        assert!(self.torn > 0, "no read was torn in {} lookups: there was no race", self.lookups);
        assert!(self.hits > 0 && self.misses > 0, "{self:?}");
    }
}

#[test]
fn scan_and_read_never_yields_a_torn_value() {
    let _track = TRACK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut race = Race::start();
    let (_nic, session) = race.reader();
    let table = RemoteTable::open(&session, &race.table.parse().unwrap()).unwrap();
    let keys: Vec<_> = (0..KEYS).map(racing::key).collect();
    let mut seen = Seen::default();
    let mut out: Vec<_> = (0..64).map(|_| None).collect();
    let mut issued = 0;
    while seen.goes_on() {
        while session.in_use() < WINDOW {
            let number = issued % KEYS;
            match session.submit(table.scan_and_read(&keys[number as usize])) {
                Ok(pending) => {
                    let slot = pending.slot();
                    out[slot] = Some((number, seen.newest[number as usize], pending));
                }
                Err(SubmitError::Full(_)) => break,
                Err(SubmitError::Invalid(error)) => panic!("{error}"),
            }
            issued += 1;
        }
        session.wait(std::time::Duration::from_secs(60)).unwrap();
        for done in session.poll().unwrap() {
            let (number, newest, pending) = out[done.slot()].take().unwrap();
            seen.lookups += 1;
            match pending.take(done) {
                Ok(Lookup::Hit(entry)) => seen.hit(number, entry.value(), newest),
                Ok(Lookup::Miss) => seen.miss(number),
                Ok(Lookup::Overflowed) => panic!("six keys fit two buckets"),
                Err(error) => panic!("{error}"),
            }
        }
        seen.torn = session.retries();
    }
    seen.check(&mut race);
}

#[test]
fn two_reads_never_yield_a_torn_value() {
    let _track = TRACK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut race = Race::start();
    let (_nic, session) = race.reader();
    let reader = PlainReader::open(&session, &race);
    let mut seen = Seen::default();
    while seen.goes_on() {
        // Enough of them at once that the engine reads all the time.
        let numbers: Vec<u64> =
            (0..WINDOW as u64).map(|place| (seen.lookups + place) % KEYS).collect();
        for (number, verdict) in reader.look_up(&numbers) {
            seen.lookups += 1;
            match verdict {
                Found::Value(value) => seen.hit(number, &value, 0),
                Found::Nothing => seen.misses += 1,
                Found::Mixed => seen.torn += 1,
                Found::Outdated => {}
            }
        }
    }
    seen.check(&mut race);

    // The library's own way does all this within one call.
    let table = RemoteTable::open(&session, &race.table.parse().unwrap()).unwrap();
    for issued in 0..2_000 {
        let number = issued % KEYS;
        match table.two_reads(&session, &racing::key(number)) {
            Ok(Lookup::Hit(entry)) => seen.hit(number, entry.value(), 0),
            Ok(Lookup::Miss | Lookup::Overflowed) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Looks keys up by plain READs of bucket and entry, many at once.
struct PlainReader<'s> {
    session: &'s Session,
    index: RemoteRegion,
    entries: RemoteRegion,
    view: TableView,
}

/// What a pair of READs has brought.
enum Found {
    Value(Vec<u8>),
    /// No index entry, or one of a neighbour.
    Nothing,
    /// Bytes of two writings: only the checksum tells.
    Mixed,
    /// Another entry than the bucket promised, whole or not.
    Outdated,
}

impl<'s> PlainReader<'s> {
    fn open(session: &'s Session, race: &Race) -> Self {
        let index = session.connect(&race.table.parse().unwrap()).unwrap();
        let entries = session.connect(&race.entries.parse().unwrap()).unwrap();
        let header = session.run(index.read(0..TableView::HEADER_BYTES as u64)).unwrap();
        PlainReader { session, index, entries, view: TableView::parse(&header).unwrap() }
    }

    /// First all buckets, then all entries that they point to.
    fn look_up(&self, numbers: &[u64]) -> Vec<(u64, Found)> {
        let hashes: Vec<KeyHash> =
            numbers.iter().map(|number| KeyHash::of(&racing::key(*number))).collect();
        let buckets = self.read_all(hashes.iter().map(|hash| {
            let ask = self.view.read_bucket(*hash);
            let at = ask.address.get();
            (&self.index, at..at + u64::from(ask.length.get()))
        }));
        let mut candidates = Vec::new();
        let mut found = Vec::new();
        for (place, bucket) in buckets.iter().enumerate() {
            let parsed = Bucket::parse(bucket).unwrap();
            match parsed.candidates(hashes[place]).next() {
                Some((index, pointer)) => candidates.push((place, index, pointer)),
                None => found.push((numbers[place], Found::Nothing)),
            }
        }
        let bytes = self.read_all(candidates.iter().map(|(_, _, pointer)| {
            (&self.entries, pointer.offset()..pointer.offset() + u64::from(pointer.length()))
        }));
        for ((place, index, _), bytes) in candidates.iter().zip(&bytes) {
            let (header, _) = BucketHeader::ref_from_prefix(&buckets[*place]).unwrap();
            let (number, config) = (numbers[*place], self.view.config_id);
            let key = racing::key(number);
            let verdict = validate_entry(header, index, bytes, &key, hashes[*place], config);
            found.push((
                number,
                match verdict {
                    Verdict::Hit { value, .. } => Found::Value(bytes[value].to_vec()),
                    Verdict::Torn(Torn::Checksum) => Found::Mixed,
                    Verdict::Torn(_) => Found::Outdated,
                    Verdict::Miss => Found::Nothing,
                    verdict => panic!("{verdict:?}"),
                },
            ));
        }
        found
    }

    /// Reads ranges side by side; their bytes in order.
    fn read_all<'r>(
        &self,
        ranges: impl Iterator<Item = (&'r RemoteRegion, std::ops::Range<u64>)>,
    ) -> Vec<Vec<u8>> {
        let mut out: Vec<_> = (0..64).map(|_| None).collect();
        let mut count = 0;
        for (place, (region, range)) in ranges.enumerate() {
            let pending = self.session.submit(region.read(range)).ok().unwrap();
            let slot = pending.slot();
            out[slot] = Some((place, pending));
            count += 1;
        }
        let mut bytes = vec![Vec::new(); count];
        let mut left = count;
        while left > 0 {
            self.session.wait(std::time::Duration::from_secs(60)).unwrap();
            for done in self.session.poll().unwrap() {
                let (place, pending) = out[done.slot()].take().unwrap();
                let reply: Result<_, OpError> = pending.take(done);
                bytes[place] = reply.unwrap().to_vec();
                left -= 1;
            }
        }
        bytes
    }
}
