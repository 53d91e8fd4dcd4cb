//! Which packets are lost, and which to send again (RACK-TLP, RFC 8985; Falcon's early
//! retransmit by distance and recency).

use nic_wire::{Span, Time};

use super::FlowCounters;
use super::bits::{bits, low_bits};
use super::sender::{RING, Sender, Sent};
use crate::congestion::CongestionControl;
use crate::frames::Frames;

/// A packet counts as lost when this many that were sent after it are acknowledged.
const LOSS_DISTANCE: u64 = 3;

/// Why a packet is sent again without being known as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// The newest packet, to learn which of its predecessors arrived.
    Tail,
    /// The oldest packet: probing did not help.
    Timeout,
}

/// A packet chosen to be sent again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Again {
    pub(crate) number: u64,
    pub(crate) sent: Sent,
    pub(crate) wants_ack: bool,
}

impl<C: CongestionControl> Sender<C> {
    /// Takes for lost what was overtaken by [`LOSS_DISTANCE`] sendings, or overtaken at all and
    /// sent longer ago than `lateness`.
    #[inline]
    pub(crate) fn find_losses(&mut self, now: Time, lateness: Span) {
        self.loss_deadline = Time::NEVER;
        if self.outstanding == 0 {
            return;
        }
        // Unless a packet was repeated, only those with an acknowledged successor can have been
        // overtaken. Mostly there are none.
        let sent = low_bits((self.next - self.base) as u32);
        let highest_acked = u128::BITS - (sent & !self.outstanding).leading_zeros();
        let disordered = self.disorder_end.saturating_sub(self.base) as u32;
        let suspects = self.outstanding & !self.lost & low_bits(highest_acked.max(disordered));
        if suspects != 0 {
            self.judge(now, suspects, lateness);
        }
    }

    fn judge(&mut self, now: Time, suspects: u128, lateness: Span) {
        let mut lost_bytes = 0;
        for offset in bits(suspects) {
            let sent = self.ring[(self.base as usize).wrapping_add(offset) % RING];
            if sent.order >= self.arrived_order {
                continue;
            }
            let due = sent.last_sent + lateness;
            if sent.order + LOSS_DISTANCE <= self.arrived_order || due <= now {
                self.lost |= 1 << offset;
                lost_bytes += u32::from(sent.length);
            } else {
                self.loss_deadline = self.loss_deadline.min(due);
            }
        }
        if lost_bytes > 0 {
            self.in_flight_bytes -= lost_bytes;
            self.congestion.on_loss(now, lost_bytes);
        }
    }

    /// The wait for acks has ended in vain: a packet will be sent again to provoke one.
    pub(crate) fn provoke(&mut self, now: Time) {
        self.probe = Some(if self.probes == 0 { Probe::Tail } else { Probe::Timeout });
        self.probes = self.probes.saturating_add(1);
        self.waiting_from = now;
    }

    /// Starts waiting afresh, as if no probe had been sent.
    pub(crate) fn start_afresh(&mut self, now: Time) {
        self.probes = 0;
        self.waiting_from = now;
    }

    /// Whether [`Sender::next_again`] has something to choose from.
    #[inline]
    pub(crate) fn wants_to_repeat(&self) -> bool {
        self.probe.is_some() || (self.lost != 0 && self.lost_fits_window())
    }

    fn lost_fits_window(&self) -> bool {
        let first = self.base as usize + self.lost.trailing_zeros() as usize;
        self.fits_congestion_window(u32::from(self.ring[first % RING].length))
    }

    /// Chooses the next packet to be sent again and records its sending. Frames that the port
    /// still holds have not left yet: sending them again would be senseless.
    pub(crate) fn next_again(
        &mut self,
        now: Time,
        frames: &impl Frames,
        counters: &mut FlowCounters,
    ) -> Option<Again> {
        let left = |offset: &usize| {
            let sent = &self.ring[(self.base as usize).wrapping_add(*offset) % RING];
            !frames.is_queued(sent.frame)
        };
        let (offset, counter, wants_ack) = match self.probe {
            Some(Probe::Tail) => {
                let newest = bits(self.outstanding).rev().find(left)?;
                (newest, &mut counters.retransmissions_probe, true)
            }
            Some(Probe::Timeout) => {
                let oldest = bits(self.outstanding).find(left)?;
                (oldest, &mut counters.retransmissions_timeout, true)
            }
            None => {
                if self.lost == 0 || !self.lost_fits_window() {
                    return None;
                }
                let oldest = bits(self.lost).find(left)?;
                (oldest, &mut counters.retransmissions_fast, false)
            }
        };
        *counter += 1;
        self.probe = None;
        Some(self.repeat(now, offset, wants_ack))
    }

    fn repeat(&mut self, now: Time, offset: usize, wants_ack: bool) -> Again {
        let number = self.base + offset as u64;
        let sent = &mut self.ring[number as usize % RING];
        sent.order = self.sendings;
        sent.last_sent = now;
        let sent = *sent;
        let bytes = u32::from(sent.length);
        if self.lost >> offset & 1 == 0 {
            // It still counts as in flight, and will be counted again below.
            self.in_flight_bytes -= bytes;
        }
        self.lost &= !(1 << offset);
        self.repeated |= 1 << offset;
        self.disorder_end = self.next;
        self.note_sending(now, bytes);
        Again { number, sent, wants_ack }
    }
}
