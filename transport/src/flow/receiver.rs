//! The receiving half of a flow: which packets have arrived, and what ack is owed for them.

use nic_wire::packet::SELECTIVE_BITS;
use nic_wire::{Span, Time};

/// Acks are owed at once after this many packets: half of what a sender may have out.
const OWED_PACKETS_MAX: u32 = SELECTIVE_BITS as u32 / 2;

/// A numbered packet's place among those that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Fresh(u64),
    Duplicate,
    OutOfWindow,
}

/// What the ack of a packet needs to know of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) number: u64,
    /// When it was sent, on the peer's clock restored to 64 bits.
    pub(crate) peer_time: u64,
    pub(crate) bytes: u32,
    pub(crate) wants_ack: bool,
}

/// The send time to be echoed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    peer_time: u64,
    arrived_at: Time,
}

impl Echo {
    /// The send time as packets carry it.
    #[inline]
    pub(crate) fn send_time_ns(&self) -> u32 {
        self.peer_time as u32
    }

    /// How long it has been held back.
    #[inline]
    pub(crate) fn dwell_ns(&self, now: Time) -> u32 {
        now.since(self.arrived_at).saturated_ns()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    /// Bit i: number `expected + 1 + i` has arrived.
    later: u128,
    /// The lowest number that has not arrived.
    expected: u64,
    /// The packet that was handed out last and may be accepted next.
    handed_out: Arrived,
    echo: Option<Echo>,
    owed_packets: u32,
    owed_bytes: u32,
    /// When the ack that is owed has to leave; [`Time::NEVER`] if none is.
    ack_deadline: Time,
}

impl Receiver {
    pub(crate) fn new(first_packet_number: u64) -> Self {
        Receiver {
            later: 0,
            expected: first_packet_number,
            handed_out: Arrived::default(),
            echo: None,
            owed_packets: 0,
            owed_bytes: 0,
            ack_deadline: Time::NEVER,
        }
    }

    /// Finds a packet's place by the low half of its number.
    #[inline]
    pub(crate) fn classify(&self, truncated: u32) -> Arrival {
        let distance = truncated.wrapping_sub(self.expected as u32) as i32;
        if distance == 0 {
            return Arrival::Fresh(self.expected);
        }
        if distance < 0 {
            // Built without this check, the simulation must fail.
            let again = self.expected.wrapping_add_signed(distance.into());
            let fails = cfg!(nic_break = "reexecute");
            return if fails { Arrival::Fresh(again) } else { Arrival::Duplicate };
        }
        let distance = distance as u64;
        if distance > SELECTIVE_BITS {
            Arrival::OutOfWindow
        } else if self.later >> (distance - 1) & 1 == 1 {
            Arrival::Duplicate
        } else {
            Arrival::Fresh(self.expected + distance)
        }
    }

    /// Remembers a fresh packet until it is accepted.
    #[inline]
    pub(crate) fn hand_out(&mut self, arrived: Arrived) {
        self.handed_out = arrived;
    }

    /// Marks a packet as arrived; an ack is then owed within `ack_delay`. Whether it was new.
    #[inline]
    pub(crate) fn accept(
        &mut self,
        now: Time,
        number: u64,
        ack_delay: Span,
        owed_bytes_max: u32,
    ) -> bool {
        let Some(distance) = number.checked_sub(self.expected) else { return false };
        if distance == 0 {
            self.expected += 1;
            if self.later != 0 {
                let run = self.later.trailing_ones();
                self.expected += u64::from(run);
                self.later = self.later.checked_shr(run + 1).unwrap_or(0);
            }
        } else {
            let bit = 1u128.checked_shl((distance - 1).min(SELECTIVE_BITS) as u32).unwrap_or(0);
            if bit == 0 || self.later & bit != 0 {
                return false;
            }
            self.later |= bit;
        }
        // Acceptance usually follows at once. A packet accepted later than its successor was
        // handed out is acked without an echo.
        let arrived = self.handed_out;
        if arrived.number == number {
            self.owe(now, arrived, ack_delay, owed_bytes_max);
        } else {
            self.owe_by(now + ack_delay);
        }
        true
    }

