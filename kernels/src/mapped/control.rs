//! What the control plane does between an engine's turns.

use nic_shm::{Permission, RacyMem};
use nic_wire::Rkey;

use super::tables::{DomainId, MappedMemory, NO_REGION, Region};
use crate::memory::Access;

/// What an address must be a multiple of for its region's words to be aligned.
const ALIGNMENT: u64 = 16;

/// Why the control plane's wish cannot be granted. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The table of domains is full: disconnect an application, or configure a larger table.
    #[error("all {limit} domains are taken; raise the engine's limit of applications")]
    DomainsFull {
        /// How many there can be.
        limit: usize,
    },
    /// There is no such domain: it was removed.
    #[error("domain {domain} does not exist; it was removed")]
    NoDomain {
        /// Its number.
        domain: u16,
    },
    /// The table of regions is full: give regions up, or configure a larger table.
    #[error("all {limit} regions are taken; give some up, or raise the limit of regions")]
    RegionsFull {
        /// How many there can be.
        limit: usize,
    },
    /// There is no such region in the domain: it was given up, or never was.
    #[error("the domain has no region {region}")]
    NoRegion {
        /// Its number.
        region: u8,
    },
    /// The base is unfit for the memory: choose another.
    #[error(
        "base {base:#x} does not fit a memory of {length} bytes: both the base and the memory's \
         start must be multiples of {ALIGNMENT}, and base plus length must not overflow"
    )]
    BadBase {
        /// The base asked for.
        base: u64,
        /// The memory's length in bytes.
        length: u64,
    },
    /// The table of exports is full: revoke exports, or configure a larger table.
    #[error("all {limit} exports are taken; revoke some, or raise the limit of exports")]
    ExportsFull {
        /// How many there can be.
        limit: usize,
    },
    /// There is no such export: it was revoked, or never was.
    #[error("export {export}.{generation} does not exist; it was revoked")]
    NoExport {
        /// Its slot.
        export: u16,
        /// Its generation.
        generation: u16,
    },
}

/// Whether a memory can be registered at a base.
///
/// # Errors
/// [`ControlError::BadBase`]: one of them is not aligned, or addresses would overflow.
pub fn check_base(memory: &RacyMem, base: u64) -> Result<(), ControlError> {
    let length = memory.len();
    let aligned =
        base.is_multiple_of(ALIGNMENT) && (memory.as_ptr().addr() as u64).is_multiple_of(ALIGNMENT);
    if !aligned || base.checked_add(length).is_none() {
        return Err(ControlError::BadBase { base, length });
    }
    Ok(())
}

impl MappedMemory {
    /// A place for the regions of one more application.
    ///
    /// # Errors
    /// [`ControlError::DomainsFull`].
    pub fn add_domain(&mut self) -> Result<DomainId, ControlError> {
        let limit = self.domains.len();
        let free = self.domains.iter().position(|domain| !domain.live);
        let number = free.ok_or(ControlError::DomainsFull { limit })?;
        self.domains[number].live = true;
        // The table's length came from a u16.
        Ok(DomainId(number as u16))
    }

    /// Forgets an application: its exports are revoked, its regions given up. Call
    /// [`holds`](Self::holds) for exports whose end somebody waits for.
    ///
    /// # Errors
    /// [`ControlError::NoDomain`].
    pub fn remove_domain(&mut self, domain: DomainId) -> Result<(), ControlError> {
        self.check_domain(domain)?;
        for number in 0..=u8::MAX {
            if self.region_index(domain, number).is_ok() {
                self.deregister(domain, number)?;
            }
        }
        self.domains[usize::from(domain.0)].live = false;
        Ok(())
    }

    /// Registers a memory under the domain's lowest free number. `base` becomes the address of its
    /// first byte: 0, or the application's own virtual address so that live pointers resolve. The
    /// region is not remote before it is exported.
    ///
    /// # Errors
    /// No such domain, too many regions, or an unfit base.
    pub fn register(
        &mut self,
        domain: DomainId,
        memory: RacyMem,
        base: u64,
    ) -> Result<u8, ControlError> {
        self.check_domain(domain)?;
        check_base(&memory, base)?;
        let limit = self.regions.len();
        let full = ControlError::RegionsFull { limit };
        let index = self.regions.iter().position(Region::is_vacant).ok_or(full)?;
        let numbers = &mut self.domains[usize::from(domain.0)].regions;
        let number = numbers.iter().position(|index| *index == NO_REGION).ok_or(full)?;
        // Both tables are shorter than their index types reach.
        numbers[number] = index as u16;
        let region = &mut self.regions[index];
        region.writable = memory.permission() == Permission::ReadWrite;
        region.memory = Some(memory);
        region.base = base;
        Ok(number as u8)
    }

