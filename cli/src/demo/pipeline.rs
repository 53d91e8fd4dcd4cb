//! Many Scan-and-Reads out at once.

use std::time::Duration;

use anyhow::{Result, bail};
use nic_host::{Lookup, OpError, Pending, ScanAndRead, SubmitError};

use super::pairs::Pairs;
use super::world::{DEPTH, Way};

/// How long to sleep at most while nothing is over.
const NAP: Duration = Duration::from_millis(10);
/// A window is worked through in so many parts: while the target has one in hand, the initiator
/// has another, instead of each waiting for the whole.
const PARTS: usize = 4;

/// A window of lookups, each with its place among the pairs.
pub struct Pipeline<'w> {
    way: &'w Way,
    pairs: &'w Pairs,
    window: usize,
    /// By slot of the session.
    pending: Vec<Option<(Pending<'w, ScanAndRead<'w>>, usize)>>,
    out: usize,
    /// A place whose lookup the session had no room for.
    held: Option<usize>,
}

impl<'w> Pipeline<'w> {
    /// With nothing out. `window` is at least 1.
    pub fn new(way: &'w Way, pairs: &'w Pairs, window: usize) -> Self {
        let mut pending = Vec::new();
        pending.resize_with(DEPTH as usize, || None);
        Pipeline { way, pairs, window, pending, out: 0, held: None }
    }

    /// Keeps the window full of the places that `next` gives until it has none and all lookups
    /// are over; `over` is told of each. `next` is asked for a part of the window at a time.
    pub fn run(
        mut self,
        mut next: impl FnMut(usize) -> Option<usize>,
        mut over: impl FnMut(usize, Result<Lookup, OpError>),
    ) -> Result<()> {
        let part = (self.window / PARTS).max(1);
        let mut is_last = false;
        loop {
            if !is_last {
                is_last = self.submit(part, &mut next)?;
            }
            if is_last && self.out == 0 {
                return Ok(());
            }
            self.collect(part, &mut over)?;
        }
    }

    /// Submits up to `part` lookups. True: there are no more.
    fn submit(
        &mut self,
        part: usize,
        next: &mut impl FnMut(usize) -> Option<usize>,
    ) -> Result<bool> {
        for number in 0..part.min(self.window - self.out) {
            let Some(place) = self.held.take().or_else(|| next(number)) else { return Ok(true) };
            match self.way.session.submit(self.way.table.scan_and_read(self.pairs.get(place).0)) {
                Ok(op) => {
                    let slot = op.slot();
                    self.pending[slot] = Some((op, place));
                    self.out += 1;
                }
                Err(SubmitError::Full(_)) => {
                    self.held = Some(place);
                    break;
                }
                Err(SubmitError::Invalid(error)) => bail!("an op cannot be submitted: {error}"),
            }
        }
        Ok(false)
    }

    /// Takes up to `part` lookups that are over. With a full window it waits for one.
    fn collect(
        &mut self,
        part: usize,
        over: &mut impl FnMut(usize, Result<Lookup, OpError>),
    ) -> Result<()> {
        let mut found = 0;
        for done in self.way.session.poll()?.take(part) {
            found += 1;
            if let Some((op, place)) = self.pending[done.slot()].take() {
                over(place, op.take(done));
            }
        }
        self.out -= found;
        if found == 0 && (self.out == self.window || self.held.is_some()) {
            // Spinning, it returns when something has come; blocking, it sleeps until then.
            self.way.session.wait(NAP)?;
        }
        Ok(())
    }
}
