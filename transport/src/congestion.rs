//! How much a flow may have in flight: a question of its own, answered behind a trait.

use nic_wire::{Span, Time};

/// What an acknowledgement taught about the path.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// Bytes that it acknowledged for the first time.
    pub bytes: u32,
    /// The round trip that it measured, without the time that the peer held it back.
    pub round_trip: Option<Span>,
    /// Bytes still in flight.
    pub in_flight_bytes: u32,
}

/// Decides how many bytes a flow may have in flight. One value belongs to each flow; it is plain
/// data, because an upgrade carries it to the next process. Swift (SIGCOMM 2020) is the model for
/// implementations that follow the path.
pub trait CongestionControl: Clone {
    /// A packet left, for the first time or again.
    fn on_sent(&mut self, now: Time, bytes: u32);

    /// Packets were acknowledged.
    fn on_ack(&mut self, now: Time, sample: &AckSample);

    /// Packets of so many bytes are taken for lost.
    fn on_loss(&mut self, now: Time, bytes: u32);

    /// How many bytes may be in flight now. One packet is always allowed.
    fn window_bytes(&self) -> u32;
}

/// A window that never changes, in bytes: for paths whose capacity is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedWindow(pub u32);

impl CongestionControl for FixedWindow {
    #[inline]
    fn on_sent(&mut self, _now: Time, _bytes: u32) {}

    #[inline]
    fn on_ack(&mut self, _now: Time, _sample: &AckSample) {}

    #[inline]
    fn on_loss(&mut self, _now: Time, _bytes: u32) {}

    #[inline]
    fn window_bytes(&self) -> u32 {
        self.0
    }
}
