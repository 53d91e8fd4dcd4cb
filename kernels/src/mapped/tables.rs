//! Domains, regions and exports, as tables of fixed size.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use nic_shm::RacyMem;

use super::ahead::Ahead;
use super::backing::{Backing, Flushes};
use crate::memory::Access;

/// How many of each the tables hold; what is beyond is refused.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// Applications.
    pub domains: u16,
    /// Regions of all applications together; below 65 535.
    pub regions: u16,
    /// Exports of all applications together.
    pub exports: u16,
}

impl Default for Tables {
    fn default() -> Self {
        Tables { domains: 64, regions: 1024, exports: 1024 }
    }
}

/// Names the regions of one application connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DomainId(pub(super) u16);

/// The index of no region.
pub(super) const NO_REGION: u16 = u16::MAX;

/// One application's regions by number.
#[derive(Clone, Debug)]
pub(super) struct Domain {
    pub(super) live: bool,
    /// Index into the table of regions, by number.
    pub(super) regions: [u16; 256],
}

/// One region.
#[derive(Debug, Default)]
pub(super) struct Region {
    /// `None`: the slot is free, or the memory is `lost`.
    pub(super) memory: Option<RacyMem>,
    /// What was the memory, until the region is given up.
    pub(super) lost: Option<RacyMem>,
    /// Address of the first byte. Base plus length does not overflow.
    pub(super) base: u64,
    /// Which of the slot's successive regions.
    pub(super) generation: u32,
    pub(super) writable: bool,
    /// The file that it is kept in.
    pub(super) backing: Option<Box<dyn Backing>>,
}

/// One export.
#[derive(Clone, Debug)]
pub(super) struct Export {
    /// Which of the slot's successive exports; never zero once one was given out.
    pub(super) generation: u16,
    /// The same while the export lives, else zero: what a grant has to match.
    pub(super) serving: u16,
    pub(super) domain: u16,
    /// The number of the region that the rkey names.
    pub(super) home: u8,
    pub(super) access: Access,
    /// Requests under way.
    pub(super) holds: u32,
    pub(super) secret: u64,
    /// By region number, the index of each region that ops may touch, the home region among them;
    /// [`NO_REGION`] for all others. An access then needs one look.
    pub(super) reach: [u16; 256],
}

impl Export {
    /// A slot that nothing has been exported from.
    fn vacant() -> Self {
        Export {
            generation: 0,
            serving: 0,
            domain: 0,
            home: 0,
            access: Access::empty(),
            holds: 0,
            secret: 0,
            reach: [NO_REGION; 256],
        }
    }

    /// Whether ops may use it.
    #[inline]
    pub(super) fn is_live(&self) -> bool {
        self.serving != 0
    }
}

/// Regions of this process's address space, the domains that they belong to, and the rights that
/// their owners have given out. See the [module](crate::mapped).
#[derive(Debug)]
pub struct MappedMemory {
    pub(super) domains: Vec<Domain>,
    pub(super) regions: Vec<Region>,
    pub(super) exports: Vec<Export>,
    /// Slots of `exports` that are neither live nor held; the longest free is used first, so that
    /// generations last.
    pub(super) free_exports: VecDeque<u16>,
    /// [`nic_shm::faults`] when lost regions were last looked for.
    pub(super) faults_seen: u64,
    /// What was done to persist its regions.
    pub(super) flushes: Arc<Flushes>,
    pub(super) ahead: Ahead,
    /// Grows when a right or a region ends: what was looked up before is looked up anew.
    pub(super) epoch: u32,
}

impl MappedMemory {
    /// Empty tables of the given sizes. All memory is taken here.
    pub fn new(tables: Tables) -> Self {
        let regions = tables.regions.min(NO_REGION - 1);
        let mut memory = MappedMemory {
            domains: Vec::new(),
            regions: Vec::new(),
            exports: Vec::new(),
            free_exports: (0..tables.exports).collect(),
            faults_seen: nic_shm::faults(),
            flushes: Arc::default(),
            ahead: Ahead::new(),
            epoch: 0,
        };
        let domain = Domain { live: false, regions: [NO_REGION; 256] };
        memory.domains.resize(usize::from(tables.domains), domain);
        memory.regions.resize_with(usize::from(regions), Region::default);
        memory.exports.resize(usize::from(tables.exports), Export::vacant());
        memory
    }

    /// For who persists regions: what is done is counted there.
    pub fn flushes(&self) -> Arc<Flushes> {
        Arc::clone(&self.flushes)
    }
}
