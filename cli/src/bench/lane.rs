//! One connection's ops: submitted as they are due, judged when they are over.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nic_host::{Fate, OpError, Pending, Session, Status, SubmitError};

use super::load::Load;
use super::ops::{Ground, Work};
use super::pace::Pace;
use super::tally::Tally;

/// A connection, whatever its kind of op.
pub trait Lane {
    /// Begins anew.
    fn begin(&mut self, pace: Pace);

    /// Submits what is due, at most a batch; in a closed loop a whole batch or nothing. How many
    /// it were.
    fn submit(&mut self, now_ns: u64, tally: &mut Tally) -> Result<u32>;

    /// Takes and judges ops that are over, at most a batch. How many it were.
    fn collect(&mut self, begin: Instant, tally: &mut Tally) -> Result<u32>;

    /// Looks at what the ops have left behind.
    fn check(&mut self, tally: &mut Tally);

    /// Ops that are out.
    fn out(&self) -> u32;

    /// Whether another may be.
    fn has_room(&self) -> bool;

    /// When its ops are due.
    fn pace(&self) -> &Pace;

    /// Its session.
    fn session(&self) -> &Session;
}

/// A connection with ops of one kind.
pub struct OpLane<'s, W: Work> {
    session: &'s Session,
    work: W,
    pace: Pace,
    batch: u32,
    window: u32,
    deadline: Duration,
    /// Places of the window that hold no op.
    free: Vec<u32>,
    /// By slot of the session.
    ops: Vec<Option<Out<'s, W>>>,
}

/// An op that is out.
struct Out<'s, W: Work> {
    pending: Pending<'s, W::Operation>,
    place: u32,
    begun_ns: u64,
}

impl<'s, W: Work + 's> OpLane<'s, W> {
    /// With nothing out.
    pub fn boxed(ground: Ground<'s>, work: W) -> Result<Box<dyn Lane + 's>> {
        let Ground { session, load, .. } = ground;
        let &Load { window, batch, deadline, .. } = load;
        let mut ops = Vec::new();
        ops.resize_with(load.depth() as usize, || None);
        let free = (0..window).rev().collect();
        let pace = Pace::new(None, 0);
        Ok(Box::new(OpLane { session, work, pace, batch, window, deadline, free, ops }))
    }
}

impl<W: Work> Lane for OpLane<'_, W> {
    fn begin(&mut self, pace: Pace) {
        self.pace = pace;
    }

    fn submit(&mut self, now_ns: u64, tally: &mut Tally) -> Result<u32> {
        if !self.pace.is_open() && self.free.len() < self.batch as usize {
            return Ok(0);
        }
        let mut count = 0;
        while count < self.batch {
            let Some(begun_ns) = self.pace.due(now_ns) else { break };
            let Some(place) = self.free.pop() else { break };
            match self.session.submit(self.work.next(place).deadline(self.deadline)) {
                Ok(pending) => {
                    let slot = pending.slot();
                    self.ops[slot] = Some(Out { pending, place, begun_ns });
                    self.pace.submitted();
                    count += 1;
                }
                Err(SubmitError::Full(_)) => {
                    self.free.push(place);
                    break;
                }
                Err(SubmitError::Invalid(OpError::Failed { status, fate, .. })) => {
                    self.free.push(place);
                    tally.failed(status, fate);
                    break;
                }
                Err(SubmitError::Invalid(error)) => bail!("an op cannot be submitted: {error}"),
            }
        }
        Ok(count)
    }

    fn collect(&mut self, begin: Instant, tally: &mut Tally) -> Result<u32> {
        let mut count = 0;
        let completions = self.session.poll()?;
        let mut ended_ns = 0;
        for done in completions.take(self.batch as usize) {
            if count == 0 {
                ended_ns = begin.elapsed().as_nanos() as u64;
            }
            count += 1;
            let Some(Out { pending, place, begun_ns }) = self.ops[done.slot()].take() else {
                continue;
            };
            match pending.take(done) {
                Ok(output) => tally.judged(begun_ns, ended_ns, self.work.judge(place, output)),
                Err(OpError::Failed { status, fate, .. }) => {
                    self.work.failed(place, fate);
                    tally.failed(status, fate);
                }
                Err(error) => {
                    self.work.failed(place, Fate::Unknown);
                    tally.is_wrong(error.to_string());
                }
            }
            self.free.push(place);
        }
        Ok(count)
    }

    fn check(&mut self, tally: &mut Tally) {
        use super::ops::Judged;
        for place in 0..self.window {
            match self.work.left(self.session, place) {
                Ok(Some(Judged::Wrong(what))) => tally.is_wrong(what),
                Ok(_) => {}
                // A target that does not answer a look would not answer the others either.
                Err(error) => {
                    let (status, fate) = match error {
                        OpError::Failed { status, fate, .. } => (status, fate),
                        _ => (Status::BadCommand, Fate::NotExecuted),
                    };
                    return tally.failed(status, fate);
                }
            }
        }
    }

    fn out(&self) -> u32 {
        self.window - self.free.len() as u32
    }

    fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    fn pace(&self) -> &Pace {
        &self.pace
    }

    fn session(&self) -> &Session {
        self.session
    }
}
