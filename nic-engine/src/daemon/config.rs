//! The daemon's configuration file: TOML, unknown keys refused.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything that a daemon is told. Each key has a default; the defaults bind loopback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The Unix socket on which applications connect; none: the default place.
    pub socket: Option<PathBuf>,
    /// Permission bits of the socket.
    pub socket_mode: u32,
    /// Allow addresses other than loopback although peers are not authenticated.
    pub insecure_network: bool,
    /// How packets travel.
    pub port: PortSettings,
    /// How engines run.
    pub engine: EngineSettings,
}

/// The `[port]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortSettings {
    /// Which port.
    pub kind: PortKind,
    /// Where the first engine receives packets; the others take the following ports, or any if
    /// this is port 0.
    pub address: SocketAddr,
    /// Transmit frames of each engine.
    pub frames: u32,
}

/// Ports that a daemon can be given by configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// Kernel UDP; needs no privilege.
    Udp,
}

/// The `[engine]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// One pinned engine for each of these cores; none: one engine, not pinned.
    pub cores: Vec<usize>,
    /// What an engine does when there is nothing to do.
    pub wait: WaitMode,
    /// How long an adaptive engine spins before it sleeps, in microseconds.
    pub spin_us: u64,
    /// Applications that may be connected to each engine.
    pub clients: u16,
    /// Sessions that each engine runs.
    pub sessions: u16,
    /// Flows of each engine.
    pub flows: u16,
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
            insecure_network: false,
            port: PortSettings::default(),
            engine: EngineSettings::default(),
        }
    }
}

impl Default for PortSettings {
    fn default() -> Self {
        PortSettings {
            kind: PortKind::Udp,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            frames: 4096,
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
        }
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
        "port.address is {address}, which is not loopback: peers are not authenticated yet, so \
         anyone who reaches it could try rkeys. Bind loopback, or give --insecure-network (or \
         insecure_network = true) on a network that you trust"
    )]
    Insecure {
        /// The address.
        address: IpAddr,
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
        let address = self.port.address.ip();
        if !address.is_loopback() && !self.insecure_network {
            return Err(ConfigFault::Insecure { address });
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
        let mut allowed = Config::parse("[port]\naddress = \"0.0.0.0:7000\"\n", "text").unwrap();
        allowed.insecure_network = true;
        assert!(allowed.check().is_ok());
        let frames = message("[port]\nframes = 3\n");
        assert!(frames.contains("port.frames is 3") && frames.contains("64"), "{frames}");
    }
}
