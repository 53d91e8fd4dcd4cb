//! Time passes, and the engine takes its turn.

use nic_wire::Time;
use nic_wire::handshake::ResetReason;

use super::{CloseReason, End, Endpoint, FlowEvent, FlowHandle};
use crate::congestion::CongestionControl;
use crate::flow::Stage;

impl<C: CongestionControl> Endpoint<C> {
    /// When [`on_timeout`](Endpoint::on_timeout) has to be called at the latest. The clock's
    /// start (that is, at once) while something has happened that it has not looked at.
    #[inline]
    pub fn next_timeout(&self) -> Time {
        if self.touched.is_empty() && self.work.is_empty() {
            self.timers.next()
        } else {
            Time::ZERO
        }
    }

    /// Looks at the flows to which something happened since the last call, and at those whose
    /// timers have gone off. Flows that then have packets to send come out of
    /// [`poll_work`](Endpoint::poll_work). Cheap when there is nothing to do.
    #[inline]
    pub fn on_timeout(&mut self, now: Time) {
        for _ in 0..self.touched.len() {
            if let Some(slot) = self.touched.pop() {
                self.look_at(now, slot);
            }
        }
        while let Some(slot) = self.timers.pop_due(now) {
            self.fire(now, slot);
        }
    }

    /// The next flow with something to send: retransmissions, then an ack unless they took it
    /// along. To be called after [`on_timeout`](Endpoint::on_timeout), until it returns `None`.
    #[inline]
    pub fn poll_work(&mut self) -> Option<FlowHandle> {
        while let Some(slot) = self.work.pop() {
            if self.flows.at(slot).is_some_and(|flow| flow.is_open()) {
                self.touched.push(slot);
                return Some(self.flows.handle(slot));
            }
        }
        None
    }

    /// The next event, if any. At most two wait for each flow: that it opened, and how it ended.
    #[inline]
    pub fn poll_event(&mut self) -> Option<FlowEvent> {
        while let Some(slot) = self.events.pop() {
            let flow = self.flows.handle(slot);
            if let Some(role) = self.flows.take_opened(slot) {
                // It may have ended since: the slot stays in the queue until it has nothing left.
                self.events.push(slot);
                return Some(FlowEvent::Opened { flow, role });
            }
            match self.flows.take_ended(slot) {
                Some(End::Failed(failure)) => return Some(FlowEvent::Failed { flow, failure }),
                Some(End::Closed(reason)) => return Some(FlowEvent::Closed { flow, reason }),
                None => {}
            }
        }
        None
    }

    #[inline]
    fn look_at(&mut self, now: Time, slot: u16) {
        let Some(flow) = self.flows.at(slot).filter(|flow| flow.is_open()) else { return };
        if flow.has_work(now) {
            self.work.push(slot);
        }
        let deadline = flow.deadline(now);
        self.timers.arm(slot, deadline);
    }

    #[cold]
    fn fire(&mut self, now: Time, slot: u16) {
        let Some(flow) = self.flows.at_mut(slot) else { return };
        match flow.stage {
            Stage::Connecting(_) => self.on_connect_timeout(now, slot),
            Stage::Open => match flow.on_timeout(now) {
                Some(reason) => self.give_up(slot, reason),
                // Looked at in the next round, should the next deadline be in the past already.
                None if flow.deadline(now) <= now => self.touched.push(slot),
                None => self.look_at(now, slot),
            },
            Stage::Ended => {}
        }
    }

    /// A flow ends by itself. Should the peer live after all, it learns of it.
    fn give_up(&mut self, slot: u16, reason: CloseReason) {
        let told = match reason {
            CloseReason::Abandoned => ResetReason::Abandoned,
            CloseReason::PeerLost | CloseReason::ResetByPeer(_) => ResetReason::Closing,
        };
        self.ask_reset(slot, told);
        self.end(slot, Some(End::Closed(reason)));
    }
}
