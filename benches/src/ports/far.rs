//! The far side: a process with the target's engine.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nic_engine::Builtin;
use nic_engine::daemon::{Daemon, DriveSettings};
use nic_engine::engine::EngineConfig;
use nic_engine::ports::{PortSettings, open_all};
use nic_host::{Endpoint, InlineConfig, Nic};
use nic_ports::ring::{RingConfig, RingPort};
use nic_shm::{ControlSocket, Incoming, wait_any};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::wire::{Kind, Wire};

/// The hidden command of the far process, followed by its options.
pub(crate) const COMMAND: &str = "__far_port";

const PATIENCE: Duration = Duration::from_secs(20);
/// The names of the two ends of a ring.
const RING: [([u8; 4], u16); 2] = [([127, 0, 0, 1], 11), ([127, 0, 0, 1], 12)];

#[derive(Debug, Serialize, Deserialize)]
struct Options {
    core: usize,
    /// None: a ring, whose socket comes with the application's.
    settings: Option<PortSettings>,
}

/// The far process, and its application's way to it.
pub(super) struct Far {
    process: std::process::Child,
    pub(super) owner: Nic,
    _lifeline: ControlSocket,
    _wire: Wire,
}

impl Far {
    /// Starts it, and opens the near end's engine.
    pub(super) fn start(kind: Kind, core: usize) -> Result<(Far, Nic)> {
        let wire = Wire::new(kind)?;
        let settings = (kind != Kind::Ring).then(|| wire.ends[1].clone());
        let options = serde_json::to_string(&Options { core, settings })?;
        let (lifeline, theirs) = ControlSocket::pair()?;
        let process = Command::new("/proc/self/exe")
            .args([COMMAND, &options])
            .stdin(Stdio::from(theirs.as_fd().try_clone_to_owned()?))
            .stdout(Stdio::null())
            .spawn()
            .context("the far process cannot be started")?;
        drop(theirs);
        let (application, engine_side) = ControlSocket::pair()?;
        let (ring, ring_far) = ControlSocket::pair()?;
        lifeline.send(b"go", &[engine_side.as_fd(), ring_far.as_fd()])?;
        let near = match kind {
            Kind::Ring => {
                let [near, far] = RING.map(SocketAddr::from);
                let port = RingPort::connect(&ring, RingConfig::default(), near, far)?;
                await_ready(&lifeline)?;
                Nic::inline_on::<_, Builtin>(port, EngineConfig::default())?
            }
            _ => {
                await_ready(&lifeline)?;
                let port = wire.ends[0].clone();
                Nic::inline(InlineConfig { port, engine: EngineConfig::default() })?
            }
        };
        let owner = Nic::connect(Endpoint::Socket(application.as_fd().try_clone_to_owned()?))?;
        Ok((Far { process, owner, _lifeline: lifeline, _wire: wire }, near))
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    pub(super) fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).context("the far process has ended before its time")
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn await_ready(lifeline: &ControlSocket) -> Result<()> {
    wait_any(&[lifeline.as_fd()], Some(PATIENCE))?;
    let mut buffer = [0; 4096];
    match lifeline.receive(&mut buffer)? {
        Incoming::Message { len, .. } if &buffer[..len] == b"ready" => Ok(()),
        Incoming::Message { len, .. } => bail!("{}", String::from_utf8_lossy(&buffer[..len])),
        other => bail!("the far process says {other:?}"),
    }
}

/// The whole life of the far process.
pub(crate) fn process(options: &str) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let options: Options = serde_json::from_str(options)?;
    let lifeline = ControlSocket::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?);
    match start(&options, &lifeline) {
        Ok((daemon, application)) => {
            lifeline.send(b"ready", &[])?;
            let end = lifeline.as_fd().try_clone_to_owned()?;
            Ok(daemon.serve(None, vec![application], &end)?)
        }
        Err(error) => Ok(lifeline.send(format!("{error:#}").as_bytes(), &[])?),
    }
}

fn start(options: &Options, lifeline: &ControlSocket) -> Result<(Daemon, ControlSocket)> {
    wait_any(&[lifeline.as_fd()], Some(PATIENCE))?;
    let mut buffer = [0; 16];
    let Incoming::Message { mut descriptors, .. } = lifeline.receive(&mut buffer)? else {
        bail!("nobody gave an order")
    };
    let ring = descriptors.pop().context("the ring's socket is missing")?;
    let application = descriptors.pop().context("the application's socket is missing")?;
    let settings = DriveSettings { cores: vec![Some(options.core)], spin: None };
    let config = EngineConfig::default();
    let daemon = match &options.settings {
        Some(port) => {
            let opened = open_all::<Builtin>(port, 1)?;
            Daemon::start_opened(opened, &config, &settings, None)?
        }
        None => {
            let [near, far] = RING.map(SocketAddr::from);
            let socket = ControlSocket::from_fd(ring);
            let port = RingPort::connect(&socket, RingConfig::default(), far, near)?;
            Daemon::start::<_, Builtin>(vec![port], &config, &settings)?
        }
    };
    Ok((daemon, ControlSocket::from_fd(application)))
}
