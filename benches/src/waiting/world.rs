//! For each way of waiting: its engines, and an application that is initiator and target.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nic_engine::Builtin;
use nic_engine::daemon::{self, Config, EngineSettings, WaitMode};
use nic_figures::cores;
use nic_host::{
    Access, Endpoint, Export, InlineConfig, Nic, NicError, Region, RemoteRegion, Session, Wait,
};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tempfile::TempDir;

/// The hidden command of the engine processes, followed by their configuration.
pub(crate) const ENGINE_COMMAND: &str = "__engine";

/// What each op reads.
pub(super) const READ_BYTES: u64 = 64;
/// Cores from which on everyone who spins has one.
const CORES_FOR_ALL: usize = 4;
/// How long an engine may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which core is whose; none: wherever the kernel puts it.
pub(super) struct Cores {
    pub(super) count: usize,
    pub(super) application: Option<usize>,
    /// None as well where the application drives its own engine.
    pub(super) initiator_engine: Option<usize>,
    target_engine: Option<usize>,
}

impl Cores {
    /// Deals out the cores that this process may use.
    pub(super) fn deal() -> Result<Cores> {
        let available = cores::available()?;
        let pair = cores::pick_pair().ok();
        let is_free = |core: &usize| pair.is_none_or(|p| p.initiator != *core && p.target != *core);
        let initiator_engine = match available.len() {
            CORES_FOR_ALL.. => available.iter().copied().find(is_free),
            _ => None,
        };
        Ok(Cores {
            count: available.len(),
            application: pair.map(|pair| pair.initiator),
            initiator_engine,
            target_engine: pair.map(|pair| pair.target),
        })
    }
}

/// The whole life of an engine process: the daemon as it is shipped.
pub(crate) fn engine_process(config: &str) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(daemon::run::<Builtin>(&serde_json::from_str(config)?)?)
}

/// An engine process. Dropping it ends it.
struct Engine {
    process: std::process::Child,
    socket: PathBuf,
}

impl Engine {
    fn start(folder: &Path, name: &str, wait: WaitMode, cores: Vec<usize>) -> Result<Engine> {
        let socket = folder.join(name);
        let engine = EngineSettings { cores, wait, ..EngineSettings::default() };
        let config = Config { socket: Some(socket.clone()), engine, ..Config::default() };
        let process = Command::new("/proc/self/exe")
            .arg(ENGINE_COMMAND)
            .arg(serde_json::to_string(&config)?)
            .spawn()
            .context("an engine process cannot be started")?;
        Ok(Engine { process, socket })
    }

    fn connect(&self) -> Result<Nic> {
        let begun = Instant::now();
        loop {
            match Nic::connect(Endpoint::Path(self.socket.clone())) {
                Ok(nic) => return Ok(nic),
                Err(NicError::NoEngine { .. }) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).context("an engine process has ended before its time")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A clean end takes longer, and nothing is left of it but what lies in our folder.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The engine processes of one way of waiting.
pub(super) struct Engines {
    wait: WaitMode,
    target: Engine,
    /// None: the application drives its own.
    initiator: Option<Engine>,
    _folder: TempDir,
}

impl Engines {
    /// `count`: how many engines the target's process has, all on one core.
    pub(super) fn start(wait: WaitMode, cores: &Cores, count: usize) -> Result<Engines> {
        let folder = tempfile::tempdir()?;
        let of_target = cores.target_engine.iter().flat_map(|core| vec![*core; count]).collect();
        let target = Engine::start(folder.path(), "target", wait, of_target)?;
        let initiator = match cores.initiator_engine {
            Some(core) => Some(Engine::start(folder.path(), "initiator", wait, vec![core])?),
            None => None,
        };
        Ok(Engines { wait, target, initiator, _folder: folder })
    }

    fn all(&self) -> impl Iterator<Item = &Engine> {
        std::iter::once(&self.target).chain(&self.initiator)
    }
}

/// One way of waiting, ready for ops. Its engines stand still except between [`Way::resume`] and
/// [`Way::stop`].
pub(super) struct Way {
    remote: RemoteRegion,
    session: Session,
    _export: Export,
    _region: Region,
    owner: Nic,
    engines: Engines,
}

impl Way {
    pub(super) fn open(engines: Engines) -> Result<Way> {
        let owner = engines.target.connect()?;
        let region = owner.region(1 << 20).create()?;
        let export = region.export(Access::READ)?;
        let nic = match &engines.initiator {
            Some(engine) => engine.connect()?,
            None => Nic::inline(InlineConfig::default())?,
        };
        let wait = match engines.wait {
            WaitMode::Spin => Wait::Spin,
            WaitMode::Adaptive => Wait::Adaptive,
            WaitMode::Block => Wait::Block,
        };
        let session = nic.session().wait(wait).open()?;
        let remote = session.connect(&export.ticket())?;
        let way = Way { remote, session, _export: export, _region: region, owner, engines };
        way.read()?;
        way.stop()?;
        Ok(way)
    }

    /// Reads once.
    #[inline]
    pub(super) fn read(&self) -> Result<()> {
        let bytes = self.session.run(self.remote.read(0..READ_BYTES))?;
        ensure!(bytes.len() as u64 == READ_BYTES, "{} bytes were read", bytes.len());
        Ok(())
    }

    /// Waits with nothing out.
    pub(super) fn wait(&self, time: Duration) -> Result<()> {
        let has_come = self.session.wait(time)?;
        ensure!(!has_come, "something came while nothing was out: the engine is gone");
        Ok(())
    }

    /// How often the target's engine has noticed that others keep its core from it: then the way
    /// was not measured as it is.
    pub(super) fn crowded(&self) -> Result<u64> {
        let status: serde_json::Value = serde_json::from_str(&self.owner.status()?)?;
        status["engines"][0]["counters"]["crowded"].as_u64().context("engines count it")
    }

    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.engines.all().map(|engine| engine.process.id())
    }

    pub(super) fn resume(&self) -> Result<()> {
        self.engines.all().try_for_each(|engine| engine.signal(Signal::CONT))
    }

    pub(super) fn stop(&self) -> Result<()> {
        self.engines.all().try_for_each(|engine| engine.signal(Signal::STOP))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        // What is dropped next asks them for its end.
        let _ = self.resume();
    }
}
