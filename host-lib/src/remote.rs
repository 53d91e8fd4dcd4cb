//! Regions of other hosts, and the ways that a session has to them.

use std::cell::RefCell;
use std::rc::Rc;

use nic_kernels::{consistent_read, indirect_read, traverse};
use nic_wire::KernelId;
use nic_wire::ticket::Ticket;

use crate::operation::Op;
use crate::ops::{
    Append, Call, CompareSwap, ConsistentRead, Fetch, FetchAdd, IndirectRead, Read, Traverse, Write,
};

/// A region of another host, opened by a session; it makes ops for that session.
/// Clones are the same way. When the last is dropped the session may use its place for another, as
/// soon as no op is out on it; an op that was made by it and is submitted later still is refused.
#[derive(Clone, Debug)]
pub struct RemoteRegion {
    way: Rc<Way>,
    ticket: Ticket,
}

/// Ways that nobody has any more, by name; each is given back to the engine once no op is out on it.
pub(crate) type GivenUp = Rc<RefCell<Vec<u16>>>;

/// The name of a way within its session.
#[derive(Debug)]
struct Way {
    remote: u16,
    given_up: GivenUp,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.given_up.borrow_mut().push(self.remote);
    }
}

impl RemoteRegion {
    pub(crate) fn new(remote: u16, ticket: Ticket, given_up: &GivenUp) -> Self {
        RemoteRegion { way: Rc::new(Way { remote, given_up: Rc::clone(given_up) }), ticket }
    }

    /// The name of the way to it within the session, for operations of one's own. It holds as long
    /// as this value or a clone of it lives.
    #[inline]
    pub fn remote(&self) -> u16 {
        self.way.remote
    }

    /// Its ticket.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Reads a range of addresses.
    #[inline]
    pub fn read(&self, range: std::ops::Range<u64>) -> Op<Read> {
        Op::new(Read::new(self.way.remote, range))
    }

