//! `nic bench` by itself: two engines and a target, started for the time it takes.

use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use nic_figures::{PlacementProbe, cores};
use nic_host::{Endpoint, Wait};
use serde_json::json;

use super::TARGET_COMMAND;
use super::crew::{Crew, Engine};
use super::exposed::{REGION_BYTES, Shape};
use super::fault::Fault;
use super::layout::Areas;
use super::load::{self, Load};
use super::ops::Own;
use super::report::{self, Circumstances};
use super::site::Tickets;
use super::target_process::{TargetOrder, TargetReply};
use crate::pair::{
    Child, Cores, Drive, End, Ends, EngineStart, PairPort, await_engine, connect, start_engine,
};

/// Options of `nic bench` by itself.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    load: load::Arguments,
    /// How packets travel between the two engines.
    #[arg(long, value_parser = PairPort::parser(), default_value = "udp", help_heading = "Pair")]
    port: PairPort,
    /// Who drives the initiator's engine [default: inline with one thread and fewer than four cores].
    #[arg(long, value_enum, help_heading = "Pair")]
    initiator: Option<Drive>,
    /// Length of the target's memory [default: 64MiB, more if the load needs it].
    #[arg(long, value_name = "BYTES", value_parser = load::bytes, help_heading = "Pair")]
    region_bytes: Option<u64>,
    /// Keys in the target's table for scar [default: 100000, fewer if values are long].
    #[arg(long, value_name = "COUNT", help_heading = "Pair")]
    entries: Option<u64>,
}

/// The processes of the target's side, and the initiator's engine if it is one. They end with it.
struct Cast {
    owner: Child,
    target_engine: Child,
    own_engine: Option<Child>,
}

/// Starts everything, drives the load, tells what came of it.
///
/// # Errors
/// A load that cannot be, or a system on which it cannot run.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let cores = Cores::deal()?;
    let (load, initiator) = arguments.check(&cores)?;
    let shape = arguments.shape(&load)?;
    let wait = match arguments.load.wait {
        Some(waiting) => waiting.into(),
        None if load.threads > 1 => Wait::Adaptive,
        None => cores.wait(initiator),
    };
    if initiator == Drive::Process {
        load.check_watched(wait)?;
    }
    // Before this thread is pinned: the probe's threads go elsewhere.
    let mut probe = match (cores.initiator, cores.target) {
        (Some(initiator), Some(target)) => PlacementProbe::new((initiator, target))?,
        _ => PlacementProbe::unavailable("there is one core"),
    };
    let ends = Ends::new(arguments.port, 1)?;
    let (target_engine, mut sockets) = start_engine(
        EngineStart {
            what: "the target's engine",
            core: cores.target,
            spin_us: cores.engine_spin_us(),
            applications: 1,
        },
        ends.target,
    )?;
    let (engine, own_engine) = initiator_engine(&load, &cores, initiator, ends.initiator)?;
    await_engine(&target_engine)?;
    let owner = Child::start(TARGET_COMMAND, "the target application")?;
    let socket = sockets.pop().context("the target's engine has no socket left")?;
    owner.send(&TargetOrder { core: cores.owner, shape }, &[socket.as_fd()])?;
    drop(socket);
    let cast = Cast { owner, target_engine, own_engine };
    let (tickets, pages) = cast.await_target()?;
    let port_description = match &engine {
        Engine::Inline(nic) => nic.port(),
        Engine::Process { observer, .. } => observer.port(),
    };
    if let (Engine::Inline(_), Some(core)) = (&engine, cores.initiator) {
        cores::pin_current_thread(core)?;
    }
    let mut crew =
        Crew { load: &load, tickets: &tickets, wait, core: cores.initiator, probe: &mut probe };
    let outcome = crew.drive(engine)?;
    let circumstances = Circumstances {
        port: Some(arguments.port.name()),
        port_description,
        initiator: initiator.name(),
        setup: vec![
            (
                "cores",
                json!({
                    "available": cores.count,
                    "initiator": cores.initiator,
                    "target": cores.target,
                    "target_application": cores.owner,
                    "siblings": cores.siblings,
                }),
            ),
            ("pids", cast.pids()),
            ("pages", json!(pages)),
            ("region_bytes", json!(shape.region_bytes)),
            ("entries", json!(shape.entries)),
        ],
        wait,
        notes: notes(&cores, initiator, wait, cast.fallen()),
    };
    report::tell(&load, &circumstances, &outcome, &arguments.load)
}

