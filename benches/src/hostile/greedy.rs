//! An application that keeps its session as full as it goes, and takes as little of its core as it
//! can: between two looks it sleeps. What it submits is honest. It is a client of the engine, or a
//! peer, whose own engine then looks as seldom as it does.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nic_host::ops::Read;
use nic_host::{InlineConfig, Nic, Pending, RemoteRegion, Session, SubmitError};
use nic_ports::Random;
use serde_json::{Value, json};

use super::link::{Link, Worker};
use super::owner::PATTERN_BYTES;
use super::polite::{Account, SLACK};
use super::roles::{Options, Order, Role, connect};

/// As deep as sessions go.
pub(super) const DEPTH: u32 = 4096;
/// Room for as many replies of the longest kind.
const ARENA_BYTES: u32 = 320 << 20;
/// Between two looks: shorter than the engine needs for what is out.
const NAP: Duration = Duration::from_micros(100);
/// Its ops wait for each other for long.
const DEADLINE: Duration = Duration::from_secs(20);
/// Turns of its own engine in a look, if it is a peer.
const TURNS: u32 = 8;

struct Greedy<'s> {
    nic: &'s Nic,
    session: &'s Session,
    shelf: RemoteRegion,
    /// By slot.
    out: Vec<Option<Pending<'s, Read>>>,
    count: usize,
    /// What each READ brings; none: there are to be none.
    bytes: Option<u64>,
    random: Random,
    account: Account,
    /// Since it was told to go: how often it has looked, and found nothing out any more.
    looks: u64,
    dry_looks: u64,
}

pub(super) fn run(link: &Link, options: &Options) -> Result<()> {
    let nic = match options.role {
        Role::Greedy => connect(&options.socket)?,
        _ => Nic::inline(InlineConfig::default())?,
    };
    let session = nic.session().depth(DEPTH).arena(ARENA_BYTES).open()?;
    let [_, shelf, _] = options.tickets()?;
    link.drive(&mut Greedy {
        nic: &nic,
        shelf: session.connect(&shelf)?,
        session: &session,
        out: (0..DEPTH).map(|_| None).collect(),
        count: 0,
        bytes: None,
        random: Random::new(options.seed),
        account: Account::default(),
        looks: 0,
        dry_looks: 0,
    })
}

impl Worker for Greedy<'_> {
    fn obey(&mut self, order: Order) -> Result<Value> {
        match order {
            Order::Go(bytes) => {
                self.bytes = Some(bytes);
                (self.looks, self.dry_looks) = (0, 0);
                // Whoever asked measures as soon as this is answered.
                self.fill(bytes)?;
            }
            Order::Rest => {
                self.bytes = None;
                let begun = Instant::now();
                while self.count > 0 && begun.elapsed() < DEADLINE + SLACK {
                    self.session.wait(DEADLINE)?;
                    self.drain()?;
                }
                let dry = self.dry_looks as f64 / self.looks.max(1) as f64;
                return Ok(json!(dry));
            }
            Order::Look => return Ok(serde_json::to_value(std::mem::take(&mut self.account))?),
            other => bail!("found the order {other:?}, expected Go, Rest or Look"),
        }
        Ok(Value::Null)
    }

    fn work(&mut self) -> Result<Option<Duration>> {
        let Some(bytes) = self.bytes else { return Ok(None) };
        self.drain()?;
        self.looks += 1;
        self.dry_looks += u64::from(self.count == 0);
        self.fill(bytes)?;
        for _ in 0..TURNS {
            self.nic.turn()?;
        }
        Ok(Some(NAP))
    }
}

impl Greedy<'_> {
    fn fill(&mut self, bytes: u64) -> Result<()> {
        while self.count < DEPTH as usize {
            let place = self.random.below(PATTERN_BYTES / bytes) * bytes;
            let read = self.shelf.read(place..place + bytes).deadline(DEADLINE);
            match self.session.submit(read) {
                Ok(pending) => {
                    self.account.submitted += 1;
                    self.count += 1;
                    let slot = pending.slot();
                    self.out[slot] = Some(pending);
                }
                Err(SubmitError::Full(_)) => break,
                Err(SubmitError::Invalid(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        for done in self.session.poll()? {
            let Some(pending) = self.out[done.slot()].take() else {
                self.account.twice += 1;
                continue;
            };
            self.count -= 1;
            self.account.completed += 1;
            if let Err(error) = pending.take(done) {
                self.account.failed(error)?;
            }
        }
        Ok(())
    }
}