    /// Writes bytes; the last aligned word appears after all others.
    #[inline]
    pub fn write<'a>(&self, address: u64, bytes: &'a [u8]) -> Op<Write<'a>> {
        Op::new(Write::new(self.way.remote, address, bytes))
    }

    /// Replaces the aligned word at an address if it holds `expected`; yields what it held.
    #[inline]
    pub fn compare_swap(&self, address: u64, expected: u64, desired: u64) -> Op<CompareSwap> {
        Op::new(CompareSwap::new(self.way.remote, address, expected, desired))
    }

    /// Adds to the aligned word at an address; yields what it held.
    #[inline]
    pub fn fetch_add(&self, address: u64, addend: u64) -> Op<FetchAdd> {
        Op::new(FetchAdd::new(self.way.remote, address, addend))
    }

    /// Appends a record to the [`log`](crate::log) at an address of the region, in one round trip.
    /// `tag` is whatever its readers are to know it by. The log may be full, or never take a record
    /// as long: see [`Appended`](crate::Appended). The export must allow reads, writes and atomics. With
    /// [`persist`](Op::persist) it is over when the record would survive a loss of power; see
    /// [`RegionBuilder::backed_by`](crate::RegionBuilder::backed_by).
    ///
    /// ```
    /// use nic_host::log::{Batch, Log};
    /// use nic_host::{Access, Appended, InlineConfig, Nic};
    /// use std::time::Duration;
    ///
    /// // The target: a log in a region.
    /// let nic = Nic::inline(InlineConfig::default())?;
    /// let region = nic.region(1 << 20).create()?;
    /// let log = Log::format(region.memory(), 0, 1 << 20)?;
    /// let export = region.export(Access::READ.and(Access::WRITE).and(Access::ATOMIC))?;
    ///
    /// // The initiators: here in the same process.
    /// let session = nic.session().open()?;
    /// let remote = session.connect(&export.ticket())?;
    /// let Appended::At { position, next } = session.run(remote.append(0, 7, b"apple"))? else {
    ///     return Err("the log is full".into());
    /// };
    /// let fetched = session.run(remote.fetch(0, position, 4096))?;
    /// let Batch::Records(mut records) = fetched.batch()? else { return Err("trimmed".into()) };
    /// let record = records.next().ok_or("no record")?;
    /// assert_eq!((record.tag, record.payload, records.next_position()), (7, &b"apple"[..], next));
    ///
    /// // Whoever is there first may wait.
    /// let soon = Duration::from_millis(500);
    /// let waiting = session.submit(remote.fetch(0, next, 4096).wait_for_records(soon))?;
    /// session.run(remote.append(0, 8, b"pear"))?;
    /// let fetched = session.block_on(session.issue(remote.fetch(0, next, 4096)))?;
    /// assert!(matches!(fetched.batch()?, Batch::Records(records) if records.count() == 1));
    /// # drop((waiting, log));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn append<'a>(&self, log: u64, tag: u64, payload: &'a [u8]) -> Op<Append<'a>> {
        Op::new(Append::new(self.way.remote, log, tag, payload))
    }

    /// Reads the records of the [`log`](crate::log) at an address of the region, from a position on
    /// and as many as fit `bytes_max` bytes; [`wait_for_records`](Op::wait_for_records) waits for
    /// the first. Records that are torn are read again within the deadline. See
    /// [`append`](Self::append) for an example.
    #[inline]
    pub fn fetch(&self, log: u64, from: u64, bytes_max: u32) -> Op<Fetch> {
        Op::new(Fetch::new(self.way.remote, log, from, bytes_max))
    }

    /// Reads an object of up to 4 KiB that carries a checksum: whole, or not at all. The target
    /// verifies it, and reads again what was torn.
    ///
    /// ```no_run
    /// use nic_host::consistent_read::{Arguments, Checksum};
    /// use nic_host::{OpError, RemoteRegion, Session};
    ///
    /// /// An object of 1 KiB whose last 8 bytes are its CRC-64.
    /// fn get(session: &Session, region: &RemoteRegion, at: u64) -> Result<Vec<u8>, OpError> {
    ///     let arguments = Arguments::trailing(at, 1024, Checksum::Crc64);
    ///     let object = session.run(region.consistent_read(arguments))?;
    ///     Ok(object[..1016].to_vec())
    /// }
    /// ```
    #[inline]
    pub fn consistent_read(&self, arguments: consistent_read::Arguments) -> Op<ConsistentRead> {
        Op::new(ConsistentRead::new(self.way.remote, arguments))
    }

    /// Looks many entries of an indirection table up and reads what they point to, side by side
    /// and in one round trip.
    ///
    /// ```no_run
    /// use nic_host::indirect_read::Arguments;
    /// use nic_host::{RemoteRegion, Session};
    ///
    /// fn show(session: &Session, region: &RemoteRegion) -> Result<(), Box<dyn std::error::Error>> {
    ///     // Entries 3, 1 and 4 of the table at 0x1000, each a pointer to 64 bytes.
    ///     let arguments = Arguments::new(0x1000, 64, &[3, 1, 4])?;
    ///     for value in session.run(region.indirect_read(arguments))?.iter() {
    ///         println!("{value:?}");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[inline]
    pub fn indirect_read(&self, arguments: indirect_read::Arguments) -> Op<IndirectRead> {
        Op::new(IndirectRead::new(self.way.remote, arguments))
    }

    /// Walks over a list, chained buckets or a tree in one round trip, and reads what belongs to
    /// the first key that fits.
    ///
    /// ```no_run
    /// use nic_host::ops::Traversal;
    /// use nic_host::traverse::Arguments;
    /// use nic_host::{OpError, RemoteRegion, Session};
    ///
    /// /// Looks a key up in a list of any length, 1000 elements at a time.
    /// fn find(
    ///     session: &Session,
    ///     region: &RemoteRegion,
    ///     head: u64,
    ///     key: u64,
    /// ) -> Result<Option<Vec<u8>>, OpError> {
    ///     let mut arguments = Arguments::list(head, key, 256).hops(1000);
    ///     loop {
    ///         match session.run(region.traverse(arguments))? {
    ///             Traversal::Found(found) => return Ok(Some(found.value().to_vec())),
    ///             Traversal::Missed { .. } => return Ok(None),
    ///             Traversal::Continues(further) => arguments = *further,
    ///         }
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn traverse(&self, arguments: traverse::Arguments) -> Op<Traverse> {
        Op::new(Traverse::new(self.way.remote, arguments))
    }

    /// Calls a service of the application that owns the region.
    #[inline]
    pub fn call<'a>(&self, service: u16, request: &'a [u8], answer_capacity: u32) -> Op<Call<'a>> {
        Op::new(Call::new(self.way.remote, service, request, answer_capacity))
    }

    /// The kernel that a plain call runs; for those who bring kernels of their own.
    pub const CALL: KernelId = KernelId::CALL;
}
