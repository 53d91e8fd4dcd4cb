//! The initiator: each op in each of StRoM's modes, timed alone and looked at afterwards.
//!
//! Offload is one op whose kernel does the walk; a client's walk is a READ per hop; RPC is a typed
//! call whose serving application does the walk.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nic_benches::mixed;
use nic_host::ops::{ChainEnd, Traversal};
use nic_host::rpc::Procedure;
use nic_host::version_chain::layout::HEADER_BYTES;
use nic_host::version_chain::{EntryState, Link, PointerWord, check_entry};
use nic_host::{
    Nic, Op, Operation, RemoteRegion, Session, SubmitError, Wait, chain_read, consistent_read,
    traverse,
};

use super::procedures::{Found, Get, Latest, Loads, ReadObject, WalkList};
use super::server::Ready;
use super::store::{CHAIN_VALUE_BYTES, Store, VERSIONS};

pub(super) const DEPTH: u32 = 256;
const ARENA_BYTES: u32 = 8 << 20;
/// How much of the chains' links is read at a time.
const LINKS_PART: usize = 128 << 10;
/// Length of an element of a list in bytes.
const ELEMENT_BYTES: u64 = 24;
/// A call with room for the longest request here.
const ROOM: usize = 32;

pub(super) struct Client {
    pub(super) session: Session,
    pub(super) region: RemoteRegion,
    chains: RemoteRegion,
    pub(super) store: Store,
    /// By version and chain.
    links: Vec<u64>,
    drawn: Cell<u64>,
    judged: Cell<u64>,
    errors: Cell<u64>,
}

impl Client {
    pub(super) fn open(nic: &Nic, ready: &Ready, is_small: bool) -> Result<Client> {
        let session = nic.session().depth(DEPTH).arena(ARENA_BYTES).wait(Wait::Spin).open()?;
        let [region, chains, _] = ready.tickets()?;
        let (region, chains) = (session.connect(&region)?, session.connect(&chains)?);
        let store = Store::new(is_small);
        let mut links = Vec::new();
        for version in 0..VERSIONS {
            let range = store.links(version);
            for from in range.clone().step_by(LINKS_PART) {
                let to = range.end.min(from + LINKS_PART as u64);
                let part = session.run(region.read(from..to))?;
                links.extend(part.chunks_exact(8).map(|link| word(link, 0)));
            }
        }
        let drawn = Cell::new(0);
        let (judged, errors) = (Cell::new(0), Cell::new(0));
        Ok(Client { session, region, chains, store, links, drawn, judged, errors })
    }

    /// How many values were looked at.
    pub(super) fn judged(&self) -> u64 {
        self.judged.get()
    }

    /// How many values were wrong.
    pub(super) fn errors(&self) -> u64 {
        self.errors.get()
    }

    pub(super) fn judge(&self, is_right: bool) {
        self.judged.update(|judged| judged + 1);
        self.errors.set(self.errors.get() + u64::from(!is_right));
    }

    /// The next random number.
    #[inline]
    pub(super) fn draw(&self) -> u64 {
        let drawn = self.drawn.get();
        self.drawn.set(drawn + 1);
        mixed(drawn)
    }

    pub(super) fn call<P: Procedure>(&self, asked: &P) -> Result<P::Answer> {
        self.run(self.region.rpc_sized::<P, ROOM>(asked)?)
    }

    /// One op from its start to its end. It is polled for: a session that waits may let others
    /// run, which is no part of what is measured.
    pub(super) fn run<O: Operation>(&self, op: Op<O>) -> Result<O::Output> {
        let pending = match self.session.submit(op) {
            Ok(pending) => pending,
            Err(SubmitError::Full(_)) => bail!("there is no room for a single op"),
            Err(SubmitError::Invalid(error)) => return Err(error.into()),
        };
        loop {
            if let Some(done) = self.session.poll()?.next() {
                return Ok(pending.take(done)?);
            }
        }
    }

    /// A READ of a value.
    pub(super) fn read(&self, length: u64) -> Result<Duration> {
        let at = self.store.value(self.draw());
        let begun = Instant::now();
        let value = self.run(self.region.read(at..at + length))?;
        let taken = begun.elapsed();
        self.judge(self.store.is_value(at, &value));
        Ok(taken)
    }

