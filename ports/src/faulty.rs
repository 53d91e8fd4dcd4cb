//! A port that spoils packets, by a seed.

mod arrivals;

use std::net::SocketAddr;

use nic_transport::{FrameId, Frames};
use nic_wire::packet::MAX_PACKET_BYTES;

use self::arrivals::Arrivals;
use crate::forward::{forward_frames, forward_port};
use crate::{Burst, Chance, Port, Random, Received, Share};

/// How likely each fault is, for packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The packet vanishes.
    pub loss: Chance,
    /// It comes twice.
    pub duplication: Chance,
    /// Others overtake it.
    pub reordering: Chance,
    /// One of its bits is changed.
    pub corruption: Chance,
}

impl Faults {
    /// No faults.
    pub const NONE: Faults = Faults::all(Chance::NEVER);

    /// Each fault with the same chance.
    pub const fn all(chance: Chance) -> Self {
        Faults { loss: chance, duplication: chance, reordering: chance, corruption: chance }
    }
}

/// What to spoil.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Packets on their way out.
    pub transmit: Faults,
    /// Packets on their way in.
    pub receive: Faults,
}

impl FaultPlan {
    /// The same faults in both directions.
    pub const fn both(faults: Faults) -> Self {
        FaultPlan { transmit: faults, receive: faults }
    }
}

/// What was spoilt, in both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounters {
    /// Packets that vanished.
    pub lost: u64,
    /// Packets that came twice.
    pub duplicated: u64,
    /// Packets held back so that others could overtake them.
    pub reordered: u64,
    /// Packets with a changed bit.
    pub corrupted: u64,
    /// Faults that did not happen for want of a frame, a buffer or a place.
    pub forgone: u64,
}

/// Packets held back at once, per direction.
const HELD_MAX: usize = 32;
/// Transmit passes that a packet is held back, at most.
const PASSES_MAX: u64 = 4;

/// A packet held back on its way out. The frame counts as queued until it has left.
#[derive(Clone, Copy, Debug)]
struct Held {
    frame: FrameId,
    length: usize,
    to: SocketAddr,
    passes_left: u64,
}

/// A port around a port that loses, doubles, reorders and corrupts packets in both directions, by
/// seed. Allocates nothing after construction; without faults it changes nothing.
pub struct Faulty<P> {
    inner: P,
    plan: FaultPlan,
    random: Random,
    held: Vec<Held>,
    scratch: Vec<u8>,
    arrivals: Arrivals,
    counters: FaultCounters,
}

impl<P: Port> Faulty<P> {
    /// Spoils the packets of `inner` as `plan` says, by `seed`.
    pub fn new(inner: P, plan: FaultPlan, seed: u64) -> Self {
        Faulty {
            inner,
            plan,
            random: Random::new(seed),
            held: Vec::with_capacity(HELD_MAX),
            scratch: vec![0; MAX_PACKET_BYTES],
            arrivals: Arrivals::new(),
            counters: FaultCounters::default(),
        }
    }

    /// Spoils differently from now on.
    pub fn set_plan(&mut self, plan: FaultPlan) {
        self.plan = plan;
    }

    /// What was spoilt so far.
    pub fn faults(&self) -> FaultCounters {
        self.counters
    }

    /// The port within.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// The port within, to change.
    pub fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }

    /// Holds a packet back. False: there is no place.
    fn hold(&mut self, frame: FrameId, length: usize, to: SocketAddr) -> bool {
        if self.held.len() == HELD_MAX {
            return false;
        }
        self.inner.retain(frame);
        let passes_left = 1 + self.random.below(PASSES_MAX);
        self.held.push(Held { frame, length, to, passes_left });
        true
    }

    /// Sends a harmed copy, since the frame itself may be needed for a retransmission. False:
    /// there is no frame for it.
    fn submit_corrupted(&mut self, frame: FrameId, length: usize, to: SocketAddr) -> bool {
        self.scratch[..length].copy_from_slice(&self.inner.bytes(frame)[..length]);
        let Some(copy) = self.inner.allocate(Share::Reply) else { return false };
        flip(&mut self.scratch[..length], &mut self.random);
        self.inner.bytes_mut(copy)[..length].copy_from_slice(&self.scratch[..length]);
        self.inner.submit(copy, length, to);
        self.inner.release(copy);
        true
    }

    /// Hands on the packets held back whose passes are over, or all of them.
    fn hand_on(&mut self, all: bool) {
        let mut kept = 0;
        for place in 0..self.held.len() {
            let mut held = self.held[place];
            held.passes_left -= 1;
            if all || held.passes_left == 0 {
                self.inner.submit(held.frame, held.length, held.to);
                self.inner.release(held.frame);
            } else {
                self.held[kept] = held;
                kept += 1;
            }
        }
        self.held.truncate(kept);
    }
}

/// Changes one bit.
fn flip(bytes: &mut [u8], random: &mut Random) {
    let bit = random.below(bytes.len() as u64 * 8);
    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
}

impl<P: Port> Frames for Faulty<P> {
    forward_frames!(inner, except is_queued);

    fn is_queued(&self, frame: FrameId) -> bool {
        self.inner.is_queued(frame) || self.held.iter().any(|held| held.frame == frame)
    }
}

impl<P: Port> Port for Faulty<P> {
    forward_port!();

    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        self.inner.allocate(share)
    }

    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        let faults = self.plan.transmit;
        if length == 0 || length > MAX_PACKET_BYTES {
            return self.inner.submit(frame, length, to);
        }
        if self.random.happens(faults.loss) {
            self.counters.lost += 1;
            return;
        }
        if self.random.happens(faults.corruption) {
            if self.submit_corrupted(frame, length, to) {
                self.counters.corrupted += 1;
                return;
            }
            self.counters.forgone += 1;
        }
        if self.random.happens(faults.reordering) {
            if self.hold(frame, length, to) {
                self.counters.reordered += 1;
                return;
            }
            self.counters.forgone += 1;
        }
        self.inner.submit(frame, length, to);
        if self.random.happens(faults.duplication) {
            self.counters.duplicated += 1;
            self.inner.submit(frame, length, to);
        }
    }

    fn transmit(&mut self) {
        self.hand_on(false);
        self.inner.transmit();
    }

    fn receive(&mut self, burst: &mut Burst) -> usize {
        let faults = self.plan.receive;
        self.arrivals.receive(&mut self.inner, burst, faults, &mut self.random, &mut self.counters)
    }

    fn view<'a>(&'a self, received: &Received) -> &'a [u8] {
        match self.arrivals.view(received) {
            Some(bytes) => bytes,
            None => self.inner.view(received),
        }
    }

    fn release_burst(&mut self, burst: &mut Burst) {
        self.arrivals.release(&mut self.inner, burst);
    }

    fn prepare_wait(&mut self) -> bool {
        self.hand_on(true);
        // What is held back on its way in is work, though the descriptor does not say so.
        self.arrivals.is_idle() && self.inner.prepare_wait()
    }
}

#[cfg(test)]
mod tests;
