//! A process of engines: one pinned thread each, and a control thread that applications talk to.
//!
//! [`serve`] is what the `nic-engine` binary and `nic serve` call, and whoever brings a kernel set of
//! their own. [`Daemon`] is the same in parts, for whoever brings a port.

mod admission;
mod config;
mod connection;
mod control;
mod counters_page;
mod crowding;
mod describe;
mod drain;
mod engine_thread;
mod error;
mod exit;
mod hardening;
mod metrics;
mod quota;
mod run;
mod start;
mod status;

pub use admission::{Admission, Principal};
pub use config::{
    Config, ConfigFault, EngineSettings, HardeningSettings, MetricsSettings, QuotaSettings,
    RegionSettings, Seccomp, WaitMode, default_socket,
};
pub use control::ControlError;
pub use counters_page::{CountersFault, CountersFile, CountersPage};
pub use error::DaemonError;
pub use exit::Exit;
pub use hardening::{Hardening, HardeningError};
pub use run::run;
pub use start::{Arguments, serve};

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use nic_kernels::KernelSet;
use nic_kernels::mapped::Flushes;
use nic_ports::Port;
use nic_shm::{ControlListener, ControlSocket, Doorbell, DoorbellSet, Mailbox, RacyMem};

use self::control::Control;
use self::crowding::Crowding;
use self::engine_thread::{EngineLink, Post, drive};
use crate::clock;
use crate::engine::{Answered, EngineConfig, Neighbours};
use crate::flusher::Flusher;
use crate::local::LocalEngine;
use crate::ports::{Opened, ReadyPort};
use crate::threads;
use crate::waiting::Waiting;

/// How a daemon's engines are driven.
#[derive(Clone, Debug)]
pub struct DriveSettings {
    /// One for each engine: the core to pin it to.
    pub cores: Vec<Option<usize>>,
    /// How long an engine spins before it sleeps; `None`: for ever, while it has its core to itself.
    pub spin: Option<Duration>,
}

/// Engines on their threads.
pub struct Daemon {
    control: Control,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// Where what is done for each engine's regions is counted, and how many ops it has at a time.
    flushes: Vec<Arc<Flushes>>,
    ops: usize,
    /// Ends after the engines.
    flusher: Option<Flusher>,
}

impl Daemon {
    /// Starts an engine thread for each of the ports, in order; `config.engine` is set here.
    ///
    /// # Errors
    /// A thread or descriptor that the system refuses, unusable settings.
    pub fn start<P, K>(
        ports: Vec<P>,
        config: &EngineConfig,
        settings: &DriveSettings,
    ) -> Result<Self, DaemonError>
    where
        P: Port + Send + 'static,
        K: KernelSet + Send + 'static,
    {
        let ports = ports.into_iter().map(ReadyPort::new::<P, K>).collect();
        Self::start_ready(ports, config, settings, None)
    }

    /// The same on ports that were opened by settings, with the engines' counters in a file that
    /// outlives the process.
    ///
    /// # Errors
    /// As for [`Daemon::start`].
    pub fn start_opened(
        opened: Opened,
        config: &EngineConfig,
        settings: &DriveSettings,
        counters: Option<&CountersFile>,
    ) -> Result<Self, DaemonError> {
        let mut daemon = Self::start_ready(opened.ports, config, settings, counters)?;
        for refusal in &opened.refused {
            let warning = format!("{refusal}; port {} was taken instead", opened.kind);
            tracing::warn!("{warning}");
            daemon.control.warn(vec![warning]);
        }
        Ok(daemon)
    }

    fn start_ready(
        ports: Vec<ReadyPort>,
        config: &EngineConfig,
        settings: &DriveSettings,
        counters: Option<&CountersFile>,
    ) -> Result<Self, DaemonError> {
        let crowding = crowding(settings, ports.len())?;
        // What an application takes away from its regions must not end a process of engines.
        nic_shm::survive_faults()?;
        let (answers, answered) = unbounded();
        let control_bell = Arc::new(Doorbell::new()?);
        let stop = Arc::new(AtomicBool::new(false));
        let mut links = Vec::new();
        for number in 0..ports.len() {
            let page = counters
                .and_then(|file| file.page(number))
                .unwrap_or_else(|| CountersPage::new(RacyMem::allocate(CountersPage::BYTES)));
            links.push(new_link(&answers, &control_bell, &stop, page)?);
        }
        let bells: Result<Vec<_>, DaemonError> =
            links.iter().map(|l| Ok(Some(clone_bell(&l.bell)?))).collect();
        let neighbours = Neighbours::of_process(bells?);
        let mut threads = Vec::new();
        let mut addresses = Vec::new();
        let mut descriptions = Vec::new();
        let mut flushes = Vec::new();
        for (number, (port, neighbours)) in ports.into_iter().zip(neighbours).enumerate() {
            let config = EngineConfig { engine: number as u8, ..config.clone() };
            let mut engine = port.engine(config, getrandom::u64()?, clock::now())?;
            engine.set_neighbours(neighbours);
            addresses.push(engine.address());
            flushes.push(engine.flushes());
            descriptions.push(engine.describe_port());
            tracing::info!(number, address = %engine.address(), "{}", engine.describe_port());
            let core = settings.cores.get(number).copied().flatten();
            let waiting = match crowding.shared[number] {
                true => Waiting::new(settings.spin).on_shared_core(),
                false => Waiting::new(settings.spin),
            };
            threads.push(spawn(engine, number, links[number].clone(), core, waiting)?);
        }
        let mut control = Control::new(links, addresses, descriptions, answered, control_bell);
        control.warn(crowding.warnings);
        let ops = usize::from(config.requests());
        Ok(Daemon { control, threads, stop, flushes, ops, flusher: None })
    }

