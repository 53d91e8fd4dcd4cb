//! The demo's cast: engines, the application that owns the table, and the initiator, which is this
//! process.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nic_figures::cores;
use nic_host::{Nic, RemoteTable, Session};
use nic_shm::wait_any;

use super::TARGET_COMMAND;
use super::message::{TargetOrder, TargetReady, TargetReply, TargetRequest};
use super::pairs::Pairs;
use super::plan::Plan;
use crate::pair::{Child, Drive, End, Ends, EngineStart, await_engine, connect, start_engine};

/// How long an inline engine goes on after a slice, so that the last acknowledgement leaves.
const LAST_TURNS: Duration = Duration::from_micros(300);
/// Ops that the initiator may have out: room for the widest window.
pub const DEPTH: u32 = 512;
/// The longest value that the owner sends in answer to a call, in bytes: an answer of one packet.
pub const CALL_VALUE_MAX: usize = 1024;

/// Everyone. Ends with it.
pub struct World {
    /// Where Scan-and-Read and the other measured ways lead.
    pub main: Way,
    /// Where CALL polled leads, if the owner there drives its engine itself.
    pub polled: Option<Way>,
    /// An eye on the target's engine.
    observer: Nic,
    /// The target's engine.
    engine: Child,
}

/// The initiator's way to a table, and the processes that it needs.
pub struct Way {
    /// Its engine.
    pub nic: Nic,
    /// Its session.
    pub session: Session,
    /// The table.
    pub table: RemoteTable,
    /// What the owner told of the table.
    pub ready: TargetReady,
    /// The application that owns the table.
    pub owner: Child,
    /// The initiator's engine, if it is a process.
    pub own_engine: Option<Child>,
}

/// A way that is being made: the owner still fills its table.
struct Opening {
    nic: Nic,
    owner: Child,
    own_engine: Option<Child>,
    ready: Option<TargetReady>,
    loaded: u64,
}

impl World {
    /// Starts all processes and fills the tables; `loaded` is told how many pairs are in.
    pub fn start(plan: &Plan, pairs: &Pairs, loaded: impl Fn(u64)) -> Result<Self> {
        let file = pairs.to_file()?;
        let ends = Ends::new(plan.port, 1)?;
        let start = EngineStart {
            what: "the target's engine",
            core: plan.cores.target,
            spin_us: plan.cores.engine_spin_us(),
            applications: 2,
        };
        let (engine, mut sockets) = start_engine(start, ends.target)?;
        let (nic, own_engine) = initiator(plan, ends.initiator)?;
        await_engine(&engine)?;
        let observer = connect(&mut sockets)?;
        let of_owner = sockets.pop().context("the target's engine has no socket left")?;
        let order =
            TargetOrder { core: plan.cores.owner, inline: None, yielding: plan.owner_yields() };
        let owner = Child::start(TARGET_COMMAND, "the target application")?;
        owner.send(&order, &[file.as_fd(), of_owner.as_fd()])?;
        drop(of_owner);
        let mut main = Opening { nic, owner, own_engine, ready: None, loaded: 0 };
        let mut polled = match plan.polled {
            Drive::Process => None,
            Drive::Inline => Some(open_polled(plan, &file)?),
        };
        drop(file);
        await_tables([Some(&mut main), polled.as_mut()].into_iter().flatten(), loaded)?;
        if let Some(core) = plan.cores.initiator {
            cores::pin_current_thread(core)?;
        }
        let main = main.finish(plan, pairs)?;
        let polled = polled.map(|opening| opening.finish(plan, pairs)).transpose()?;
        Ok(World { main, polled, observer, engine })
    }

    /// The way that CALL polled takes.
    pub fn polled_way(&self) -> &Way {
        self.polled.as_ref().unwrap_or(&self.main)
    }

    /// The target engine's process.
    pub fn engine_pid(&self) -> u32 {
        self.engine.pid()
    }

    /// The target engine's status as JSON.
    pub fn engine_status(&self) -> Result<String> {
        self.observer.status().context("the target's engine does not tell its status")
    }

    /// Whether everyone is still there, and has nothing to say for which nobody has asked.
    pub fn check(&self) -> Result<()> {
        let ways = [Some(&self.main), self.polled.as_ref()].into_iter().flatten();
        let of_ways = ways.flat_map(|way| [Some(&way.owner), way.own_engine.as_ref()]);
        for child in of_ways.flatten().chain([&self.engine]) {
            child.check()?;
        }
        Ok(())
    }

