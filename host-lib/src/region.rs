//! Regions: memory of this application that others may work on, and regions of others.

use std::os::fd::AsFd;
use std::rc::Rc;

use nic_kernels::Access as Bits;
use nic_shm::{PageKind, Pages, RacyMem, SharedMemory};
use nic_wire::control::{ControlReply, ControlRequest};
use nic_wire::ticket::Ticket;
use nic_wire::{KernelId, Rkey};

use crate::error::NicError;
use crate::nic::{Inner, Nic};
use crate::operation::Op;
use crate::ops::{Call, CompareSwap, FetchAdd, Read, Write};

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
        RegionBuilder { nic, bytes, pages: Pages::Small, base: 0 }
    }

    /// Which pages it lies on (small ones unless set).
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
        let shared = SharedMemory::create("nic-region", self.bytes, self.pages)?;
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
        if !self.nic.is_forked() {
            // An engine that is gone has forgotten it already.
            let _ = self.nic.request(&ControlRequest::Deregister { region: self.number }, &[]);
        }
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
    /// The engine is gone.
    pub fn revoke(mut self) -> Result<(), NicError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), NicError> {
        if !std::mem::take(&mut self.is_live) || self.nic.is_forked() {
            return Ok(());
        }
        let rkey = self.ticket.rkey;
        let (export, generation) = (rkey.export.get(), rkey.generation.get());
        self.nic.request(&ControlRequest::Revoke { export, generation }, &[])?;
        Ok(())
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // An engine that is gone has forgotten it already.
        let _ = self.end();
    }
}

/// A region of another host, opened by a session; it makes ops for that session.
#[derive(Clone, Copy, Debug)]
pub struct RemoteRegion {
    remote: u16,
    ticket: Ticket,
}

impl RemoteRegion {
    pub(crate) fn new(remote: u16, ticket: Ticket) -> Self {
        RemoteRegion { remote, ticket }
    }

    /// The number of the way to it within the session.
    pub fn remote(&self) -> u16 {
        self.remote
    }

    /// Its ticket.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Reads a range of addresses.
    #[inline]
    pub fn read(&self, range: std::ops::Range<u64>) -> Op<Read> {
        Op::new(Read::new(self.remote, range))
    }

    /// Writes bytes; the last aligned word appears after all others.
    #[inline]
    pub fn write<'a>(&self, address: u64, bytes: &'a [u8]) -> Op<Write<'a>> {
        Op::new(Write::new(self.remote, address, bytes))
    }

    /// Replaces the aligned word at an address if it holds `expected`; yields what it held.
    #[inline]
    pub fn compare_swap(&self, address: u64, expected: u64, desired: u64) -> Op<CompareSwap> {
        Op::new(CompareSwap::new(self.remote, address, expected, desired))
    }

    /// Adds to the aligned word at an address; yields what it held.
    #[inline]
    pub fn fetch_add(&self, address: u64, addend: u64) -> Op<FetchAdd> {
        Op::new(FetchAdd::new(self.remote, address, addend))
    }

    /// Calls a service of the application that owns the region.
    #[inline]
    pub fn call<'a>(&self, service: u16, request: &'a [u8], answer_capacity: u32) -> Op<Call<'a>> {
        Op::new(Call::new(self.remote, service, request, answer_capacity))
    }

    /// The kernel that a plain call runs; for those who bring kernels of their own.
    pub const CALL: KernelId = KernelId::CALL;
}
