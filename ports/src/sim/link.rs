//! One direction between two hosts.

use nic_wire::{Span, Time};

use super::Verdict;
use crate::{Chance, Random};

/// How one direction of a link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// How long a packet travels.
    pub latency: Span,
    /// Up to how much longer, drawn for each packet; their order stays.
    pub jitter: Span,
    /// How fast the link takes bytes; `None` is as fast as they come.
    pub bytes_per_second: Option<u64>,
    /// How many bytes may wait in front of a link of limited speed; more are dropped.
    pub queue_bytes: u64,
    /// Packets that are lost.
    pub loss: Chance,
    /// Packets that arrive twice.
    pub duplication: Chance,
    /// Packets that others overtake.
    pub reordering: Chance,
    /// Up to how much later those arrive.
    pub reordering_delay: Span,
    /// Packets that arrive with one bit changed.
    pub corruption: Chance,
}

impl Default for LinkConfig {
    /// Five microseconds, no faults, no limit.
    fn default() -> Self {
        LinkConfig {
            latency: Span::from_us(5),
            jitter: Span::ZERO,
            bytes_per_second: None,
            queue_bytes: 1 << 20,
            loss: Chance::NEVER,
            duplication: Chance::NEVER,
            reordering: Chance::NEVER,
            reordering_delay: Span::from_us(20),
            corruption: Chance::NEVER,
        }
    }
}

impl LinkConfig {
    /// A link that loses, doubles, reorders and corrupts: each of the four with `chance`.
    pub fn hostile(chance: Chance) -> Self {
        LinkConfig {
            jitter: Span::from_us(2),
            loss: chance,
            duplication: chance,
            reordering: chance,
            corruption: chance,
            ..LinkConfig::default()
        }
    }
}

/// What a link does to a packet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passage {
    /// When it arrives, and when a second copy does.
    pub(super) arrivals: [Option<Time>; 2],
    /// Whether the queue in front of the link was full.
    pub(super) overflow: bool,
    pub(super) reordered: bool,
    /// Which bit arrives changed.
    pub(super) corrupt_bit: Option<u64>,
}

/// A link and what is on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) config: LinkConfig,
    /// When the link has taken in all that waits in front of it.
    busy_until: Time,
    /// When the last packet that kept its place arrives.
    last_arrival: Time,
}

impl Link {
    pub(super) fn new(config: LinkConfig) -> Self {
        Link { config, busy_until: Time::ZERO, last_arrival: Time::ZERO }
    }

    /// Takes a packet in and says what becomes of it.
    pub(super) fn carry(
        &mut self,
        now: Time,
        bytes: u64,
        verdict: Verdict,
        random: &mut Random,
    ) -> Passage {
        let mut passage = Passage::default();
        let Some(departure) = self.depart(now, bytes) else {
            passage.overflow = true;
            return passage;
        };
        let config = self.config;
        let by_chance = verdict == Verdict::Chance;
        let mut draw = |chance| by_chance && random.happens(chance);
        let lost = draw(config.loss) || verdict == Verdict::Drop;
        let doubled = draw(config.duplication) || verdict == Verdict::Duplicate;
        let reordered = draw(config.reordering);
        let corrupted = draw(config.corruption) || verdict == Verdict::Corrupt;
        if lost {
            return passage;
        }
        let arrival = self.arrive(departure, random);
        passage.reordered = reordered || matches!(verdict, Verdict::Delay(_));
        let delay = match verdict {
            Verdict::Delay(delay) => delay,
            _ if reordered => {
                Span::from_ns(1 + random.below(config.reordering_delay.as_ns().max(1)))
            }
            _ => Span::ZERO,
        };
        if !passage.reordered {
            self.last_arrival = arrival;
        }
        passage.arrivals[0] = Some(arrival + delay);
        if doubled {
            passage.arrivals[1] = Some(arrival + Span::from_ns(random.below(10_000)));
        }
        if corrupted {
            passage.corrupt_bit = Some(random.below(bytes * 8));
        }
        passage
    }

    /// When the link has taken the packet in, or `None` if the queue in front of it is full.
    fn depart(&mut self, now: Time, bytes: u64) -> Option<Time> {
        let Some(rate) = self.config.bytes_per_second else { return Some(now) };
        let rate = u128::from(rate.max(1));
        let start = self.busy_until.max(now);
        let waiting = u128::from(start.since(now).as_ns()) * rate / 1_000_000_000;
        if waiting + u128::from(bytes) > u128::from(self.config.queue_bytes) {
            return None;
        }
        let duration_ns = (u128::from(bytes) * 1_000_000_000).div_ceil(rate);
        self.busy_until = start + Span::from_ns(duration_ns as u64);
        Some(self.busy_until)
    }

    /// When a packet that keeps its place arrives.
    fn arrive(&mut self, departure: Time, random: &mut Random) -> Time {
        let jitter = Span::from_ns(random.below(self.config.jitter.as_ns()));
        (departure + self.config.latency + jitter).max(self.last_arrival)
    }
}
