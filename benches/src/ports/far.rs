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
use nic_ports::udp::{UdpConfig, UdpPort};
use nic_shm::{ControlSocket, Incoming, wait_any};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::super::kernels;
use super::stages::{self, Tickets};
use super::wire::{self, Kind, Wire};

/// The hidden command of the far process, followed by its options.
pub(crate) const COMMAND: &str = "__far_port";

/// How long the far process may take to fill its memory.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a far process says first when all is well.
const READY: &str = "ready ";
/// The names of the two ends of a ring.
const RING: [([u8; 4], u16); 2] = [([127, 0, 0, 1], 11), ([127, 0, 0, 1], 12)];

#[derive(Debug, Serialize, Deserialize)]
struct Options {
    core: usize,
    kind: Kind,
    /// Of no use to a ring, whose socket comes with the application's.
    settings: PortSettings,
    life: Life,
}

/// What the far process is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Life {
    /// A daemon as it is shipped.
    Daemon,
    /// An engine with a table of its own, that times each part of its turns.
    ByStage,
    /// An application that drives its engine, for [`kernels`].
    Kernels { is_small: bool },
}

/// The far process.
pub(crate) struct Far {
    process: std::process::Child,
    _lifeline: ControlSocket,
    _wire: Wire,
}

/// The far process, the near engine, and what else there is beside them.
pub(crate) struct Started<T> {
    pub(crate) far: Far,
    pub(crate) near: Nic,
    pub(crate) beside: T,
}

impl Far {
    /// Starts a daemon as it is shipped, and connects its application.
    pub(super) fn daemon(kind: Kind, core: usize) -> Result<Started<Nic>> {
        let (application, engine_side) = ControlSocket::pair()?;
        let Started { far, near, .. } = Far::start(kind, core, Life::Daemon, &engine_side)?;
        let owner = Nic::connect(Endpoint::Socket(application.as_fd().try_clone_to_owned()?))?;
        Ok(Started { far, near, beside: owner })
    }

    /// Starts an engine that times the parts of its turns beside a table; the tickets to that and to
    /// the times.
    pub(super) fn by_stage(kind: Kind, core: usize) -> Result<Started<Tickets>> {
        let (_unused, engine_side) = ControlSocket::pair()?;
        let Started { far, near, beside } = Far::start(kind, core, Life::ByStage, &engine_side)?;
        Ok(Started { far, near, beside: stages::tickets(&beside)? })
    }

    /// Starts an application that drives its engine beside what kernels walk; what it says.
    pub(crate) fn kernels(kind: Kind, core: usize, is_small: bool) -> Result<Started<String>> {
        let (_unused, engine_side) = ControlSocket::pair()?;
        Far::start(kind, core, Life::Kernels { is_small }, &engine_side)
    }

