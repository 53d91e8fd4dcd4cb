//! The data path: admission, checks, copies and words.

use core::sync::atomic::{Ordering, fence};

use nic_shm::{RacyMem, WordError, WriteError};
use nic_wire::Rkey;

use super::tables::{Export, MappedMemory};
use crate::kernel::Extent;
use crate::memory::{Access, AccessError, Atomicity, AtomicityScope, Done, Grant, Memory, Request};

/// What a request will do when it is polled.
#[derive(Clone, Copy, Debug)]
enum Action {
    Read,
    Payload,
    Store(u64),
    CompareSwap { expected: u64, desired: u64 },
    FetchAdd(u64),
}

/// A request that passed its checks.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Offset of the range in its region.
    offset: u64,
    length: u32,
    region_generation: u32,
    export: u16,
    export_generation: u16,
    /// Index of the region.
    region: u16,
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
        if export.generation != generation || !export.live {
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
        let export = self.live_export(grant.export, grant.generation)?;
        if !export.access.contains(access) {
            return Err(AccessError::Denied { region: grant.home, needs: access });
        }
        Ok(())
    }

    #[inline]
    fn submit(&mut self, grant: Grant, request: &Request) -> Result<Pending, AccessError> {
        let extent = request.extent();
        let pending =
            self.check(grant, request, &extent).map_err(|error| error.seen_from(&extent))?;
        self.exports[usize::from(grant.export)].holds += 1;
        Ok(pending)
    }

    #[inline]
    fn poll(&mut self, pending: &Pending, into: &mut [u8]) -> Result<Option<Done>, AccessError> {
        let done = self.carry_out(pending, into);
        self.release(pending);
        done.map(Some)
    }

    #[inline]
    fn abandon(&mut self, pending: &Pending) {
        self.release(pending);
    }

    #[inline]
    fn copy_out(&self, pending: &Pending, offset: u32, into: &mut [u8]) -> Result<(), AccessError> {
        let memory = self.live_region(pending)?;
        pending.check_part(offset, into.len())?;
        memory
            .read(pending.offset + u64::from(offset), into)
            .map_err(|_| pending.out_of_bounds(offset, into.len()))
    }

    #[inline]
    fn place(&mut self, pending: &Pending, offset: u32, bytes: &[u8]) -> Result<(), AccessError> {
        let memory = self.live_region(pending)?;
        pending.check_part(offset, bytes.len())?;
        memory
            .write(pending.offset + u64::from(offset), bytes)
            .map_err(|error| pending.not_written(error))
    }

    #[inline]
    fn place_whole(&mut self, pending: &Pending, bytes: &[u8]) -> Result<(), AccessError> {
        let memory = self.live_region(pending)?;
        pending.check_part(0, bytes.len())?;
        memory.write_release_tail(pending.offset, bytes).map_err(|error| pending.not_written(error))
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
        Ok(())
    }

    fn atomicity(&self) -> Atomicity {
        Atomicity { width_bytes: 8, scope: AtomicityScope::Host }
    }
}

impl MappedMemory {
    #[inline]
    fn live_export(&self, slot: u16, generation: u16) -> Result<&Export, AccessError> {
        match self.exports.get(usize::from(slot)) {
            Some(export) if export.live && export.generation == generation => Ok(export),
            _ => Err(AccessError::Revoked),
        }
    }

    #[inline]
    fn check(
        &self,
        grant: Grant,
        request: &Request,
        extent: &Extent,
    ) -> Result<Pending, AccessError> {
        let number = extent.at.region;
        let needs = request.needs();
        let denied = AccessError::Denied { region: number, needs };
        let export = self.live_export(grant.export, grant.generation)?;
        if !export.access.contains(needs) {
            return Err(denied);
        }
        let index = if number == export.home {
            export.home_index
        } else if export.follows(number) {
            self.domains[usize::from(export.domain)].regions[usize::from(number)]
        } else {
            return Err(denied);
        };
        let Some(region) = self.regions.get(usize::from(index)) else { return Err(denied) };
        let Some(memory) = &region.memory else { return Err(denied) };
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
        memory.prefetch(offset, length);
        Ok(Pending {
            offset,
            length: extent.length,
            region_generation: region.generation,
            export: grant.export,
            export_generation: grant.generation,
            region: index,
            number,
            action: Action::of(request),
        })
    }

    /// The memory of a request's region, if both export and region still live.
    #[inline]
    fn live_region(&self, pending: &Pending) -> Result<&RacyMem, AccessError> {
        self.live_export(pending.export, pending.export_generation)?;
        match self.regions.get(usize::from(pending.region)) {
            Some(region) if region.generation == pending.region_generation => {
                region.memory.as_ref().ok_or(AccessError::Revoked)
            }
            _ => Err(AccessError::Revoked),
        }
    }

    #[inline]
    fn carry_out(&self, pending: &Pending, into: &mut [u8]) -> Result<Done, AccessError> {
        let memory = self.live_region(pending)?;
        let word = || memory.word64(pending.offset).map_err(|error| pending.no_word(error));
        match pending.action {
            Action::Read => {
                let length = pending.length as usize;
                let into = into.get_mut(..length).ok_or(AccessError::Unsupported)?;
                memory.read(pending.offset, into).map_err(|_| pending.out_of_bounds(0, length))?;
                // What the kernel fetches next is not older than what it has just seen.
                fence(Ordering::Acquire);
                Ok(Done::Fetched(length))
            }
            Action::Payload => Err(AccessError::Unsupported),
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

    #[inline]
    fn release(&mut self, pending: &Pending) {
        // A slot is given out again only when nothing holds it, so the generation is the same.
        let Some(export) = self.exports.get_mut(usize::from(pending.export)) else { return };
        debug_assert_eq!(export.generation, pending.export_generation);
        export.holds = export.holds.saturating_sub(1);
        if export.holds == 0 && !export.live {
            self.free_exports.push_back(pending.export);
        }
    }
}

impl Action {
    #[inline]
    fn of(request: &Request) -> Self {
        match *request {
            Request::Read(_) => Action::Read,
            Request::Payload(_) => Action::Payload,
            Request::Store(_, word) => Action::Store(word),
            Request::CompareSwap { expected, desired, .. } => {
                Action::CompareSwap { expected, desired }
            }
            Request::FetchAdd(_, addend) => Action::FetchAdd(addend),
        }
    }
}

impl Pending {
    #[inline]
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
