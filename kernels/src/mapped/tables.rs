//! Domains, regions and exports, as tables of fixed size.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use nic_shm::RacyMem;

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
    /// `None`: the slot is free.
    pub(super) memory: Option<RacyMem>,
    /// Address of the first byte. Base plus length does not overflow.
    pub(super) base: u64,
    /// Which of the slot's successive regions.
    pub(super) generation: u32,
    pub(super) writable: bool,
}

/// One export; a cache line.
#[derive(Clone, Debug, Default)]
pub(super) struct Export {
    pub(super) live: bool,
    /// The number of the region that the rkey names.
    pub(super) home: u8,
    /// Which of the slot's successive exports; never zero.
    pub(super) generation: u16,
    pub(super) domain: u16,
    /// Index of the home region.
    pub(super) home_index: u16,
    pub(super) access: Access,
    /// Requests under way.
    pub(super) holds: u32,
    pub(super) secret: u64,
    /// One bit per region number into which ops may follow pointers.
    pub(super) follow: [u64; 4],
}

impl Export {
    /// Whether ops may follow pointers into the region of that number.
    #[inline]
    pub(super) fn follows(&self, number: u8) -> bool {
        self.follow[usize::from(number >> 6)] >> (number & 63) & 1 == 1
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
        };
        let domain = Domain { live: false, regions: [NO_REGION; 256] };
        memory.domains.resize(usize::from(tables.domains), domain);
        memory.regions.resize_with(usize::from(regions), Region::default);
        memory.exports.resize(usize::from(tables.exports), Export::default());
        memory
    }
}
