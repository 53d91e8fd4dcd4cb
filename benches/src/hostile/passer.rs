//! An honest application, a client of the engine or a peer, which works until it is killed.

use std::time::Duration;

use anyhow::{Result, bail};
use nic_host::{Access, InlineConfig, Nic, Pages, RemoteRegion, Session};
use nic_ports::Random;
use serde_json::Value;

use super::link::{Link, Worker};
use super::owner::SAND_BYTES;
use super::roles::{Options, Order, Role, connect};

/// Ops of a burst, and what lies between two.
const OPS: usize = 16;
const NAP: Duration = Duration::from_micros(300);
const OP_BYTES: u64 = 4096;

struct Passer {
    shelf: RemoteRegion,
    sand: RemoteRegion,
    session: Session,
    random: Random,
}

pub(super) fn run(link: &Link, options: &Options) -> Result<()> {
    let nic = match options.role {
        Role::Neighbour => connect(&options.socket)?,
        _ => Nic::inline(InlineConfig::default())?,
    };
    let session = nic.session().open()?;
    // Something that its engine has to clear away.
    let region = nic.region(64 << 10).pages(Pages::Small).create()?;
    let _export = region.export(Access::READ)?;
    let [_, shelf, sand] = options.tickets()?;
    let (Ok(shelf), Ok(sand)) = (session.connect(&shelf), session.connect(&sand)) else {
        // There is no room for another peer just now. Whoever waits for this one counts it.
        return Ok(());
    };
    link.drive(&mut Passer { shelf, sand, session, random: Random::new(options.seed) })
}

impl Worker for Passer {
    fn obey(&mut self, order: Order) -> Result<Value> {
        match order {
            // It is up.
            Order::Introduce => Ok(Value::Null),
            other => bail!("found the order {other:?}, expected Introduce"),
        }
    }

    fn work(&mut self) -> Result<Option<Duration>> {
        let payload = [self.random.below(0x80) as u8; OP_BYTES as usize];
        for _ in 0..OPS {
            let at = self.random.below(SAND_BYTES / OP_BYTES) * OP_BYTES;
            // What there is no room for now is not submitted; results are given up.
            match self.random.below(2) {
                0 => drop(self.session.submit(self.shelf.read(at..at + OP_BYTES))),
                _ => drop(self.session.submit(self.sand.write(at, &payload))),
            }
        }
        self.session.poll()?.for_each(drop);
        Ok(Some(NAP))
    }
}
