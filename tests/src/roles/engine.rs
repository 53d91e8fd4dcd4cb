//! An engine process like the daemon's, but for its port: it may lose packets, and its engine's
//! thread can be watched.

use std::time::Duration;

use anyhow::Result;
use nic_engine::Builtin;
use nic_engine::daemon::{Daemon, DriveSettings};
use nic_engine::engine::EngineConfig;
use nic_ports::udp::{UdpConfig, UdpPort};
use nic_ports::{Chance, FaultPlan, Faults, Faulty};
use nic_shm::ControlListener;
use nic_tests::children::{EngineOptions, Waiting};
use nic_tests::watched_port::{Watch, Watched};

use super::{obey, watch_command};

/// How long an adaptive engine spins before it sleeps: as long as the daemon's does by default.
const SPIN: Duration = Duration::from_micros(100);

pub(super) fn run(options: &EngineOptions) -> Result<()> {
    let watch = Watch::default();
    let port = port(options, &watch)?;
    let listener = ControlListener::bind(&options.socket, 0o600)?;
    let spin = match options.waiting {
        Waiting::Spin => None,
        Waiting::Adaptive => Some(SPIN),
        Waiting::Block => Some(Duration::ZERO),
    };
    let settings = DriveSettings { cores: vec![options.core], spin };
    let daemon = Daemon::start::<_, Builtin>(vec![port], &EngineConfig::default(), &settings)?;
    std::thread::spawn(move || obey(|command| watch_command(&watch, command)));
    // Nobody ever writes to it: the process ends with its input.
    let (never, _open) = rustix::pipe::pipe()?;
    Ok(daemon.serve(Some(listener), Vec::new(), &never)?)
}

/// A port on the loopback that does what the options say.
pub(super) fn port(options: &EngineOptions, watch: &Watch) -> Result<Watched<Faulty<UdpPort>>> {
    let port = UdpPort::bind(UdpConfig::new(([127, 0, 0, 1], 0).into()))?;
    let lost = Faults { loss: Chance::percent(options.loss_percent), ..Faults::NONE };
    let plan = FaultPlan { transmit: lost, receive: Faults::NONE };
    let faulty = Faulty::new(port, plan, options.seed);
    Ok(Watched::new(faulty, watch.clone(), options.offence))
}
