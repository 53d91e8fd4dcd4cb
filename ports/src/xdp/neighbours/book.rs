//! How a port reads the table while the watcher replaces it: without locks, system calls or
//! memory management on the port's side.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use super::table::Table;
use crate::MacAddress;
use crate::link::Resolve;

/// Neighbours that a port can ask for before the watcher looks.
const ASKED_MAX: usize = 64;

/// What lies between a port and its watcher.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The newest table that the port has not taken yet.
    newest: ArrayQueue<Box<Table>>,
    /// Tables that the port has done with: freeing them is the watcher's work.
    retired: ArrayQueue<Box<Table>>,
    /// Next hops that the port sends to or would like to.
    asked: ArrayQueue<IpAddr>,
    /// Packets that the kernel dropped for want of a place, as of the watcher's last look.
    overruns: AtomicU64,
}

impl Exchange {
    /// Hands a table over; one that was not taken meanwhile is dropped.
    pub(super) fn publish(&self, table: Table) {
        while self.retired.pop().is_some() {}
        self.newest.force_push(Box::new(table));
    }

    /// Tells how many packets the kernel has dropped.
    pub(super) fn set_overruns(&self, overruns: u64) {
        self.overruns.store(overruns, Ordering::Relaxed);
    }

    /// A neighbour that the port has asked for.
    pub(super) fn asked(&self) -> Option<IpAddr> {
        self.asked.pop()
    }
}

/// A port's view of the network.
#[derive(Debug)]
pub(in super::super) struct Book {
    exchange: Arc<Exchange>,
    table: Box<Table>,
    generation: u64,
    /// Kept for its end only: the watcher runs while there are books.
    _watcher: Arc<super::Watcher>,
}

impl Book {
    /// A book that begins with this table.
    pub(super) fn new(table: Table, exchange: Arc<Exchange>, watcher: Arc<super::Watcher>) -> Self {
        Book { exchange, table: Box::new(table), generation: 1, _watcher: watcher }
    }

    pub(super) fn exchange() -> Arc<Exchange> {
        Arc::new(Exchange {
            newest: ArrayQueue::new(1),
            // The watcher empties it before each new table, so that two are the most.
            retired: ArrayQueue::new(4),
            asked: ArrayQueue::new(ASKED_MAX),
            overruns: AtomicU64::new(0),
        })
    }

    /// Takes the newest table, if there is a newer one. One load when there is none.
    #[inline]
    pub(in super::super) fn turn(&mut self) -> bool {
        !self.exchange.newest.is_empty() && self.take()
    }

    /// The table as of the last [`Book::turn`].
    pub(in super::super) fn table(&self) -> &Table {
        &self.table
    }

    /// How many packets the kernel has dropped for want of a place.
    pub(in super::super) fn overruns(&self) -> u64 {
        self.exchange.overruns.load(Ordering::Relaxed)
    }

    #[cold]
    fn take(&mut self) -> bool {
        let Some(table) = self.exchange.newest.pop() else { return false };
        let old = std::mem::replace(&mut self.table, table);
        self.generation += 1;
        // There is always room; without it this would only free memory here.
        let _ = self.exchange.retired.push(old);
        true
    }
}

impl Resolve for Book {
    #[inline]
    fn generation(&self) -> u64 {
        self.generation
    }

    fn resolve(&mut self, to: IpAddr) -> Option<MacAddress> {
        let hop = self.table.next_hop(to)?;
        // Known ones as well: the watcher keeps those alive that are in use. A full queue means
        // that the watcher is late; who is unknown will be asked for again.
        let _ = self.exchange.asked.push(hop);
        self.table.mac(hop)
    }
}
