//! A cache line that goes back and forth between two threads, in bounded time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Round trips timed together: long enough that two clock readings do not count, short enough
/// that most chunks see no interruption.
const CHUNK_ROUND_TRIPS: u32 = 64;
/// Chunks without which there is no median.
pub(crate) const CHUNKS_MIN: usize = 8;
/// Chunks that fit into a probe, whatever the round trip.
const CHUNKS_MAX: usize = 512;
/// How long an undisturbed probe measures.
const PROBE_DURATION: Duration = Duration::from_millis(1);
/// Looks at the other side's line between two readings of the clock, which costs about as much
/// as twenty of them.
const LOOKS_PER_CLOCK: u32 = 1024;
/// Clock readings (some 10 us) after which a thread no longer believes that the other one is
/// running, and yields: on a busy core that may be what lets it run.
const CLOCKS_BEFORE_YIELD: u32 = 16;
/// Sequence number that ends a probe.
const END: u32 = u32::MAX;

/// One word in a line of its own; 128 bytes since CPUs fetch neighbouring lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// The two lines. Every word carries its probe's generation, so that what an interrupted probe
/// left behind is never taken for an answer in a later one.
#[derive(Debug, Default)]
pub(crate) struct PingPong {
    request: Line,
    reply: Line,
}

impl PingPong {
    /// Sends and awaits answers; returns the mean round trip of each chunk in nanoseconds.
    /// Fewer than [`CHUNKS_MIN`] if `limit` came first.
    pub(crate) fn initiate(&self, generation: u32, limit: Instant) -> Vec<f64> {
        let mut chunks = Vec::with_capacity(CHUNKS_MAX);
        let mut sequence = 0;
        // The first chunk only waits for the other thread to wake up, and warms the caches.
        if self.chunk(generation, &mut sequence, limit) {
            let started = Instant::now();
            let mut chunk_started = started;
            while chunks.len() < CHUNKS_MAX && self.chunk(generation, &mut sequence, limit) {
                let now = Instant::now();
                let elapsed = now.duration_since(chunk_started).as_nanos() as f64;
                chunks.push(elapsed / f64::from(CHUNK_ROUND_TRIPS));
                chunk_started = now;
                let long_enough = now.duration_since(started) >= PROBE_DURATION;
                if (long_enough && chunks.len() >= CHUNKS_MIN) || now >= limit {
                    break;
                }
            }
        }
        self.request.0.store(word(generation, END), Ordering::Release);
        chunks
    }

    /// Answers until the initiator ends the probe, or `limit`.
    pub(crate) fn respond(&self, generation: u32, limit: Instant) {
        let end = word(generation, END);
        for sequence in 1..END {
            let request = word(generation, sequence);
            let seen = wait_until(&self.request, limit, |seen| seen == request || seen == end);
            if seen != Some(request) {
                return;
            }
            self.reply.0.store(request, Ordering::Release);
        }
    }

    fn chunk(&self, generation: u32, sequence: &mut u32, limit: Instant) -> bool {
        for _ in 0..CHUNK_ROUND_TRIPS {
            *sequence += 1;
            let request = word(generation, *sequence);
            self.request.0.store(request, Ordering::Release);
            if wait_until(&self.reply, limit, |seen| seen == request).is_none() {
                return false;
            }
        }
        true
    }
}

fn word(generation: u32, sequence: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(sequence)
}

/// Spins until the line holds what is wanted; None at the limit.
///
/// There is no pause instruction in the loop: on some CPUs it takes as long as half a round trip.
#[inline]
fn wait_until(line: &Line, limit: Instant, wanted: impl Fn(u64) -> bool) -> Option<u64> {
    let mut clocks = 0;
    loop {
        for _ in 0..LOOKS_PER_CLOCK {
            let seen = line.0.load(Ordering::Acquire);
            if wanted(seen) {
                return Some(seen);
            }
        }
        if Instant::now() >= limit {
            return None;
        }
        clocks += 1;
        if clocks >= CLOCKS_BEFORE_YIELD {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn two_threads_exchange_enough_chunks() {
        let lines = PingPong::default();
        let chunks = std::thread::scope(|scope| {
            scope.spawn(|| lines.respond(7, soon()));
            lines.initiate(7, soon())
        });
        assert!((CHUNKS_MIN..=CHUNKS_MAX).contains(&chunks.len()), "{}", chunks.len());
        assert!(chunks.iter().all(|&nanoseconds| nanoseconds > 0.0));
    }

    #[test]
    fn without_a_partner_both_sides_stop_at_the_limit() {
        let lines = PingPong::default();
        let past = Instant::now();
        assert_eq!(lines.initiate(1, past), [] as [f64; 0]);
        // Generation 2: the END that the initiator left behind is not this probe's.
        lines.respond(2, past);
        assert_eq!(lines.reply.0.load(Ordering::Relaxed), 0, "nothing was answered");
    }

    #[test]
    fn the_end_of_its_own_generation_stops_the_responder() {
        let lines = PingPong::default();
        lines.request.0.store(word(3, END), Ordering::Relaxed);
        // Would spin for ten seconds if it waited for the limit instead.
        let limit = soon();
        lines.respond(3, limit);
        assert!(Instant::now() < limit);
    }
}
