//! The executor alone: how well it overlaps the cache misses of walks.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::Result;
use nic_benches::{HOPS, ListWords, WalkTarget};
use nic_figures::{Chase, Figure, Interleave, Measured, PlacementProbe, SliceResult, Subject};

/// Walks in flight.
pub(super) const WINDOWS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// Chains of plain loads.
pub(super) const CHAINS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Loads between two looks at the clock.
const STRETCH: usize = 8192;

pub(super) struct Interleaved {
    target: RefCell<WalkTarget>,
    chase: RefCell<Chase<ListWords>>,
}

impl Interleaved {
    pub(super) fn new(log2: u32, seed: u64) -> Result<Self> {
        let target = WalkTarget::new(log2)?;
        let chase = RefCell::new(Chase::along(target.words(), seed)?);
        Ok(Interleaved { target: RefCell::new(target), chase })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.target.borrow().bytes()
    }

    pub(super) fn pages(&self) -> String {
        self.target.borrow().page_kind().to_string()
    }

    pub(super) fn add<'a>(
        &'a self,
        mut interleave: Interleave<'a, &'a mut PlacementProbe>,
    ) -> Interleave<'a, &'a mut PlacementProbe> {
        for window in WINDOWS {
            interleave =
                interleave.add(Subject::new(walks_name(window), "M hops/s", move |time| {
                    let mut target = self.target.borrow_mut();
                    rate(time, || {
                        for _ in 0..STRETCH / HOPS / window {
                            target.batch(window)?;
                        }
                        Ok(STRETCH / HOPS / window * window * HOPS)
                    })
                }));
        }
        for chains in CHAINS {
            interleave =
                interleave.add(Subject::new(loads_name(chains), "M hops/s", move |time| {
                    let mut chase = self.chase.borrow_mut();
                    rate(time, || {
                        chase.run_interleaved(chains, STRETCH / chains);
                        Ok(STRETCH / chains * chains)
                    })
                }));
        }
        interleave
    }
}

pub(super) fn walks_name(window: usize) -> String {
    format!("walks_in_flight_{window}")
}

pub(super) fn loads_name(chains: usize) -> String {
    format!("loads_in_flight_{chains}")
}

/// The best window over a single walk, and over the most that plain loads do.
pub(super) fn figures(measured: &Measured) -> Vec<Figure> {
    let best = |names: Vec<String>| {
        let rate = |name: &String| measured.figure(name).map_or(0.0, |figure| figure.value);
        names.into_iter().max_by(|one, other| rate(one).total_cmp(&rate(other)))
    };
    let (Some(walks), Some(loads)) =
        (best(WINDOWS.map(walks_name).to_vec()), best(CHAINS.map(loads_name).to_vec()))
    else {
        return Vec::new();
    };
    let over_one = measured.ratio(&walks, &walks_name(1));
    let over_limit = measured.ratio(&walks, &loads);
    let named = [(over_one, "interleave_over_one"), (over_limit, "interleave_over_raw_limit")];
    named.into_iter().filter_map(|(figure, name)| Some(figure?.named(name))).collect()
}

fn rate(time: Duration, mut some: impl FnMut() -> Result<usize>) -> SliceResult {
    let (begun, mut done) = (Instant::now(), 0);
    while begun.elapsed() < time {
        match some() {
            Ok(more) => done += more,
            Err(error) => return SliceResult::failed(format!("{error:#}")),
        }
    }
    SliceResult::single(done as f64 / begun.elapsed().as_secs_f64() / 1e6)
}
