//! The queue of a DMA engine.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use nic_wire::{Span, Time};

use crate::random::Random;

/// How many requests may wait for a place in the queue and keep their order; more than that wait as
/// well, in no order.
const WAITING_MAX: usize = 4096;

/// What a simulated DMA engine is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many requests are under way at the most (start: 64).
    pub depth: usize,
    /// How long a request takes; evenly distributed (start: 1 to 3 us).
    pub latency: RangeInclusive<Span>,
    /// How many requests of a million fail (start: none).
    pub failures_per_million: u32,
    /// From which latencies and failures follow.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let latency = Span::from_us(1)..=Span::from_us(3);
        Settings { depth: 64, latency, failures_per_million: 0, seed: 1 }
    }
}

/// What a queue has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were posted.
    pub posted: u64,
    /// Requests that had to wait for a place.
    pub waited: u64,
    /// Requests that failed.
    pub failed: u64,
    /// The most that were ever under way at once.
    pub deepest: usize,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    Done,
    Failed,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Posted {
    ticket: u64,
    due: Time,
}

/// Requests under way, and those that wait for a place, by their tickets.
#[derive(Debug)]
pub struct Queue {
    settings: Settings,
    now: Time,
    random: Random,
    posted: Vec<Posted>,
    /// The first is posted next.
    waiting: VecDeque<u64>,
    last_ticket: u64,
    counts: Counts,
}

impl Queue {
    pub(super) fn new(settings: Settings) -> Self {
        let settings = Settings { depth: settings.depth.max(1), ..settings };
        Queue {
            now: Time::ZERO,
            random: Random::new(settings.seed),
            posted: Vec::with_capacity(settings.depth),
            waiting: VecDeque::with_capacity(WAITING_MAX),
            last_ticket: 0,
            counts: Counts::default(),
            settings,
        }
    }

    /// The time is now `now`; it never goes back.
    pub(super) fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// A ticket for one more request. It is posted when it is first asked after.
    pub(super) fn ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Asks after a request. Who asks for the first time posts it, behind those that wait already.
    pub(super) fn ask(&mut self, ticket: u64) -> Option<Completion> {
        if let Some(place) = self.posted.iter().position(|posted| posted.ticket == ticket) {
            if self.now < self.posted[place].due {
                return None;
            }
            self.posted.swap_remove(place);
            self.post_waiting();
            return Some(self.completion());
        }
        let is_known = self.waiting.contains(&ticket);
        if !is_known && self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(ticket);
            self.counts.waited += u64::from(self.posted.len() >= self.settings.depth);
        }
        self.post_waiting();
        None
    }

    /// Recalls a request.
    pub(super) fn recall(&mut self, ticket: u64) {
        self.posted.retain(|posted| posted.ticket != ticket);
        self.waiting.retain(|waiting| *waiting != ticket);
        self.post_waiting();
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// How many requests are under way.
    pub(super) fn under_way(&self) -> usize {
        self.posted.len()
    }

    fn post_waiting(&mut self) {
        while self.posted.len() < self.settings.depth {
            let Some(ticket) = self.waiting.pop_front() else { return };
            let due = self.now + self.latency();
            self.posted.push(Posted { ticket, due });
            self.counts.posted += 1;
            self.counts.deepest = self.counts.deepest.max(self.posted.len());
        }
    }

    fn latency(&mut self) -> Span {
        let (least, most) = (self.settings.latency.start(), self.settings.latency.end());
        let more = most.less(*least).as_ns();
        Span::from_ns(least.as_ns().saturating_add(self.random.below(more.saturating_add(1))))
    }

    fn completion(&mut self) -> Completion {
        if self.random.below(1_000_000) < u64::from(self.settings.failures_per_million) {
            self.counts.failed += 1;
            return Completion::Failed;
        }
        Completion::Done
    }
}
