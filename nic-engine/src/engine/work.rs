//! Control work: what modules ask of an engine, and what it answers.
//!
//! Modules build everything that costs time or memory (mappings, populated pages) and hand the
//! engine finished parts; what the engine lets go of travels back in the answer, so that it is
//! unmapped by the module and not in the middle of a turn.

use std::net::SocketAddr;

use nic_kernels::Access;
use nic_kernels::mapped::Backing;
use nic_shm::{RacyMem, WakeSender, WatchedDoorbell};
use nic_wire::session::Geometry;
use nic_wire::{Rkey, Status, Time};

use super::live::Live;

/// Names an application within an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(pub u16);

/// An engine's ends of a session's bells.
#[derive(Debug)]
pub struct Bells {
    /// Rung when the application sleeps.
    pub application: WakeSender,
    /// Rung by the application when the engine sleeps; watched as long as the session is open.
    pub engine: WatchedDoorbell,
}

/// One piece of control work.
#[derive(Debug)]
pub enum Work {
    /// An application connected.
    AddClient,
    /// An application is gone: its sessions, exports and regions end.
    RemoveClient {
        /// Which.
        client: ClientId,
    },
    /// Run a session in this memory.
    OpenSession {
        /// Whose.
        client: ClientId,
        /// Zeroed memory of the geometry's length.
        memory: RacyMem,
        /// The sizes.
        geometry: Geometry,
        /// How the two wake each other; none if the application drives the engine itself.
        bells: Option<Bells>,
    },
    /// End a session; its ops end as cancelled.
    CloseSession {
        /// Whose.
        client: ClientId,
        /// Which.
        session: u32,
    },
    /// Take a populated memory as a region.
    Register {
        /// Whose.
        client: ClientId,
        /// The memory.
        memory: RacyMem,
        /// Address of its first byte.
        base: u64,
    },
    /// The same for a memory that is kept in a file.
    RegisterBacked {
        /// Whose.
        client: ClientId,
        /// The memory.
        memory: RacyMem,
        /// Address of its first byte.
        base: u64,
        /// The way to its file.
        backing: Box<dyn Backing>,
    },
    /// Give a region up.
    Deregister {
        /// Whose.
        client: ClientId,
        /// Which.
        region: u8,
    },
    /// Let others use a region.
    Export {
        /// Whose.
        client: ClientId,
        /// Which.
        region: u8,
        /// What they may do.
        access: Access,
        /// Other regions that ops may follow pointers into.
        follow: Vec<u8>,
        /// Unguessable.
        secret: u64,
    },
    /// End an export; answered when nothing touches the region under it any more.
    Revoke {
        /// Whose.
        client: ClientId,
        /// Which.
        export: u16,
        /// Which of the slot's exports.
        generation: u16,
    },
    /// Deliver the calls to a service to a session.
    Serve {
        /// Whose.
        client: ClientId,
        /// Where to.
        session: u32,
        /// Which.
        service: u16,
    },
    /// Open a way to a region of another host; answered when the flow is up.
    Connect {
        /// Whose.
        client: ClientId,
        /// The session that will use it.
        session: u32,
        /// The target engine.
        engine: SocketAddr,
        /// The right to the region.
        rkey: Rkey,
    },
    /// The same, answered before the flow is up.
    Way {
        /// Whose.
        client: ClientId,
        /// The session that will use it.
        session: u32,
        /// The target engine.
        engine: SocketAddr,
        /// The right to the region.
        rkey: Rkey,
    },
    /// Give ways to regions of other hosts back.
    Disconnect {
        /// Whose.
        client: ClientId,
        /// The session that used them.
        session: u32,
        /// From [`Answer::Connected`].
        remotes: Vec<u16>,
    },
    /// Begin nothing new, finish what is under way, close the flows; answered when that is done.
    Drain {
        /// What is not finished by then is given up.
        until: Time,
    },
    /// Tell what is live.
    Look {
        /// Where to write it: it has room already, so that the engine need not make any.
        live: Box<Live>,
    },
}

/// What became of a piece of work.
#[derive(Debug)]
pub enum Answer {
    /// To [`Work::AddClient`].
    Client(ClientId),
    /// To [`Work::OpenSession`].
    Session(u32),
    /// To [`Work::Register`] and [`Work::RegisterBacked`].
    Region(u8),
    /// To [`Work::Export`].
    Exported(Rkey),
    /// To [`Work::Connect`].
    Connected(u16),
    /// To [`Work::Look`].
    Seen(Box<Live>),
    /// Done; what is inside is the asker's to drop.
    Released(Vec<Released>),
    /// Not done.
    Refused(Refusal),
}

/// What an engine has let go of.
#[derive(Debug)]
#[non_exhaustive]
pub enum Released {
    /// A region's memory.
    Memory(RacyMem),
    /// The way to a region's file.
    Backing(Box<dyn Backing>),
    /// A session.
    Session(SessionParts),
    /// The bells of a session that was not opened.
    Bells(Bells),
}

/// A closed session; dropping it unmaps its memory.
pub struct SessionParts(pub(super) Box<super::session::Session>);

impl core::fmt::Debug for SessionParts {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "SessionParts(client {})", self.0.client)
    }
}

/// Why control work was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The nearest status.
    pub status: Status,
    /// What was found, what was expected, what to do.
    pub reason: String,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(status: Status, reason: impl Into<String>) -> Self {
        Refusal { status, reason: reason.into() }
    }
}

/// An answer and the number of the work that it answers.
#[derive(Debug)]
pub struct Answered {
    /// The number that came with the work.
    pub id: u64,
    /// What became of it.
    pub answer: Answer,
    /// What came with work that was refused, the asker's to drop as well.
    pub returned: Vec<Released>,
}

impl Answered {
    /// An answer with which nothing comes back.
    pub fn new(id: u64, answer: Answer) -> Self {
        Answered { id, answer, returned: Vec::new() }
    }
}
