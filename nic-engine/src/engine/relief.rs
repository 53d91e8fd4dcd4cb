//! What peers that have fallen silent hold, when it is wanted by others.

use nic_kernels::KernelSet;
use nic_ports::{Port, Share};
use nic_transport::FlowHandle;
use nic_wire::Status;
use nic_wire::handshake::ResetReason;

use super::core::Core;
use super::links::LinkState;

impl<K: KernelSet> Core<K> {
    /// Ends flows of initiators that have long been silent while replies to them are unacknowledged,
    /// the longest silent first, until a quarter of the frames and an eighth of the flows are free.
    /// They keep both for a minute otherwise, which is kind to peers that come back and unkind to
    /// all others.
    #[cold]
    pub(super) fn relieve<P: Port>(&mut self, port: &mut P) {
        self.wants_relief = false;
        let frames_least = port.capabilities().frames as usize / 4;
        let flows_most = self.links.len() - self.links.len() / 8;
        while port.available(Share::Reply) < frames_least || self.endpoint.flows() > flows_most {
            let Some(flow) = self.longest_quiet() else { return };
            self.counters.flows_abandoned += 1;
            self.endpoint.close(flow, ResetReason::Abandoned);
            self.flow_ended(flow, Status::PeerLost, "its replies were given up", port);
        }
    }

    fn longest_quiet(&self) -> Option<FlowHandle> {
        let is_quiet = |handle: &FlowHandle| {
            self.endpoint.flow(*handle).is_some_and(|flow| flow.is_open() && flow.is_quiet())
        };
        let open = self.links.iter().filter(|link| link.state == LinkState::Open);
        let quiet = open.filter(|link| link.handle.as_ref().is_some_and(is_quiet));
        quiet.min_by_key(|link| link.heard).and_then(|link| link.handle)
    }
}
