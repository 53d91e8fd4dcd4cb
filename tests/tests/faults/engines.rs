//! Two daemons that reach each other, of which none dies.

use std::path::PathBuf;

use nic_engine::daemon::{Config, WaitMode};
use nic_host::{Endpoint, Nic, NicError};
use nic_tests::children::{self, Child};
use nic_tests::wire::{Wire, WireKind};
use tempfile::TempDir;

use super::PROGRAM;

pub struct Engines {
    // Dropped in this order: the daemons first.
    daemons: Vec<Child>,
    wire: Wire,
    folder: TempDir,
}

impl Engines {
    /// Starts both. `change` is what the second is told beyond the defaults.
    pub fn start(change: impl FnOnce(&mut Config)) -> Engines {
        let folder = tempfile::tempdir().unwrap();
        let wire = Wire::new(WireKind::of_environment());
        let mut engines = Engines { daemons: Vec::new(), wire, folder };
        let config = |end| engines.wire.config(end, &engines.socket(end), WaitMode::Adaptive);
        let mut configs = [config(0), config(1)];
        change(&mut configs[1]);
        for (end, config) in configs.iter().enumerate() {
            let file = engines.folder.path().join(format!("{end}.toml"));
            engines.daemons.push(engines.wire.start(end, PROGRAM, &file, config));
        }
        for end in 0..configs.len() {
            let socket = engines.socket(end);
            drop(children::connect(&mut engines.daemons[end], &socket));
        }
        engines
    }

    /// Where applications of the first or the second connect.
    pub fn socket(&self, end: usize) -> PathBuf {
        self.folder.path().join(format!("{end}.sock"))
    }

    pub fn nic(&self, end: usize) -> Result<Nic, NicError> {
        Nic::connect(Endpoint::Path(self.socket(end)))
    }
}