    /// Everyone's part and process number.
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let mut pids = vec![
            ("initiator", std::process::id()),
            ("target_engine", self.engine.pid()),
            ("target_application", self.main.owner.pid()),
        ];
        let own = |way: &Way| way.own_engine.as_ref().map(Child::pid);
        pids.extend(own(&self.main).map(|pid| ("initiator_engine", pid)));
        if let Some(polled) = &self.polled {
            pids.push(("polled_target_application", polled.owner.pid()));
            pids.extend(own(polled).map(|pid| ("polled_initiator_engine", pid)));
        }
        pids
    }
}

impl Way {
    /// Makes the owner poll for calls.
    pub fn poll(&self) -> Result<()> {
        ask(&self.owner, &TargetRequest::Poll)
    }

    /// Makes the owner sleep until called.
    pub fn rest(&self) -> Result<()> {
        ask(&self.owner, &TargetRequest::Rest)
    }

    /// Lets an inline engine send its last acknowledgements.
    pub fn finish_turns(&self) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < LAST_TURNS {
            self.nic.turn()?;
        }
        Ok(())
    }
}

impl Opening {
    fn finish(self, plan: &Plan, pairs: &Pairs) -> Result<Way> {
        let Opening { nic, owner, own_engine, ready, .. } = self;
        let ready = ready.context("the target application is not ready")?;
        let sizes = pairs.sizes();
        let lease = (sizes.key_max + sizes.value_max + 512).next_power_of_two() as u64;
        let arena = (lease * u64::from(DEPTH)).clamp(4 << 20, 256 << 20) as u32;
        let session = nic.session().depth(DEPTH).arena(arena).wait(plan.wait()).open()?;
        // An owner that drives its engine itself answers only while it polls.
        ask(&owner, &TargetRequest::Poll)?;
        let table = RemoteTable::open(&session, &ready.ticket.parse()?)?
            .with_values_up_to(sizes.value_max.max(1) as u32);
        ask(&owner, &TargetRequest::Rest)?;
        Ok(Way { nic, session, table, ready, owner, own_engine })
    }
}

fn ask(owner: &Child, request: &TargetRequest) -> Result<()> {
    owner.send(request, &[])?;
    match owner.receive::<TargetReply>()? {
        TargetReply::Polling | TargetReply::Resting => Ok(()),
        other => bail!("the target application said {other:?} out of turn"),
    }
}

/// The initiator's engine: inside this process, or a process of its own.
fn initiator(plan: &Plan, end: End) -> Result<(Nic, Option<Child>)> {
    if plan.initiator == Drive::Inline {
        return Ok((end.inline()?, None));
    }
    let start = EngineStart {
        what: "the initiator's engine",
        core: plan.cores.initiator_engine,
        spin_us: plan.cores.engine_spin_us(),
        applications: 1,
    };
    let (engine, mut sockets) = start_engine(start, end)?;
    await_engine(&engine)?;
    Ok((connect(&mut sockets)?, Some(engine)))
}

/// The second table, whose owner drives its engine itself.
fn open_polled(plan: &Plan, file: &OwnedFd) -> Result<Opening> {
    let ends = Ends::new(plan.port, 2)?;
    let owner = Child::start(TARGET_COMMAND, "the polling target application")?;
    let order = TargetOrder {
        core: plan.cores.target,
        inline: Some(ends.target.order),
        yielding: plan.cores.is_one(),
    };
    let mut descriptors = vec![file.as_fd()];
    descriptors.extend(ends.target.ring.as_ref().map(AsFd::as_fd));
    owner.send(&order, &descriptors)?;
    let (nic, own_engine) = initiator(plan, ends.initiator)?;
    Ok(Opening { nic, owner, own_engine, ready: None, loaded: 0 })
}

/// Waits until the owners have filled their tables.
fn await_tables<'o>(
    openings: impl Iterator<Item = &'o mut Opening>,
    loaded: impl Fn(u64),
) -> Result<()> {
    let mut openings: Vec<&mut Opening> = openings.collect();
    while openings.iter().any(|opening| opening.ready.is_none()) {
        let unready = openings.iter().filter(|opening| opening.ready.is_none());
        let links: Result<Vec<_>> = unready.map(|opening| opening.owner.descriptor()).collect();
        wait_any(&links?, None)?;
        for opening in &mut openings {
            if opening.ready.is_some() || !opening.owner.has_something()? {
                continue;
            }
            match opening.owner.receive()? {
                TargetReply::Loaded { pairs } => opening.loaded = pairs,
                TargetReply::Ready(ready) => opening.ready = Some(ready),
                TargetReply::Failed { reason } => bail!("the target application: {reason}"),
                other => bail!("the target application said {other:?} out of turn"),
            }
        }
        loaded(openings.iter().map(|opening| opening.loaded).sum());
    }
    Ok(())
}
