//! Batches of ops of one kind, each result checked. What runs here is watched: it allocates
//! nothing and calls nothing but the session.

use std::time::Duration;

use nic_host::ops::{Bytes, Call, CompareSwap, FetchAdd, Read, Write};
use nic_host::{
    Lookup, Op, OpError, Operation, Pending, RemoteRegion, RemoteTable, ScanAndRead, Session,
    SubmitError,
};
use nic_tests::sample::{self, INVERT, PATTERN_BYTES, WORDS, WRITTEN};

/// The most ops of a batch.
pub(super) const WINDOW_MAX: usize = 64;
/// The most that an op may take: losses make some slow, and the test does not mind.
const DEADLINE: Duration = Duration::from_secs(30);

/// The kinds of ops. Their names are what the test asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read64,
    Read4096,
    Write,
    CompareSwap,
    FetchAdd,
    Hit,
    Miss,
    Call,
}

impl Kind {
    /// All of them, by name.
    pub(super) const ALL: [(&'static str, Kind); 8] = [
        ("read_64", Kind::Read64),
        ("read_4096", Kind::Read4096),
        ("write", Kind::Write),
        ("compare_swap", Kind::CompareSwap),
        ("fetch_add", Kind::FetchAdd),
        ("hit", Kind::Hit),
        ("miss", Kind::Miss),
        ("call", Kind::Call),
    ];
}

/// What is wrong with an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It failed with this status and fate.
    Failed(u16, u8),
    /// It was not even taken.
    NotTaken,
    /// It brought other bytes than it had to.
    WrongResult,
}

/// The initiator's side: where ops go, and how many of each kind of atomics have been done.
pub(super) struct Flood<'s> {
    pub(super) session: &'s Session,
    pub(super) data: RemoteRegion,
    pub(super) table: RemoteTable,
    pub(super) keys: u64,
    /// What the word for FETCH_ADD holds.
    added: u64,
    /// What each of the words for COMPARE_SWAP holds: one word for each place in a batch.
    swapped: [u64; WINDOW_MAX],
    /// Goes on from batch to batch, so that ops meet other places and keys.
    next: u64,
}

impl<'s> Flood<'s> {
    pub(super) fn new(
        session: &'s Session,
        data: RemoteRegion,
        table: RemoteTable,
        keys: u64,
    ) -> Self {
        Flood { session, data, table, keys, added: 0, swapped: [0; WINDOW_MAX], next: 0 }
    }

    /// Runs `count` ops, `window` at a time, each batch to its end.
    pub(super) fn run(&mut self, kind: Kind, window: usize, count: u64) -> Result<(), Fault> {
        let mut left = count;
        while left > 0 {
            let size = left.min(window.min(WINDOW_MAX) as u64) as usize;
            match kind {
                Kind::Read64 => self.read(size, 64)?,
                Kind::Read4096 => self.read(size, 4096)?,
                Kind::Write => self.write(size)?,
                Kind::CompareSwap => self.compare_swap(size)?,
                Kind::FetchAdd => self.fetch_add(size)?,
                Kind::Hit => self.hit(size)?,
                Kind::Miss => self.miss(size)?,
                Kind::Call => self.call(size)?,
            }
            self.next += size as u64;
            left -= size as u64;
        }
        Ok(())
    }

    /// A place for the batch's op, a multiple of its length, within a part of the region.
    fn place(&self, index: usize, length: u64, part: (u64, u64)) -> u64 {
        let places = part.1 / length;
        part.0 + sample::pattern(self.next + index as u64) % places * length
    }

    fn read(&self, size: usize, length: u64) -> Result<(), Fault> {
        let at = |index| self.place(index, length, (0, PATTERN_BYTES));
        let make = |index| self.data.read(at(index)..at(index) + length);
        batch::<Read>(self.session, size, make, |index, bytes: Bytes| {
            bytes.len() as u64 == length && sample::is_pattern(at(index), &bytes)
        })
    }

    /// Each op's bytes are read back afterwards, unless another op wrote the same place.
    fn write(&self, size: usize) -> Result<(), Fault> {
        let mut payloads = [[0; 64]; WINDOW_MAX];
        for (index, payload) in payloads.iter_mut().enumerate() {
            *payload = sample::value(self.next + index as u64);
        }
        // Neighbouring places: a batch never writes one twice.
        let at = |index: usize| WRITTEN.0 + (self.next + index as u64) * 64 % WRITTEN.1;
        let make = |index: usize| self.data.write(at(index), &payloads[index]);
        batch::<Write<'_>>(self.session, size, make, |_, ()| true)?;
        let last = size - 1;
        let back = self.data.read(at(last)..at(last) + 64);
        batch::<Read>(self.session, 1, |_| back, |_, bytes: Bytes| *bytes == payloads[last])
    }

