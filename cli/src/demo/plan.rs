//! Who runs where, and why.

use anyhow::{Result, bail};
use nic_host::Wait;

use crate::pair::{CORES_FOR_ALL, Cores, Drive, PairPort};

/// All of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How packets travel.
    pub port: PairPort,
    /// Who drives the initiator's engine.
    pub initiator: Drive,
    /// Who drives the target's engine for CALL polled.
    pub polled: Drive,
    /// Which core is whose.
    pub cores: Cores,
}

impl Plan {
    /// The plan for a port; `initiator` and `polled` force who drives those engines.
    pub fn new(port: PairPort, initiator: Option<Drive>, polled: Option<Drive>) -> Result<Self> {
        let cores = Cores::deal()?;
        if cores.count == 0 {
            bail!("this process may use no core");
        }
        Ok(Plan {
            port,
            initiator: initiator.unwrap_or(cores.drive()),
            polled: polled.unwrap_or(cores.drive()),
            cores,
        })
    }

    /// How many tables are filled.
    pub fn tables(&self) -> u64 {
        if self.polled == Drive::Inline { 2 } else { 1 }
    }

    /// How the initiator waits.
    pub fn wait(&self) -> Wait {
        self.cores.wait(self.initiator)
    }

    /// Whether a polling owner of the main table shares its core with an engine that it waits for.
    pub fn owner_yields(&self) -> bool {
        self.cores.is_one() || self.cores.owner == self.cores.target
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
