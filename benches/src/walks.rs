//! Traversals by the executor alone.

use anyhow::{Context, Result, ensure};
use nic_kernels::mapped::{MappedMemory, Tables};
use nic_kernels::traverse::{Arguments, ReplyHeader, Value};
use nic_kernels::{Access, Memory};
use nic_shm::PageKind;
use nic_wire::KernelId;

use crate::in_flight::InFlight;
use crate::lists::{ListWords, Lists};
use crate::lookups::memory;
use crate::random::mixed;

/// Elements that each walk looks at.
pub const HOPS: usize = 8;

/// Lists, and an executor that walks along them.
pub struct WalkTarget {
    ops: InFlight,
    lists: Lists,
    words: ListWords,
    page_kind: PageKind,
    walks: u64,
}

impl WalkTarget {
    /// Lists that take `1 << log2` bytes.
    ///
    /// # Errors
    /// The machine has no memory for them.
    pub fn new(log2: u32) -> Result<Self> {
        ensure!((12..40).contains(&log2), "2^{log2} bytes: between 2^12 and 2^39 are possible");
        // The first line is left out: nothing may lie at address 0.
        let (region, page_kind) = memory((1 << log2) + 64)?;
        let lists = Lists::new(64, log2 - 6);
        lists.write(&region, |position| lists.address(position))?;
        let words = lists.words(&region)?;
        let mut memory = MappedMemory::new(Tables::default());
        let domain = memory.add_domain()?;
        let home = memory.register(domain, region, 0)?;
        let rkey = memory.export(domain, home, Access::READ, &[], 1)?;
        let grant = memory.admit(&rkey)?;
        Ok(WalkTarget { ops: InFlight::new(memory, grant), lists, words, page_kind, walks: 0 })
    }

    /// The lists' pointers, for plain loads.
    pub fn words(&self) -> ListWords {
        self.words.clone()
    }

    /// How many bytes the lists take.
    pub fn bytes(&self) -> u64 {
        self.lists.bytes()
    }

    /// Which pages they lie on.
    pub fn page_kind(&self) -> PageKind {
        self.page_kind
    }

    /// Makes `window` walks of [`HOPS`] elements from random places, all in flight at once. That
    /// each found its element is looked at.
    ///
    /// # Errors
    /// A walk failed or ended elsewhere, or `window` is more than 128.
    pub fn batch(&mut self, window: usize) -> Result<()> {
        let lists = self.lists;
        for _ in 0..window {
            let first = mixed(self.walks);
            self.walks += 1;
            let last = first.wrapping_add(HOPS as u64 - 1);
            let arguments = Arguments {
                value: Value::None as u8,
                ..Arguments::list(lists.address(first), lists.key(last), 0)
            };
            let owner = lists.address(last);
            self.ops.start(owner, KernelId::TRAVERSE, &arguments.encode())?;
        }
        let is_right = |element, reply: &[u8]| {
            let found = ReplyHeader::parse(reply).and_then(|(header, _)| header.found());
            found.is_some_and(|found| found.element.address == element)
        };
        self.ops.finish(window, is_right).with_context(|| format!("{window} walks at once"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nic_figures::Chase;

    #[test]
    fn every_walk_ends_where_it_should() {
        let mut target = WalkTarget::new(20).unwrap();
        for window in [1, 7, 64, 128] {
            for _ in 0..2_000 / window {
                target.batch(window).unwrap();
            }
        }
        assert!(target.batch(129).is_err());
        assert!(Chase::along(target.words(), 1).unwrap().run_interleaved(8, 1000) > 0.0);
    }
}
