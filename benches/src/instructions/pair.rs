//! Initiator and target in one thread, joined by a port.

use std::rc::Rc;

use anyhow::{Result, bail, ensure};
use nic_engine::Builtin;
use nic_engine::engine::EngineConfig;
use nic_host::{
    Access, BucketTable, Geometry, Identity, Lookup, Nic, RemoteTable, Session, SubmitError,
    Ticket, Wait,
};
use nic_ports::Port;
use nic_ports::ring::{RingConfig, RingPort};
use nic_ports::udp::{UdpConfig, UdpPort};

use super::driven::Driven;
use super::{Asked, Join, Options};

/// Keys in the table: it fits the caches, and instructions do not depend on that.
pub(super) const ENTRIES: u64 = 20_000;
pub(super) const VALUE_BYTES: usize = 64;

const DEPTH: u32 = 256;

/// Both ends.
pub(super) struct Pair {
    initiator: Nic,
    ticket: Ticket,
}

impl Pair {
    /// Over new ports of this kind.
    pub(super) fn joined(join: Join) -> Result<Self> {
        match join {
            Join::Udp => {
                let port = || UdpPort::bind(UdpConfig::new(([127, 0, 0, 1], 0).into()));
                Pair::on(port()?, port()?)
            }
            Join::Ring => {
                let addresses = [1, 2].map(|port| ([127, 0, 0, 1], port).into());
                let (initiator, target) = RingPort::pair(RingConfig::default(), addresses)?;
                Pair::on(initiator, target)
            }
        }
    }

    fn on<P: Port + 'static>(initiator: P, target: P) -> Result<Self> {
        let target = Rc::new(Nic::inline_on::<_, Builtin>(target, EngineConfig::default())?);
        let ticket = table(&target)?;
        let turn = move || target_turn(&target);
        let initiator = Driven { port: initiator, turn };
        let initiator = Nic::inline_on::<_, Builtin>(initiator, EngineConfig::default())?;
        Ok(Pair { initiator, ticket })
    }

    /// Fills and empties a window so many times, and looks at every answer.
    pub(super) fn run(&self, options: &Options) -> Result<()> {
        let window = options.window as usize;
        let session = self.initiator.session().depth(DEPTH).wait(Wait::Spin).open()?;
        let table =
            RemoteTable::open(&session, &self.ticket)?.with_values_up_to(VALUE_BYTES as u32);
        let mut number = 0_u64;
        for _ in 0..options.batches {
            match options.asked {
                Asked::Scar => lookups(&session, &table, window, &mut number)?,
                Asked::Read => reads(&session, &table, window, options.read_bytes)?,
            }
        }
        Ok(())
    }
}

/// What is counted. The name is what valgrind looks for.
#[inline(never)]
fn target_turn(target: &Nic) {
    // An engine that cannot go on answers nobody, which the initiator notices.
    let _ = std::hint::black_box(target.turn());
}

/// A table at the target that goes on being there, and the ticket to it.
fn table(target: &Nic) -> Result<Ticket> {
    let geometry = Geometry::for_entries(ENTRIES);
    let index = target.region(geometry.index_bytes()).create()?;
    let bytes = Geometry::entries_bytes(ENTRIES, 16, VALUE_BYTES as u64);
    let entries = target.region(bytes).create()?;
    let identity = Identity { entries_region: entries.number(), ..Identity::default() };
    let mut table = BucketTable::format(index.memory(), entries.memory(), geometry, identity)?;
    for number in 0..ENTRIES {
        table.insert(&key(number), &[number as u8; VALUE_BYTES])?;
    }
    let export = index.export(Access::READ.follow(&entries))?;
    let ticket = export.ticket();
    // They live as long as the process.
    std::mem::forget((export, index, entries));
    Ok(ticket)
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:............";
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

fn lookups(session: &Session, table: &RemoteTable, window: usize, number: &mut u64) -> Result<()> {
    let numbers: Vec<u64> = (0..window as u64).map(|at| (*number + at * 7919) % ENTRIES).collect();
    *number += 31;
    let keys: Vec<[u8; 16]> = numbers.iter().map(|number| key(*number)).collect();
    let mut pending: Vec<_> = (0..DEPTH).map(|_| None).collect();
    for (key, number) in keys.iter().zip(&numbers) {
        match session.submit(table.scan_and_read(key)) {
            Ok(one) => {
                let slot = one.slot();
                pending[slot] = Some((one, *number));
            }
            Err(SubmitError::Full(_)) => bail!("a window of {window} does not fit the session"),
            Err(SubmitError::Invalid(error)) => return Err(error.into()),
        }
    }
    let mut left = window;
    while left > 0 {
        for done in session.poll()? {
            let Some((one, number)) = pending[done.slot()].take() else { bail!("done twice") };
            left -= 1;
            match one.take(done)? {
                Lookup::Hit(entry) => ensure!(entry.value() == [number as u8; VALUE_BYTES]),
                // Its bucket has overflowed: answered all the same.
                Lookup::Overflowed => {}
                Lookup::Miss => bail!("key {number} is in the table"),
            }
        }
    }
    Ok(())
}

fn reads(session: &Session, table: &RemoteTable, window: usize, bytes: u32) -> Result<()> {
    let bytes = u64::from(bytes);
    let mut pending: Vec<_> = (0..DEPTH).map(|_| None).collect();
    for at in 0..window as u64 {
        match session.submit(table.region().read(at * bytes..(at + 1) * bytes)) {
            Ok(one) => {
                let slot = one.slot();
                pending[slot] = Some(one);
            }
            Err(SubmitError::Full(_)) => bail!("a window of {window} does not fit the session"),
            Err(SubmitError::Invalid(error)) => return Err(error.into()),
        }
    }
    let mut left = window;
    while left > 0 {
        for done in session.poll()? {
            let Some(one) = pending[done.slot()].take() else { bail!("done twice") };
            left -= 1;
            ensure!(one.take(done)?.len() as u64 == bytes);
        }
    }
    Ok(())
}
