//! Who is who in the scene, what each is told at its start, and what it can be asked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use nic_figures::cores;
use nic_host::{Endpoint, Nic, NicError, Ticket};
use serde::{Deserialize, Serialize};

use super::link::Link;
use super::{greedy, misuser, owner, passer, polite, stranger, vandal};

/// How long an engine may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every process of the scene is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Options {
    pub(super) role: Role,
    /// The engine's socket.
    pub(super) socket: PathBuf,
    /// Where its thread runs; none: wherever the kernel puts it.
    pub(super) core: Option<usize>,
    pub(super) seed: u64,
    /// None yet for their owner.
    pub(super) tickets: Option<Tickets>,
    /// Where the polite application's own engine receives packets, once it is known.
    pub(super) polite: Option<std::net::SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// Owns all regions, and sleeps.
    Owner,
    /// The application that nobody may disturb.
    Polite,
    /// Keeps its session full.
    Greedy,
    /// The same, as a peer.
    GreedyPeer,
    /// Writes anything into the memory that it shares with the engine, and to its socket.
    Vandal,
    /// Runs kernels with anything, over memory that it has made anything of.
    Misuser,
    /// A peer that sends anything.
    Stranger,
    /// An honest client of the engine, until it is killed.
    Neighbour,
    /// An honest peer, until it is killed.
    Peer,
}

/// Tickets as text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tickets {
    /// Of the polite application alone: to be read, and words to add to.
    pub(super) garden: String,
    /// To be read by everyone.
    pub(super) shelf: String,
    /// To be read and written by everyone.
    pub(super) sand: String,
}

/// The way by which the polite application goes to the garden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    /// A session of the engine that everyone uses.
    Session,
    /// As a peer: by an engine of its own.
    Peer,
}

/// What processes are asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The owner: its tickets; the polite one: its address.
    Introduce,
    /// The polite one: ops one after the other. Answers the p50 in us.
    Latency(Way, Duration),
    /// The polite one: ops in windows on both ways, for slices. Answers ops per second of each.
    Rate(u32, Duration),
    /// The greedy one: keep the session full of READs of so many bytes. The malevolent: begin.
    Go(u64),
    /// Those: have no op out any more, do nothing. The malevolent answer what they have done, the
    /// greedy how often of all their looks nothing was out any more.
    Rest,
    /// The owner: how many bytes differ from what they were that only it may write.
    /// The polite and the greedy ones: their accounts.
    Look,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner of the regions",
            Role::Polite => "polite application",
            Role::Greedy => "greedy application",
            Role::GreedyPeer => "greedy peer",
            Role::Vandal => "vandal",
            Role::Misuser => "misuser of kernels",
            Role::Stranger => "hostile peer",
            Role::Neighbour => "neighbour",
            Role::Peer => "peer",
        }
    }
}

impl Options {
    pub(super) fn tickets(&self) -> Result<[Ticket; 3]> {
        let tickets = self.tickets.as_ref().ok_or_else(|| anyhow::anyhow!("no tickets given"))?;
        Ok([tickets.garden.parse()?, tickets.shelf.parse()?, tickets.sand.parse()?])
    }
}

/// The whole life of a process of the scene.
pub(crate) fn process(options: &str) -> Result<()> {
    let link = Link::of_child()?;
    let options: Options = serde_json::from_str(options)?;
    if let Some(core) = options.core {
        cores::pin_current_thread(core)?;
    }
    match options.role {
        Role::Owner => owner::run(&link, &options),
        Role::Polite => polite::run(&link, &options),
        Role::Greedy | Role::GreedyPeer => greedy::run(&link, &options),
        Role::Vandal => vandal::run(&link, &options),
        Role::Misuser => misuser::run(&link, &options),
        Role::Stranger => stranger::run(&link, &options),
        Role::Neighbour | Role::Peer => passer::run(&link, &options),
    }
}

/// Connects to an engine that may be just starting.
pub(super) fn connect(socket: &Path) -> Result<Nic> {
    let begun = Instant::now();
    loop {
        match Nic::connect(Endpoint::Path(socket.to_owned())) {
            Ok(nic) => return Ok(nic),
            Err(NicError::NoEngine { .. }) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
