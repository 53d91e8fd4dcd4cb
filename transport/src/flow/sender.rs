//! The sending half of a flow: packets that await their ack, and which of them to send again.

use nic_wire::packet::SELECTIVE_BITS;
use nic_wire::{Span, Time};

use super::FlowCounters;
use crate::congestion::{AckSample, CongestionControl};
use crate::frames::{FrameId, Frames};

/// A packet counts as lost when this many that were sent after it are acknowledged.
const LOSS_DISTANCE: u64 = 3;
const RING: usize = SELECTIVE_BITS as usize;
const _: () = assert!(RING == u128::BITS as usize && RING.is_power_of_two());

/// A packet that awaits its ack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) frame: FrameId,
    pub(crate) length: u16,
    /// The place of its last sending among all sendings of the flow.
    order: u64,
    pub(crate) first_sent: Time,
    last_sent: Time,
}

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

/// The ack fields of a packet, checked to be possible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acks {
    /// By how much the lowest number that has not arrived lies beyond `base`.
    advance: u32,
    selective: u128,
}

#[derive(Clone, Debug)]
pub(crate) struct Sender<C> {
    // The bitmaps tell of numbers from `base` on: bit i is number base + i.
    outstanding: u128,
    /// Outstanding, taken for lost, and not yet sent again.
    lost: u128,
    /// Outstanding and sent more than once.
    repeated: u128,
    /// The oldest unacknowledged number; the next one if there is none.
    base: u64,
    next: u64,
    first: u64,
    /// How many sendings there were.
    sendings: u64,
    /// The highest place in the order of sendings that is known to have arrived.
    arrived_order: u64,
    /// Below this number, the order of sendings may differ from that of numbers.
    disorder_end: u64,
    unacked_bytes: u32,
    in_flight_bytes: u32,
    peer_window_bytes: u32,
    probes: u32,
    probe: Option<Probe>,
    /// From when on an ack is waited for.
    waiting_from: Time,
    /// When the oldest of the present unacknowledged packets began to wait.
    unanswered_from: Time,
    /// When to look again for packets left behind.
    loss_deadline: Time,
    congestion: C,
    ring: [Sent; RING],
}

impl<C: CongestionControl> Sender<C> {
    pub(crate) fn new(first_packet_number: u64, peer_window_bytes: u32, congestion: C) -> Self {
        let vacant = Sent {
            frame: FrameId(u32::MAX),
            length: 0,
            order: 0,
            first_sent: Time::ZERO,
            last_sent: Time::ZERO,
        };
        Sender {
            outstanding: 0,
            lost: 0,
            repeated: 0,
            base: first_packet_number,
            next: first_packet_number,
            first: first_packet_number,
            sendings: 0,
            arrived_order: 0,
            disorder_end: first_packet_number,
            unacked_bytes: 0,
            in_flight_bytes: 0,
            peer_window_bytes,
            probes: 0,
            probe: None,
            waiting_from: Time::ZERO,
            unanswered_from: Time::ZERO,
            loss_deadline: Time::NEVER,
            congestion,
            ring: [vacant; RING],
        }
    }

    /// Whether a packet of `bytes` may leave now. One packet is always allowed when nothing is
    /// out: a peer whose window is smaller than a packet would otherwise never hear from us.
    #[inline]
    pub(crate) fn may_send(&self, bytes: u32) -> bool {
        if self.unacked_bytes == 0 {
            return true;
        }
        self.next - self.base < SELECTIVE_BITS
            && self.unacked_bytes.saturating_add(bytes) <= self.peer_window_bytes
            && self.fits_congestion_window(bytes)
    }

    #[inline]
    fn fits_congestion_window(&self, bytes: u32) -> bool {
        self.in_flight_bytes == 0
            || self.in_flight_bytes.saturating_add(bytes) <= self.congestion.window_bytes()
    }

    /// Records that the next packet leaves for the first time.
    #[inline]
    pub(crate) fn record(&mut self, now: Time, frame: FrameId, length: u16) {
        let offset = self.next - self.base;
        // The caller's duty (`may_send`); beyond it a packet that awaits its ack would be lost.
        assert!(offset < SELECTIVE_BITS, "no more than {SELECTIVE_BITS} packets may be out");
        if self.outstanding == 0 {
            self.unanswered_from = now;
        }
        self.ring[self.next as usize % RING] =
            Sent { frame, length, order: self.sendings, first_sent: now, last_sent: now };
        self.outstanding |= 1 << offset;
        self.next += 1;
        self.unacked_bytes += u32::from(length);
        self.note_sending(now, u32::from(length));
    }

    #[inline]
    fn note_sending(&mut self, now: Time, bytes: u32) {
        self.sendings += 1;
        self.in_flight_bytes += bytes;
        self.waiting_from = now;
        self.congestion.on_sent(now, bytes);
    }

    /// Checks the ack fields of a packet: `None` if they name packets that were never sent.
    #[inline]
    pub(crate) fn check(&self, acknowledged: u32, selective: u128) -> Option<Acks> {
        let advance = acknowledged.wrapping_sub(self.base as u32) as i32;
        if advance < 0 {
            // Older than what is known: true, and of no use any more.
            return Some(Acks { advance: 0, selective: 0 });
        }
        let advance = advance as u64;
        let known = self.next - self.base;
        if advance > known {
            return None;
        }
        // Bit i names number base + advance + 1 + i, which must be below `next`.
        let nameable = known.saturating_sub(advance + 1);
        if selective.checked_shr(nameable as u32).unwrap_or(0) != 0 {
            return None;
        }
        Some(Acks { advance: advance as u32, selective })
    }

