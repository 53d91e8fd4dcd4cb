//! Regions: memory of this application that others may work on, and regions of others.

use std::os::fd::AsFd;
use std::rc::Rc;

use nic_kernels::Access as Bits;
use nic_shm::{PageKind, Pages, RacyMem, SharedMemory};
use nic_wire::Rkey;
use nic_wire::control::{ControlReply, ControlRequest};
use nic_wire::ticket::Ticket;

use crate::error::NicError;
use crate::nic::{Inner, Nic};

/// A region about to be made.
#[derive(Clone, Copy)]
pub struct RegionBuilder<'n> {
    nic: &'n Nic,
    bytes: u64,
    pages: Pages,
    base: u64,
}

impl<'n> RegionBuilder<'n> {
    pub(crate) fn new(nic: &'n Nic, bytes: u64) -> Self {
        RegionBuilder { nic, bytes, pages: Pages::TryHuge, base: 0 }
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

    /// Makes it, populated and registered with the engine; nobody else may use it yet.
    ///
    /// # Errors
    /// The system has no such memory, or the engine refuses or is gone.
    pub fn create(self) -> Result<Region, NicError> {
        let mut shared = SharedMemory::create("nic-region", self.bytes, self.pages)?;
        // Here rather than by the engine, whose other applications would have to wait.
        shared.populate()?;
        let request = ControlRequest::Register { length: self.bytes, base: self.base };
        let ControlReply::Region { region } =
            self.nic.inner.request(&request, &[shared.fd().as_fd()])?.0
        else {
            return Err(NicError::OutOfTurn);
        };
        let memory = shared
            .memory()
            .slice(0, self.bytes)
            .map_err(|error| NicError::Session(error.to_string()))?;
        Ok(Region {
            nic: Rc::clone(&self.nic.inner),
            number: region,
            base: self.base,
            memory,
            page_kind: shared.page_kind(),
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
