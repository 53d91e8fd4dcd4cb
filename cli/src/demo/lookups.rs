//! The measured ways of looking a key up. Every value read is compared with what it is to be.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::Result;
use nic_figures::LatencyRecorder;
use nic_host::{Geometry, Lookup, OpError, owner_answer, owner_value};
use nic_kernels::bucket_table::layout::{BUCKETS_OFFSET, BucketHeader};
use zerocopy::FromBytes;

use super::pairs::Pairs;
use super::pipeline::Pipeline;
use super::world::{CALL_VALUE_MAX, Way};
use crate::random::Random;

/// What a plain READ reads, in bytes.
const READ_BYTES: u64 = 64;
/// Wrong answers after which a slice is given up.
const ERRORS_MAX: u64 = 1000;
/// What every way shares: the pairs in the order in which they are asked for, and what went wrong.
pub struct Lookups<'p> {
    pairs: &'p Pairs,
    /// The table's, which may have a few more keys than are asked for.
    geometry: Geometry,
    config_id: u64,
    next: Cell<usize>,
    random: RefCell<Random>,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
    overflow_calls: Cell<u64>,
}

/// The ways that are run one op at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A READ of 64 bytes.
    Read,
    /// Bucket, then entry.
    TwoReads,
    /// Scan-and-Read.
    Scar,
    /// A call to the owner.
    Call,
}

