//! What is asked for ahead of its use, several lines at a time.
//!
//! A CPU does not finish a prefetch before it has translated its address, and looks ahead only so
//! many instructions: where a step lies between two prefetches, the walks of the page tables follow
//! each other, and cost as much as the misses that are to be hidden. Asked for in a row they overlap.

use nic_shm::RacyMem;

use super::tables::Region;

/// The most that is put off (start).
const ASKED_MAX: usize = 32;
/// Translations of a shorter region are at hand as a rule (start): it is asked for at once.
const LARGE_BYTES: u64 = 32 << 20;
/// A round of fewer ops asks at once (start): what is put off would be used at once.
const OPS_MIN: usize = 8;
/// Each round asks about so many times (start), so that there is time until the next one.
const TIMES: usize = 4;

/// Lines to ask for.
#[derive(Debug)]
pub(super) struct Ahead {
    /// How many are put off at most; 0: none are.
    most: usize,
    count: usize,
    asked: [Asked; ASKED_MAX],
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    offset: u64,
    length: u32,
    region: u16,
}

impl Ahead {
    pub(super) const fn new() -> Self {
        let nothing = Asked { offset: 0, length: 0, region: 0 };
        Ahead { most: 0, count: 0, asked: [nothing; ASKED_MAX] }
    }

    /// A round of so many ops begins.
    #[inline]
    pub(super) fn begin_round(&mut self, ops: usize) {
        self.most = if ops < OPS_MIN { 0 } else { (ops / TIMES).min(ASKED_MAX) };
    }

    /// It has ended.
    #[inline]
    pub(super) fn end_round(&mut self, regions: &[Region]) {
        self.most = 0;
        if self.count > 0 {
            self.ask(regions);
        }
    }

    /// Asks for a range of a region, at once or soon.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        regions: &[Region],
        memory: &RacyMem,
        region: u16,
        offset: u64,
        length: u32,
    ) {
        if self.most == 0 || memory.len() < LARGE_BYTES {
            return memory.prefetch(offset, length.into());
        }
        self.put_off(regions, Asked { offset, length, region });
    }

    #[inline(never)]
    fn put_off(&mut self, regions: &[Region], asked: Asked) {
        if let Some(place) = self.asked.get_mut(self.count) {
            *place = asked;
            self.count += 1;
        }
        if self.count >= self.most {
            self.ask(regions);
        }
    }

    /// Asks for all that was put off.
    #[inline(never)]
    fn ask(&mut self, regions: &[Region]) {
        for Asked { offset, length, region } in &self.asked[..self.count] {
            let memory =
                regions.get(usize::from(*region)).and_then(|region| region.memory.as_ref());
            if let Some(memory) = memory {
                memory.prefetch(*offset, (*length).into());
            }
        }
        self.count = 0;
    }
}
