//! Blocks given back a moment ago: most are asked for again at once, in the same size, and need
//! not be joined with their neighbours and split again.

use alloc::vec;
use alloc::vec::Vec;

/// Blocks kept of each class.
const KEPT_MAX: usize = 512;

/// A short stack of blocks for each class.
#[derive(Debug)]
pub(super) struct Kept {
    stacks: Vec<Stack>,
    units: u32,
}

#[derive(Debug, Clone)]
struct Stack {
    count: usize,
    firsts: [u32; KEPT_MAX],
}

impl Kept {
    pub(super) fn new(classes: u8) -> Self {
        let stack = Stack { count: 0, firsts: [0; KEPT_MAX] };
        Self { stacks: vec![stack; usize::from(classes)], units: 0 }
    }

    /// Keeps a block, given by its first unit. False: enough of its class are kept.
    #[inline]
    pub(super) fn keep(&mut self, first: u32, class: u8) -> bool {
        let stack = &mut self.stacks[usize::from(class)];
        let Some(place) = stack.firsts.get_mut(stack.count) else { return false };
        *place = first;
        stack.count += 1;
        self.units += 1 << class;
        true
    }

    /// A kept block of a class: the one kept last, whose bytes are likeliest in the cache.
    #[inline]
    pub(super) fn take(&mut self, class: u8) -> Option<u32> {
        let stack = &mut self.stacks[usize::from(class)];
        stack.count = stack.count.checked_sub(1)?;
        self.units -= 1 << class;
        Some(stack.firsts[stack.count])
    }

    /// Some kept block, with its class.
    pub(super) fn take_any(&mut self) -> Option<(u32, u8)> {
        let class = self.stacks.iter().position(|stack| stack.count > 0)? as u8;
        self.take(class).map(|first| (first, class))
    }

    /// How many units are kept.
    pub(super) fn units(&self) -> u32 {
        self.units
    }
}
