//! Who runs where, and why.

use anyhow::{Context, Result, bail};
use nic_figures::cores::{self, CorePair};
use nic_host::Wait;

use super::message::PortKind;

/// Cores from which on everyone who polls has one.
const CORES_FOR_ALL: usize = 4;

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

/// All of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How packets travel.
    pub port: PortKind,
    /// Who drives the initiator's engine.
    pub initiator: Drive,
    /// Who drives the target's engine for CALL polled.
    pub polled: Drive,
    /// Which core is whose.
    pub cores: Cores,
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

    /// Whether everyone shares one core.
    pub fn is_one(&self) -> bool {
        self.count < 2
    }
}

fn is_of(pair: CorePair, core: usize) -> bool {
    core == pair.initiator || core == pair.target
}

impl Plan {
    /// The plan for a port; `initiator` and `polled` force who drives those engines.
    pub fn new(port: PortKind, initiator: Option<Drive>, polled: Option<Drive>) -> Result<Self> {
        let cores = Cores::deal()?;
        if cores.count == 0 {
            bail!("this process may use no core");
        }
        let by_cores = if cores.count < CORES_FOR_ALL { Drive::Inline } else { Drive::Process };
        Ok(Plan {
            port,
            initiator: initiator.unwrap_or(by_cores),
            polled: polled.unwrap_or(by_cores),
            cores,
        })
    }

    /// How many tables are filled.
    pub fn tables(&self) -> u64 {
        if self.polled == Drive::Inline { 2 } else { 1 }
    }

    /// How the initiator waits: it spins where nobody else needs its core.
    pub fn wait(&self) -> Wait {
        let shares =
            self.initiator == Drive::Process && self.cores.initiator == self.cores.initiator_engine;
        if self.cores.is_one() || shares { Wait::Block } else { Wait::Spin }
    }

    /// Whether a polling owner of the main table shares its core with an engine that it waits for.
    pub fn owner_yields(&self) -> bool {
        self.cores.is_one() || self.cores.owner == self.cores.target
    }

    /// How long engine processes spin before they sleep, in microseconds: longer than any op takes,
    /// shorter than the pause in which the placement is probed.
    pub fn engine_spin_us(&self) -> u64 {
        if self.cores.is_one() { 0 } else { 1000 }
    }

    /// What this machine makes of the figures, one sentence each.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        let count = self.cores.count;
        if self.cores.is_one() {
            limits.push(
                "There is one core: initiator and target take turns on it, so times are those of \
                 the scheduler. Counts hold; for times use a machine with two cores or more."
                    .to_owned(),
            );
        } else if count < CORES_FOR_ALL {
            let initiator = match self.initiator {
                Drive::Inline => "the initiator drives its engine itself (inline)",
                Drive::Process => "the initiator's engine is a process, as asked",
            };
            let polled = match self.polled {
                Drive::Inline => "the target application drives its own",
                Drive::Process => "the target application takes turns with its engine, as asked",
            };
            limits.push(format!(
                "With {count} cores {initiator}, and for CALL polled {polled}: from \
                 {CORES_FOR_ALL} cores on each engine and application has a core."
            ));
        }
        if self.initiator == Drive::Process && self.wait() == Wait::Block {
            limits.push(
                "The initiator shares a core with its engine and is woken for each reply: its \
                 times hold two changes of context."
                    .to_owned(),
            );
        }
        if self.cores.siblings {
            limits.push(
                "Initiator and target are hyperthreads of one physical core and slow each other."
                    .to_owned(),
            );
        }
        limits
    }
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
