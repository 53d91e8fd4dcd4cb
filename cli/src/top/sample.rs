//! What `nic top` looks at.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use nic_engine::daemon::CountersFile;
use nic_host::{Endpoint, Nic};

use crate::metrics::writer_runs;
use crate::ops::{self, Ops};

/// Ops at least this old are worth a person's attention.
const OLD: Duration = Duration::from_millis(100);

/// Where samples come from.
pub struct Source {
    socket: PathBuf,
    /// Lost and found again when the engine process is restarted.
    nic: Option<Nic>,
}

/// An engine process at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Instant,
    pub pid: u32,
    pub runs: bool,
    pub version: String,
    /// How long it has run, or since when it ran.
    pub age: Duration,
    /// Names of the counters, and their values by engine.
    pub names: Vec<String>,
    pub engines: Vec<Vec<u64>>,
    /// Its flows, sessions and old ops, if it answers.
    pub ops: Option<Ops>,
}

impl Source {
    pub fn new(socket: PathBuf) -> Self {
        Source { socket, nic: None }
    }

    /// Looks at the engine process.
    ///
    /// # Errors
    /// There are no counters to be read.
    pub fn look(&mut self) -> Result<Sample> {
        // It is opened anew each time: an engine that was restarted has a new one.
        let file = CountersFile::open(&CountersFile::path(&self.socket))?;
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Ok(Sample {
            at: Instant::now(),
            pid: file.pid(),
            runs: writer_runs(&file),
            version: file.version().to_owned(),
            age: now.saturating_sub(file.started()),
            names: file.metrics().iter().map(|metric| metric.name.to_string()).collect(),
            engines: (0..file.engines()).filter_map(|engine| file.values(engine)).collect(),
            ops: self.ops(),
        })
    }

    fn ops(&mut self) -> Option<Ops> {
        if self.nic.is_none() {
            self.nic = Nic::connect(Endpoint::Path(self.socket.clone())).ok();
        }
        let told = self.nic.as_ref()?.ops(OLD);
        let ops = told.ok().and_then(|told| ops::parse(&told).ok());
        if ops.is_none() {
            self.nic = None;
        }
        ops
    }
}

impl Sample {
    /// A counter of an engine; 0 if its release has none of that name.
    pub fn counter(&self, engine: usize, name: &str) -> u64 {
        let place = self.names.iter().position(|known| known == name);
        let values = self.engines.get(engine);
        place.and_then(|place| values?.get(place)).copied().unwrap_or(0)
    }
}
