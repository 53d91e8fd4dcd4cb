//! The data path: admission, checks, copies and words.

use core::sync::atomic::{Ordering, fence};

use nic_shm::{RacyMem, WordError, WriteError};
use nic_wire::Rkey;

use super::tables::{Export, MappedMemory, NO_REGION};
use crate::kernel::Extent;
use crate::memory::{
    Access, AccessError, Atomicity, AtomicityScope, Done, Grant, Memory, Request, Seen, View,
};

/// What a request will do when it is polled.
#[derive(Clone, Copy, Debug)]
enum Action {
    Read,
    Payload,
    Store(u64),
    CompareSwap {
        expected: u64,
        desired: u64,
    },
    FetchAdd(u64),
    /// Whether a range could be flushed has been said already.
    MayFlush,
    /// The number of the request to the region's file.
    Flush(u64),
}

/// A request that passed its checks.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Offset of the range in its region.
    pub(super) offset: u64,
    pub(super) length: u32,
    region_generation: u32,
    /// [`MappedMemory::epoch`] when it passed them: while that lasts, nothing of them has changed.
    epoch: u32,
    export: u16,
    export_generation: u16,
    /// Index of the region.
    pub(super) region: u16,
    /// Number of the region, for messages.
    number: u8,
    action: Action,
}

impl Memory for MappedMemory {
    type Pending = Pending;

    #[inline]
    fn admit(&self, rkey: &Rkey) -> Result<Grant, AccessError> {
        let slot = rkey.export.get();
        let generation = rkey.generation.get();
        let export = self.exports.get(usize::from(slot)).ok_or(AccessError::BadRkey)?;
        if !export.is_live() || export.serving != generation {
            // Generations only grow: one that is behind was once given out.
            let behind = export.generation.wrapping_sub(generation);
            let known = generation != 0 && behind < 0x8000;
            return Err(if known { AccessError::Revoked } else { AccessError::BadRkey });
        }
        if !rkey.secret_matches(export.secret) {
            return Err(AccessError::BadRkey);
        }
        Ok(Grant::new(slot, generation, export.home))
    }

    #[inline]
    fn permit(&self, grant: Grant, access: Access) -> Result<(), AccessError> {
        let export = self.exports.get(usize::from(grant.export)).ok_or(AccessError::Revoked)?;
        export.check_serves(grant.generation)?;
        if !export.access.contains(access) {
            return Err(AccessError::Denied { region: grant.home, needs: access });
        }
        Ok(())
    }

    #[inline]
    fn begin_round(&mut self, ops: usize) {
        self.ahead.begin_round(ops);
    }

    #[inline]
    fn end_round(&mut self) {
        self.ahead.end_round(&self.regions);
    }

    // Where the kind of request is known, most of this is known too.
    #[inline(always)]
    fn submit(&mut self, grant: Grant, request: &Request) -> Result<Pending, AccessError> {
        let extent = request.extent();
        let checked = self.check(grant, request, &extent);
        let pending = checked.map_err(|error| error.seen_from(&extent))?;
        match request {
            Request::Flush(_) | Request::MayFlush(_) => self.begin_flush(pending, request),
            _ => Ok(pending),
        }
    }

    #[inline(always)]
    fn poll(&mut self, pending: &Pending, into: &mut [u8]) -> Result<Option<Done>, AccessError> {
        let Some(export) = self.exports.get_mut(usize::from(pending.export)) else {
            return Err(AccessError::Revoked);
        };
        export.holds -= 1;
        if self.epoch != pending.epoch && export.serving != pending.export_generation {
            self.let_go_of_revoked(pending.export);
            return Err(AccessError::Revoked);
        }
        let memory = self.region_of(pending)?;
        let done = match pending.action {
            Action::Read => pending.read(memory, into)?,
            Action::Flush(number) => {
                let outcome = self.flush_outcome(pending, number);
                if matches!(outcome, Ok(None)) {
                    self.exports[usize::from(pending.export)].holds += 1;
                }
                return outcome;
            }
            action => pending.change_word(memory, action)?,
        };
        self.check_there(memory)?;
        Ok(Some(done))
    }

    #[inline]
    fn abandon(&mut self, pending: &Pending) {
        let Some(export) = self.exports.get_mut(usize::from(pending.export)) else { return };
        export.holds -= 1;
        if export.serving != pending.export_generation {
            self.let_go_of_revoked(pending.export);
        }
    }

    #[inline(always)]
    fn copy_out(&self, pending: &Pending, offset: u32, into: &mut [u8]) -> Result<(), AccessError> {
        let memory = self.live_region(pending)?;
        pending.check_part(offset, into.len())?;
        memory
            .read(pending.offset + u64::from(offset), into)
            .map_err(|_| pending.out_of_bounds(offset, into.len()))?;
        self.check_there(memory)
    }

    #[inline]
    fn place(&mut self, pending: &Pending, offset: u32, bytes: &[u8]) -> Result<(), AccessError> {
        let memory = self.live_region(pending)?;
        pending.check_part(offset, bytes.len())?;
        memory
            .write(pending.offset + u64::from(offset), bytes)
            .map_err(|error| pending.not_written(error))?;
        self.check_there(memory)
    }