    /// Gives a region up: exports of it are revoked and others can no longer be followed into it.
    /// Ops that touch it fail at their next step. Its memory is handed back, so that the caller
    /// chooses where it is unmapped.
    ///
    /// # Errors
    /// No such domain or region.
    pub fn deregister(&mut self, domain: DomainId, number: u8) -> Result<RacyMem, ControlError> {
        let index = self.region_index(domain, number)?;
        self.epoch = self.epoch.wrapping_add(1);
        for slot in 0..self.exports.len() {
            let export = &mut self.exports[slot];
            if !export.is_live() || export.domain != domain.0 {
                continue;
            }
            export.reach[usize::from(number)] = NO_REGION;
            if export.home == number {
                self.end_export(slot);
            }
        }
        self.domains[usize::from(domain.0)].regions[usize::from(number)] = NO_REGION;
        let region = &mut self.regions[usize::from(index)];
        region.generation = region.generation.wrapping_add(1);
        region.backing = None;
        let memory = region.memory.take().or_else(|| region.lost.take());
        memory.ok_or(ControlError::NoRegion { region: number })
    }

    /// Lets others use a region, and follow pointers from it into `follow`. `secret` must come
    /// from a generator that nobody can predict.
    ///
    /// # Errors
    /// No such domain or region, or too many exports.
    pub fn export(
        &mut self,
        domain: DomainId,
        number: u8,
        access: Access,
        follow: &[u8],
        secret: u64,
    ) -> Result<Rkey, ControlError> {
        let mut reach = [NO_REGION; 256];
        for reached in follow.iter().chain([&number]) {
            reach[usize::from(*reached)] = self.region_index(domain, *reached)?;
        }
        let limit = self.exports.len();
        let slot = self.free_exports.pop_front().ok_or(ControlError::ExportsFull { limit })?;
        let export = &mut self.exports[usize::from(slot)];
        export.generation = export.generation.wrapping_add(1).max(1);
        export.serving = export.generation;
        export.home = number;
        export.domain = domain.0;
        export.access = access;
        export.secret = secret;
        export.reach = reach;
        Ok(Rkey::new(slot, export.generation, secret))
    }

    /// Ends an export: new steps fail at once. Returns how many requests still hold it; whoever
    /// waits for the end asks [`holds`](Self::holds) until that is zero.
    ///
    /// # Errors
    /// [`ControlError::NoExport`].
    pub fn revoke(&mut self, export: u16, generation: u16) -> Result<u32, ControlError> {
        let slot = usize::from(export);
        let found = self.exports.get(slot).filter(|e| e.is_live() && e.generation == generation);
        let holds = found.ok_or(ControlError::NoExport { export, generation })?.holds;
        self.end_export(slot);
        Ok(holds)
    }

    /// How many fetches and reply ranges are still under way under an export, live or revoked.
    pub fn holds(&self, export: u16, generation: u16) -> u32 {
        match self.exports.get(usize::from(export)) {
            Some(export) if export.generation == generation => export.holds,
            _ => 0,
        }
    }

    /// The domain that an export belongs to: where a call under it is served.
    pub fn domain_of(&self, export: u16) -> Option<DomainId> {
        let export = self.exports.get(usize::from(export)).filter(|export| export.is_live())?;
        Some(DomainId(export.domain))
    }

    /// The memory of a region.
    ///
    /// # Errors
    /// No such domain or region.
    pub fn region(&self, domain: DomainId, number: u8) -> Result<&RacyMem, ControlError> {
        let index = self.region_index(domain, number)?;
        let region = &self.regions[usize::from(index)];
        let memory = region.memory.as_ref().or(region.lost.as_ref());
        memory.ok_or(ControlError::NoRegion { region: number })
    }

    fn end_export(&mut self, slot: usize) {
        self.epoch = self.epoch.wrapping_add(1);
        let export = &mut self.exports[slot];
        export.serving = 0;
        export.secret = 0;
        if export.holds == 0 {
            self.free_exports.push_back(slot as u16);
        }
    }

    fn check_domain(&self, domain: DomainId) -> Result<(), ControlError> {
        match self.domains.get(usize::from(domain.0)) {
            Some(found) if found.live => Ok(()),
            _ => Err(ControlError::NoDomain { domain: domain.0 }),
        }
    }

    pub(super) fn region_index(&self, domain: DomainId, number: u8) -> Result<u16, ControlError> {
        self.check_domain(domain)?;
        match self.domains[usize::from(domain.0)].regions[usize::from(number)] {
            NO_REGION => Err(ControlError::NoRegion { region: number }),
            index => Ok(index),
        }
    }
}
