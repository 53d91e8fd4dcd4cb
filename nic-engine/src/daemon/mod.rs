//! A process of engines: one pinned thread each, and a control thread that applications talk to.
//!
//! [`run`] is what the `nic-engine` binary and `nic serve` call. [`Daemon`] is the same in parts,
//! for whoever brings a port or a kernel set of their own.

mod admission;
mod config;
mod connection;
mod control;
mod counters_page;
mod describe;
mod engine_thread;
mod metrics;
mod quota;
mod start;
mod status;

pub use admission::{Admission, Principal};
pub use config::{
    Config, ConfigFault, EngineSettings, MetricsSettings, PortKind, PortSettings, QuotaSettings,
    WaitMode, default_socket,
};
pub use control::ControlError;
pub use counters_page::{CountersFault, CountersFile, CountersPage};
pub use start::{Arguments, serve};

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use nic_kernels::KernelSet;
use nic_ports::Port;
use nic_ports::udp::{UdpConfig, UdpError, UdpPort};
use nic_shm::{
    ControlListener, ControlSocket, Doorbell, DoorbellError, DoorbellSet, Mailbox, RacyMem,
};
use nic_transport::ConfigError;

use self::control::Control;
use self::engine_thread::{EngineLink, Post, drive};
use crate::Builtin;
use crate::clock;
use crate::engine::{Answered, Engine, EngineConfig, Neighbours};
use crate::local::LocalEngine;

/// Why a daemon does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// The port.
    #[error("port {address}: {error}")]
    Port {
        /// Where it was to be.
        address: SocketAddr,
        /// What went wrong.
        error: UdpError,
    },
    /// The counters cannot be served.
    #[error("metrics.listen {address}: {error}; give a free address, or none")]
    Metrics {
        /// Where they were to be.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// Settings of the flows.
    #[error(transparent)]
    Flow(#[from] ConfigError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The folder of the control socket is missing; the text has the command that makes it.
    #[error(
        "the control socket {} is to lie in {shown}, which is no folder; make it with \
         `sudo install -d -o \"$USER\" {shown}`, or give another path with --socket",
        socket.display(), shown = folder.display()
    )]
    Folder {
        /// Where the socket was to be.
        socket: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
    /// The control socket cannot be bound.
    #[error("control socket: {0}")]
    Listen(#[from] nic_shm::BindError),
    /// An eventfd.
    #[error(transparent)]
    Doorbell(#[from] DoorbellError),
    /// The machine gave no randomness.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// A thread or signal handler.
    #[error("the operating system refused: {0}")]
    System(#[from] std::io::Error),
    /// A core that this process may not use.
    #[error("engine.cores names core {core}; this process may use cores {available:?}")]
    Core {
        /// The core asked for.
        core: usize,
        /// The cores there are.
        available: Vec<usize>,
    },
}

/// How a daemon's engines are driven.
#[derive(Clone, Debug)]
pub struct DriveSettings {
    /// One for each engine: the core to pin it to.
    pub cores: Vec<Option<usize>>,
    /// How long an engine spins before it sleeps; `None`: for ever.
    pub spin: Option<Duration>,
}

/// Engines on their threads.
pub struct Daemon {
    control: Control,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
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
        Self::start_counted::<P, K>(ports, config, settings, None)
    }

    /// The same, with the engines' counters in a file that outlives the process.
    ///
    /// # Errors
    /// As for [`Daemon::start`].
    pub fn start_counted<P, K>(
        ports: Vec<P>,
        config: &EngineConfig,
        settings: &DriveSettings,
        counters: Option<&CountersFile>,
    ) -> Result<Self, DaemonError>
    where
        P: Port + Send + 'static,
        K: KernelSet + Send + 'static,
    {
        check_cores(&settings.cores)?;
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
        for (number, (port, neighbours)) in ports.into_iter().zip(neighbours).enumerate() {
            let config = EngineConfig { engine: number as u8, ..config.clone() };
            let mut engine: Engine<P, K> =
                Engine::new(port, config, getrandom::u64()?, clock::now())?;
            engine.set_neighbours(neighbours);
            addresses.push(engine.address());
            descriptions.push(engine.describe_port());
            tracing::info!(number, address = %engine.address(), "{}", engine.describe_port());
            let core = settings.cores.get(number).copied().flatten();
            threads.push(spawn(engine, number, links[number].clone(), core, settings.spin)?);
        }
        let control = Control::new(links, addresses, descriptions, answered, control_bell);
        Ok(Daemon { control, threads, stop })
    }

    /// Lets others in than the own user and root, each with so much. Sockets that are handed to
    /// [`Daemon::serve`] connected are let in whoever has them.
    #[must_use]
    pub fn admitting(mut self, admission: Admission, quota: &QuotaSettings) -> Self {
        self.control.admit(admission, quota);
        self
    }

    /// Serves applications until `shutdown` becomes readable or reaches its end: those that connect
    /// to `listener`, and those on `connected` sockets.
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
        Ok(outcome?)
    }

    /// Where the engines receive packets.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.control.addresses()
    }
}

