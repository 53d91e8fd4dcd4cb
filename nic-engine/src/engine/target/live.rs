//! What is live of the ops of other hosts, for who looks for what is stuck.

use nic_kernels::KernelSet;
use nic_wire::Span;

use super::{Source, TargetOp};
use crate::engine::core::Core;
use crate::engine::live::{LiveRequest, LiveState, Oldest};

impl TargetOp {
    fn live_state(&self) -> LiveState {
        match self.source {
            _ if self.orphaned => LiveState::Orphaned,
            _ if self.ready => LiveState::Answered,
            Source::Call { .. } => LiveState::Called,
            _ if self.payload_left > 0 => LiveState::Arriving,
            _ => LiveState::Running,
        }
    }
}

impl<K: KernelSet> Core<K> {
    /// Tells of the requests that are in hand for at least so long, those that wait for a fence
    /// included.
    #[cold]
    pub(in crate::engine) fn look_at_requests(
        &self,
        least_ns: u64,
        oldest: &mut Oldest<LiveRequest>,
    ) {
        let peer = |link: u16| self.links[usize::from(link)].to;
        for op in self.target.ops.iter().filter(|op| op.live) {
            let age_ns = self.now.since(op.arrived).as_ns();
            if age_ns < least_ns {
                continue;
            }
            oldest.offer(LiveRequest {
                age_ns,
                peer: peer(op.link),
                kernel: op.kernel.0,
                state: op.live_state(),
                // A call came whole, or it would have been refused.
                payload_left: match op.source {
                    Source::Call { .. } | Source::LongAnswer { .. } => 0,
                    _ => op.payload_left,
                },
                session: match op.source {
                    Source::Call { session, .. } | Source::LongAnswer { session } => Some(session),
                    _ => None,
                },
            });
        }
        for index in 0..self.holds.len() {
            let held = self.holds.get(index);
            let waited = self.now.since(held.arrived) + Span::from_us(u64::from(held.age_us));
            if waited.as_ns() < least_ns {
                continue;
            }
            oldest.offer(LiveRequest {
                age_ns: waited.as_ns(),
                peer: peer(held.link),
                kernel: held.request.kernel.0,
                state: LiveState::Fenced,
                payload_left: 0,
                session: None,
            });
        }
    }
}
