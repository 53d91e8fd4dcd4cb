//! RESETs arrive, at either side.

use core::net::SocketAddr;

use nic_wire::ConnectionId;
use nic_wire::handshake::{Reset, ResetReason};
use zerocopy::FromBytes;

use crate::congestion::CongestionControl;
use crate::counters::DropReason;
use crate::endpoint::{CloseReason, ConnectFailure, End, Endpoint, Handled};
use crate::flow::Stage;

impl<C: CongestionControl> Endpoint<C> {
    pub(crate) fn on_reset(&mut self, from: SocketAddr, id: ConnectionId, body: &[u8]) -> Handled {
        let Ok((reset, _)) = Reset::read_from_prefix(body) else {
            return self.drop_packet(DropReason::Malformed);
        };
        let answered = ConnectionId::from_raw(reset.answered_id.get());
        let Some(slot) = self.find_reset(from, id, answered) else {
            return self.drop_packet(DropReason::UnbelievableReset);
        };
        let reason = ResetReason::from_code(reset.reason.get());
        let end = if self.connecting(slot).is_some() {
            End::Failed(ConnectFailure::Refused(reason))
        } else {
            End::Closed(CloseReason::ResetByPeer(reason))
        };
        self.counters.resets_received += 1;
        self.end(slot, Some(end));
        self.control()
    }

    /// The flow that a RESET may end: it has to come from the peer and to name the id under which
    /// the peer receives. A peer that has forgotten the flow does not know our id.
    fn find_reset(
        &mut self,
        from: SocketAddr,
        id: ConnectionId,
        answered: ConnectionId,
    ) -> Option<u16> {
        if id == ConnectionId::NONE {
            return self.find_by_peer(from, answered);
        }
        let slot = id.slot();
        let flow = self.flows.at(slot).filter(|flow| flow.local_id == id)?;
        let believed = match flow.stage {
            // The INIT itself is refused; the peer's id is not known yet.
            Stage::Connecting(_) => answered == id && from.ip() == flow.peer.ip(),
            Stage::Open => answered == flow.remote_id() && from == flow.peer,
            Stage::Ended => false,
        };
        believed.then_some(slot)
    }
}
