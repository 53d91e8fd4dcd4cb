//! Which core is whose.

use anyhow::{Context, Result};
use nic_figures::cores::{self, CorePair};
use nic_host::Wait;

/// Cores from which on everyone who polls has one.
pub const CORES_FOR_ALL: usize = 4;

/// Who drives an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Drive {
    /// The application's own thread.
    Inline,
    /// A process of its own.
    Process,
}

impl Drive {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Drive::Inline => "inline",
            Drive::Process => "process",
        }
    }
}

/// Which core is whose; none: wherever the kernel puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    /// How many there are.
    pub count: usize,
    /// The initiating application's.
    pub initiator: Option<usize>,
    /// The initiator's engine's, if it is a process.
    pub initiator_engine: Option<usize>,
    /// The target's engine's.
    pub target: Option<usize>,
    /// The target application's.
    pub owner: Option<usize>,
    /// Whether initiator and target share a physical core, as hyperthreads.
    pub siblings: bool,
}

impl Cores {
    /// Deals out the cores that this process may use.
    pub fn deal() -> Result<Self> {
        let available = cores::available()?;
        if available.len() < 2 {
            return Ok(Cores::one());
        }
        let pair = cores::pick_pair().context("no two cores can be had")?;
        Ok(Cores::of(&available, pair))
    }

    fn one() -> Self {
        Cores {
            count: 1,
            initiator: None,
            initiator_engine: None,
            target: None,
            owner: None,
            siblings: false,
        }
    }

    fn of(available: &[usize], pair: CorePair) -> Self {
        let mut others = available.iter().copied().filter(|core| !is_of(pair, *core));
        let owner = others.next().unwrap_or(pair.target);
        let initiator_engine = others.next().unwrap_or(pair.initiator);
        Cores {
            count: available.len(),
            initiator: Some(pair.initiator),
            initiator_engine: Some(initiator_engine),
            target: Some(pair.target),
            owner: Some(owner),
            siblings: pair.siblings,
        }
    }

    /// Who drives the initiator's engine, unless it is said: nobody has a core for it with fewer
    /// than four.
    pub fn drive(&self) -> Drive {
        if self.count < CORES_FOR_ALL { Drive::Inline } else { Drive::Process }
    }

    /// How the initiator waits: it spins where nobody else needs its core.
    pub fn wait(&self, initiator: Drive) -> Wait {
        let shares = initiator == Drive::Process && self.initiator == self.initiator_engine;
        if self.is_one() || shares { Wait::Block } else { Wait::Spin }
    }

    /// How long engine processes spin before they sleep, in microseconds: longer than any op takes,
    /// shorter than the pause in which the placement is probed.
    pub fn engine_spin_us(&self) -> u64 {
        if self.is_one() { 0 } else { 1000 }
    }

    /// Whether everyone shares one core.
    pub fn is_one(&self) -> bool {
        self.count < 2
    }
}

fn is_of(pair: CorePair, core: usize) -> bool {
    core == pair.initiator || core == pair.target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_dealt_out_and_shared_where_they_are_few() {
        let pair = CorePair { initiator: 0, target: 2, siblings: false };
        let two = Cores::of(&[0, 2], pair);
        assert_eq!((two.initiator, two.initiator_engine), (Some(0), Some(0)));
        assert_eq!((two.target, two.owner), (Some(2), Some(2)));
        let four = Cores::of(&[0, 1, 2, 3], pair);
        assert_eq!((four.owner, four.initiator_engine), (Some(1), Some(3)));
    }
}
