//! What an endpoint tells its engine.

use core::net::SocketAddr;
use core::ops::Range;

use nic_wire::Span;
use nic_wire::handshake::{MAX_VERSIONS, ResetReason};

use crate::counters::DropReason;
use crate::endpoint::FlowHandle;
use crate::flow::Role;

/// What a received packet turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// A fresh numbered packet; the acks on it have been processed. The engine reads the op frames
    /// in `body` and calls [`Flow::accept`](crate::Flow::accept), or does not: then the packet
    /// stays unacknowledged and the peer sends it again.
    Data {
        /// The flow that it came on.
        flow: FlowHandle,
        /// Its number.
        number: u64,
        /// Where in the packet the op frames lie.
        body: Range<usize>,
        /// How long before this sending it was first sent: zero but for retransmissions.
        age: Span,
    },
    /// A lone ack; or a packet that had come before, which will be acknowledged again at once.
    Ack {
        /// The flow that it came on.
        flow: FlowHandle,
    },
    /// A packet of the handshake, or a reset, that made sense.
    Control,
    /// It names another engine of this process, which may not exist: hand it to that one, which
    /// will verify it.
    Foreign {
        /// The other engine.
        engine: u8,
    },
    /// It is of no use, and counted.
    Dropped(DropReason),
}

/// Something happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// Packets may flow.
    Opened {
        /// The flow.
        flow: FlowHandle,
        /// Which end of it is here.
        role: Role,
    },
    /// A flow that was to be opened will not be. It wants to be removed.
    Failed {
        /// The flow.
        flow: FlowHandle,
        /// Why.
        failure: ConnectFailure,
    },
    /// An open flow ended. It wants to be removed.
    Closed {
        /// The flow.
        flow: FlowHandle,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a flow could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFailure {
    /// No answer came in time. Try again later, or look whether an engine runs there.
    #[error("no engine answered in time; check the address and that an engine runs there")]
    Unreachable,
    /// The target speaks none of our versions. One of the two has to be upgraded.
    #[error(
        "no wire version in common: this engine speaks {ours:?}, the target {theirs:?} \
         (0 fills the lists); upgrade the older of the two"
    )]
    VersionMismatch {
        /// What this engine offered, highest first, zero-filled.
        ours: [u8; MAX_VERSIONS],
        /// What the target speaks, likewise.
        theirs: [u8; MAX_VERSIONS],
    },
    /// The target refused.
    #[error("the target refused the flow: {0:?}")]
    Refused(ResetReason),
    /// The offer was changed on its way. Something on the path is broken or hostile.
    #[error("the target saw another offer than was sent: something on the path changed it")]
    Downgrade,
}

/// Why an open flow ended. Ops that may have left end as Unknown, unless they are pure reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The other end says so.
    #[error("the peer ended the flow: {0:?}")]
    ResetByPeer(ResetReason),
    /// Requests went unanswered for too long.
    #[error("the peer did not answer requests for too long")]
    PeerLost,
    /// The initiator was silent for too long while replies waited for its ack.
    #[error("the initiator was silent for too long")]
    Abandoned,
}

/// Why no flow can be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// All slots are taken. Remove flows, or configure more.
    #[error("all {flows_max} flows of this engine are in use; raise flows_max")]
    NoRoom {
        /// How many there are.
        flows_max: u16,
    },
    /// Nothing can be sent to this address.
    #[error("{to} is not an address to send to; name a host and a port")]
    NoAddress {
        /// The address.
        to: SocketAddr,
    },
}

/// How a flow ends by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Failed(ConnectFailure),
    Closed(CloseReason),
}