impl Arguments {
    /// The load and who drives the initiator's engine: what is inline has one thread.
    fn check(&self, cores: &Cores) -> Result<(Load, Drive), Fault> {
        let threads = self.load.threads;
        let initiator = match (self.initiator, threads) {
            (Some(Drive::Inline), Some(threads @ 2..)) => {
                return Err(Fault::InlineThreads { threads });
            }
            (Some(initiator), _) => initiator,
            (None, Some(2..)) => Drive::Process,
            (None, _) => cores.drive(),
        };
        let usual = match initiator {
            Drive::Inline => 1,
            Drive::Process => u32::try_from(cores.count / 2).unwrap_or(u32::MAX),
        };
        Ok((self.load.check(usual)?, initiator))
    }

    /// What the target offers: as asked, or what the load needs. A table is made only for ops that
    /// work on one.
    fn shape(&self, load: &Load) -> Result<Shape, Fault> {
        let size = u64::from(load.size.unwrap_or(load.op.sizes.usual));
        let connections = u64::from(load.connections);
        let out = u64::from(load.window) * connections;
        let needed = match load.op.own {
            Own::Place(pitch) => Areas::region_for_writes(2 * out * pitch(size)),
            Own::Shared(bytes) => {
                Areas::region_for_writes(2 * connections * bytes(load.window, size))
            }
            _ => Areas::region_for_data(size),
        };
        let region_bytes = self.region_bytes.unwrap_or(REGION_BYTES.max(needed));
        match (load.op.on_table, load.op.is_laid_out) {
            (true, _) => Shape::new(region_bytes, self.entries, size),
            (false, true) => Shape::new(region_bytes, self.entries.or(Some(1)), size),
            (false, false) => Shape::new(region_bytes, self.entries.or(Some(1)), 64),
        }
    }
}

/// The initiator's engine: inside this process, or one of its own.
fn initiator_engine(
    load: &Load,
    cores: &Cores,
    initiator: Drive,
    end: End,
) -> Result<(Engine, Option<Child>)> {
    if initiator == Drive::Inline {
        return Ok((Engine::Inline(end.inline()?), None));
    }
    let start = EngineStart {
        what: "the initiator's engine",
        core: cores.initiator_engine,
        spin_us: cores.engine_spin_us(),
        applications: load.threads as usize + 1,
    };
    let (engine, mut sockets) = start_engine(start, end)?;
    await_engine(&engine)?;
    let observer = connect(&mut sockets)?;
    let endpoints = sockets.into_iter().map(Endpoint::Socket).collect();
    Ok((Engine::Process { observer, endpoints }, Some(engine)))
}

impl Cast {
    /// Waits until the target has filled its memory.
    fn await_target(&self) -> Result<(Tickets, [String; 3])> {
        loop {
            match self.owner.receive()? {
                TargetReply::Filling => {}
                TargetReply::Ready { tickets, pages } => return Ok((tickets.parse()?, pages)),
                TargetReply::Failed { reason } => bail!("the target application: {reason}"),
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &Child)> {
        let own = self.own_engine.as_ref().map(|engine| ("initiator_engine", engine));
        [("target_engine", &self.target_engine), ("target_application", &self.owner)]
            .into_iter()
            .chain(own)
    }

    /// Everyone's part and process number.
    fn pids(&self) -> serde_json::Value {
        let own = ("initiator".to_owned(), json!(std::process::id()));
        let others = self.all().map(|(who, child)| (who.to_owned(), json!(child.pid())));
        serde_json::Value::Object(std::iter::once(own).chain(others).collect())
    }

    /// Who has ended before the bench, in a sentence each.
    fn fallen(&self) -> Vec<String> {
        let ended = |(_, child): (_, &Child)| child.check().err().map(|error| format!("{error}."));
        self.all().filter_map(ended).collect()
    }
}

/// What this machine makes of the figures, one sentence each, after who has fallen.
fn notes(cores: &Cores, initiator: Drive, wait: Wait, fallen: Vec<String>) -> Vec<String> {
    let mut notes = fallen;
    if cores.is_one() {
        notes.push(
            "There is one core: initiator and target take turns on it, so times are those of the \
             scheduler. Counts hold; for times use a machine with two cores or more."
                .to_owned(),
        );
    } else if initiator == Drive::Inline {
        notes.push("The initiator drives its engine itself (inline).".to_owned());
    }
    if initiator == Drive::Process && wait != Wait::Spin {
        notes.push(
            "The initiator sleeps while it waits: latencies hold what waking it takes.".to_owned(),
        );
    }
    if cores.siblings {
        notes.push(
            "Initiator and target are hyperthreads of one physical core and slow each other."
                .to_owned(),
        );
    }
    notes
}
