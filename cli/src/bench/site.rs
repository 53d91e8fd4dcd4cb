//! A target's memory as a session sees it, and what is made beforehand to work on it.

use std::str::FromStr;

use anyhow::Result;
use nic_engine::engine::OP_BYTES_MAX;
use nic_host::{OpError, RemoteRegion, RemoteTable, Session, Ticket};
use nic_kernels::Access;

use super::fault::Fault;
use super::layout::{Areas, Claimed, Header, LINE_BYTES};
use super::load::Load;
use super::ops::{self, KEY_BYTES, OpKind, Own};
use super::pattern::{Pattern, WORD_BYTES};
use super::structures::Structures;
use crate::random::Random;

/// The service that answers calls, and the one that answers typed ones.
pub const SERVICE: u16 = 1;
pub const RPC_SERVICE: u16 = 2;
/// Keys that are laid out to be looked up one after the other; of larger tables a random choice.
const KEYS_MAX: u64 = 1 << 20;
/// Different requests of calls.
const REQUESTS: u64 = 1024;

/// What `nic bench target` prints: the memory's ticket, the table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tickets {
    /// Of the memory.
    pub memory: Ticket,
    /// Of the table.
    pub table: Option<Ticket>,
}

impl FromStr for Tickets {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let parts: Vec<&str> = text.split(',').collect();
        match parts.as_slice() {
            [memory] => Ok(Tickets { memory: memory.parse()?, table: None }),
            [memory, table] => Ok(Tickets { memory: memory.parse()?, table: Some(table.parse()?) }),
            _ => Err(Fault::Tickets { found: parts.len() }),
        }
    }
}

impl std::fmt::Display for Tickets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.memory)?;
        self.table.iter().try_for_each(|table| write!(formatter, ",{table}"))
    }
}

impl Tickets {
    /// Whether they allow an op, as far as they tell.
    pub fn check(&self, op: &'static OpKind) -> Result<(), Fault> {
        let ticket = match (op.on_table, &self.table) {
            (false, _) => &self.memory,
            (true, Some(table)) => table,
            (true, None) => return Err(Fault::NoTable { op }),
        };
        let has = Access::from_bits_truncate(ticket.access);
        match has.contains(op.access) {
            true => Ok(()),
            false => Err(Fault::Access { op, has, needs: op.access }),
        }
    }
}

/// A target's memory, opened by a session.
pub struct Site {
    /// The memory.
    pub memory: RemoteRegion,
    /// Its parts.
    pub areas: Areas,
    /// Its header.
    pub header: Header,
    /// The table, if the op works on it.
    pub table: Option<RemoteTable>,
}

impl Site {
    /// Opens it for a load.
    ///
    /// # Errors
    /// No way there, or it is none of a bench target.
    pub fn open(session: &Session, tickets: &Tickets, load: &Load) -> Result<Self> {
        let ticket = &tickets.memory;
        let memory = session.connect(ticket)?;
        let no_target = Fault::NoTarget { bytes: ticket.length };
        let Some(areas) = Areas::of(ticket.length) else { return Err(no_target.into()) };
        let header = session
            .run(memory.read(ticket.base..ticket.base + Header::BYTES))
            .map_err(Fault::Unreadable)?;
        let Some(header) = Header::parse(&header) else { return Err(no_target.into()) };
        let mut site = Site { memory, areas, header, table: None };
        if load.op.on_table {
            let ticket = tickets.table.as_ref().ok_or(Fault::NoTable { op: load.op })?;
            let size = site.size(load)?;
            site.table = Some(RemoteTable::open(session, ticket)?.with_values_up_to(size));
        }
        Ok(site)
    }

    /// The address of the memory's first byte.
    pub fn base(&self) -> u64 {
        self.memory.ticket().base
    }

    /// What kernels work on.
    pub fn structures(&self) -> Structures {
        Structures::new(&self.areas, self.header.value_bytes())
    }

    /// Bytes that an op moves: as asked, as the target has them, or as usual.
    ///
    /// # Errors
    /// The target has others.
    pub fn size(&self, load: &Load) -> Result<u32, Fault> {
        if !load.op.is_laid_out {
            return Ok(load.size.unwrap_or(load.op.sizes.usual));
        }
        let has = match load.op.on_table {
            true => self.header.value_bytes(),
            false => self.structures().value_bytes(),
        };
        match load.size {
            Some(found) if u64::from(found) != has => {
                Err(Fault::ValueSize { found: found.into(), has })
            }
            // No value of a table is longer than an op may be.
            _ => Ok(u32::try_from(has).unwrap_or(OP_BYTES_MAX).min(OP_BYTES_MAX)),
        }
    }

