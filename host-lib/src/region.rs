//! Regions: memory of this application that others may work on, and regions of others.

use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;

use nic_kernels::Access as Bits;
use nic_kernels::log::{self, Log, LogError, Recovery};
use nic_shm::{PageKind, Pages, RacyMem, SharedMemory};
use nic_wire::Rkey;
use nic_wire::control::{ControlReply, ControlRequest};
use nic_wire::ticket::Ticket;

use crate::backing::Backing;
use crate::error::NicError;
use crate::nic::{Inner, Nic};

/// A region about to be made.
#[derive(Clone, Copy)]
pub struct RegionBuilder<'n> {
    nic: &'n Nic,
    bytes: u64,
    pages: Pages,
    base: u64,
    file: Option<&'n Path>,
}

impl<'n> RegionBuilder<'n> {
    pub(crate) fn new(nic: &'n Nic, bytes: u64) -> Self {
        RegionBuilder { nic, bytes, pages: Pages::TryHuge, base: 0, file: None }
    }

    /// Which pages it lies on ([`Pages::TryHuge`] unless set).
    #[must_use]
    pub fn pages(self, pages: Pages) -> Self {
        RegionBuilder { pages, ..self }
    }

    /// The address of its first byte for ops (0 unless set).
    #[must_use]
    pub fn base(self, base: u64) -> Self {
        RegionBuilder { base, ..self }
    }

    /// Keeps it in a file, which is made if it is not there, and otherwise holds what the region
    /// begins with. Ops that persist are over when what they changed is in the file and would
    /// survive a loss of power; nothing else is ever written to it but by [`Region::persist`]. The
    /// region itself is memory as any other, as fast as any other. An engine process must allow it:
    /// `regions.backing = true` in its configuration.
    ///
    /// ```
    /// use nic_host::log::Log;
    /// use nic_host::{Access, Appended, InlineConfig, Nic};
    ///
    /// # let folder = std::env::temp_dir().join(format!("nic-backed-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// let path = folder.join("log");
    /// let nic = Nic::inline(InlineConfig::default())?;
    /// let region = nic.region(1 << 20).backed_by(&path).create()?;
    /// let (log, found) = region.durable_log(0, 1 << 20)?;
    /// assert_eq!(found.records, 0, "the file was not there");
    ///
    /// // Anybody who may append may ask that it lasts.
    /// let export = region.export(Access::READ.and(Access::WRITE).and(Access::ATOMIC))?;
    /// let session = nic.session().open()?;
    /// let remote = session.connect(&export.ticket())?;
    /// let appended = session.run(remote.append(0, 7, b"apple").persist())?;
    /// let Appended::At { position, .. } = appended else { return Err("the log is full".into()) };
    ///
    /// // Whatever ends owner and engine now, the record is there.
    /// drop((session, export, log, region));
    /// let region = nic.region(1 << 20).backed_by(&path).create()?;
    /// let (log, found) = region.durable_log(0, 1 << 20)?;
    /// let mut buffer = Vec::new();
    /// let (record, _) = log.read(position, &mut buffer)?;
    /// assert_eq!((found.records, record.map(|record| record.tag)), (1, Some(7)));
    /// # drop((log, region));
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn backed_by(self, file: &'n (impl AsRef<Path> + ?Sized)) -> Self {
        RegionBuilder { file: Some(file.as_ref()), ..self }
    }

    /// Makes it, populated and registered with the engine; nobody else may use it yet.
    ///
    /// # Errors
    /// The system has no such memory, the engine refuses or is gone, or the file cannot be used.
    pub fn create(self) -> Result<Region, NicError> {
        let mut shared = SharedMemory::create("nic-region", self.bytes, self.pages)?;
        // Here rather than by the engine, whose other applications would have to wait.
        shared.populate()?;
        let memory = shared
            .memory()
            .slice(0, self.bytes)
            .map_err(|error| NicError::Session(error.to_string()))?;
        let backing = self.file.map(|path| Backing::open(path, self.bytes)).transpose()?;
        let (length, base) = (self.bytes, self.base);
        let reply = match &backing {
            None => {
                let request = ControlRequest::Register { length, base };
                self.nic.inner.request(&request, &[shared.fd().as_fd()])?.0
            }
            Some(file) => {
                file.load(&memory)?;
                let request = ControlRequest::RegisterBacked { length, base };
                self.nic.inner.request(&request, &[shared.fd().as_fd(), file.as_fd()])?.0
            }
        };
        let ControlReply::Region { region } = reply else {
            return Err(NicError::OutOfTurn);
        };
        Ok(Region {
            nic: Rc::clone(&self.nic.inner),
            number: region,
            base: self.base,
            memory,
            page_kind: shared.page_kind(),
            backing,
        })
    }
}

/// Memory of this application that is registered with its engine. Dropping it takes it back from
/// everyone.
pub struct Region {
    nic: Rc<Inner>,
    number: u8,
    base: u64,
    memory: RacyMem,
    page_kind: PageKind,
    backing: Option<Backing>,
}

impl Region {
    /// Its memory, to read and write here.
    pub fn memory(&self) -> RacyMem {
        self.memory.clone()
    }