    /// A walk along a list of so many elements, offloaded.
    pub(super) fn traverse(&self, elements: u64, length: u64) -> Result<Duration> {
        let (start, key, value) = self.list(elements);
        let begun = Instant::now();
        // At most 4096.
        let arguments = traverse::Arguments::list(start, key, length as u32);
        let found = self.run(self.region.traverse(arguments))?;
        let taken = begun.elapsed();
        self.judge_traversal(&found, value);
        Ok(taken)
    }

    /// The same walk by READs.
    pub(super) fn client_walk(&self, elements: u64, length: u64) -> Result<Duration> {
        let (start, key, value) = self.list(elements);
        let begun = Instant::now();
        let mut at = start;
        let pointer = loop {
            let element = self.run(self.region.read(at..at + ELEMENT_BYTES))?;
            if word(&element, 0) == key {
                break word(&element, 16);
            }
            at = word(&element, 8);
        };
        let found = self.run(self.region.read(pointer..pointer + length))?;
        let taken = begun.elapsed();
        self.judge(pointer == value && self.store.is_value(value, &found));
        Ok(taken)
    }

    /// The same walk by the serving application.
    pub(super) fn rpc_walk(&self, elements: u64, length: u64) -> Result<Duration> {
        let (start, key, value) = self.list(elements);
        let begun = Instant::now();
        let found = self.call(&WalkList { start, key, length: length as u16 })?;
        let taken = begun.elapsed();
        self.judge_found(&found, value, length);
        Ok(taken)
    }

    /// The start of a list, the key of its last element, and where that one's value is.
    fn list(&self, elements: u64) -> (u64, u64, u64) {
        let lists = &self.store.lists;
        let first = lists.position(self.draw());
        let last = lists.position(first + elements - 1);
        (lists.address(first), lists.key(last), self.store.value(last))
    }

    fn judge_traversal(&self, found: &Traversal, value: u64) {
        self.judge(match found {
            Traversal::Found(found) => {
                found.found().value.address == value && self.store.is_value(value, found.value())
            }
            _ => false,
        });
    }

    fn judge_found(&self, found: &Found, value: u64, length: u64) {
        let found = found.bytes();
        self.judge(found.len() as u64 == length && self.store.is_value(value, found));
    }

    /// A lookup in the hash table, offloaded.
    pub(super) fn get(&self, length: u64) -> Result<Duration> {
        let (key, value) = self.store.key(self.draw());
        let begun = Instant::now();
        let bucket = self.store.bucket(key);
        let arguments = traverse::Arguments::bucket(bucket, key, length as u32);
        let found = self.run(self.region.traverse(arguments))?;
        let taken = begun.elapsed();
        self.judge_traversal(&found, value);
        Ok(taken)
    }

    /// The same by READs.
    pub(super) fn client_get(&self, length: u64) -> Result<Duration> {
        let (key, value) = self.store.key(self.draw());
        let begun = Instant::now();
        let mut at = self.store.bucket(key);
        let pointer = loop {
            ensure!(at != 0, "key {key} is not in its chain of buckets");
            let bucket = self.run(self.region.read(at..at + 64))?;
            match [0, 16, 32].into_iter().find(|place| word(&bucket, *place) == key) {
                Some(place) => break word(&bucket, place + 8),
                None => at = word(&bucket, 48),
            }
        };
        let found = self.run(self.region.read(pointer..pointer + length))?;
        let taken = begun.elapsed();
        self.judge(pointer == value && self.store.is_value(value, &found));
        Ok(taken)
    }

    /// The same by the serving application.
    pub(super) fn rpc_get(&self, length: u64) -> Result<Duration> {
        let (key, value) = self.store.key(self.draw());
        let begun = Instant::now();
        let found = self.call(&Get { key, length: length as u16 })?;
        let taken = begun.elapsed();
        self.judge_found(&found, value, length);
        Ok(taken)
    }

    /// A READ of an object, believed as it comes.
    pub(super) fn read_object(&self, kind: usize) -> Result<Duration> {
        self.object(kind, |object| self.read_range(object))
    }

