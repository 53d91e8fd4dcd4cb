//! The measured round trip and what follows from it: how long acks are held back and how long
//! they are waited for (RFC 6298 for the smoothing, RACK-TLP, RFC 8985, for probe and time-out).

use nic_wire::Span;

use super::Limits;

/// Smoothed round trip and its variation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    smoothed_ns: u64,
    variation_ns: u64,
    sampled: bool,
}

/// A quarter of the round trip, but at least this, is allowed for reordering.
const REORDERING_MIN: Span = Span::from_us(20);

impl RoundTrip {
    pub(crate) fn new(assumed: Span) -> Self {
        let smoothed_ns = assumed.as_ns();
        RoundTrip { smoothed_ns, variation_ns: smoothed_ns / 2, sampled: false }
    }

    #[inline]
    pub(crate) fn sample(&mut self, measured: Span) {
        let measured = measured.as_ns().max(1);
        if self.sampled {
            let error = measured.abs_diff(self.smoothed_ns);
            self.variation_ns = (3 * self.variation_ns + error) / 4;
            self.smoothed_ns = (7 * self.smoothed_ns + measured) / 8;
        } else {
            *self = RoundTrip { smoothed_ns: measured, variation_ns: measured / 2, sampled: true };
        }
    }

    /// The smoothed round trip, once there was a sample.
    #[inline]
    pub(crate) fn measured(&self) -> Option<Span> {
        self.sampled.then_some(Span::from_ns(self.smoothed_ns))
    }

    /// How long an ack may be held back, when at least `least` was agreed. Both ends reckon it
    /// from their own measurement of the same round trip.
    #[inline]
    pub(crate) fn ack_delay(&self, least: Span) -> Span {
        // The assumed round trip is no reason to hold acks back longer.
        let quarter = if self.sampled { self.smoothed_ns / 4 } else { 0 };
        Span::from_ns(quarter).max(least)
    }

    /// How long after its sending a packet that others have overtaken counts as lost: its own
    /// ack may come with the next one that the peer sends.
    #[inline]
    pub(crate) fn lateness(&self, peer_ack_delay: Span) -> Span {
        let quarter = Span::from_ns(self.smoothed_ns / 4).max(REORDERING_MIN);
        Span::from_ns(self.smoothed_ns) + quarter + self.ack_delay(peer_ack_delay)
    }

    /// How long to wait for an ack after `probes` probes went unanswered: first the tail-loss
    /// probe, then the retransmission time-out with its back-off.
    #[inline]
    pub(crate) fn patience(&self, probes: u32, peer_ack_delay: Span, limits: &Limits) -> Span {
        let smoothed = Span::from_ns(self.smoothed_ns);
        let spread = Span::from_ns(4 * self.variation_ns);
        let ack_delay = self.ack_delay(peer_ack_delay);
        if probes == 0 {
            let probe = smoothed + spread.max(smoothed) + ack_delay;
            return probe.max(limits.probe_min);
        }
        let timeout = (smoothed + spread + ack_delay).max(limits.timeout_min);
        let backed_off = timeout.times(1 << (probes - 1).min(20));
        // A path slower than the bound is given the time that it needs.
        backed_off.min(limits.timeout_max.max(timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn follows_samples() {
        let mut round_trip = RoundTrip::new(Span::from_ms(1));
        assert_eq!(round_trip.measured(), None);
        round_trip.sample(Span::from_us(100));
        assert_eq!(round_trip.measured(), Some(Span::from_us(100)));
        for _ in 0..100 {
            round_trip.sample(Span::from_us(200));
        }
        let measured = round_trip.measured().unwrap().as_us();
        assert!((199..=200).contains(&measured), "{measured}");
        assert!(round_trip.variation_ns < 1_000, "{}", round_trip.variation_ns);
    }

    #[test]
    fn patience_backs_off_and_is_bounded() {
        let limits = Limits::new(&Config::default());
        let mut round_trip = RoundTrip::new(Span::from_ms(1));
        round_trip.sample(Span::from_us(20));
        let delay = Span::from_us(50);
        let patience = |probes| round_trip.patience(probes, delay, &limits);
        assert_eq!(patience(0), limits.probe_min);
        assert_eq!(patience(1), limits.timeout_min);
        assert_eq!(patience(2), limits.timeout_min.times(2));
        assert_eq!(patience(60), limits.timeout_max);
        // The peer's ack delay is waited for.
        let slow = Span::from_ms(9);
        assert!(round_trip.patience(0, slow, &limits) > slow);
        // A satellite's round trip exceeds the bound on back-off.
        let mut far = RoundTrip::new(Span::from_ms(1));
        far.sample(Span::from_ms(600));
        assert!(far.patience(3, delay, &limits) >= Span::from_ms(600));
    }
}
