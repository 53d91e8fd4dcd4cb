//! What is live in an engine: its flows, its sessions, and the oldest of its ops. For who looks for
//! what is stuck.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use nic_kernels::KernelSet;
use nic_wire::{KernelId, Span, Time};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::core::Core;
use super::links::LinkState;
use super::ops::{NO_SESSION, OpState};

/// The most ops of each kind that are told of: the oldest.
const OPS_MAX: usize = 256;

/// What is live in an engine at one moment. All times are in nanoseconds, and as long ago.
#[derive(Clone, Debug, Serialize)]
pub struct Live {
    /// Ops younger than this are left out.
    #[serde(skip)]
    older_than: Span,
    /// Its flows, by place.
    pub flows: Vec<LiveFlow>,
    /// Its sessions, by place.
    pub sessions: Vec<LiveSession>,
    /// Ops of local sessions that are out, the oldest first.
    pub ops_out: Oldest<LiveOp>,
    /// Ops of other hosts that are in hand, the oldest first.
    pub ops_in: Oldest<LiveRequest>,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LiveFlow {
    /// The engine at its other end.
    pub peer: SocketAddr,
    /// Whether this engine issues ops on it, or answers them.
    pub initiates: bool,
    /// Whether its handshake is done.
    pub is_open: bool,
    /// Since when that is so.
    pub age_ns: u64,
    /// When the peer was last heard, or asked whether it is there.
    pub heard_ns: u64,
    /// Packets sent and not acknowledged.
    pub unacked_packets: u32,
    /// The smoothed round trip, once it was measured.
    pub round_trip_ns: Option<u64>,
    /// Packets sent again.
    pub retransmissions: u64,
    /// Ops that hold a credit of the target (initiator), or are in hand here (target).
    pub ops: u32,
    /// Ops that the target allows to have out; of no meaning at the target.
    pub ops_max: u16,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LiveSession {
    /// Its number.
    pub session: u16,
    /// The application's number.
    pub client: u16,
    /// Ops taken from it that are not completed.
    pub ops: u32,
    /// Ops that it may have out.
    pub depth: u32,
    /// Whether its application broke the rules of its rings, so that nothing is taken any more.
    pub violated: bool,
}

/// Where an op that is out has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveState {
    /// Initiator: nothing of it has left; it waits for its flow, or for a credit.
    Waiting,
    /// Initiator: some or all of its request has left.
    Out,
    /// Initiator: its completion is posted, but the target still holds a credit for it.
    Abandoned,
    /// Target: parts of its payload have not arrived.
    Arriving,
    /// Target: it waits for earlier ops of its stream.
    Fenced,
    /// Target: its kernel runs.
    Running,
    /// Target: the serving application has it.
    Called,
    /// Target: its reply waits for room in packets.
    Answered,
    /// Target: its flow has ended, its kernel has not.
    Orphaned,
}

/// One op of a local session. Ordered by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LiveOp {
    /// Since it was picked up.
    pub age_ns: u64,
    /// The session that asked, unless it has closed.
    pub session: Option<u16>,
    /// The application's name for it.
    pub token: u64,
    /// What it runs.
    #[serde(serialize_with = "kernel_name")]
    pub kernel: u16,
    /// Where it has got to.
    pub state: LiveState,
    /// The target engine.
    pub peer: SocketAddr,
    /// How much of its reply has landed, in bytes.
    pub reply_bytes: u32,
    /// How long it still has; nothing once it has ended for its application.
    pub deadline_in_ns: Option<u64>,
}

/// One op of another host. Ordered by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LiveRequest {
    /// Since it arrived.
    pub age_ns: u64,
    /// The initiating engine.
    pub peer: SocketAddr,
    /// What it runs.
    #[serde(serialize_with = "kernel_name")]
    pub kernel: u16,
    /// Where it has got to.
    pub state: LiveState,
    /// Bytes of its payload that have not arrived.
    pub payload_left: u32,
    /// For a call: the session that serves it.
    pub session: Option<u16>,
}

/// The oldest of a kind, at most so many as there was room for.
#[derive(Clone, Debug)]
pub struct Oldest<T> {
    /// The youngest on top: the one that gives way.
    kept: BinaryHeap<Reverse<T>>,
    /// How many younger ones were left out for want of room.
    left_out: usize,
}

impl<T: Ord> Oldest<T> {
    fn with_room() -> Self {
        Oldest { kept: BinaryHeap::with_capacity(OPS_MAX), left_out: 0 }
    }

    /// Takes one, if it is older than the youngest or there is room; makes no room.
    pub(super) fn offer(&mut self, one: T) {
        if self.kept.len() < OPS_MAX {
            return self.kept.push(Reverse(one));
        }
        self.left_out += 1;
        if let Some(mut youngest) = self.kept.peek_mut()
            && one > youngest.0
        {
            *youngest = Reverse(one);
        }
    }

    /// How many younger ones were left out for want of room.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The kept ones, the oldest first.
    pub fn into_vec(self) -> Vec<T> {
        self.kept.into_sorted_vec().into_iter().map(|Reverse(one)| one).collect()
    }
}