    /// A READ of an object, whose checksum the initiator verifies.
    pub(super) fn checked_object(&self, kind: usize) -> Result<Duration> {
        self.object(kind, |object| {
            let found = self.read_range(object)?;
            ensure!(object.is_whole(&found), "nobody writes the objects, and one is torn");
            Ok(found)
        })
    }

    /// An object whose checksum is verified beside the memory.
    pub(super) fn consistent_object(&self, kind: usize) -> Result<Duration> {
        self.object(kind, |object| self.run(self.region.consistent_read(*object)))
    }

    /// An object whose checksum the serving application verifies.
    pub(super) fn rpc_object(&self, kind: usize) -> Result<Duration> {
        let object = self.store.object(kind, self.draw());
        let begun = Instant::now();
        let (address, length) = (object.address.get(), object.length.get());
        let found = self.call(&ReadObject { address, length })?;
        let taken = begun.elapsed();
        self.judge(self.store.is_object(&object, found.bytes()));
        Ok(taken)
    }

    fn read_range(&self, object: &consistent_read::Arguments) -> Result<nic_host::ops::Bytes> {
        let (from, length) = (object.address.get(), u64::from(object.length.get()));
        self.run(self.region.read(from..from + length))
    }

    fn object(
        &self,
        kind: usize,
        read: impl FnOnce(&consistent_read::Arguments) -> Result<nic_host::ops::Bytes>,
    ) -> Result<Duration> {
        let object = self.store.object(kind, self.draw());
        let begun = Instant::now();
        let found = read(&object)?;
        let taken = begun.elapsed();
        self.judge(self.store.is_object(&object, &found));
        Ok(taken)
    }

    /// The latest entry of a chain from a cursor that is so many entries behind, offloaded.
    pub(super) fn chain_read(&self, stale: u64) -> Result<Duration> {
        let (chain, cursor) = self.cursor(stale);
        let begun = Instant::now();
        let arguments = chain_read::Arguments::from_cursor(cursor);
        let op = self.chains.chain_read(arguments, CHAIN_VALUE_BYTES as u32);
        let end = self.run(op)?;
        let taken = begun.elapsed();
        self.judge(match &end {
            ChainEnd::Latest(entry) => {
                u64::from(entry.hops()) == stale && self.is_latest(chain, entry.value())
            }
            _ => false,
        });
        Ok(taken)
    }

    /// The same by READs: each is checked as Clover's clients do.
    pub(super) fn client_chain(&self, stale: u64) -> Result<Duration> {
        let (chain, cursor) = self.cursor(stale);
        let begun = Instant::now();
        let mut at = cursor;
        loop {
            let address = at.pointer().address;
            let entry = self.run(self.chains.read(address..address + 64))?;
            let next = PointerWord::from_raw(word(&entry, 0));
            ensure!(next.version() == at.version(), "nobody recycles buffers, and one was");
            if !next.is_latest() {
                at = next.next();
                continue;
            }
            ensure!(check_entry(at, &entry) != EntryState::Torn, "nobody writes the chains");
            let taken = begun.elapsed();
            self.judge(self.is_latest(chain, &entry[HEADER_BYTES..]));
            return Ok(taken);
        }
    }

    /// The same by the serving application.
    pub(super) fn rpc_chain(&self, stale: u64) -> Result<Duration> {
        let (chain, cursor) = self.cursor(stale);
        let begun = Instant::now();
        let found = self.call(&Latest { cursor: cursor.raw() })?;
        let taken = begun.elapsed();
        self.judge(self.is_latest(chain, found.bytes()));
        Ok(taken)
    }

    fn cursor(&self, stale: u64) -> (u64, Link) {
        let chain = self.draw() % self.store.chains();
        let at = (VERSIONS - 1 - stale) * self.store.chains() + chain;
        (chain, Link::from_raw(self.links[at as usize]))
    }

    fn is_latest(&self, chain: u64, value: &[u8]) -> bool {
        value == self.store.chain_value(chain, VERSIONS - 1)
    }

    /// How long a load of the lists takes beside so many others, in nanoseconds, measured by the
    /// serving application.
    pub(super) fn loads(&self, chains: u16, steps: u32) -> Result<f64> {
        Ok(self.call(&Loads { chains, steps })? as f64 / 1e3)
    }
}

/// The word at a place; 0 if it is not there.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    word.map_or(0, |word| u64::from_le_bytes(*word))
}
