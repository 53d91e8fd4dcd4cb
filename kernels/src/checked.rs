//! The memory that this crate's tests run on: it trusts nobody, the memory beneath it included.
//!
//! What owners register and export is written down here a second time, in the plainest way. Every
//! request that the memory beneath admits must be one that the rkey allows by that record, and
//! every one that it refuses must not; every part of it must lie within the request. So a kernel,
//! the executor or a table of rights that lets an access leave its region fails the test in which
//! it happens.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Deref;

use nic_shm::{Permission, Places, RacyMem};
use nic_wire::{Rkey, Span};

use crate::dma::{self, DmaMemory};
use crate::kernel::Extent;
use crate::mapped::{self, Backing, ControlError, DomainId, MappedMemory};
use crate::memory::{Access, AccessError, Atomicity, Done, Grant, Memory, Request, Seen, View};

/// A region as its owner has registered it.
#[derive(Debug)]
struct Room {
    domain: DomainId,
    number: u8,
    base: u64,
    length: u64,
    writable: bool,
}

/// A right as its owner has given it out.
#[derive(Debug)]
struct Right {
    export: u16,
    generation: u16,
    domain: DomainId,
    access: Access,
    /// The numbers of the regions that it reaches.
    reach: Vec<u8>,
    is_revoked: bool,
}

/// See the module's description.
pub(crate) struct Checked {
    beneath: Beneath,
    rooms: Vec<Room>,
    rights: Vec<Right>,
    /// Requests that were admitted, and that were refused.
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
}

/// The memory beneath.
pub(crate) enum Beneath {
    /// Mapped memory.
    Mapped(MappedMemory),
    /// The same behind a DMA engine; each poll is a nanosecond of its time.
    Dma(DmaMemory),
}

/// A request of the memory beneath.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PendingBeneath {
    Mapped(mapped::Pending),
    Dma(dma::Pending),
}

impl Beneath {
    /// Where the control plane works.
    fn control(&mut self) -> &mut MappedMemory {
        match self {
            Beneath::Mapped(memory) => memory,
            Beneath::Dma(memory) => memory,
        }
    }
}

/// Calls a method of the memory beneath with a request of its own.
macro_rules! with {
    ($beneath:expr, $pending:expr, |$memory:ident, $own:ident| $call:expr) => {
        match ($beneath, $pending) {
            (Beneath::Mapped($memory), PendingBeneath::Mapped($own)) => $call,
            (Beneath::Dma($memory), PendingBeneath::Dma($own)) => $call,
            _ => unreachable!("a request of another memory"),
        }
    };
}

impl Memory for Beneath {
    type Pending = PendingBeneath;

    fn admit(&self, rkey: &Rkey) -> Result<Grant, AccessError> {
        match self {
            Beneath::Mapped(memory) => memory.admit(rkey),
            Beneath::Dma(memory) => memory.admit(rkey),
        }
    }

    fn permit(&self, grant: Grant, access: Access) -> Result<(), AccessError> {
        match self {
            Beneath::Mapped(memory) => memory.permit(grant, access),
            Beneath::Dma(memory) => memory.permit(grant, access),
        }
    }

    fn submit(&mut self, grant: Grant, request: &Request) -> Result<PendingBeneath, AccessError> {
        match self {
            Beneath::Mapped(memory) => memory.submit(grant, request).map(PendingBeneath::Mapped),
            Beneath::Dma(memory) => memory.submit(grant, request).map(PendingBeneath::Dma),
        }
    }

    fn poll(
        &mut self,
        pending: &PendingBeneath,
        into: &mut [u8],
    ) -> Result<Option<Done>, AccessError> {
        if let Beneath::Dma(memory) = self {
            memory.advance(memory.now() + Span::from_ns(1));
        }
        with!(self, pending, |memory, own| memory.poll(own, into))
    }

    fn abandon(&mut self, pending: &PendingBeneath) {
        with!(self, pending, |memory, own| memory.abandon(own));
    }

    fn copy_out(
        &self,
        pending: &PendingBeneath,
        offset: u32,
        into: &mut [u8],
    ) -> Result<(), AccessError> {
        with!(self, pending, |memory, own| memory.copy_out(own, offset, into))
    }

