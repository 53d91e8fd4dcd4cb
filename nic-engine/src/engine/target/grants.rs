//! What each peer may have out here: credits follow how many peers are active, and who is polite.

use nic_kernels::KernelSet;
use nic_wire::Span;

use crate::engine::core::Core;
use crate::engine::links::{Link, LinkState};

/// A peer that was heard within this time is active.
const ACTIVE: Span = Span::from_ms(20);

/// What an active peer may have out at least: ops, and KiB of their replies.
const LEAST: (u16, u16) = (64, 256);

/// The same for one beside a polite one.
const LIMITED: (u16, u16) = (8, 64);

impl<K: KernelSet> Core<K> {
    /// Shares the table of ops among the peers that are active, so that all of them together cannot
    /// ask for more than it holds unless there are very many. Looks at every flow: not for each turn.
    #[cold]
    pub(in crate::engine) fn share_credits(&mut self) {
        let Core { links, endpoint, config, polite_peer, now, .. } = self;
        let is_active = |link: &Link| {
            link.state == LinkState::Open && !link.initiates && now.since(link.heard) < ACTIVE
        };
        let active = links.iter().filter(|link| is_active(link)).count().max(1) as u16;
        let most = (config.op_credits, config.reply_credits_kib);
        let share = (config.ops_in / active, most.1 / active);
        for (slot, link) in links.iter_mut().enumerate() {
            if link.state != LinkState::Open || link.initiates {
                continue;
            }
            let mut grant = (share.0.max(LEAST.0), share.1.max(LEAST.1));
            if polite_peer.limits(slot as u16, *now) {
                grant = LIMITED;
            }
            let grant = (grant.0.min(most.0), grant.1.min(most.1));
            if grant == link.granted {
                continue;
            }
            link.granted = grant;
            if let Some(flow) = link.flow_mut(endpoint) {
                flow.grant(*now, grant.0, grant.1);
            }
        }
    }
}