    /// Its number within the application: what pointers name.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Which pages it got.
    pub fn page_kind(&self) -> PageKind {
        self.page_kind
    }

    /// Writes a range of it, in bytes from its first, to its file; when this returns, the range
    /// survives a loss of power. For what the owner changes: a log's header after a trim, a table
    /// that it has filled. What ops persist at the same time is theirs to write: a range that
    /// records are appended to meanwhile may get an older copy over one of them.
    ///
    /// # Errors
    /// The region is in no file, the range is not all in it, or the file cannot be written.
    pub fn persist(&self, range: Range<u64>) -> Result<(), NicError> {
        self.backing.as_ref().ok_or(NicError::NotBacked)?.store(&self.memory, &range)
    }

    /// The log at an address of a region that is kept in a file, an offset into its memory, and what
    /// was found of it: [recovered](Log::recover) if it is there, else formatted over `bytes` bytes
    /// and written to the file. To be called before the region is exported.
    ///
    /// A trim becomes durable by `region.persist(address..address + log::HEADER_BYTES)`; without,
    /// what was trimmed may be there again after a crash.
    ///
    /// # Errors
    /// Something else lies there, no log fits, or the file cannot be written.
    pub fn durable_log(&self, address: u64, bytes: u64) -> Result<(Log, Recovery), NicError> {
        let fault = |error: LogError| NicError::Log { address, reason: error.to_string() };
        let found = match Log::recover(self.memory(), address) {
            Ok((log, _)) if log.capacity() + log::HEADER_BYTES > bytes => {
                let found = log.capacity() + log::HEADER_BYTES;
                let reason = format!(
                    "it has {found} bytes where {bytes} were expected; ask for as many as it has"
                );
                return Err(NicError::Log { address, reason });
            }
            Ok(found) => found,
            Err(LogError::NoLog { .. }) if self.is_blank(address) => {
                let log = Log::format(self.memory(), address, bytes).map_err(fault)?;
                // First the ring, in which no record of old may be left, then what makes it a log.
                let ring = address + log::HEADER_BYTES;
                self.persist(ring..ring + log.capacity())?;
                self.persist(address..ring)?;
                return Ok((log, Recovery::default()));
            }
            Err(error) => return Err(fault(error)),
        };
        self.persist(address..address + log::HEADER_BYTES)?;
        Ok(found)
    }

    /// Whether nothing was ever written where a log's header would be.
    fn is_blank(&self, address: u64) -> bool {
        let header = self.memory.read_array::<{ log::HEADER_BYTES as usize }>(address);
        header.is_ok_and(|header| header.iter().all(|byte| *byte == 0))
    }

    /// Lets others use it, as far as `access` says, until the export is revoked or dropped.
    ///
    /// # Errors
    /// The engine refuses or is gone.
    pub fn export(&self, access: Access) -> Result<Export, NicError> {
        let request = ControlRequest::Export {
            region: self.number,
            access: access.bits.bits(),
            follow: access.follow,
        };
        let (reply, _) = self.nic.request(&request, &[])?;
        let ControlReply::Exported { engine, rkey: (export, generation, secret) } = reply else {
            return Err(NicError::OutOfTurn);
        };
        let ticket = Ticket {
            engine,
            rkey: Rkey::new(export, generation, secret),
            base: self.base,
            length: self.memory.len(),
            access: access.bits.bits(),
        };
        Ok(Export { nic: Rc::clone(&self.nic), ticket, is_live: true })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.nic.let_go(&ControlRequest::Deregister { region: self.number });
    }
}

/// What an export allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    bits: Bits,
    follow: Vec<u8>,
}

impl Access {
    /// Reads, also by kernels.
    pub const READ: Access = Access { bits: Bits::READ, follow: Vec::new() };
    /// Writes.
    pub const WRITE: Access = Access { bits: Bits::WRITE, follow: Vec::new() };
    /// Compare-and-swap, fetch-and-add.
    pub const ATOMIC: Access = Access { bits: Bits::ATOMIC, follow: Vec::new() };
    /// Calls to this application's services.
    pub const CALL: Access = Access { bits: Bits::CALL, follow: Vec::new() };

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Access) -> Access {
        self.bits |= other.bits;
        self.follow.extend(other.follow);
        self
    }

    /// And kernels may follow pointers into that region.
    #[must_use]
    pub fn follow(mut self, region: &Region) -> Access {
        self.follow.push(region.number);
        self
    }
}

/// The right of others to use a region, until it is revoked or dropped.
pub struct Export {
    nic: Rc<Inner>,
    ticket: Ticket,
    is_live: bool,
}

impl Export {
    /// What initiators need. Whoever has it may use the region.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Ends it. When this returns, no engine touches the region under it any more.
    ///
    /// # Errors
    /// The engine is gone, or does not answer: then it is not known whether it is ended.
    pub fn revoke(mut self) -> Result<(), NicError> {
        self.is_live = false;
        self.nic.request(&self.revocation(), &[])?;
        Ok(())
    }

    fn revocation(&self) -> ControlRequest {
        let rkey = self.ticket.rkey;
        ControlRequest::Revoke { export: rkey.export.get(), generation: rkey.generation.get() }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if self.is_live {
            self.nic.let_go(&self.revocation());
        }
    }
}
