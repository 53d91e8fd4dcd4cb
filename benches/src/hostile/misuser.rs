//! An application that misuses kernels: every one of them, with arguments that are wrong in every
//! field, over memory in which it has laid lists and chains that lead back, outside and nowhere. It
//! may read and write that memory; whatever else it gets at, it gets at by deceiving a kernel.

mod lies;
mod traps;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nic_host::{
    Ask, Done, Facts, Op, OpError, Operation, Pending, RemoteRegion, Reply, Session, Status,
    SubmitError,
};
use nic_ports::Random;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::lies::Lie;
use super::link::{Link, Worker};
use super::owner::is_marked;
use super::polite::SLACK;
use super::roles::{Options, Order, connect};

/// Ops that are out at the most, and what they have of the arena.
const DEPTH: usize = 256;
const ARENA_BYTES: u32 = 8 << 20;
/// Between two bursts, and how many lies each tells.
const NAP: Duration = Duration::from_micros(200);
const BURST: usize = 128;
/// By when an op has to be over.
const DEADLINE: Duration = Duration::from_millis(50);

/// What it has done, and what came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Deeds {
    pub(super) submitted: u64,
    pub(super) completed: u64,
    /// Over although they were not out.
    pub(super) twice: u64,
    /// Ops that had to be refused, and ended well.
    pub(super) granted: u64,
    /// Replies that held bytes of a canary.
    pub(super) leaks: u64,
    /// Ended in a way in which no kernel ends.
    pub(super) untyped: u64,
    /// How many ended how.
    pub(super) ends: BTreeMap<String, u64>,
    /// For each kernel: how many ended well, and how many did not.
    pub(super) kernels: BTreeMap<u16, [u64; 2]>,
}

impl Deeds {
    /// Whether every kernel was run both with success and without.
    pub(super) fn is_thorough(&self) -> bool {
        lies::BELIEVED.iter().all(|kernel| {
            self.kernels.get(&kernel.0).is_some_and(|counts| counts.iter().all(|count| *count > 0))
        })
    }

    fn note(&mut self, lie: &Lie, outcome: &Result<Reply, OpError>) {
        self.completed += 1;
        let status = match outcome {
            Ok(reply) => {
                self.leaks += u64::from(is_marked(reply.bytes()));
                self.granted += u64::from(lie.is_forbidden);
                reply.status()
            }
            Err(OpError::Failed { status, .. }) => *status,
            Err(_) => {
                self.untyped += 1;
                return;
            }
        };
        self.untyped += u64::from(!is_a_kernels(status));
        let counts = self.kernels.entry(lie.kernel.0).or_default();
        counts[usize::from(outcome.is_err())] += 1;
        *self.ends.entry(format!("{status:?}")).or_default() += 1;
    }
}

/// Whether an op of a kernel may end so while its engines live and its flow lasts.
fn is_a_kernels(status: Status) -> bool {
    matches!(
        status,
        Status::Ok
            | Status::Continues
            | Status::BadArguments
            | Status::OutOfBounds
            | Status::Denied
            | Status::Misaligned
            | Status::Expired
            | Status::Busy
            | Status::ReplyTooLong
            | Status::Torn
            | Status::BadPointer
            | Status::TooManySteps
            | Status::Unsupported
    )
}

/// A lie as an op, whose reply is taken as it comes.
struct Told {
    remote: u16,
    lie: Lie,
}

impl Operation for Told {
    type Output = Reply;

    fn ask(&self) -> Ask<'_> {
        Ask::new(self.lie.kernel, self.remote, &self.lie.arguments)
            .payload(&self.lie.payload)
            .reply(self.lie.reply_capacity)
    }

    fn result(_: &Facts, reply: Reply) -> Result<Reply, OpError> {
        Ok(reply)
    }
}

struct Misuser<'s> {
    session: &'s Session,
    sand: RemoteRegion,
    shelf: RemoteRegion,
    /// By slot.
    out: Vec<Option<(Pending<'s, Told>, Lie)>>,
    count: usize,
    random: Random,
    is_going: bool,
    deeds: Deeds,
}

pub(super) fn run(link: &Link, options: &Options) -> Result<()> {
    let nic = connect(&options.socket)?;
    let session = nic.session().depth(DEPTH as u32).arena(ARENA_BYTES).open()?;
    let [_, shelf, sand] = options.tickets()?;
    link.drive(&mut Misuser {
        sand: session.connect(&sand)?,
        shelf: session.connect(&shelf)?,
        session: &session,
        out: (0..DEPTH).map(|_| None).collect(),
        count: 0,
        random: Random::new(options.seed),
        is_going: false,
        deeds: Deeds::default(),
    })
}

impl Worker for Misuser<'_> {
    fn obey(&mut self, order: Order) -> Result<Value> {
        match order {
            Order::Go(_) => self.is_going = true,
            Order::Rest => {
                self.is_going = false;
                let begun = Instant::now();
                while self.count > 0 && begun.elapsed() < DEADLINE + SLACK {
                    self.session.wait(DEADLINE)?;
                    self.drain()?;
                }
            }
            other => bail!("found the order {other:?}, expected Go or Rest"),
        }
        Ok(serde_json::to_value(&self.deeds)?)
    }

    fn work(&mut self) -> Result<Option<Duration>> {
        if !self.is_going {
            return Ok(None);
        }
        self.drain()?;
        let trap = traps::lay(&mut self.random);
        self.tell(trap)?;
        for _ in 0..BURST {
            let lie = lies::tell(&mut self.random);
            if !self.tell(lie)? {
                break;
            }
        }
        Ok(Some(NAP))
    }
}

impl Misuser<'_> {
    /// Submits it; whether there was room.
    fn tell(&mut self, lie: Lie) -> Result<bool> {
        let region = if lie.is_of_shelf { &self.shelf } else { &self.sand };
        let told = Told { remote: region.remote(), lie: lie.clone() };
        match self.session.submit(Op::new(told).deadline(lie.deadline)) {
            Ok(pending) => {
                self.deeds.submitted += 1;
                self.count += 1;
                let slot = pending.slot();
                self.out[slot] = Some((pending, lie));
                Ok(true)
            }
            Err(SubmitError::Full(_)) => Ok(false),
            Err(SubmitError::Invalid(error)) => Err(error.into()),
        }
    }

    fn drain(&mut self) -> Result<()> {
        let over: Vec<Done> = self.session.poll()?.collect();
        for done in over {
            let Some((pending, lie)) = self.out[done.slot()].take() else {
                self.deeds.twice += 1;
                continue;
            };
            self.count -= 1;
            self.deeds.note(&lie, &pending.take(done));
        }
        Ok(())
    }
}