    #[inline]
    fn place_whole(&mut self, pending: &Pending, bytes: &[u8]) -> Result<(), AccessError> {
        let memory = self.live_region(pending)?;
        pending.check_part(0, bytes.len())?;
        memory
            .write_release_tail(pending.offset, bytes)
            .map_err(|error| pending.not_written(error))?;
        self.check_there(memory)
    }

    #[inline]
    fn last_word(&self, pending: &Pending) -> Option<u32> {
        // Regions begin at multiples of 16, so alignment of offsets is alignment of addresses.
        let end = (pending.offset + u64::from(pending.length)) & !7;
        let word = end.checked_sub(8)?.checked_sub(pending.offset)?;
        // Less than the length, which is 32 bits wide.
        Some(word as u32)
    }

    #[inline]
    fn place_last_word(&mut self, pending: &Pending, word: [u8; 8]) -> Result<(), AccessError> {
        let memory = self.live_region(pending)?;
        let offset = self.last_word(pending).ok_or(AccessError::Unsupported)?;
        let place = memory.word64(pending.offset + u64::from(offset));
        let place = place.map_err(|error| pending.no_word(error))?;
        place.store(u64::from_ne_bytes(word), Ordering::Release);
        self.check_there(memory)
    }

    #[inline(always)]
    fn view(&self, grant: Grant, number: u8) -> Option<View> {
        let export = self.exports.get(usize::from(grant.export))?;
        export.check_serves(grant.generation).ok()?;
        let region = export.reach[usize::from(number)];
        let may_read = export.access.contains(Access::READ) && region != NO_REGION;
        may_read.then(|| View::new(grant, number, region, self.epoch))
    }

    #[inline(always)]
    fn seen(&self, view: &View) -> Seen<'_> {
        match self.viewed(view, 0) {
            // Address 0 is that far before the first byte.
            Some((memory, offset)) => Seen { bytes: memory.sight(), base: offset.wrapping_neg() },
            None => Seen::NOTHING,
        }
    }

    #[inline(always)]
    fn is_whole(&self) -> bool {
        let is_whole = nic_shm::faults() == self.faults_seen;
        fence(Ordering::Acquire);
        is_whole
    }

    #[inline(always)]
    fn copy(&self, view: &View, address: u64, into: &mut [u8]) -> bool {
        let Some((memory, offset)) = self.viewed(view, address) else { return false };
        let is_copied = memory.read(offset, into).is_ok() && self.check_there(memory).is_ok();
        fence(Ordering::Acquire);
        is_copied
    }

    #[inline]
    fn flushes_over(&self) -> u64 {
        self.flushes_seen()
    }

    #[inline]
    fn is_flush_over(&self, pending: &Pending) -> bool {
        let Action::Flush(number) = pending.action else { return true };
        let is_live = self.live_region(pending).is_ok();
        !is_live || !matches!(self.flush_outcome(pending, number), Ok(None))
    }

    fn atomicity(&self) -> Atomicity {
        Atomicity { width_bytes: 8, scope: AtomicityScope::Host }
    }
}

impl MappedMemory {
    /// Whether a grant allows a request, which then counts as under way.
    #[inline(always)]
    fn check(
        &mut self,
        grant: Grant,
        request: &Request,
        extent: &Extent,
    ) -> Result<Pending, AccessError> {
        let number = extent.at.region;
        let needs = request.needs();
        let denied = AccessError::Denied { region: number, needs };
        let Some(export) = self.exports.get_mut(usize::from(grant.export)) else {
            return Err(AccessError::Revoked);
        };
        export.check_serves(grant.generation)?;
        if !export.access.contains(needs) {
            return Err(denied);
        }
        let index = export.reach[usize::from(number)];
        let Some(region) = self.regions.get(usize::from(index)) else { return Err(denied) };
        let Some(memory) = &region.memory else { return Err(region.missing(denied)) };
        if needs != Access::READ && !region.writable {
            return Err(denied);
        }
        let length = u64::from(extent.length);
        // Base plus length does not overflow, so an address below the base becomes an offset
        // beyond the end.
        let offset = extent.at.address.wrapping_sub(region.base);
        if offset > memory.len() || length > memory.len() - offset {
            return Err(AccessError::OutOfBounds {
                region: number,
                address: extent.at.address,
                length: extent.length,
            });
        }
        if request.is_word() && (extent.length != 8 || offset % 8 != 0) {
            return Err(AccessError::Misaligned { address: extent.at.address, expected: 8 });
        }
        self.ahead.add(&self.regions, memory, index, offset, extent.length);
        export.holds += 1;
        Ok(Pending {
            offset,
            length: extent.length,
            region_generation: region.generation,
            epoch: self.epoch,
            export: grant.export,
            export_generation: grant.generation,
            region: index,
            number,
            action: Action::of(request),
        })
    }

    /// The memory behind a view that is still good, and how far into it an address is.
    #[inline(always)]
    fn viewed(&self, view: &View, address: u64) -> Option<(&RacyMem, u64)> {
        if view.epoch() != self.epoch {
            return None;
        }
        let region = self.regions.get(usize::from(view.region()))?;
        Some((region.memory.as_ref()?, address.wrapping_sub(region.base)))
    }