    /// Releases what is acknowledged and finds what is lost. The bytes newly acknowledged.
    #[inline]
    pub(crate) fn on_acks(
        &mut self,
        now: Time,
        acks: Acks,
        newest_echo: Option<u32>,
        frames: &mut impl Frames,
    ) -> u32 {
        let named = acks.selective.checked_shl(acks.advance + 1).unwrap_or(0);
        let acked = self.outstanding & (low_bits(acks.advance) | named);
        if acked == 0 {
            return 0;
        }
        let bytes = self.release(acked, newest_echo, frames);
        self.probes = 0;
        self.probe = None;
        self.waiting_from = now;
        self.outstanding &= !acked;
        self.lost &= !acked;
        self.repeated &= !acked;
        let advance = if self.outstanding == 0 {
            (self.next - self.base) as u32
        } else {
            self.outstanding.trailing_zeros()
        };
        self.base += u64::from(advance);
        self.outstanding = self.outstanding.checked_shr(advance).unwrap_or(0);
        self.lost = self.lost.checked_shr(advance).unwrap_or(0);
        self.repeated = self.repeated.checked_shr(advance).unwrap_or(0);
        self.loss_deadline = Time::NEVER;
        bytes
    }

    #[inline]
    fn release(&mut self, acked: u128, newest_echo: Option<u32>, frames: &mut impl Frames) -> u32 {
        let (mut bytes, mut arrived_order) = (0, self.arrived_order);
        for offset in bits(acked) {
            let sent = self.ring[(self.base as usize).wrapping_add(offset) % RING];
            frames.release(sent.frame);
            bytes += u32::from(sent.length);
            if self.lost >> offset & 1 == 0 {
                self.in_flight_bytes -= u32::from(sent.length);
            }
            // The ack of a repeated packet tells of its last sending only if the peer has seen
            // something sent then or later.
            let repeated = self.repeated >> offset & 1 == 1;
            let certain = |echo: u32| echo.wrapping_sub(sent.last_sent.truncated()) as i32 >= 0;
            if !repeated || newest_echo.is_some_and(certain) {
                arrived_order = arrived_order.max(sent.order);
            }
        }
        self.arrived_order = arrived_order;
        self.unacked_bytes -= bytes;
        bytes
    }

    /// Tells congestion control of an ack.
    #[inline]
    pub(crate) fn on_sample(&mut self, now: Time, bytes: u32, round_trip: Option<Span>) {
        let in_flight_bytes = self.in_flight_bytes;
        self.congestion.on_ack(now, &AckSample { bytes, round_trip, in_flight_bytes });
    }

    /// Takes for lost what was overtaken by [`LOSS_DISTANCE`] sendings, or overtaken at all and
    /// sent longer ago than `lateness`.
    #[inline]
    pub(crate) fn find_losses(&mut self, now: Time, lateness: Span) {
        self.loss_deadline = Time::NEVER;
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

    /// Releases every frame: the flow ends.
    pub(crate) fn release_all(&mut self, frames: &mut impl Frames) {
        for offset in bits(self.outstanding) {
            frames.release(self.ring[(self.base as usize).wrapping_add(offset) % RING].frame);
        }
        self.outstanding = 0;
        self.lost = 0;
        self.repeated = 0;
        self.base = self.next;
        self.unacked_bytes = 0;
        self.in_flight_bytes = 0;
        self.probe = None;
    }

    #[inline]
    pub(crate) fn set_peer_window(&mut self, bytes: u32) {
        self.peer_window_bytes = bytes;
    }

    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding == 0
    }

    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    #[inline]
    pub(crate) fn unacked_bytes(&self) -> u32 {
        self.unacked_bytes
    }

    #[inline]
    pub(crate) fn unacked_packets(&self) -> u32 {
        self.outstanding.count_ones()
    }

    #[inline]
    pub(crate) fn probes(&self) -> u32 {
        self.probes
    }

    #[inline]
    pub(crate) fn waiting_from(&self) -> Time {
        self.waiting_from
    }

    #[inline]
    pub(crate) fn unanswered_from(&self) -> Time {
        self.unanswered_from
    }

    #[inline]
    pub(crate) fn loss_deadline(&self) -> Time {
        self.loss_deadline
    }

    pub(crate) fn congestion(&self) -> &C {
        &self.congestion
    }
}

/// The `count` lowest bits.
#[inline]
fn low_bits(count: u32) -> u128 {
    u128::MAX.checked_shr(u128::BITS - count.min(u128::BITS)).unwrap_or(0)
}

/// The places of the bits that are set, from the lowest on.
#[inline]
fn bits(set: u128) -> Bits {
    Bits(set)
}

struct Bits(u128);

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let place = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(place as usize)
    }
}

impl DoubleEndedIterator for Bits {
    #[inline]
    fn next_back(&mut self) -> Option<usize> {
        let place = self.0.checked_ilog2()?;
        self.0 &= !(1 << place);
        Some(place as usize)
    }
}
