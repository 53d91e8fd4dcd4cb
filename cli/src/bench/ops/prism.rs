//! PRISM.

use anyhow::Result;
use nic_host::prism::{Chain, Primitive, Target};
use nic_host::{Op, RemoteRegion, ops};

use super::{Ground, Judged, Prepared, Work};
use crate::bench::pattern::WORD_BYTES;
use crate::bench::structures::Structures;

/// Different chains of primitives.
const CHAINS: u64 = 1024;

/// Chains of two primitives: a pointer is read, and then what it points to.
pub fn prepare(ground: &Ground<'_>) -> Result<Prepared> {
    let structures = ground.site.structures();
    let table = ground.site.base() + structures.table();
    let chains: Result<_, _> = (0..CHAINS.min(structures.pointers()))
        .map(|number| {
            let pointer = Target::home(table + number * WORD_BYTES as u64);
            Chain::first(Primitive::Read { target: pointer, length: WORD_BYTES as u32 })
                .then(Primitive::Read { target: Target::output(0), length: ground.size })
        })
        .collect();
    Ok(Prepared { chains: chains?, ..Prepared::default() })
}

/// Ops with the chains of the connection, one after the other.
pub struct Primitives<'s> {
    region: &'s RemoteRegion,
    structures: Structures,
    chains: &'s [Chain],
    size: usize,
    next: usize,
    /// By place: the chain that is out.
    asked: Vec<usize>,
}

impl<'s> Primitives<'s> {
    /// The connection has chains of the size.
    pub fn new(ground: Ground<'s>) -> Self {
        Primitives {
            region: &ground.site.memory,
            structures: ground.site.structures(),
            chains: &ground.prepared.chains,
            size: ground.size as usize,
            next: 0,
            asked: vec![0; ground.load.window as usize],
        }
    }
}

impl<'s> Work for Primitives<'s> {
    type Operation = ops::Prism<'s>;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::Prism<'s>> {
        let number = self.next;
        self.next = if number + 1 == self.chains.len() { 0 } else { number + 1 };
        self.asked[place as usize] = number;
        self.region.prism(&self.chains[number], &[])
    }

    #[inline]
    fn judge(&mut self, place: u32, done: ops::PrismDone) -> Judged {
        let number = self.asked[place as usize];
        let report = done.report();
        let value = report.reads().get(WORD_BYTES..).unwrap_or_default();
        let is_right = report.succeeded(0)
            && report.succeeded(1)
            && value.len() == self.size
            && self.structures.pointed_value(number as u64).is(value);
        match is_right {
            true => Judged::Right { bytes: self.size as u64 },
            false => Judged::Wrong(format!("another value behind pointer {number}")),
        }
    }
}