    /// Claims what a connection's ops need for themselves; the address of the first.
    ///
    /// # Errors
    /// There is not as much, or the target's memory cannot be used.
    pub fn claim(&self, session: &Session, load: &Load, size: u32) -> Result<u64> {
        let data = self.areas.data.end - self.areas.data.start;
        let window = u64::from(load.window);
        let (area, needed, region): (&Claimed, u64, fn(u64) -> u64) = match load.op.own {
            Own::Nothing if load.op.on_table || load.op.access != Access::READ => return Ok(0),
            Own::Nothing => {
                let region = Areas::region_for_data(size.into());
                let fault = Fault::Region { op: load.op, needed: size.into(), has: data, region };
                return if u64::from(size) <= data { Ok(0) } else { Err(fault.into()) };
            }
            Own::Word => (&self.areas.words, window * LINE_BYTES, Areas::region_for_words),
            Own::Place(pitch) => {
                (&self.areas.writes, window * pitch(size.into()), Areas::region_for_writes)
            }
            Own::Shared(bytes) => {
                (&self.areas.writes, bytes(load.window, size.into()), Areas::region_for_writes)
            }
        };
        let has = area.range.end - area.range.start;
        let all = needed * u64::from(load.connections);
        if all > has {
            let region = region(all);
            return Err(Fault::Region { op: load.op, needed: all, has, region }.into());
        }
        let counter = self.base() + area.counter;
        let claimed = session.run(self.memory.fetch_add(counter, needed)).map_err(unreadable)?;
        // After a full round the first places are used again.
        let start = claimed % (has - needed + LINE_BYTES);
        Ok(self.base() + area.range.start + start)
    }
}

fn unreadable(error: OpError) -> anyhow::Error {
    Fault::Unreadable(error).into()
}

/// What is made beforehand, so that nothing has to be while ops are measured.
#[derive(Default)]
pub struct Stock {
    /// Keys, in random order.
    pub keys: Vec<[u8; KEY_BYTES]>,
    /// Payloads of writes, one inside the other.
    pub payloads: Vec<u8>,
    /// Requests of calls.
    pub requests: Vec<[u8; ops::REQUEST_BYTES]>,
}

impl Stock {
    /// For a load at a site.
    pub fn new(load: &Load, site: &Site, size: u32, seed: u64) -> Self {
        let mut stock = Stock::default();
        if load.op.on_table {
            stock.keys = keys(site.header.entries(), seed);
        }
        if load.op.access.contains(Access::WRITE) {
            stock.payloads = vec![0; size as usize + ops::PAYLOADS as usize * WORD_BYTES];
            Pattern::of(ops::PAYLOAD).fill(&mut stock.payloads);
        }
        if load.op.access == Access::CALL {
            stock.requests = (0..REQUESTS).map(|number| ops::request(number, size)).collect();
        }
        stock
    }
}

fn keys(entries: u64, seed: u64) -> Vec<[u8; KEY_BYTES]> {
    let mut random = Random::new(seed);
    if entries > KEYS_MAX {
        return (0..KEYS_MAX).map(|_| ops::key(random.below(entries))).collect();
    }
    let mut keys: Vec<_> = (0..entries).map(ops::key).collect();
    random.shuffle(&mut keys);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_tickets_comes_back() {
        let one = "nic1:127.0.0.1:40961/0003.0001/8f6d2c1b5a493827/0/8000000/f";
        let two = "nic1:[::1]:40961/0004.0001/8f6d2c1b5a493827/0/8000000/1";
        let line = format!("{one},{two}");
        let tickets: Tickets = line.parse().unwrap();
        assert_eq!(tickets.to_string(), line);
        for op in &ops::OPS {
            tickets.check(op).unwrap();
        }
        let alone: Tickets = one.parse().unwrap();
        let error = |name| {
            let op = ops::OPS.iter().find(|op| op.name == name).unwrap();
            alone.check(op).map_err(|error| error.to_string())
        };
        assert!(error("scar").unwrap_err().contains("memory,table"));
        assert_eq!(error("call"), Ok(()));
        let swapped: Tickets = format!("{two},{one}").parse().unwrap();
        let said = swapped.check(&ops::OPS[1]).unwrap_err().to_string();
        assert!(said.contains("--op write") && said.contains("WRITE"), "{said}");
        assert!(",,".parse::<Tickets>().unwrap_err().to_string().contains("3 tickets"));
        assert!("nic2".parse::<Tickets>().unwrap_err().to_string().contains("nic1:"));
    }

    #[test]
    fn every_key_is_laid_out_once() {
        let mut keys = keys(1000, 3);
        assert_ne!(keys[0], ops::key(0));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 1000);
    }
}