    fn compare_swap(&mut self, size: usize) -> Result<(), Fault> {
        let (words, before) = (WORDS.0 + 64, self.swapped);
        let at = |index: usize| words + index as u64 * 8;
        let next = |index: usize| sample::pattern(before[index]);
        let make = |index: usize| self.data.compare_swap(at(index), before[index], next(index));
        batch::<CompareSwap>(self.session, size, make, |index, found| found == before[index])?;
        for (index, word) in self.swapped.iter_mut().enumerate().take(size) {
            *word = next(index);
        }
        Ok(())
    }

    /// Ops of a batch may run in any order: what each finds lies in a range, all differ, and the
    /// next batch finds their sum. An op that ran twice, or not at all, would be noticed.
    fn fetch_add(&mut self, size: usize) -> Result<(), Fault> {
        let (before, mut seen) = (self.added, 0u64);
        let make = |_| self.data.fetch_add(WORDS.0, 1);
        batch::<FetchAdd>(self.session, size, make, |_, found: u64| {
            let order = found.wrapping_sub(before);
            let is_new = order < size as u64 && seen & 1 << order == 0;
            seen |= 1 << (order & 63);
            is_new
        })?;
        self.added += size as u64;
        Ok(())
    }

    fn hit(&self, size: usize) -> Result<(), Fault> {
        let mut keys = [([0; 16], 0); WINDOW_MAX];
        for (index, key) in keys.iter_mut().enumerate() {
            let number = sample::pattern(self.next + index as u64) % self.keys;
            *key = (sample::key(number), number);
        }
        let make = |index: usize| self.table.scan_and_read(&keys[index].0);
        batch::<ScanAndRead<'_>>(self.session, size, make, |index, lookup| match lookup {
            Lookup::Hit(entry) => entry.value() == sample::value(keys[index].1),
            Lookup::Miss | Lookup::Overflowed => false,
        })
    }

    fn miss(&self, size: usize) -> Result<(), Fault> {
        let mut keys = [[0; 16]; WINDOW_MAX];
        for (index, key) in keys.iter_mut().enumerate() {
            *key = sample::key(self.keys + self.next + index as u64);
        }
        let make = |index: usize| self.table.scan_and_read(&keys[index]);
        batch::<ScanAndRead<'_>>(self.session, size, make, |_, lookup| {
            matches!(lookup, Lookup::Miss)
        })
    }

    fn call(&self, size: usize) -> Result<(), Fault> {
        let mut requests = [[0; 32]; WINDOW_MAX];
        for (index, request) in requests.iter_mut().enumerate() {
            request[..8].copy_from_slice(&(self.next + index as u64).to_le_bytes());
        }
        let make = |index: usize| self.data.call(INVERT, &requests[index], 32);
        batch::<Call<'_>>(self.session, size, make, |index, answer: Bytes| {
            answer.iter().zip(&requests[index]).all(|(answer, request)| *answer == !request)
                && answer.len() == 32
        })
    }
}

/// Runs one batch: all ops are submitted, then all are taken.
fn batch<O: Operation>(
    session: &Session,
    size: usize,
    make: impl Fn(usize) -> Op<O>,
    mut is_right: impl FnMut(usize, O::Output) -> bool,
) -> Result<(), Fault> {
    let mut pending: [Option<(usize, Pending<'_, O>)>; 256] = [const { None }; 256];
    for index in 0..size {
        match session.submit(make(index).deadline(DEADLINE)) {
            Ok(op) => {
                let slot = op.slot();
                pending[slot] = Some((index, op));
            }
            Err(SubmitError::Full(_) | SubmitError::Invalid(_)) => return Err(Fault::NotTaken),
        }
    }
    let mut left = size;
    while left > 0 {
        for done in session.poll().map_err(|_| Fault::NotTaken)? {
            let Some((index, op)) = pending[done.slot()].take() else { continue };
            left -= 1;
            match op.take(done) {
                Ok(output) => {
                    if !is_right(index, output) {
                        return Err(Fault::WrongResult);
                    }
                }
                Err(OpError::Failed { status, fate, .. }) => {
                    return Err(Fault::Failed(status.code(), fate.code()));
                }
                Err(_) => return Err(Fault::WrongResult),
            }
        }
        if left > 0 {
            session.wait(DEADLINE).map_err(|_| Fault::NotTaken)?;
        }
    }
    Ok(())
}
