//! A daemon from its start to its end, as a configuration describes it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nic_kernels::KernelSet;
use nic_shm::ControlListener;

use super::admission::Admission;
use super::config::{Config, ConfigFault, Seccomp};
use super::counters_page::CountersFile;
use super::error::DaemonError;
use super::hardening;
use super::{Daemon, DriveSettings, metrics};
use crate::engine::EngineConfig;
use crate::ports::{PortKind, PortSettings, open_all};

/// Runs the daemon that a configuration describes, with kernels of this set. SIGTERM or SIGINT ends
/// it, once the ops under way have ended; a second one ends it at once.
///
/// # Errors
/// What keeps it from starting or from going on.
pub fn run<K: KernelSet + Send + 'static>(config: &Config) -> Result<(), DaemonError> {
    config.check()?;
    let cores: Vec<Option<usize>> = match config.engine.cores.as_slice() {
        [] => vec![None],
        cores => cores.iter().copied().map(Some).collect(),
    };
    let admission = Admission::of(config)?;
    let path = config.socket_path();
    check_folder(&path)?;
    check_mode(config, &admission);
    check_port(&config.port);
    let cores_count = cores.len();
    let opened = open_all::<K>(&config.port, cores_count)?;
    if opened.kind == PortKind::Dpdk && config.hardening.seccomp == Seccomp::Kill {
        return Err(ConfigFault::Filter.into());
    }
    // Only now: some ports take seconds to open, and whoever connects expects an answer.
    let listener = ControlListener::bind(&path, config.socket_mode)?;
    let scraped = config.metrics.listen.map(metrics_listener).transpose()?;
    let engine = EngineConfig {
        clients: config.engine.clients,
        sessions: config.engine.sessions,
        flows: config.engine.flows,
        ..EngineConfig::default()
    };
    let shutdown = termination_signal()?;
    let settings = DriveSettings { cores, spin: config.spin() };
    let counters_path = CountersFile::path(&path);
    let counters = CountersFile::create(&counters_path, cores_count)
        .map_err(|error| DaemonError::Counters { path: counters_path.clone(), error })?;
    hardening::drop_privileges()?;
    let daemon = Daemon::start_opened(opened, &engine, &settings, Some(&counters))?
        .admitting(admission, &config.quota)
        .draining_for(Duration::from_millis(config.engine.drain_timeout_ms));
    let daemon = if config.regions.backing { daemon.backing_regions()? } else { daemon };
    if let Some(scraped) = scraped {
        let pages = (0..cores_count).filter_map(|engine| counters.page(engine)).collect();
        tracing::info!(address = %scraped.local_addr()?, "metrics are served at /metrics");
        metrics::serve(scraped, pages)?;
    }
    let daemon = daemon.hardened(hardening::filter_calls(config.hardening.seccomp)?);
    tracing::info!(socket = %path.display(), "applications may connect");
    let outcome = daemon.serve(Some(listener), Vec::new(), &shutdown);
    // After a clean end nothing is left; after a crash the file tells what was done until then.
    if let Err(error) = std::fs::remove_file(&counters_path) {
        tracing::warn!(%error, "the counters file could not be removed");
    }
    outcome
}

fn metrics_listener(address: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(address).map_err(|error| DaemonError::Metrics { address, error })
}

/// A mode of the socket that keeps those out who are allowed in is most likely a mistake.
fn check_mode(config: &Config, admission: &Admission) {
    if admission.names_others() && config.socket_mode & 0o066 == 0 {
        tracing::warn!(
            "allow_users or allow_groups name others, but socket_mode {:#o} keeps them out: make \
             it 0o660 or 0o666",
            config.socket_mode
        );
    }
}

/// A setting that nothing looks at is most likely meant for another kind of port.
fn check_port(settings: &PortSettings) {
    for key in settings.unused() {
        tracing::warn!("port.{key} is set, and port {} does not look at it", settings.kind);
    }
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

/// A descriptor from which a byte can be read each time that the process is asked to end.
fn termination_signal() -> Result<OwnedFd, DaemonError> {
    let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader.into())
}
