//! What a flow does when a packet arrives or time passes, and what it owes.

use nic_wire::packet::{PacketFlags, PacketHeader, expand_number};
use nic_wire::{Span, Time};

use super::receiver::{Arrival, Arrived};
use super::{Flow, Newest, PEER_CLOCK_START, Role};
use crate::config::Config;
use crate::congestion::CongestionControl;
use crate::endpoint::CloseReason;
use crate::frames::Reclaim;

/// When an ack has to leave on its own, unless a packet takes it along before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckDue {
    /// Nothing is owed.
    No,
    /// At this moment.
    ByTimer(Time),
    /// At once.
    Now,
}

/// The settings that a flow needs at every packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) ack_delay: Span,
    pub(crate) receive_window_bytes: u32,
    pub(crate) probe_min: Span,
    pub(crate) timeout_min: Span,
    pub(crate) timeout_max: Span,
    probes_max: u32,
    peer_timeout: Span,
    quiet_after: u32,
    idle_timeout: Span,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        Limits {
            ack_delay: config.ack_delay,
            receive_window_bytes: config.receive_window_bytes,
            probe_min: config.probe_min,
            timeout_min: config.timeout_min,
            timeout_max: config.timeout_max,
            probes_max: config.probes_max,
            peer_timeout: config.peer_timeout,
            quiet_after: config.quiet_after,
            idle_timeout: config.idle_timeout,
        }
    }
}

/// What a data packet of this flow turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Fresh { number: u64, age: Span },
    Duplicate,
    LoneAck,
    OutOfWindow,
    ImpossibleAck,
}

