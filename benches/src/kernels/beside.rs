//! READs while somebody else's long walk is under way.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nic_host::ops::{Traversal, Traverse};
use nic_host::traverse::{Arguments, Predicate, Value};
use nic_host::{Nic, Pending, RemoteRegion, Session, SubmitError, Wait};

use super::client::Client;
use super::server::Ready;

/// How far the long walks go.
pub(super) const HOPS: u64 = 10_000;

/// A session that walks.
pub(super) struct Walker {
    session: Session,
    region: RemoteRegion,
}

/// A walk under way, and the element that it must end at.
type Walk<'s> = (Pending<'s, Traverse>, u64);

impl Walker {
    pub(super) fn open(nic: &Nic, ready: &Ready) -> Result<Walker> {
        let session = nic.session().depth(16).wait(Wait::Spin).open()?;
        let [region, ..] = ready.tickets()?;
        let region = session.connect(&region)?;
        Ok(Walker { session, region })
    }

    /// Begins a walk.
    fn begin(&self, client: &Client) -> Result<Walk<'_>> {
        let lists = &client.store.lists;
        let first = lists.position(client.draw());
        let arguments = Arguments {
            predicate: Predicate::AtDepth as u8,
            key: HOPS.into(),
            mask: 0.into(),
            value: Value::None as u8,
            ..Arguments::list(lists.address(first), 0, 0)
        };
        match self.session.submit(self.region.traverse(arguments)) {
            Ok(pending) => Ok((pending, lists.address(first + HOPS))),
            Err(SubmitError::Full(_)) => anyhow::bail!("there is no room for a single walk"),
            Err(SubmitError::Invalid(error)) => Err(error.into()),
        }
    }

    /// Does something else while a walk is under way all the time: `other` turns the engine, and
    /// then asks the given one whether another walk has to begin.
    pub(super) fn beside<T>(
        &self,
        client: &Client,
        other: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<T>,
    ) -> Result<T> {
        let (walk, walks) = (Cell::new(Some(self.begin(client)?)), Cell::new(0));
        let tend = |goes_on: bool| {
            let Some(done) = self.session.poll()?.next() else { return Ok(()) };
            let (pending, element) = walk.take().context("one walk is out at a time")?;
            self.judge(client, pending.take(done)?, element);
            walks.set(walks.get() + 1);
            if goes_on {
                walk.set(Some(self.begin(client)?));
            }
            anyhow::Ok(())
        };
        let outcome = other(&mut || tend(true))?;
        let ended = walks.get();
        while walks.get() == ended {
            tend(false)?;
        }
        ensure!(ended > 0, "no walk ended within the slice: let it be longer");
        Ok(outcome)
    }

    fn judge(&self, client: &Client, walked: Traversal, element: u64) {
        client.judge(match walked {
            Traversal::Found(found) => found.found().element.address == element,
            _ => false,
        });
    }

    /// One walk alone.
    pub(super) fn alone(&self, client: &Client) -> Result<Duration> {
        let begun = Instant::now();
        let (pending, element) = self.begin(client)?;
        loop {
            if let Some(done) = self.session.poll()?.next() {
                let taken = begun.elapsed();
                self.judge(client, pending.take(done)?, element);
                return Ok(taken);
            }
        }
    }
}
