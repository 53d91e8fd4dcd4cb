//! An application that issues ops.

use nic_engine::engine::{Answer, Work};
use nic_ports::Random;
use nic_tests::{AppSession, HostId, World};
use nic_wire::Rkey;
use nic_wire::session::Geometry;

use crate::deeds::Issued;

/// What a way leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    Plain,
    Table,
}

/// A way to a region of an engine.
#[derive(Debug)]
pub struct Way {
    pub target: usize,
    pub goal: Goal,
    /// The way in use, and the right that it was opened with.
    pub remote: Option<(u16, Rkey)>,
    /// The piece of work that opens another.
    opening: Option<(u64, Rkey)>,
}

/// See the module's description.
pub struct Initiator {
    /// No other has it.
    pub number: u32,
    pub session: AppSession,
    pub ways: Vec<Way>,
    /// Ops that are out, by the low half of their tokens.
    pub out: Vec<Option<Issued>>,
    pub sequence: u64,
    /// It refills when so few ops are out.
    pub low: usize,
    pub high: usize,
}

impl Initiator {
    /// An application with a session.
    pub fn start(
        world: &mut World,
        host: HostId,
        number: u32,
        targets: usize,
        random: &mut Random,
    ) -> Self {
        let (depth, piece) = match random.below(4) {
            0 => (4, 65_536),
            1 => (32, 4096),
            _ => (8 << random.below(2), 8192),
        };
        let geometry = Geometry {
            depth,
            arena_bytes: depth * 2 * piece,
            receive_buffers: 0,
            receive_buffer_bytes: 0,
        };
        let session = world.add_session(host, geometry);
        let goals = [Goal::Plain, Goal::Table];
        let way = |target, goal| Way { target, goal, remote: None, opening: None };
        let ways = (0..targets).flat_map(|target| goals.map(|goal| way(target, goal)));
        let high = 1 + random.below(u64::from(depth)) as usize;
        Initiator {
            number,
            session,
            ways: ways.collect(),
            out: vec![None; depth as usize],
            sequence: 0,
            low: random.below(high as u64) as usize,
            high,
        }
    }

    /// The work that ends the application.
    pub fn end_work(&self) -> Work {
        Work::RemoveClient { client: self.session.client }
    }
}

impl Way {
    /// Opens the way anew if there is a newer right, and looks whether one was opened. Whether it
    /// is the newest.
    pub fn keep_open(
        &mut self,
        world: &mut World,
        session: &AppSession,
        engine: HostId,
        right: Option<Rkey>,
    ) -> bool {
        if let Some((id, rkey)) = self.opening {
            match world.answer(session.host, id) {
                None => return false,
                Some(Answer::Connected(remote)) => self.remote = Some((remote, rkey)),
                // The engine is dead or cut off: another attempt follows.
                Some(Answer::Refused(_)) => {}
                Some(other) => panic!("{other:?} where a way was to be opened"),
            }
            self.opening = None;
        }
        let Some(right) = right else { return false };
        let is_newest = self.remote.is_some_and(|(_, rkey)| rkey == right);
        if !is_newest {
            let work = world.connect_work(session, engine, right);
            self.opening = Some((world.begin(session.host, work), right));
        }
        is_newest
    }
}