    /// Lets others in than the own user and root, each with so much. Sockets that are handed to
    /// [`Daemon::serve`] connected are let in whoever has them.
    #[must_use]
    pub fn admitting(mut self, admission: Admission, quota: &QuotaSettings) -> Self {
        self.control.admit(admission, quota);
        self
    }

    /// Lets applications keep regions in files, which a thread of this process writes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn backing_regions(mut self) -> Result<Self, DaemonError> {
        let flusher = Flusher::start()?;
        let line = |(engine, flushes): (usize, &Arc<Flushes>)| {
            flusher.line(Arc::clone(flushes), self.control.engine_bell(engine), self.ops)
        };
        self.control.lines = self.flushes.iter().enumerate().map(line).collect();
        self.flusher = Some(flusher);
        Ok(self)
    }

    /// Lets ops that are under way end for so long when it is asked to end; without, for no time.
    #[must_use]
    pub fn draining_for(mut self, patience: Duration) -> Self {
        self.control.drain_timeout = patience;
        self
    }

    /// What the process has given up, for its status.
    fn hardened(mut self, hardening: Hardening) -> Self {
        self.control.hardening = Some(hardening);
        self
    }

    /// Serves applications: those that connect to `listener`, and those on `connected` sockets. Ends
    /// after a drain, which a byte read from `shutdown` begins; at once, when a second byte or the
    /// end of `shutdown` is read.
    ///
    /// # Errors
    /// The control loop cannot go on.
    pub fn serve(
        mut self,
        listener: Option<ControlListener>,
        connected: Vec<ControlSocket>,
        shutdown: &OwnedFd,
    ) -> Result<(), DaemonError> {
        let outcome = self.control.serve(listener, connected, shutdown.as_fd());
        self.stop.store(true, Ordering::Relaxed);
        self.control.wake_engines();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an engine thread ended by a panic");
            }
        }
        drop(self.flusher);
        Ok(outcome?)
    }

    /// Where the engines receive packets.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.control.addresses()
    }
}

fn new_link(
    answers: &Sender<(usize, Answered)>,
    control_bell: &Arc<Doorbell>,
    stop: &Arc<AtomicBool>,
    counters: CountersPage,
) -> Result<EngineLink, DaemonError> {
    Ok(EngineLink {
        mailbox: Arc::new(Mailbox::<Post>::new()),
        bell: Arc::new(Doorbell::new()?),
        bells: DoorbellSet::new()?,
        answers: answers.clone(),
        control_bell: Arc::clone(control_bell),
        stop: Arc::clone(stop),
        counters,
    })
}

fn spawn(
    mut engine: Box<dyn LocalEngine + Send>,
    number: usize,
    link: EngineLink,
    core: Option<usize>,
    waiting: Waiting,
) -> Result<JoinHandle<()>, DaemonError> {
    let pin = move || {
        if let Some(id) = core
            && !core_affinity::set_for_current(core_affinity::CoreId { id })
        {
            tracing::error!(core = id, "the engine could not be pinned; it runs where it is put");
        }
    };
    let body = move || drive(engine.as_mut(), number, &link, waiting);
    Ok(threads::start(format!("engine-{number}"), pin, body)?)
}

/// Whether the engines' cores can be had, and who shares one.
fn crowding(settings: &DriveSettings, engines: usize) -> Result<Crowding, DaemonError> {
    let found = core_affinity::get_core_ids().unwrap_or_default();
    let available: Vec<usize> = found.into_iter().map(|core| core.id).collect();
    let mut cores = settings.cores.clone();
    cores.resize(engines, None);
    if let Some(&core) = cores.iter().flatten().find(|core| !available.contains(core)) {
        return Err(DaemonError::Core { core, available });
    }
    let crowding = Crowding::of(&cores, settings.spin, &available);
    for warning in &crowding.warnings {
        tracing::warn!("{warning}");
    }
    Ok(crowding)
}

fn clone_bell(bell: &Doorbell) -> Result<Doorbell, DaemonError> {
    Ok(Doorbell::from_fd(bell.as_fd().try_clone_to_owned()?)?)
}

type Answers = Receiver<(usize, Answered)>;
