//! The daemon's configuration file: TOML, unknown keys refused.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

use super::admission::Principal;
use crate::ports::PortSettings;

/// Everything that a daemon is told. Each key has a default; the defaults bind loopback. What is
/// said here of each key is what `nic config --print` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The Unix socket on which applications connect; not set: $NIC_SOCKET, else nic.sock in
    /// $XDG_RUNTIME_DIR, else /run/nic-engine/nic.sock.
    pub socket: Option<PathBuf>,
    /// Permission bits of the socket. Users and groups that are allowed below need them as well.
    pub socket_mode: u32,
    /// Users that may use the engines, by name or number, beside the engine's own user and root.
    pub allow_users: Vec<Principal>,
    /// Groups whose members may use the engines, by name or number.
    pub allow_groups: Vec<Principal>,
    /// Allow addresses other than loopback although peers are not authenticated.
    pub insecure_network: bool,
    /// How packets travel.
    pub port: PortSettings,
    /// How engines run.
    pub engine: EngineSettings,
    /// What regions may be.
    pub regions: RegionSettings,
    /// How much each user may have, over all of the user's applications and all engines.
    pub quota: QuotaSettings,
    /// Where the counters can be had beside the counters file.
    pub metrics: MetricsSettings,
    /// What the daemon gives up once it has started, so that whoever breaks into it has little.
    pub hardening: HardeningSettings,
}

/// The `[engine]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// One pinned engine for each of these cores; none: one engine, not pinned.
    pub cores: Vec<usize>,
    /// What engines do when there is nothing to do: "spin" looks again at once, which has the lowest
    /// latency and takes a whole core; "adaptive" spins for a while, then sleeps until it is woken;
    /// "block" sleeps at once. An engine that shares its core with others that spin lets them run.
    pub wait: WaitMode,
    /// How long an adaptive engine spins before it sleeps, in microseconds; down to an eighth of it
    /// where the spinning was in vain.
    pub spin_us: u64,
    /// Applications that may be connected to each engine.
    pub clients: u16,
    /// Sessions that each engine runs.
    pub sessions: u16,
    /// Flows of each engine.
    pub flows: u16,
    /// How long ops that are under way may take to end after SIGTERM or SIGINT, in milliseconds.
    /// New ones are refused meanwhile; a second signal ends the process at once.
    pub drain_timeout_ms: u64,
}

/// The `[regions]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields, default)]
pub struct RegionSettings {
    /// Applications may keep regions in files of theirs, which this process then writes and syncs
    /// when ops ask for it. Files of all applications are written one after the other.
    pub backing: bool,
}

/// The `[quota]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaSettings {
    /// Regions that a user may have registered.
    pub regions: u32,
    /// Sessions that a user may have open.
    pub sessions: u32,
    /// Ops that a user may have outstanding: the depths of the user's sessions together.
    pub ops: u64,
    /// Memory that a user's regions and sessions may take together, in bytes; not set: half of the
    /// machine's memory.
    pub bytes: Option<u64>,
}

/// The `[metrics]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSettings {
    /// Where the counters are served for Prometheus, as OpenMetrics text over HTTP under /metrics,
    /// such as "127.0.0.1:9464"; not set: nowhere.
    pub listen: Option<SocketAddr>,
}

/// The `[hardening]` table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields, default)]
pub struct HardeningSettings {
    /// What becomes of a system call that the daemon has no use for: "kill" ends the process, "log"
    /// lets it happen and has the kernel log it, "off" does not look.
    pub seccomp: Seccomp,
}

/// What becomes of a system call that the daemon has no use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// The process ends with SIGSYS: whoever makes such a call is not this program any more.
    #[default]
    Kill,
    /// It happens, and the kernel's log tells of it.
    Log,
    /// Nobody looks.
    Off,
}

/// What an engine does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitMode {
    /// Look again at once: the lowest latency, a whole core.
    Spin,
    /// Spin for a while, then sleep until woken.
    Adaptive,
    /// Sleep at once.
    Block,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            socket: None,
            socket_mode: 0o600,
            allow_users: Vec::new(),
            allow_groups: Vec::new(),
            insecure_network: false,
            port: PortSettings::default(),
            engine: EngineSettings::default(),
            regions: RegionSettings::default(),
            quota: QuotaSettings::default(),
            metrics: MetricsSettings::default(),
            hardening: HardeningSettings::default(),
        }
    }
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            cores: Vec::new(),
            wait: WaitMode::Adaptive,
            spin_us: 100,
            clients: 64,
            sessions: 128,
            flows: 64,
            drain_timeout_ms: 5000,
        }
    }
}