/// Runs the daemon that a configuration describes until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting or from going on.
pub fn run(config: &Config) -> Result<(), DaemonError> {
    config.check()?;
    let cores: Vec<Option<usize>> = match config.engine.cores.as_slice() {
        [] => vec![None],
        cores => cores.iter().copied().map(Some).collect(),
    };
    let admission = Admission::of(config)?;
    let path = config.socket_path();
    check_folder(&path)?;
    if admission.names_others() && config.socket_mode & 0o066 == 0 {
        tracing::warn!(
            "allow_users or allow_groups name others, but socket_mode {:#o} keeps them out: make \
             it 0o660 or 0o666",
            config.socket_mode
        );
    }
    let listener = ControlListener::bind(&path, config.socket_mode)?;
    let cores_count = cores.len();
    let ports = udp_ports(config, cores_count)?;
    let scraped = config.metrics.listen.map(metrics_listener).transpose()?;
    let engine = EngineConfig {
        clients: config.engine.clients,
        sessions: config.engine.sessions,
        flows: config.engine.flows,
        ..EngineConfig::default()
    };
    let settings = DriveSettings { cores, spin: config.spin() };
    let counters_path = CountersFile::path(&path);
    let counters = CountersFile::create(&counters_path, cores_count)?;
    let daemon =
        Daemon::start_counted::<UdpPort, Builtin>(ports, &engine, &settings, Some(&counters))?
            .admitting(admission, &config.quota);
    if let Some(scraped) = scraped {
        let pages = (0..cores_count).filter_map(|engine| counters.page(engine)).collect();
        tracing::info!(address = %scraped.local_addr()?, "metrics are served at /metrics");
        metrics::serve(scraped, pages)?;
    }
    tracing::info!(socket = %path.display(), "applications may connect");
    let outcome = daemon.serve(Some(listener), Vec::new(), &termination_signal()?);
    // After a clean end nothing is left; after a crash the file tells what was done until then.
    if let Err(error) = std::fs::remove_file(&counters_path) {
        tracing::warn!(%error, "the counters file could not be removed");
    }
    outcome
}

fn metrics_listener(address: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(address).map_err(|error| DaemonError::Metrics { address, error })
}

/// A folder that is missing is told with the command that makes it.
fn check_folder(socket: &Path) -> Result<(), DaemonError> {
    match socket.parent().filter(|folder| *folder != Path::new("")) {
        Some(folder) if !folder.is_dir() => {
            Err(DaemonError::Folder { socket: socket.into(), folder: folder.into() })
        }
        _ => Ok(()),
    }
}

/// One UDP port for each engine.
fn udp_ports(config: &Config, count: usize) -> Result<Vec<UdpPort>, DaemonError> {
    (0..count)
        .map(|number| {
            let mut address = config.port.address;
            if address.port() != 0 {
                address.set_port(address.port().wrapping_add(number as u16));
            }
            UdpPort::bind(udp_config(config, address))
                .map_err(|error| DaemonError::Port { address, error })
        })
        .collect()
}

fn udp_config(config: &Config, address: SocketAddr) -> UdpConfig {
    let mut udp = UdpConfig::new(address);
    udp.pool.frames = config.port.frames;
    udp
}

/// A descriptor that becomes readable when the process is asked to end.
fn termination_signal() -> Result<OwnedFd, DaemonError> {
    let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader.into())
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

fn spawn<P, K>(
    mut engine: Engine<P, K>,
    number: usize,
    link: EngineLink,
    core: Option<usize>,
    spin: Option<Duration>,
) -> Result<JoinHandle<()>, DaemonError>
where
    P: Port + Send + 'static,
    K: KernelSet + Send + 'static,
{
    let body = move || {
        if let Some(id) = core
            && !core_affinity::set_for_current(core_affinity::CoreId { id })
        {
            tracing::error!(core = id, "the engine could not be pinned; it runs where it is put");
        }
        drive(&mut engine, number, &link, spin);
    };
    Ok(std::thread::Builder::new().name(format!("engine-{number}")).spawn(body)?)
}

fn check_cores(cores: &[Option<usize>]) -> Result<(), DaemonError> {
    let found = core_affinity::get_core_ids().unwrap_or_default();
    let available: Vec<usize> = found.into_iter().map(|core| core.id).collect();
    match cores.iter().flatten().find(|core| !available.contains(core)) {
        Some(&core) => Err(DaemonError::Core { core, available }),
        None => Ok(()),
    }
}

fn clone_bell(bell: &Doorbell) -> Result<Doorbell, DaemonError> {
    Ok(Doorbell::from_fd(bell.as_fd().try_clone_to_owned()?)?)
}

type Answers = Receiver<(usize, Answered)>;
