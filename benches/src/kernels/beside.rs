//! READs while somebody else's long walk is under way.

use std::time::Duration;

use anyhow::{Result, ensure};
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
        let [region, _] = ready.tickets()?;
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

    /// Measures something while a walk is under way all the time; `read` does one op of it. Stops
    /// when `read` says so, and tells how many walks there were.
    pub(super) fn beside(
        &self,
        client: &Client,
        mut read: impl FnMut() -> Result<bool>,
    ) -> Result<u64> {
        let (mut walk, mut walks) = (self.begin(client)?, 0);
        let mut goes_on = true;
        while goes_on {
            goes_on = read()?;
            let Some(done) = self.session.poll()?.next() else { continue };
            self.judge(client, walk.0.take(done)?, walk.1);
            walks += 1;
            walk = self.begin(client)?;
        }
        loop {
            if let Some(done) = self.session.poll()?.next() {
                self.judge(client, walk.0.take(done)?, walk.1);
                break;
            }
        }
        ensure!(walks > 0, "no walk ended within the slice: let it be longer");
        Ok(walks)
    }

    fn judge(&self, client: &Client, walked: Traversal, element: u64) {
        client.judge(match walked {
            Traversal::Found(found) => found.found().element.address == element,
            _ => false,
        });
    }

    /// One walk alone, in microseconds.
    pub(super) fn alone(&self, client: &Client) -> Result<Duration> {
        let begun = std::time::Instant::now();
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