/// What a slice did.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Lookups.
    pub gets: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl<'p> Lookups<'p> {
    /// Of these pairs, in their order, in a table of this geometry.
    pub fn new(pairs: &'p Pairs, geometry: Geometry, seed: u64) -> Self {
        Lookups {
            pairs,
            geometry,
            config_id: nic_host::Identity::default().config_id,
            next: Cell::new(0),
            random: RefCell::new(Random::new(seed)),
            errors: Cell::new(0),
            first_error: RefCell::new(None),
            overflow_calls: Cell::new(0),
        }
    }

    /// Wrong answers and failed ops so far.
    pub fn errors(&self) -> u64 {
        self.errors.get()
    }

    /// The first of them, in words.
    pub fn first_error(&self) -> Option<String> {
        self.first_error.borrow().clone()
    }

    /// Keys that the owner was asked for because their bucket had overflowed.
    pub fn overflow_calls(&self) -> u64 {
        self.overflow_calls.get()
    }

    /// One op after the other for `time`; each one's latency is recorded.
    pub fn one_by_one(
        &self,
        way: &Way,
        kind: Kind,
        time: Duration,
        latencies: &mut LatencyRecorder,
    ) -> Done {
        latencies.clear();
        let errors_before = self.errors.get();
        let begin = Instant::now();
        let (mut before, mut gets) = (begin, 0);
        loop {
            let counts = self.once(way, kind);
            let now = Instant::now();
            if counts {
                latencies.record(now.duration_since(before).as_nanos() as u64);
                gets += 1;
            }
            before = now;
            let is_hopeless = self.errors.get() - errors_before > ERRORS_MAX;
            if now.duration_since(begin) >= time || is_hopeless {
                return Done { gets, seconds: now.duration_since(begin).as_secs_f64() };
            }
        }
    }

    /// Scan-and-Reads for `time`, `window` of them out at once.
    pub fn windowed(&self, way: &Way, window: usize, time: Duration) -> Result<Done> {
        let begin = Instant::now();
        let errors_before = self.errors.get();
        let next = |number: usize| {
            // The clock is read once for each part of the window.
            let is_over = number == 0
                && (begin.elapsed() >= time || self.errors.get() - errors_before > ERRORS_MAX);
            (!is_over).then(|| self.next_place())
        };
        let mut gets = 0;
        Pipeline::new(way, self.pairs, window).run(next, |place, outcome| match outcome {
            // Asked of the owner when all pairs were read; not a Scan-and-Read's to answer.
            Ok(Lookup::Overflowed) => {}
            outcome => {
                gets += 1;
                self.judge(place, outcome);
            }
        })?;
        Ok(Done { gets, seconds: begin.elapsed().as_secs_f64() })
    }

    /// Reads every pair once and asks the owner for those that Scan-and-Read cannot see. Returns
    /// their places, ascending.
    pub fn verify_all(&self, way: &Way, window: usize, read: impl Fn(u64)) -> Result<Vec<usize>> {
        let mut places = 0..self.pairs.len();
        let next = |_| {
            let place = places.next()?;
            if place.is_multiple_of(1 << 14) {
                read(place as u64);
            }
            Some(place)
        };
        let mut overflowed = Vec::new();
        Pipeline::new(way, self.pairs, window).run(next, |place, outcome| match outcome {
            Ok(Lookup::Overflowed) => overflowed.push(place),
            outcome => self.judge(place, outcome),
        })?;
        for place in &overflowed {
            self.ask_owner(way, *place);
        }
        overflowed.sort_unstable();
        Ok(overflowed)
    }

    /// Whether at least one value is short enough for a call's answer.
    pub fn can_call(&self) -> bool {
        (0..self.pairs.len()).any(|place| self.is_callable(place))
    }

    /// One lookup. Whether it counts: those of overflowed buckets do not.
    #[inline]
    fn once(&self, way: &Way, kind: Kind) -> bool {
        let place = self.next_place();
        let (session, key) = (&way.session, self.pairs.get(place).0);
        let outcome = match kind {
            Kind::Read => {
                self.read_bucket(way);
                return true;
            }
            Kind::Call => {
                self.call(way);
                return true;
            }
            Kind::Scar => session.run(way.table.scan_and_read(key)),
            Kind::TwoReads => way.table.two_reads(session, key),
        };
        if matches!(outcome, Ok(Lookup::Overflowed)) {
            self.ask_owner(way, place);
            return false;
        }
        self.judge(place, outcome);
        true
    }

    /// Reads the first line of a random bucket, which begins with the table's configuration.
    #[inline]
    fn read_bucket(&self, way: &Way) {
        let geometry = self.geometry;
        let bucket = self.random.borrow_mut().below(geometry.bucket_count());
        let at = BUCKETS_OFFSET + bucket * u64::from(geometry.bucket_bytes());
        match way.session.run(way.table.region().read(at..at + READ_BYTES)) {
            Ok(line) => match BucketHeader::ref_from_prefix(&line) {
                Ok((header, _)) if header.config_id.get() == self.config_id => {}
                _ => self.wrong(|| format!("the bucket at {at} does not begin as it should")),
            },
            Err(error) => self.wrong(|| format!("READ: {error}")),
        }
    }

    /// Asks the owner for the next key with a value that fits into an answer.
    #[inline]
    fn call(&self, way: &Way) {
        let mut place = self.next_place();
        while !self.is_callable(place) {
            place = self.next_place();
        }
        self.judge_call(place, way);
    }

    fn ask_owner(&self, way: &Way, place: usize) {
        self.overflow_calls.set(self.overflow_calls.get() + 1);
        self.judge_call(place, way);
    }

    #[inline]
    fn judge_call(&self, place: usize, way: &Way) {
        let (key, value) = self.pairs.get(place);
        let table = way.table.clone().with_values_up_to(CALL_VALUE_MAX as u32);
        match way.session.run(table.call_owner(key)).and_then(owner_answer) {
            Ok(Some((_, answer))) if owner_value(&answer) == value => {}
            Ok(Some(_)) => self.wrong(|| format!("CALL: another value for {}", shown(key))),
            Ok(None) => self.wrong(|| format!("CALL: no value for {}", shown(key))),
            Err(error) => self.wrong(|| format!("CALL for {}: {error}", shown(key))),
        }
    }

    #[inline]
    fn judge(&self, place: usize, outcome: Result<Lookup, OpError>) {
        let (key, value) = self.pairs.get(place);
        match outcome {
            Ok(Lookup::Hit(entry)) if entry.value() == value => {}
            Ok(Lookup::Hit(_)) => self.wrong(|| format!("another value for {}", shown(key))),
            Ok(_) => self.wrong(|| format!("no value for {}", shown(key))),
            Err(error) => self.wrong(|| format!("the lookup of {} failed: {error}", shown(key))),
        }
    }

    #[cold]
    fn wrong(&self, what: impl FnOnce() -> String) {
        self.errors.set(self.errors.get() + 1);
        self.first_error.borrow_mut().get_or_insert_with(what);
    }

    #[inline]
    fn is_callable(&self, place: usize) -> bool {
        self.pairs.get(place).1.len() <= CALL_VALUE_MAX
    }

    #[inline]
    fn next_place(&self) -> usize {
        let place = self.next.get();
        let next = place + 1;
        self.next.set(if next == self.pairs.len() { 0 } else { next });
        place
    }
}

fn shown(key: &[u8]) -> String {
    format!("the key {:?}", String::from_utf8_lossy(key))
}
