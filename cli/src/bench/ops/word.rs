//! COMPARE_SWAP and FETCH_ADD.

use std::marker::PhantomData;

use anyhow::Result;
use nic_host::{Fate, Op, Operation, RemoteRegion, ops};

use super::{Ground, Judged, Work};
use crate::bench::fault::Fault;
use crate::bench::layout::LINE_BYTES;
use crate::bench::pattern::WORD_BYTES;

/// An atomic that counts a word up.
pub trait Atomic {
    /// The op.
    type Operation: Operation<Output = u64>;

    /// The op that makes `old` one more.
    fn op(region: &RemoteRegion, address: u64, old: u64) -> Op<Self::Operation>;
}

/// By compare-and-swap.
pub enum Swap {}
/// By fetch-and-add.
pub enum Add {}

impl Atomic for Swap {
    type Operation = ops::CompareSwap;

    #[inline]
    fn op(region: &RemoteRegion, address: u64, old: u64) -> Op<ops::CompareSwap> {
        region.compare_swap(address, old, old.wrapping_add(1))
    }
}

impl Atomic for Add {
    type Operation = ops::FetchAdd;

    #[inline]
    fn op(region: &RemoteRegion, address: u64, _: u64) -> Op<ops::FetchAdd> {
        region.fetch_add(address, 1)
    }
}

/// Atomics, each op out to a word of its own.
pub struct Words<'s, A> {
    region: &'s RemoteRegion,
    first: u64,
    places: Vec<Place>,
    atomic: PhantomData<fn() -> A>,
}

/// What is known of a word at the target.
#[derive(Clone, Copy)]
struct Place {
    value: u64,
    /// Whether an op has failed of which nobody knows whether it ran: the next one's old value
    /// tells, and is not compared.
    is_unknown: bool,
}

impl<'s, A: Atomic> Words<'s, A> {
    /// Reads what the words hold.
    pub fn new(ground: Ground<'s>) -> Result<Self> {
        let mut words = Words {
            region: &ground.site.memory,
            first: ground.own,
            places: Vec::new(),
            atomic: PhantomData,
        };
        for place in 0..ground.load.window {
            let at = words.address(place);
            let read = ground.session.run(words.region.read(at..at + WORD_BYTES as u64));
            let bytes = read.map_err(Fault::Unreadable)?;
            let word = bytes.first_chunk().copied().unwrap_or_default();
            words.places.push(Place { value: u64::from_le_bytes(word), is_unknown: false });
        }
        Ok(words)
    }

    fn address(&self, place: u32) -> u64 {
        self.first + u64::from(place) * LINE_BYTES
    }
}

impl<A: Atomic> Work for Words<'_, A> {
    type Operation = A::Operation;

    #[inline]
    fn next(&mut self, place: u32) -> Op<A::Operation> {
        A::op(self.region, self.address(place), self.places[place as usize].value)
    }

    #[inline]
    fn judge(&mut self, place: u32, old: u64) -> Judged {
        let at = self.address(place);
        let Place { value, is_unknown } = &mut self.places[place as usize];
        if old == *value {
            (*value, *is_unknown) = (old.wrapping_add(1), false);
            return Judged::Right { bytes: WORD_BYTES as u64 };
        }
        let (expected, was_unknown) = (*value, *is_unknown);
        // If it was counted up meanwhile, a swap has found another value and done nothing: asking
        // once more finds out.
        (*value, *is_unknown) = (old, true);
        match was_unknown {
            true => Judged::Right { bytes: WORD_BYTES as u64 },
            false => Judged::Wrong(format!("the word at {at:#x} was {old} and not {expected}")),
        }
    }

    fn failed(&mut self, place: u32, fate: Fate) {
        self.places[place as usize].is_unknown |= fate != Fate::NotExecuted;
    }
}
