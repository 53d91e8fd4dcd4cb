//! An engine process like the daemon's, but for its port: it may lose packets, and its engine's
//! thread can be watched.

use std::time::Duration;

use anyhow::Result;
use nic_engine::Builtin;
use nic_engine::daemon::{Daemon, DriveSettings};
use nic_engine::engine::EngineConfig;
use nic_ports::udp::{UdpConfig, UdpPort};
use nic_ports::uring::{UringConfig, UringPort};
use nic_ports::{Chance, FaultPlan, Faults, Faulty, Port};
use nic_shm::ControlListener;
use nic_tests::children::{EngineOptions, PortKind, Waiting};
use nic_tests::watched_port::{Watch, Watched};

use super::{obey, watch_command};

/// How long an adaptive engine spins before it sleeps: as long as the daemon's does by default.
const SPIN: Duration = Duration::from_micros(100);

pub(super) fn run(options: &EngineOptions) -> Result<()> {
    let watch = Watch::default();
    open(options, &watch, Serve { options, watch: &watch })
}

/// What is to be done with a port, whatever its kind.
pub(super) trait OnPort {
    /// What comes of it.
    type Output;

    /// Does it.
    fn on<P: Port + Send + 'static>(self, port: P) -> Result<Self::Output>;
}

/// Opens the port that the options ask for, and does something with it.
pub(super) fn open<A: OnPort>(options: &EngineOptions, watch: &Watch, act: A) -> Result<A::Output> {
    let address = options.address.unwrap_or(([127, 0, 0, 1], 0).into());
    match options.port {
        PortKind::Udp => act.on(spoiled(UdpPort::bind(UdpConfig::new(address))?, options, watch)),
        PortKind::Uring => {
            act.on(spoiled(UringPort::bind(UringConfig::new(address))?, options, watch))
        }
    }
}

/// A port that loses and offends as the options say.
fn spoiled<P: Port>(port: P, options: &EngineOptions, watch: &Watch) -> Watched<Faulty<P>> {
    let lost = Faults { loss: Chance::percent(options.loss_percent), ..Faults::NONE };
    let plan = FaultPlan { transmit: lost, receive: Faults::NONE };
    let faulty = Faulty::new(port, plan, options.seed);
    Watched::new(faulty, watch.clone(), options.offence)
}

/// Serves applications until the process ends.
struct Serve<'a> {
    options: &'a EngineOptions,
    watch: &'a Watch,
}

impl OnPort for Serve<'_> {
    type Output = ();

    fn on<P: Port + Send + 'static>(self, port: P) -> Result<()> {
        let Serve { options, watch } = self;
        let listener = ControlListener::bind(&options.socket, 0o600)?;
        let spin = match options.waiting {
            Waiting::Spin => None,
            Waiting::Adaptive => Some(SPIN),
            Waiting::Block => Some(Duration::ZERO),
        };
        let settings = DriveSettings { cores: vec![options.core], spin };
        let daemon = Daemon::start::<_, Builtin>(vec![port], &EngineConfig::default(), &settings)?;
        let watch = watch.clone();
        std::thread::spawn(move || obey(|command| watch_command(&watch, command)));
        // Nobody ever writes to it: the process ends with its input.
        let (never, _open) = rustix::pipe::pipe()?;
        Ok(daemon.serve(Some(listener), Vec::new(), &never)?)
    }
}