    /// Starts the process, and opens the near end's engine. What the process says is beside.
    fn start(
        kind: Kind,
        core: usize,
        life: Life,
        engine_side: &ControlSocket,
    ) -> Result<Started<String>> {
        let wire = Wire::new(kind)?;
        let settings = wire.ends[1].clone();
        let options = serde_json::to_string(&Options { core, kind, settings, life })?;
        let (lifeline, theirs) = ControlSocket::pair()?;
        let process = Command::new("/proc/self/exe")
            .args([COMMAND, &options])
            .stdin(Stdio::from(theirs.as_fd().try_clone_to_owned()?))
            .stdout(Stdio::null())
            .spawn()
            .context("the far process cannot be started")?;
        drop(theirs);
        let (ring, ring_far) = ControlSocket::pair()?;
        lifeline.send(b"go", &[engine_side.as_fd(), ring_far.as_fd()])?;
        let port = match kind {
            Kind::Ring => {
                let [near, far] = RING.map(SocketAddr::from);
                Some(RingPort::connect(&ring, RingConfig::default(), near, far)?)
            }
            _ => None,
        };
        let said = await_ready(&lifeline)?;
        let engine = EngineConfig::default();
        let near = match port {
            Some(port) => Nic::inline_on::<_, Builtin>(port, engine)?,
            None => Nic::inline(InlineConfig { port: wire.ends[0].clone(), engine })?,
        };
        let far = Far { process, _lifeline: lifeline, _wire: wire };
        Ok(Started { far, near, beside: said })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    pub(crate) fn stop(&self) -> Result<()> {
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

/// Waits until the far process works, and returns what it says then.
fn await_ready(lifeline: &ControlSocket) -> Result<String> {
    wait_any(&[lifeline.as_fd()], Some(PATIENCE))?;
    let mut buffer = [0; 4096];
    let said = match lifeline.receive(&mut buffer)? {
        Incoming::Message { len, .. } => String::from_utf8_lossy(&buffer[..len]),
        other => bail!("the far process says {other:?}"),
    };
    match said.strip_prefix(READY) {
        Some(rest) => Ok(rest.trim().to_owned()),
        None => bail!("{said}"),
    }
}

/// The whole life of the far process.
pub(crate) fn process(options: &str) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let options: Options = serde_json::from_str(options)?;
    let lifeline = ControlSocket::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?);
    live(&options, &lifeline).or_else(|error| {
        lifeline.send(format!("{error:#}").as_bytes(), &[])?;
        Ok(())
    })
}

fn live(options: &Options, lifeline: &ControlSocket) -> Result<()> {
    wait_any(&[lifeline.as_fd()], Some(PATIENCE))?;
    let mut buffer = [0; 16];
    let Incoming::Message { mut descriptors, .. } = lifeline.receive(&mut buffer)? else {
        bail!("nobody gave an order")
    };
    let ring = descriptors.pop().context("the ring's socket is missing")?;
    let application = descriptors.pop().context("the application's socket is missing")?;
    let ring = || {
        let [near, far] = RING.map(SocketAddr::from);
        RingPort::connect(&ControlSocket::from_fd(ring), RingConfig::default(), far, near)
    };
    let ready = |said: &str| lifeline.send(format!("{READY}{said}").as_bytes(), &[]);
    let (core, tell) = (options.core, |said: String| Ok(ready(&said)?));
    if let Life::Kernels { is_small } = options.life {
        let (port, engine) = (options.settings.clone(), EngineConfig::default());
        let nic = match options.kind {
            Kind::Ring => Nic::inline_on::<_, Builtin>(ring()?, engine)?,
            _ => Nic::inline(InlineConfig { port, engine })?,
        };
        return kernels::serve(&nic, core, is_small, tell);
    }
    if let Life::ByStage = options.life {
        let (end, ready) = (&options.settings, tell);
        return match options.kind {
            Kind::Udp => stages::serve(UdpPort::bind(UdpConfig::new(end.address))?, core, ready),
            Kind::Uring => stages::serve(wire::uring(end)?, core, ready),
            Kind::Ring => stages::serve(ring()?, core, ready),
            Kind::Xdp => stages::serve(wire::xdp(end)?, core, ready),
            #[cfg(feature = "dpdk")]
            Kind::Vhost => stages::serve(wire::vhost(end, end.frames)?, core, ready),
            #[cfg(not(feature = "dpdk"))]
            Kind::Vhost => bail!("this build has no DPDK: build it with `--features dpdk`"),
        };
    }
    let settings = DriveSettings { cores: vec![Some(core)], spin: None };
    let config = EngineConfig::default();
    let daemon = match options.kind {
        Kind::Ring => Daemon::start::<_, Builtin>(vec![ring()?], &config, &settings)?,
        _ => {
            let opened = open_all::<Builtin>(&options.settings, 1)?;
            Daemon::start_opened(opened, &config, &settings, None)?
        }
    };
    ready("")?;
    let end = lifeline.as_fd().try_clone_to_owned()?;
    Ok(daemon.serve(None, vec![ControlSocket::from_fd(application)], &end)?)
}
