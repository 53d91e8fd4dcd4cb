//! The ops that a load has out.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nic_host::ops::{Call, FetchAdd, Read, Write};
use nic_host::{
    Done, Fate, Lookup, Op, OpError, Operation, Pending, RemoteRegion, RemoteTable, ScanAndRead,
    Session, Status, SubmitError,
};
use nic_ports::Random;
use nic_tests::sample::{self, INVERT, PATTERN_BYTES, WRITTEN};

use super::Target;
use super::account::{Account, SLACK, Sum, word};

/// Handles that may be forgotten: each keeps a slot until the session ends.
const FORGOTTEN_MAX: u32 = 8;
/// Requests of calls and payloads of writes are among so many.
const SAMPLES: u64 = 64;

/// Bytes that ops bring along. They live as long as the process, so that ops may borrow them.
pub(super) struct Samples {
    keys: &'static [[u8; 16]],
    /// Of both writes and calls.
    payloads: &'static [[u8; 64]],
}

impl Samples {
    pub(super) fn new(keys: u64) -> Self {
        Samples {
            keys: Vec::leak((0..keys).map(sample::key).collect()),
            payloads: Vec::leak((0..SAMPLES).map(sample::value).collect()),
        }
    }
}

enum Kind<'s> {
    Read(Pending<'s, Read>, u64),
    Add(Pending<'s, FetchAdd>),
    Write(Pending<'s, Write<'static>>),
    Lookup(Pending<'s, ScanAndRead<'static>>, u64),
    Call(Pending<'s, Call<'static>>, usize),
}

struct Flight<'s> {
    kind: Kind<'s>,
    /// Which target.
    place: usize,
    incarnation: u64,
    began: Instant,
    deadline: Duration,
    /// Whether it has to end by then.
    is_strict: bool,
}

/// The ops of a session that are out, by slot.
pub(super) struct Flights<'s> {
    session: &'s Session,
    slots: Vec<Option<Flight<'s>>>,
    count: usize,
    forgotten: u32,
}

impl<'s> Flights<'s> {
    pub(super) fn new(session: &'s Session) -> Self {
        Flights { session, slots: (0..64).map(|_| None).collect(), count: 0, forgotten: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Those that are out need not end by their deadlines.
    pub(super) fn forgive(&mut self) {
        self.slots.iter_mut().flatten().for_each(|flight| flight.is_strict = false);
    }

    /// Submits a random op. False: the session takes none now.
    pub(super) fn start(
        &mut self,
        place: usize,
        way: (&RemoteRegion, &RemoteTable),
        sum: &mut Sum,
        (samples, id, is_strict): (&Samples, u64, bool),
        random: &mut Random,
        account: &mut Account,
    ) -> Result<bool> {
        let (data, table) = way;
        let deadline = Duration::from_millis([5, 50, 500][random.below(3) as usize]);
        let session = self.session;
        if random.below(64) == 0 {
            return self.give_up(data.read(0..64).deadline(deadline), random, account);
        }
        let kind = match random.below(16) {
            0..4 => {
                let length = [64, 4096][random.below(2) as usize];
                let at = random.below(PATTERN_BYTES / length) * length;
                let read = data.read(at..at + length).deadline(deadline);
                let Some(pending) = submitted(session.submit(read))? else { return Ok(false) };
                Kind::Read(pending, at)
            }
            4..8 => {
                let add = data.fetch_add(word(id), 1).deadline(deadline);
                let Some(pending) = submitted(session.submit(add))? else { return Ok(false) };
                sum.started();
                Kind::Add(pending)
            }
            8..10 => {
                let at = WRITTEN.0 + id * 64 % WRITTEN.1;
                let payload = &samples.payloads[random.below(SAMPLES) as usize];
                let write = data.write(at, payload).deadline(deadline);
                let Some(pending) = submitted(session.submit(write))? else { return Ok(false) };
                Kind::Write(pending)
            }
            10..14 => {
                let number = random.below(samples.keys.len() as u64);
                let lookup = table.scan_and_read(&samples.keys[number as usize]);
                let lookup = lookup.deadline(deadline);
                let Some(pending) = submitted(session.submit(lookup))? else { return Ok(false) };
                Kind::Lookup(pending, number)
            }
            _ => {
                let number = random.below(SAMPLES) as usize;
                let call = data.call(INVERT, &samples.payloads[number], 64).deadline(deadline);
                let Some(pending) = submitted(session.submit(call))? else { return Ok(false) };
                Kind::Call(pending, number)
            }
        };
        let (incarnation, began) = (sum.incarnation, Instant::now());
        let slot = kind.slot();
        let flight = Flight { kind, place, incarnation, began, deadline, is_strict };
        ensure!(self.slots[slot].replace(flight).is_none(), "slot {slot} was given out twice");
        self.count += 1;
        Ok(true)
    }

    /// Starts an op whose result nobody will take. False: the session takes none now.
    fn give_up(
        &mut self,
        op: Op<Read>,
        random: &mut Random,
        account: &mut Account,
    ) -> Result<bool> {
        let session = self.session;
        if random.below(2) == 0 {
            // A future, dropped after its first look.
            let mut context = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut session.issue(op)).poll(&mut context);
            account.dropped += 1;
            return Ok(true);
        }
        let Some(pending) = submitted(session.submit(op))? else { return Ok(false) };
        if self.forgotten < FORGOTTEN_MAX {
            std::mem::forget(pending);
            self.forgotten += 1;
            account.forgotten += 1;
        } else {
            account.dropped += 1;
        }
        Ok(true)
    }

    /// Takes in what is over, and looks for what should be.
    pub(super) fn collect(
        &mut self,
        account: &mut Account,
        samples: &Samples,
        targets: &mut [Option<Target>],
    ) -> Result<()> {
        for done in self.session.poll()? {
            // Forgotten ones are reported too.
            let Some(flight) = self.slots[done.slot()].take() else { continue };
            self.count -= 1;
            if flight.is_strict {
                account.timed(flight.began.elapsed(), flight.deadline)?;
            }
            // Ops to a target that was replaced count for nobody.
            let target = targets.get_mut(flight.place).and_then(Option::as_mut);
            let target = target.filter(|target| target.sum.incarnation == flight.incarnation);
            match flight.kind.outcome(done, samples, target)? {
                None => account.ended("ok"),
                Some(status) => account.ended(status.to_string()),
            }
        }
        for flight in self.slots.iter().flatten().filter(|flight| flight.is_strict) {
            let taken = flight.began.elapsed();
            let is_lost = taken > flight.deadline + SLACK;
            ensure!(!is_lost, "an op of {:?} is out since {taken:?}", flight.deadline);
        }
        Ok(())
    }
}

/// The op, unless the session is full or its engine gone.
fn submitted<'s, O: Operation>(
    outcome: Result<Pending<'s, O>, SubmitError<Op<O>>>,
) -> Result<Option<Pending<'s, O>>> {
    match outcome {
        Ok(pending) => Ok(Some(pending)),
        Err(SubmitError::Full(_)) => Ok(None),
        Err(SubmitError::Invalid(OpError::Failed { status: Status::EngineLost, .. })) => Ok(None),
        Err(SubmitError::Invalid(error)) => Err(error.into()),
    }
}

