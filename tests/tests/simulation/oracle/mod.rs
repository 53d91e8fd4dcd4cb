//! What must have become of memory, given what initiators were told.
//!
//! Every op has an effect that can be told apart from all others', so that whatever is read can be
//! traced to the ops that made it. The model never asks when an op ran; it knows an interval, from
//! its submission to its completion (or, where the fate is unknown, to the moment from which on it
//! cannot run any more), and the order that completions and fences impose. What is impossible
//! under each of the orders that these allow is a failure; nothing else is.

pub mod calls;
mod chain;
mod counter;
pub mod extent;
mod lookups;
mod region;
mod tests;

pub use calls::Calls;
pub use chain::Chain;
pub use counter::Counter;
pub use extent::Extent;
pub use lookups::{ENTRIES_REGION, KEYS, Lookups};
pub use region::{EXTENTS, Region};

use std::collections::VecDeque;

/// The order of submissions and completions as the applications see it: each has a number of its
/// own. Virtual time is too coarse, for much happens at one moment.
pub type Tick = u64;

/// An op's place in a stream, as fences see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which session, which of its streams, to which engine.
    pub stream: (u32, u16, usize),
    /// Which of the session's ops.
    pub sequence: u64,
    /// Whether it waits for the earlier ones of its stream.
    pub fence: bool,
}

impl Order {
    /// Whether a fence makes the other op wait for this one, if both have run.
    pub fn is_before(&self, other: &Order) -> bool {
        other.fence && self.stream == other.stream && self.sequence < other.sequence
    }
}

/// Ops whose effects on one word are compared by their fences.
const REMEMBERED: usize = 48;

/// The last ops on a word whose values only climb: where each found it and where it left it.
#[derive(Debug, Default)]
pub struct Climbs {
    seen: VecDeque<(Order, u64, u64)>,
    /// How many pairs were compared.
    pub compared: u64,
}

impl Climbs {
    /// Compares an op with the others.
    pub fn add(&mut self, order: Order, found: u64, left: u64) {
        for (other, other_found, other_left) in &self.seen {
            if other.is_before(&order) {
                self.compared += 1;
                assert!(found >= *other_left, "{order:?} found {found} behind {other:?}");
            }
            if order.is_before(other) {
                self.compared += 1;
                assert!(*other_found >= left, "{other:?} found {other_found} behind {order:?}");
            }
        }
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back((order, found, left));
    }
}
