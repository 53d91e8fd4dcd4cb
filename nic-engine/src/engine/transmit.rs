//! The turn's last act: replies and requests into packets, packets sent again, acks, handshakes.

use nic_kernels::KernelSet;
use nic_ports::{Port, Share};
use nic_transport::{AckDue, CONTROL_BYTES_MAX};

use super::core::Core;
use super::links::LinkState;

impl<K: KernelSet> Core<K> {
    /// Fills packets and hands them to the port; the port sends them afterwards.
    #[inline]
    pub(super) fn transmit<P: Port>(&mut self, port: &mut P) {
        self.put_blocked_first();
        debug_assert!(self.touched.len() <= self.links.len(), "a flow has business once");
        let mut index = 0;
        while index < self.touched.len() {
            let slot = self.touched[index];
            index += 1;
            self.links[usize::from(slot)].touched = false;
            if self.links[usize::from(slot)].state == LinkState::Open {
                self.serve_link(slot, port);
            }
        }
        self.touched.clear();
        self.blocked.append(&mut self.blocked_served);
        self.send_control(port);
    }

    /// What found no room last time may find some now: acks came, or frames were freed. It goes
    /// before what has come since, and what got nothing before what got something, so that few
    /// frames go round.
    #[inline]
    fn put_blocked_first(&mut self) {
        if self.blocked.is_empty() {
            return;
        }
        let Core { touched, blocked, links, .. } = self;
        std::mem::swap(touched, blocked);
        let first = touched.len();
        for slot in touched.iter() {
            links[usize::from(*slot)].touched = false;
        }
        let others = blocked.drain(..).filter(|slot| links[usize::from(*slot)].touched);
        touched.extend(others);
        for slot in &touched[..first] {
            links[usize::from(*slot)].touched = true;
        }
    }

    #[inline]
    fn serve_link<P: Port>(&mut self, slot: u16, port: &mut P) {
        let link = &mut self.links[usize::from(slot)];
        link.sent = false;
        let Some(flow) = link.flow(&self.endpoint) else { return };
        if flow.wants_to_repeat() {
            self.resend(slot, port);
        }
        let link = &self.links[usize::from(slot)];
        let outcome = match (link.initiates, link.held > 0) {
            (true, _) => self.issue_all(slot, port),
            (false, false) => self.reply_all(slot, port),
            (false, true) => {
                let answered = self.reply_all(slot, port);
                answered.and(self.release_fences(slot))
            }
        };
        let Core { links, endpoint, protection, now, .. } = self;
        links[usize::from(slot)].send_open(false, *now, endpoint, port, protection);
        if outcome.is_err() {
            let has_sent = self.links[usize::from(slot)].sent;
            if has_sent { &mut self.blocked_served } else { &mut self.blocked }.push(slot);
        }
        let link = &self.links[usize::from(slot)];
        // What is owed has ridden on a packet, if there was one.
        if !link.sent {
            self.send_lone_ack(slot, port);
        } else if link.asks {
            self.send_ask(slot, port);
        }
    }

    /// Asks a silent peer for an ack at once.
    #[cold]
    fn send_ask<P: Port>(&mut self, slot: u16, port: &mut P) {
        let Core { links, endpoint, protection, now, counters, .. } = self;
        let link = &mut links[usize::from(slot)];
        link.asks = false;
        let Some(flow) = link.flow_mut(endpoint) else { return };
        let Some(frame) = port.allocate(Share::Control) else { return };
        let length = flow.write_probe(*now, port.bytes_mut(frame), protection);
        port.submit(frame, length, link.to);
        port.release(frame);
        counters.asks += 1;
    }

    /// Sends again what was lost.
    #[cold]
    fn resend<P: Port>(&mut self, slot: u16, port: &mut P) {
        let Core { links, endpoint, protection, now, .. } = self;
        let link = &links[usize::from(slot)];
        let Some(flow) = link.flow_mut(endpoint) else { return };
        while let Some((frame, length)) = flow.retransmit(*now, port, protection) {
            port.submit(frame, length, link.to);
        }
    }

    /// Sends an ack that has nothing to ride on, if it is due.
    #[inline]
    fn send_lone_ack<P: Port>(&mut self, slot: u16, port: &mut P) {
        let Core { links, endpoint, protection, now, .. } = self;
        let link = &links[usize::from(slot)];
        if link.asks {
            return self.send_ask(slot, port);
        }
        if link.flow(endpoint).is_none_or(|flow| flow.ack_due(*now) != AckDue::Now) {
            return;
        }
        let Some(flow) = link.flow_mut(endpoint) else { return };
        // Without a frame the ack stays due; the timer brings it back.
        let Some(frame) = port.allocate(Share::Control) else { return };
        let length = flow.write_ack(*now, port.bytes_mut(frame), protection);
        port.submit(frame, length, link.to);
        port.release(frame);
    }

    /// Sends handshakes, resets and version lists.
    #[inline]
    fn send_control<P: Port>(&mut self, port: &mut P) {
        if !self.endpoint.wants_control() {
            return;
        }
        let mut packet = [0; CONTROL_BYTES_MAX];
        // Without a frame they wait: repetitions could find the frames taken just the same.
        while port.available(Share::Control) > 0
            && let Some((length, to)) =
                self.endpoint.poll_control(self.now, &mut packet, &mut self.protection)
        {
            let Some(frame) = port.allocate(Share::Control) else { return };
            port.bytes_mut(frame)[..length].copy_from_slice(&packet[..length]);
            port.submit(frame, length, to);
            port.release(frame);
        }
    }
}
