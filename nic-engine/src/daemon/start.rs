//! The start of a daemon from the command line: what `nic serve` and the `nic-engine` binary share.

use std::io::IsTerminal;
use std::path::PathBuf;

use nic_kernels::KernelSet;
use tracing_subscriber::EnvFilter;

use super::{Config, DaemonError, run};

/// Options of a daemon.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Configuration file (TOML); without one, one engine on loopback UDP. `nic config --print`
    /// explains its options.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where applications connect [default: $NIC_SOCKET, $XDG_RUNTIME_DIR/nic.sock or
    /// /run/nic-engine/nic.sock].
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Allow addresses other than loopback although peers are not authenticated.
    #[arg(long)]
    pub insecure_network: bool,
}

impl Arguments {
    /// The configuration that they ask for: the file's, changed by the flags.
    ///
    /// # Errors
    /// A file that cannot be read or used.
    pub fn config(&self) -> Result<Config, DaemonError> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        config.socket = self.socket.clone().or(config.socket);
        config.insecure_network |= self.insecure_network;
        Ok(config)
    }
}

/// Serves with kernels of this set until SIGTERM or SIGINT. Logs to standard error, in colours only
/// on a terminal; `NIC_LOG` says how much.
///
/// ```no_run
/// use nic_engine::Builtin;
/// use nic_engine::daemon::{Arguments, DaemonError, serve};
///
/// fn main() -> Result<(), DaemonError> {
///     serve::<Builtin>(&Arguments::default())
/// }
/// ```
///
/// # Errors
/// What keeps the daemon from starting or from going on.
pub fn serve<K: KernelSet + Send + 'static>(arguments: &Arguments) -> Result<(), DaemonError> {
    let filter = EnvFilter::try_from_env("NIC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // When nobody reads the log any more, telling that would panic.
        .log_internal_errors(false)
        .init();
    run::<K>(&arguments.config()?)
}