    fn place(
        &mut self,
        pending: &PendingBeneath,
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), AccessError> {
        with!(self, pending, |memory, own| memory.place(own, offset, bytes))
    }

    fn place_whole(&mut self, pending: &PendingBeneath, bytes: &[u8]) -> Result<(), AccessError> {
        with!(self, pending, |memory, own| memory.place_whole(own, bytes))
    }

    fn last_word(&self, pending: &PendingBeneath) -> Option<u32> {
        with!(self, pending, |memory, own| memory.last_word(own))
    }

    fn place_last_word(
        &mut self,
        pending: &PendingBeneath,
        word: [u8; 8],
    ) -> Result<(), AccessError> {
        with!(self, pending, |memory, own| memory.place_last_word(own, word))
    }

    fn view(&self, grant: Grant, region: u8) -> Option<View> {
        match self {
            Beneath::Mapped(memory) => memory.view(grant, region),
            Beneath::Dma(memory) => memory.view(grant, region),
        }
    }

    fn seen(&self, view: &View) -> Seen<'_> {
        match self {
            Beneath::Mapped(memory) => memory.seen(view),
            Beneath::Dma(memory) => memory.seen(view),
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Beneath::Mapped(memory) => memory.is_whole(),
            Beneath::Dma(memory) => memory.is_whole(),
        }
    }

    fn copy(&self, view: &View, address: u64, into: &mut [u8]) -> bool {
        match self {
            Beneath::Mapped(memory) => memory.copy(view, address, into),
            Beneath::Dma(memory) => memory.copy(view, address, into),
        }
    }

    fn flushes_over(&self) -> u64 {
        match self {
            Beneath::Mapped(memory) => memory.flushes_over(),
            Beneath::Dma(memory) => memory.flushes_over(),
        }
    }

    fn is_flush_over(&self, pending: &PendingBeneath) -> bool {
        with!(self, pending, |memory, own| memory.is_flush_over(own))
    }

    fn atomicity(&self) -> Atomicity {
        match self {
            Beneath::Mapped(memory) => memory.atomicity(),
            Beneath::Dma(memory) => memory.atomicity(),
        }
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    beneath: PendingBeneath,
    grant: Grant,
    request: Request,
}

impl Checked {
    pub(crate) fn new(beneath: Beneath) -> Self {
        Checked { beneath, rooms: Vec::new(), rights: Vec::new(), admitted: 0, refused: 0 }
    }

    pub(crate) fn add_domain(&mut self) -> Result<DomainId, ControlError> {
        self.beneath.control().add_domain()
    }

    pub(crate) fn register(
        &mut self,
        domain: DomainId,
        memory: RacyMem,
        base: u64,
    ) -> Result<u8, ControlError> {
        let length = memory.len();
        let writable = memory.permission() == Permission::ReadWrite;
        let number = self.beneath.control().register(domain, memory, base)?;
        self.rooms.push(Room { domain, number, base, length, writable });
        Ok(number)
    }

    pub(crate) fn export(
        &mut self,
        domain: DomainId,
        number: u8,
        access: Access,
        follow: &[u8],
        secret: u64,
    ) -> Result<Rkey, ControlError> {
        let rkey = self.beneath.control().export(domain, number, access, follow, secret)?;
        self.rights.push(Right {
            export: rkey.export.get(),
            generation: rkey.generation.get(),
            domain,
            access,
            reach: follow.iter().copied().chain([number]).collect(),
            is_revoked: false,
        });
        Ok(rkey)
    }

    pub(crate) fn back(
        &mut self,
        domain: DomainId,
        number: u8,
        backing: Box<dyn Backing>,
    ) -> Result<(), ControlError> {
        self.beneath.control().back(domain, number, backing)
    }

    pub(crate) fn revoke(&mut self, export: u16, generation: u16) -> Result<u32, ControlError> {
        let ended = self.beneath.control().revoke(export, generation)?;
        let right = |right: &&mut Right| right.export == export && right.generation == generation;
        self.rights.iter_mut().find(right).expect("it was given out").is_revoked = true;
        Ok(ended)
    }

    /// The right behind a grant, while it lasts.
    fn right(&self, grant: Grant) -> Option<&Right> {
        let is_it = |right: &&Right| {
            (right.export, right.generation) == (grant.export(), grant.generation())
        };
        self.rights.iter().find(is_it).filter(|right| !right.is_revoked)
    }

