//! The sending half of a flow: packets that await their ack, and which of them to send again.

use nic_wire::packet::SELECTIVE_BITS;
use nic_wire::{Span, Time};

use super::bits::{bits, low_bits};
use super::recovery::Probe;
use crate::congestion::{AckSample, CongestionControl};
use crate::frames::{FrameId, Reclaim};

pub(super) const RING: usize = SELECTIVE_BITS as usize;
const _: () = assert!(RING == u128::BITS as usize && RING.is_power_of_two());

/// A packet that awaits its ack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) frame: FrameId,
    pub(crate) length: u16,
    /// The place of its last sending among all sendings of the flow.
    pub(super) order: u64,
    pub(crate) first_sent: Time,
    pub(super) last_sent: Time,
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
    pub(super) outstanding: u128,
    /// Outstanding, taken for lost, and not yet sent again.
    pub(super) lost: u128,
    /// Outstanding and sent more than once.
    pub(super) repeated: u128,
    /// The oldest unacknowledged number; the next one if there is none.
    pub(super) base: u64,
    pub(super) next: u64,
    pub(super) first: u64,
    /// How many sendings there were.
    pub(super) sendings: u64,
    /// The highest place in the order of sendings that is known to have arrived.
    pub(super) arrived_order: u64,
    /// Below this number, the order of sendings may differ from that of numbers.
    pub(super) disorder_end: u64,
    pub(super) unacked_bytes: u32,
    pub(super) in_flight_bytes: u32,
    pub(super) peer_window_bytes: u32,
    pub(super) probes: u32,
    pub(super) probe: Option<Probe>,
    /// From when on an ack is waited for.
    pub(super) waiting_from: Time,
    /// When the oldest of the present unacknowledged packets began to wait.
    pub(super) unanswered_from: Time,
    /// When to look again for packets left behind.
    pub(super) loss_deadline: Time,
    pub(super) congestion: C,
    pub(super) ring: [Sent; RING],
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
    pub(super) fn fits_congestion_window(&self, bytes: u32) -> bool {
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
    pub(super) fn note_sending(&mut self, now: Time, bytes: u32) {
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
        if selective != 0 && selective >> nameable != 0 {
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
        frames: &mut impl Reclaim,
    ) -> u32 {
        let acked = if u64::from(acks.advance) == self.next - self.base {
            // The usual case, spared the wide shifts: all that is outstanding has arrived.
            self.outstanding
        } else {
            let named = acks.selective.checked_shl(acks.advance + 1).unwrap_or(0);
            self.outstanding & (low_bits(acks.advance) | named)
        };
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
        if self.outstanding == 0 {
            self.base = self.next;
        } else {
            let advance = self.outstanding.trailing_zeros();
            self.base += u64::from(advance);
            self.outstanding >>= advance;
            self.lost >>= advance;
            self.repeated >>= advance;
        }
        self.loss_deadline = Time::NEVER;
        bytes
    }

    #[inline]
    fn release(&mut self, acked: u128, newest_echo: Option<u32>, frames: &mut impl Reclaim) -> u32 {
        let (mut bytes, mut arrived_order) = (0, self.arrived_order);
        for offset in bits(acked) {
            let sent = self.ring[(self.base as usize).wrapping_add(offset) % RING];
            frames.reclaim(sent.frame);
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

    /// Releases every frame: the flow ends.
    pub(crate) fn release_all(&mut self, frames: &mut impl Reclaim) {
        for offset in bits(self.outstanding) {
            frames.reclaim(self.ring[(self.base as usize).wrapping_add(offset) % RING].frame);
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