impl Kind<'_> {
    fn slot(&self) -> usize {
        match self {
            Kind::Read(pending, _) => pending.slot(),
            Kind::Add(pending) => pending.slot(),
            Kind::Write(pending) => pending.slot(),
            Kind::Lookup(pending, _) => pending.slot(),
            Kind::Call(pending, _) => pending.slot(),
        }
    }

    /// Checks what the op has brought. `Some`: it failed, as it may.
    fn outcome(
        self,
        done: Done,
        samples: &Samples,
        target: Option<&mut Target>,
    ) -> Result<Option<Status>> {
        let is_add = matches!(self, Kind::Add(_));
        let mut found = None;
        let outcome = match self {
            Kind::Read(pending, at) => {
                pending.take(done).map(|bytes| sample::is_pattern(at, &bytes))
            }
            Kind::Add(pending) => pending.take(done).map(|old| found.insert(old) == &old),
            Kind::Write(pending) => pending.take(done).map(|()| true),
            Kind::Lookup(pending, number) => pending.take(done).map(|lookup| match lookup {
                Lookup::Hit(entry) => entry.value() == sample::value(number),
                Lookup::Miss | Lookup::Overflowed => false,
            }),
            Kind::Call(pending, number) => pending.take(done).map(|answer| {
                let request = &samples.payloads[number];
                answer.len() == request.len()
                    && answer.iter().zip(request).all(|(answer, request)| *answer == !request)
            }),
        };
        match outcome {
            Ok(is_right) => {
                ensure!(is_right, "an op brought something else than it had to: {done:?}");
                if let Some(target) = target {
                    target.successes += 1;
                    found.map_or(Ok(()), |old| target.sum.added(old))?;
                }
                Ok(None)
            }
            Err(OpError::Failed { status, fate, .. }) => {
                ensure!(may_happen(status, fate), "an op ended with {status:?}, {fate:?}");
                if let (true, Some(target)) = (is_add, target) {
                    target.sum.failed(fate);
                }
                Ok(Some(status))
            }
            Err(error) => bail!("an op failed by {error}"),
        }
    }
}

/// Whether an op may end so where processes die.
fn may_happen(status: Status, fate: Fate) -> bool {
    match status {
        // The owner may go in the midst of an op.
        Status::Expired | Status::PeerLost | Status::EngineLost | Status::Revoked => true,
        // Its engine, or its target's, was asked to end.
        Status::Draining => true,
        // Another one is at its engine's place, or there is no place.
        Status::BadRkey | Status::NoService | Status::Unreachable | Status::Busy => {
            fate == Fate::NotExecuted
        }
        Status::ServiceFailed => fate != Fate::Executed,
        _ => false,
    }
}