impl Default for QuotaSettings {
    fn default() -> Self {
        QuotaSettings { regions: 1024, sessions: 1024, ops: 1 << 20, bytes: None }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not TOML of the expected shape; the message names line and key.
    #[error("in {place}: {error}")]
    Parse {
        /// Where the text came from.
        place: String,
        /// What is wrong.
        error: Box<toml::de::Error>,
    },
    /// A network address without authentication.
    #[error(
        "{key} is {address}, which is not loopback: peers are not authenticated yet, so \
         anyone who reaches it could try rkeys, or read what is counted. Bind loopback, or give \
         --insecure-network (or insecure_network = true) on a network that you trust"
    )]
    Insecure {
        /// Which key.
        key: &'static str,
        /// The address.
        address: IpAddr,
    },
    /// A filter of system calls beside drivers whose calls nobody knows.
    #[error(
        "hardening.seccomp is \"kill\", and port dpdk has drivers that make system calls of their \
         own, at any time: set it to \"log\" or \"off\""
    )]
    Filter,
    /// A user or group that there is not.
    #[error("{key} names {name:?}, whom this machine does not know; give a known name or a number")]
    Stranger {
        /// Which key.
        key: &'static str,
        /// The name.
        name: String,
    },
    /// A number out of its range.
    #[error("{key} is {found}; it must be from {least} to {most}")]
    Range {
        /// Which key.
        key: &'static str,
        /// What it is.
        found: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold a usable configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigFault> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigFault::Read { path: path.to_path_buf(), error })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses a configuration; `place` names it in messages. What its values mean together is
    /// [`Config::check`]ed when it is used: flags may still change it.
    ///
    /// # Errors
    /// Not TOML, unknown keys, values of another kind.
    pub fn parse(text: &str, place: &str) -> Result<Self, ConfigFault> {
        toml::from_str(text)
            .map_err(|error| ConfigFault::Parse { place: place.to_owned(), error: Box::new(error) })
    }

    /// Looks for settings that cannot be used.
    ///
    /// # Errors
    /// The first such setting.
    pub fn check(&self) -> Result<(), ConfigFault> {
        let metrics = self.metrics.listen.map(|listen| ("metrics.listen", listen));
        for (key, address) in [("port.address", self.port.address)].into_iter().chain(metrics) {
            let address = address.ip();
            if !address.is_loopback() && !self.insecure_network {
                return Err(ConfigFault::Insecure { key, address });
            }
        }
        let range = |key, found, least, most| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            Err(ConfigFault::Range { key, found, least, most })
        };
        range("port.frames", u64::from(self.port.frames), 64, 1 << 20)?;
        range("engine.cores (how many)", self.engine.cores.len() as u64, 0, 64)?;
        range("engine.spin_us", self.engine.spin_us, 0, 10_000_000)?;
        range("engine.clients", u64::from(self.engine.clients), 1, 4096)?;
        range("engine.sessions", u64::from(self.engine.sessions), 1, 16384)?;
        range("engine.flows", u64::from(self.engine.flows), 1, 4096)?;
        range("engine.drain_timeout_ms", self.engine.drain_timeout_ms, 0, 3_600_000)?;
        range("socket_mode", u64::from(self.socket_mode), 0, 0o777)
    }

    /// How long an engine spins before it sleeps; `None`: for ever.
    pub fn spin(&self) -> Option<Duration> {
        match self.engine.wait {
            WaitMode::Spin => None,
            WaitMode::Adaptive => Some(Duration::from_micros(self.engine.spin_us)),
            WaitMode::Block => Some(Duration::ZERO),
        }
    }

    /// Where applications connect: the configured place, else `$NIC_SOCKET`, else in
    /// `$XDG_RUNTIME_DIR`, else `/run/nic-engine/nic.sock`.
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(default_socket)
    }
}

/// Where applications and daemons meet unless told otherwise.
pub fn default_socket() -> PathBuf {
    if let Some(path) = std::env::var_os("NIC_SOCKET") {
        return PathBuf::from(path);
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => PathBuf::from(folder).join("nic.sock"),
        None => PathBuf::from("/run/nic-engine/nic.sock"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(Config::parse(&text, "text").unwrap(), Config::default());
        assert_eq!(Config::parse("", "text").unwrap(), Config::default());
    }

    #[test]
    fn bad_configurations_say_what_to_do() {
        let message = |text: &str| {
            let checked = Config::parse(text, "nic.toml").and_then(|config| config.check());
            checked.unwrap_err().to_string()
        };
        let unknown = message("[engine]\ncoers = [1]\n");
        assert!(unknown.contains("coers") && unknown.contains("cores"), "{unknown}");
        assert!(unknown.contains("nic.toml") && unknown.contains("line 2"), "{unknown}");
        let insecure = message("[port]\naddress = \"0.0.0.0:7000\"\n");
        assert!(insecure.contains("--insecure-network"), "{insecure}");
        let shown = message("[metrics]\nlisten = \"0.0.0.0:9464\"\n");
        assert!(shown.contains("metrics.listen is 0.0.0.0"), "{shown}");
        let mut allowed = Config::parse("[port]\naddress = \"0.0.0.0:7000\"\n", "text").unwrap();
        allowed.insecure_network = true;
        assert!(allowed.check().is_ok());
        let frames = message("[port]\nframes = 3\n");
        assert!(frames.contains("port.frames is 3") && frames.contains("64"), "{frames}");
    }
}