    #[inline]
    fn owe(&mut self, now: Time, arrived: Arrived, ack_delay: Span, owed_bytes_max: u32) {
        self.owed_packets += 1;
        self.owed_bytes = self.owed_bytes.saturating_add(arrived.bytes);
        let full = self.owed_packets >= OWED_PACKETS_MAX || self.owed_bytes >= owed_bytes_max;
        self.owe_by(if arrived.wants_ack || full { now } else { now + ack_delay });
        self.note_echo(now, arrived.peer_time);
    }

    /// An ack has to leave by this moment, if not before.
    #[inline]
    pub(crate) fn owe_by(&mut self, deadline: Time) {
        self.ack_deadline = self.ack_deadline.min(deadline);
    }

    /// A packet came again: its ack was lost or is late, so another is owed at once.
    #[inline]
    pub(crate) fn owe_at_once(&mut self, now: Time, peer_time: u64) {
        self.owe_by(now);
        self.note_echo(now, peer_time);
    }

    #[inline]
    fn note_echo(&mut self, now: Time, peer_time: u64) {
        if self.echo.is_none_or(|echo| peer_time >= echo.peer_time) {
            self.echo = Some(Echo { peer_time, arrived_at: now });
        }
    }

    /// An ack leaves: nothing is owed any more.
    #[inline]
    pub(crate) fn settle_debt(&mut self) {
        self.owed_packets = 0;
        self.owed_bytes = 0;
        self.ack_deadline = Time::NEVER;
    }

    #[inline]
    pub(crate) fn ack_deadline(&self) -> Time {
        self.ack_deadline
    }

    #[inline]
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    #[inline]
    pub(crate) fn later(&self) -> u128 {
        self.later
    }

    #[inline]
    pub(crate) fn echo(&self) -> Option<&Echo> {
        self.echo.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    const DELAY: Span = Span::from_us(50);

    /// Arrivals in random order, with repetitions, against a set of numbers.
    #[test]
    fn bitmap_agrees_with_a_set() {
        for first in [1u64, 0xffff_ff80, 1 << 40] {
            let mut receiver = Receiver::new(first);
            let mut model = BTreeSet::new();
            let mut expected = first;
            let mut state = first | 1;
            for _ in 0..20_000 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(99991);
                let number = (expected + (state >> 40) % 140).saturating_sub(5).max(first);
                let distance = number as i64 - expected as i64;
                let class = receiver.classify(number as u32);
                if number < expected || model.contains(&number) {
                    assert_eq!(class, Arrival::Duplicate);
                    assert!(!receiver.accept(Time::ZERO, number, DELAY, 1));
                } else if distance > 128 {
                    assert_eq!(class, Arrival::OutOfWindow);
                    assert!(!receiver.accept(Time::ZERO, number, DELAY, 1));
                } else {
                    assert_eq!(class, Arrival::Fresh(number));
                    assert!(receiver.accept(Time::ZERO, number, DELAY, 1));
                    model.insert(number);
                }
                while model.remove(&expected) {
                    expected += 1;
                }
                assert_eq!(receiver.expected(), expected);
                let bits = model.iter().fold(0u128, |bits, n| bits | 1 << (n - expected - 1));
                assert_eq!(receiver.later(), bits);
            }
        }
    }

    #[test]
    fn a_full_bitmap_shifts_out_whole() {
        let mut receiver = Receiver::new(0);
        for number in (0..=128).rev() {
            assert!(receiver.accept(Time::ZERO, number, DELAY, 1));
        }
        assert_eq!((receiver.expected(), receiver.later()), (129, 0));
    }

    #[test]
    fn acks_are_owed_by_time_bytes_and_wish() {
        let now = Time::from_ns(1_000_000);
        let arrived = |number, bytes, wants_ack| Arrived { number, peer_time: 5, bytes, wants_ack };
        let mut receiver = Receiver::new(0);
        assert_eq!(receiver.ack_deadline(), Time::NEVER);
        for (number, bytes, wants, deadline) in
            [(0, 100, false, now + DELAY), (1, 900, false, now), (2, 1, true, now)]
        {
            receiver.hand_out(arrived(number, bytes, wants));
            assert!(receiver.accept(now, number, DELAY, 1_000));
            assert_eq!(receiver.ack_deadline(), deadline);
            if number > 0 {
                receiver.settle_debt();
                assert_eq!(receiver.ack_deadline(), Time::NEVER);
            }
        }
    }
}