    /// Whether an access is one that the rkey allows.
    fn allows(&self, grant: Grant, request: &Request) -> bool {
        let (extent, needs) = (request.extent(), request.needs());
        let Some(right) = self.right(grant) else { return false };
        let number = extent.at.region;
        let is_it = |room: &&Room| room.domain == right.domain && room.number == number;
        let Some(room) = self.rooms.iter().find(is_it) else { return false };
        // Wide enough that nothing wraps.
        let (from, base) = (u128::from(extent.at.address), u128::from(room.base));
        let (to, end) = (from + u128::from(extent.length), base + u128::from(room.length));
        let is_word = extent.length == 8 && (from - base.min(from)).is_multiple_of(8);
        right.access.contains(needs)
            && right.reach.contains(&number)
            && (base <= from && to <= end)
            && (room.writable || needs == Access::READ)
            && (is_word || !request.is_word())
    }

    /// What was carried out must have been allowed, to its last byte.
    fn carried_out(&self, pending: &Pending, offset: u32, length: usize) {
        let request = &pending.request;
        assert!(self.right(pending.grant).is_some(), "{request:?} was served after its right");
        let to = u64::from(offset) + length as u64;
        let most = u64::from(request.extent().length);
        assert!(to <= most, "bytes up to {to} were touched where {request:?} has {most}");
    }
}

/// What only asks.
impl Deref for Checked {
    type Target = MappedMemory;

    fn deref(&self) -> &MappedMemory {
        match &self.beneath {
            Beneath::Mapped(memory) => memory,
            Beneath::Dma(memory) => memory,
        }
    }
}

impl Memory for Checked {
    type Pending = Pending;

    fn admit(&self, rkey: &Rkey) -> Result<Grant, AccessError> {
        self.beneath.admit(rkey)
    }

    fn permit(&self, grant: Grant, access: Access) -> Result<(), AccessError> {
        self.beneath.permit(grant, access)
    }

    fn submit(&mut self, grant: Grant, request: &Request) -> Result<Pending, AccessError> {
        let submitted = self.beneath.submit(grant, request);
        let is_allowed = self.allows(grant, request);
        if is_allowed && matches!(request, Request::MayFlush(_) | Request::Flush(_)) {
            // A region that is in no file, or whose file is busy or broken, is another matter.
            return submitted.map(|beneath| Pending { beneath, grant, request: *request });
        }
        let answer = submitted.as_ref().map(|_| "admitted");
        assert_eq!(submitted.is_ok(), is_allowed, "{request:?} was {answer:?}");
        *if is_allowed { &mut self.admitted } else { &mut self.refused } += 1;
        submitted.map(|beneath| Pending { beneath, grant, request: *request })
    }

    fn poll(&mut self, pending: &Pending, into: &mut [u8]) -> Result<Option<Done>, AccessError> {
        let done = self.beneath.poll(&pending.beneath, into)?;
        match done {
            Some(Done::Fetched(length)) => self.carried_out(pending, 0, length),
            Some(Done::Old(_) | Done::Written) => self.carried_out(pending, 0, 8),
            // A file has taken the range, or nothing was touched.
            Some(Done::Flushed) | None => {}
        }
        Ok(done)
    }

    fn abandon(&mut self, pending: &Pending) {
        self.beneath.abandon(&pending.beneath);
    }

    fn copy_out(&self, pending: &Pending, offset: u32, into: &mut [u8]) -> Result<(), AccessError> {
        self.beneath.copy_out(&pending.beneath, offset, into)?;
        self.carried_out(pending, offset, into.len());
        Ok(())
    }

    fn place(&mut self, pending: &Pending, offset: u32, bytes: &[u8]) -> Result<(), AccessError> {
        self.beneath.place(&pending.beneath, offset, bytes)?;
        self.carried_out(pending, offset, bytes.len());
        Ok(())
    }

    fn place_whole(&mut self, pending: &Pending, bytes: &[u8]) -> Result<(), AccessError> {
        self.beneath.place_whole(&pending.beneath, bytes)?;
        self.carried_out(pending, 0, bytes.len());
        Ok(())
    }

    fn last_word(&self, pending: &Pending) -> Option<u32> {
        self.beneath.last_word(&pending.beneath)
    }