impl<C: CongestionControl> Flow<C> {
    /// Takes in a packet that is authentic and comes from the peer.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        now: Time,
        header: &PacketHeader,
        bytes: usize,
        frames: &mut impl Reclaim,
    ) -> Received {
        let flags = header.flags();
        if flags.contains(PacketFlags::ACKS) && !self.take_acks(now, header, flags, frames) {
            return Received::ImpossibleAck;
        }
        self.hear(now);
        if !flags.contains(PacketFlags::NUMBERED) {
            self.take_newest(now, header, None);
            self.counters.lone_acks_received += 1;
            if flags.contains(PacketFlags::ACK_NOW) {
                self.receiver.owe_by(now);
            }
            return Received::LoneAck;
        }
        match self.receiver.classify(header.packet_number.get()) {
            Arrival::Fresh(number) => {
                let peer_time = self.take_newest(now, header, Some(number));
                let wants_ack = flags.contains(PacketFlags::ACK_NOW);
                let bytes = bytes as u32;
                self.receiver.hand_out(Arrived { number, peer_time, bytes, wants_ack });
                Received::Fresh { number, age: Span::from_us(header.age_us.get().into()) }
            }
            Arrival::Duplicate => {
                let peer_time = self.take_newest(now, header, None);
                self.receiver.owe_at_once(now, peer_time);
                self.counters.duplicates += 1;
                Received::Duplicate
            }
            Arrival::OutOfWindow => Received::OutOfWindow,
        }
    }

    #[inline]
    fn hear(&mut self, now: Time) {
        self.heard_at = now;
        if self.quiet {
            self.quiet = false;
            self.sender.start_afresh(now);
        }
    }

    /// Whether the acks are possible ones.
    #[inline]
    fn take_acks(
        &mut self,
        now: Time,
        header: &PacketHeader,
        flags: PacketFlags,
        frames: &mut impl Reclaim,
    ) -> bool {
        let selective =
            u128::from(header.selective[0].get()) | u128::from(header.selective[1].get()) << 64;
        let Some(acks) = self.sender.check(header.acknowledged.get(), selective) else {
            return false;
        };
        let echo = flags.contains(PacketFlags::ECHOES).then(|| header.echo_time_ns.get());
        let bytes = self.sender.on_acks(now, acks, echo, frames);
        if bytes > 0 {
            let dwell = header.dwell_ns.get();
            let measured = echo.and_then(|echo| measure(now, echo, dwell));
            if let Some(round_trip) = measured {
                self.round_trip.sample(round_trip);
            }
            self.sender.on_sample(now, bytes, measured);
            self.sender.find_losses(now, self.round_trip.lateness(self.peer_ack_delay));
        }
        true
    }

    /// Restores the packet's send time, and takes over its credits and window if no newer packet
    /// has come before it.
    #[inline]
    fn take_newest(&mut self, now: Time, header: &PacketHeader, number: Option<u64>) -> u64 {
        let send_time = header.send_time_ns.get();
        let peer_time = match &self.newest {
            // The peer's clock has moved on about as far as our own.
            Some(newest) => expand_number(
                send_time,
                newest.peer_time.wrapping_add(now.since(newest.received_at).as_ns()),
            ),
            None => PEER_CLOCK_START | u64::from(send_time),
        };
        let newer = self.newest.is_none_or(|newest| {
            // Packets of one turn are sent at one time; among them the number decides.
            peer_time > newest.peer_time
                || (peer_time == newest.peer_time && number.is_none_or(|n| n > newest.number))
        });
        if newer {
            let known = self.newest.map_or(0, |newest| newest.number);
            let number = number.map_or(known, |number| number.max(known));
            self.newest = Some(Newest { peer_time, number, received_at: now });
            self.credits = (header.op_credits.get(), header.reply_credits_kib.get());
            let window_bytes = header.window_bytes.get();
            self.sender.set_peer_window(window_bytes.max(u32::from(self.packet_bytes)));
        }
        peer_time
    }

    /// When an ack has to leave on its own.
    #[inline]
    pub fn ack_due(&self, now: Time) -> AckDue {
        match self.receiver.ack_deadline() {
            Time::NEVER => AckDue::No,
            due if due <= now => AckDue::Now,
            due => AckDue::ByTimer(due),
        }
    }

    /// Whether there is a packet to send again, or an ack to send, now.
    #[inline]
    pub(crate) fn has_work(&self, now: Time) -> bool {
        self.is_open() && (self.receiver.ack_deadline() <= now || self.sender.wants_to_repeat())
    }

    /// When to call [`Flow::on_timeout`]; acks that are due already do not count.
    #[inline]
    pub(crate) fn deadline(&self, now: Time) -> Time {
        let mut deadline = self.receiver.ack_deadline();
        if deadline <= now {
            deadline = Time::NEVER;
        }
        if self.sender.is_idle() {
            return deadline;
        }
        deadline.min(self.sender.loss_deadline()).min(self.patience_deadline())
    }

    /// When unacknowledged packets make something happen.
    #[inline]
    fn patience_deadline(&self) -> Time {
        if self.quiet {
            return self.heard_at + self.limits.idle_timeout;
        }
        let probes = self.sender.probes();
        let patience = self.round_trip.patience(probes, self.peer_ack_delay, &self.limits);
        let deadline = self.sender.waiting_from() + patience;
        match self.role {
            // A dead peer is noticed in time, however far the back-off reaches.
            Role::Initiator if probes >= self.limits.probes_max => deadline.min(self.lost_from()),
            _ => deadline,
        }
    }

    /// When the peer of unanswered requests counts as lost.
    fn lost_from(&self) -> Time {
        self.heard_at.max(self.sender.unanswered_from()) + self.limits.peer_timeout
    }

    /// Acts on what is due. Says why the flow ends, if it does.
    pub(crate) fn on_timeout(&mut self, now: Time) -> Option<CloseReason> {
        if self.sender.is_idle() {
            return None;
        }
        if self.sender.loss_deadline() <= now {
            self.sender.find_losses(now, self.round_trip.lateness(self.peer_ack_delay));
        }
        if self.patience_deadline() > now {
            return None;
        }
        if self.quiet {
            return Some(CloseReason::Abandoned);
        }
        let probes = self.sender.probes();
        match self.role {
            Role::Initiator if probes >= self.limits.probes_max && self.lost_from() <= now => {
                return Some(CloseReason::PeerLost);
            }
            Role::Target if probes >= self.limits.quiet_after => {
                self.quiet = true;
                self.counters.quieted += 1;
            }
            _ => self.sender.provoke(now),
        }
        None
    }

    /// How long nothing has been heard from the peer.
    pub(crate) fn silence(&self, now: Time) -> Span {
        now.since(self.heard_at)
    }

    /// Whether any packet has come since the flow was opened.
    pub(crate) fn was_used(&self) -> bool {
        self.newest.is_some()
    }

    /// Releases every retained frame.
    pub(crate) fn release_frames(&mut self, frames: &mut impl Reclaim) {
        self.sender.release_all(frames);
    }

    /// Takes the handshake's round trip as a first measurement.
    pub(crate) fn take_first_round_trip(&mut self, measured: Span) {
        self.round_trip.sample(measured);
    }

    /// The number of the first packet that this end sends.
    pub(crate) fn initial_number(&self) -> u64 {
        self.sender.first()
    }

    /// What was granted last.
    pub(crate) fn granted(&self) -> (u16, u16) {
        self.granted
    }
}

/// The round trip by an echoed send time, without the time for which it was held back.
#[inline]
fn measure(now: Time, echo: u32, dwell: u32) -> Option<Span> {
    // The largest dwell stands for any longer one.
    if dwell == u32::MAX {
        return None;
    }
    let measured = now.truncated().wrapping_sub(echo).wrapping_sub(dwell);
    // A negative result tells of a peer whose clock runs faster, or of one that lies.
    (measured <= i32::MAX as u32).then_some(Span::from_ns(measured.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_measured_across_the_clock_wrap() {
        let sent = Time::from_ns(0xffff_ff00);
        let now = sent + Span::from_us(80);
        let measured = measure(now, sent.truncated(), 30_000);
        assert_eq!(measured, Some(Span::from_us(50)));
        assert_eq!(measure(now, sent.truncated(), u32::MAX), None);
        assert_eq!(measure(now, sent.truncated(), 90_000), None);
    }
}