    /// The memory of a request's region, if both export and region still live.
    #[inline(always)]
    fn live_region(&self, pending: &Pending) -> Result<&RacyMem, AccessError> {
        let is_live = self.epoch == pending.epoch
            || self
                .exports
                .get(usize::from(pending.export))
                .is_some_and(|export| export.serving == pending.export_generation);
        if is_live { self.region_of(pending) } else { Err(AccessError::Revoked) }
    }

    /// The memory of a request's region, if that still lives.
    #[inline(always)]
    fn region_of(&self, pending: &Pending) -> Result<&RacyMem, AccessError> {
        match self.regions.get(usize::from(pending.region)) {
            Some(region)
                if self.epoch == pending.epoch
                    || region.generation == pending.region_generation =>
            {
                region.memory.as_ref().ok_or_else(|| region.missing(AccessError::Revoked))
            }
            _ => Err(AccessError::Revoked),
        }
    }

    /// A request of a revoked export is over. The slot is given out again only when none is left,
    /// so the export is still the request's own.
    #[cold]
    fn let_go_of_revoked(&mut self, export: u16) {
        if self.exports[usize::from(export)].holds == 0 {
            self.free_exports.push_back(export);
        }
    }
}

impl Export {
    #[inline(always)]
    fn check_serves(&self, generation: u16) -> Result<(), AccessError> {
        // The generation of a grant is never zero.
        if self.serving == generation { Ok(()) } else { Err(AccessError::Revoked) }
    }
}

impl Action {
    #[inline(always)]
    fn of(request: &Request) -> Self {
        match *request {
            Request::Read(_) => Action::Read,
            Request::Payload(_) => Action::Payload,
            Request::Store(_, word) => Action::Store(word),
            Request::CompareSwap { expected, desired, .. } => {
                Action::CompareSwap { expected, desired }
            }
            Request::FetchAdd(_, addend) => Action::FetchAdd(addend),
            Request::MayFlush(_) | Request::Flush(_) => Action::MayFlush,
        }
    }
}

impl Pending {
    /// It is over when the request of this number to the region's file is.
    pub(super) fn await_flush(&mut self, number: u64) {
        self.action = Action::Flush(number);
    }

    /// Whether it waits for a file, and not for the memory.
    pub(crate) fn is_flush(&self) -> bool {
        matches!(self.action, Action::Flush(_))
    }

    #[inline(always)]
    fn read(&self, memory: &RacyMem, into: &mut [u8]) -> Result<Done, AccessError> {
        let length = self.length as usize;
        let into = into.get_mut(..length).ok_or(AccessError::Unsupported)?;
        memory.read(self.offset, into).map_err(|_| self.out_of_bounds(0, length))?;
        // What the kernel fetches next is not older than what it has just seen.
        fence(Ordering::Acquire);
        Ok(Done::Fetched(length))
    }

    #[inline(never)]
    fn change_word(&self, memory: &RacyMem, action: Action) -> Result<Done, AccessError> {
        let word = || memory.word64(self.offset).map_err(|error| self.no_word(error));
        match action {
            Action::MayFlush => Ok(Done::Fetched(0)),
            Action::Read | Action::Payload | Action::Flush(_) => Err(AccessError::Unsupported),
            Action::Store(value) => {
                word()?.store(value, Ordering::Release);
                Ok(Done::Written)
            }
            Action::CompareSwap { expected, desired } => {
                let swapped = word()?.compare_exchange(
                    expected,
                    desired,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
                Ok(Done::Old(swapped.unwrap_or_else(|found| found)))
            }
            Action::FetchAdd(addend) => Ok(Done::Old(word()?.fetch_add(addend, Ordering::AcqRel))),
        }
    }

    #[inline(always)]
    fn check_part(&self, offset: u32, length: usize) -> Result<(), AccessError> {
        if u64::from(offset) + length as u64 > u64::from(self.length) {
            return Err(self.out_of_bounds(offset, length));
        }
        Ok(())
    }

    #[cold]
    fn out_of_bounds(&self, offset: u32, length: usize) -> AccessError {
        AccessError::OutOfBounds {
            region: self.number,
            address: self.offset + u64::from(offset),
            length: u32::try_from(length).unwrap_or(u32::MAX),
        }
    }

    #[cold]
    fn not_written(&self, error: WriteError) -> AccessError {
        match error {
            WriteError::OutOfBounds(_) => self.out_of_bounds(0, self.length as usize),
            WriteError::ReadOnly(_) => {
                AccessError::Denied { region: self.number, needs: Access::WRITE }
            }
        }
    }

    #[cold]
    fn no_word(&self, error: WordError) -> AccessError {
        match error {
            WordError::OutOfBounds(_) => self.out_of_bounds(0, 8),
            WordError::Misaligned { .. } => {
                AccessError::Misaligned { address: self.offset, expected: 8 }
            }
            WordError::ReadOnly(_) => {
                AccessError::Denied { region: self.number, needs: Access::ATOMIC }
            }
        }
    }
}