impl<T: Ord + Clone + Serialize> Serialize for Oldest<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_struct("Oldest", 2)?;
        parts.serialize_field("ops", &self.clone().into_vec())?;
        parts.serialize_field("left_out", &self.left_out)?;
        parts.end()
    }
}

impl Live {
    /// Room for what any engine has: as many flows and sessions as have a number. (What is not used
    /// of it costs nothing but addresses.) Ops younger than `older_than` are left out.
    pub fn with_room(older_than: Span) -> Self {
        Live {
            older_than,
            flows: Vec::with_capacity(usize::from(u16::MAX)),
            sessions: Vec::with_capacity(usize::from(u16::MAX)),
            ops_out: Oldest::with_room(),
            ops_in: Oldest::with_room(),
        }
    }

    /// All of it as a JSON object.
    ///
    /// # Errors
    /// None that a test would not have found.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl<K: KernelSet> Core<K> {
    /// Tells what is live. It looks at every place of the tables once, which takes some tens of
    /// microseconds: for a person who asks, not for a program that samples.
    #[cold]
    pub(super) fn look(&self, live: &mut Live) {
        let ago = |time: Time| self.now.since(time).as_ns();
        let least_ns = live.older_than.as_ns();
        for link in &self.links {
            if link.state == LinkState::Vacant {
                continue;
            }
            let flow = link.flow(&self.endpoint);
            live.flows.push(LiveFlow {
                peer: link.to,
                initiates: link.initiates,
                is_open: link.state == LinkState::Open,
                age_ns: ago(link.since),
                heard_ns: ago(link.heard.max(link.since)),
                unacked_packets: flow.map_or(0, |flow| flow.unacked_packets()),
                round_trip_ns: flow.and_then(|flow| flow.rtt()).map(Span::as_ns),
                retransmissions: flow.map_or(0, |flow| {
                    let counters = flow.counters();
                    counters.retransmissions_fast
                        + counters.retransmissions_probe
                        + counters.retransmissions_timeout
                }),
                ops: if link.initiates { link.ops_out() } else { link.in_hand + link.held },
                ops_max: if link.initiates { link.credits.0 } else { self.config.op_credits },
            });
        }
        let sessions = (0u16..).zip(&self.sessions);
        let open = sessions.filter_map(|(slot, session)| Some(session.as_ref()?.live(slot)));
        live.sessions.extend(open);
        for (op, unsent) in self.ops.each().filter(|(op, _)| ago(op.started) >= least_ns) {
            live.ops_out.offer(LiveOp {
                age_ns: ago(op.started),
                session: (op.session != NO_SESSION).then_some(op.session),
                token: op.token,
                kernel: op.kernel.0,
                state: match op.state {
                    OpState::Waiting => LiveState::Waiting,
                    OpState::Out => LiveState::Out,
                    OpState::Abandoned => LiveState::Abandoned,
                },
                peer: self.links[usize::from(op.link)].to,
                reply_bytes: op.received,
                deadline_in_ns: (op.state != OpState::Abandoned)
                    .then(|| unsent.deadline.since(self.now).as_ns()),
            });
        }
        self.look_at_requests(least_ns, &mut live.ops_in);
    }
}

/// A kernel by its name; those of users by number.
fn kernel_name<S: Serializer>(kernel: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    let name = match KernelId(*kernel) {
        KernelId::CALL => "CALL",
        KernelId::READ => "READ",
        KernelId::WRITE => "WRITE",
        KernelId::COMPARE_SWAP => "COMPARE_SWAP",
        KernelId::FETCH_ADD => "FETCH_ADD",
        KernelId::SCAN_AND_READ => "SCAN_AND_READ",
        KernelId::INDIRECT_READ => "INDIRECT_READ",
        KernelId::TRAVERSE => "TRAVERSE",
        KernelId::CONSISTENT_READ => "CONSISTENT_READ",
        KernelId::CHAIN_READ => "CHAIN_READ",
        KernelId::CHAIN_APPEND => "CHAIN_APPEND",
        KernelId::PRISM => "PRISM",
        KernelId::SCAN => "SCAN",
        KernelId::PARTITION_WRITE => "PARTITION_WRITE",
        KernelId::SKETCH_WRITE => "SKETCH_WRITE",
        KernelId::APPEND => "APPEND",
        KernelId::FETCH => "FETCH",
        KernelId::CANCEL => "CANCEL",
        KernelId(number) => return serializer.collect_str(&format_args!("kernel {number:#x}")),
    };
    serializer.serialize_str(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_kept_in_order_and_the_others_counted() {
        let mut oldest = Oldest::with_room();
        let room = oldest.kept.capacity();
        // Every age once, in an order without order.
        let count = 1009;
        for index in 0..count {
            oldest.offer(index * 577 % count);
        }
        assert_eq!(oldest.kept.capacity(), room, "no room was made");
        assert_eq!(oldest.left_out(), count as usize - OPS_MAX);
        let expected: Vec<u64> = (0..count).rev().take(OPS_MAX).collect();
        assert_eq!(oldest.into_vec(), expected);
    }
}