    fn place_last_word(&mut self, pending: &Pending, word: [u8; 8]) -> Result<(), AccessError> {
        self.beneath.place_last_word(&pending.beneath, word)?;
        let offset = self.last_word(pending).expect("a word was stored");
        self.carried_out(pending, offset, word.len());
        Ok(())
    }

    fn view(&self, grant: Grant, region: u8) -> Option<View> {
        self.beneath.view(grant, region)
    }

    fn seen(&self, view: &View) -> Seen<'_> {
        self.beneath.seen(view)
    }

    fn words<const COUNT: usize>(
        &self,
        view: &View,
        seen: &Seen<'_>,
        address: u64,
        places: &Places<COUNT>,
    ) -> Option<[u64; COUNT]> {
        let words = self.beneath.words(view, seen, address, places)?;
        let range = Extent::named(view.number, address, places.length().into());
        assert!(self.allows(view.grant, &Request::Read(range)), "{range:?} was looked at");
        let ends = places.starts().map(|start| u32::from(start) + 8);
        assert!(ends.into_iter().all(|end| end <= range.length), "{places:?}");
        Some(words)
    }

    fn is_whole(&self) -> bool {
        self.beneath.is_whole()
    }

    fn copy(&self, view: &View, address: u64, into: &mut [u8]) -> bool {
        let is_copied = self.beneath.copy(view, address, into);
        let range = Extent::named(view.number, address, into.len() as u32);
        assert!(!is_copied || self.allows(view.grant, &Request::Read(range)), "{range:?}");
        is_copied
    }

    fn flushes_over(&self) -> u64 {
        self.beneath.flushes_over()
    }

    fn is_flush_over(&self, pending: &Pending) -> bool {
        self.beneath.is_flush_over(&pending.beneath)
    }

    fn atomicity(&self) -> Atomicity {
        self.beneath.atomicity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ALL;
    use crate::kernel::Extent;
    use crate::mapped::Tables;

    /// A region of 64 bytes that is exported with every right.
    fn checked() -> (Checked, Grant) {
        let tables = Tables { domains: 1, regions: 2, exports: 1 };
        let mut memory = Checked::new(Beneath::Mapped(MappedMemory::new(tables)));
        let domain = memory.add_domain().unwrap();
        let region = memory.register(domain, RacyMem::allocate(64), 0x1000).unwrap();
        let rkey = memory.export(domain, region, ALL, &[], 5).unwrap();
        let grant = memory.admit(&rkey).unwrap();
        (memory, grant)
    }

    fn read(address: u64, length: u32) -> Request {
        Request::Read(Extent::named(0, address, length))
    }

    #[test]
    fn what_is_allowed_is_admitted_and_all_else_refused() {
        let (mut memory, grant) = checked();
        let inside = memory.submit(grant, &read(0x1010, 48)).unwrap();
        assert_eq!(memory.poll(&inside, &mut [0; 48]), Ok(Some(Done::Fetched(48))));
        for (address, length) in [(0x1010, 49), (0xfff, 1), (0x1041, 0), (u64::MAX, 2), (0, 64)] {
            assert!(memory.submit(grant, &read(address, length)).is_err());
        }
        assert_eq!((memory.admitted, memory.refused), (1, 5));
    }

    #[test]
    #[should_panic(expected = "was Ok(\"admitted\")")]
    fn an_access_beyond_a_region_is_noticed() {
        let (mut memory, grant) = checked();
        memory.rooms[0].length = 63;
        let _ = memory.submit(grant, &read(0x1000, 64));
    }

    #[test]
    #[should_panic(expected = "was served after its right")]
    fn an_access_after_a_revocation_is_noticed() {
        let (mut memory, grant) = checked();
        let pending = memory.submit(grant, &read(0x1000, 8)).unwrap();
        memory.rights[0].is_revoked = true;
        let _ = memory.poll(&pending, &mut [0; 8]);
    }

    #[test]
    #[should_panic(expected = "bytes up to 9 were touched")]
    fn a_part_beyond_its_request_is_noticed() {
        let (mut memory, grant) = checked();
        let mut pending = memory.submit(grant, &read(0x1000, 16)).unwrap();
        pending.request = read(0x1000, 8);
        let _ = memory.copy_out(&pending, 4, &mut [0; 5]);
    }
}
