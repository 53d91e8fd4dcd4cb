//! Spoiling packets on their way in.

use nic_wire::packet::MAX_PACKET_BYTES;

use super::{FaultCounters, Faults, HELD_MAX, flip};
use crate::lending::Lending;
use crate::{Burst, Port, Random, Received};

/// Packets taken from the port within before they are released together.
const INNER_PACKETS: usize = 256;
/// Own buffers, one packet each: for harmed packets and those held back.
const BUFFERS: usize = 128;

/// A burst of the port within, and copies of what was changed or held back.
pub(super) struct Arrivals {
    inner_burst: Burst,
    /// How many packets of the inner burst have been dealt with.
    dealt_with: usize,
    buffers: Vec<u8>,
    lending: Lending,
    /// Packets held back, as copies: they outlive the inner burst.
    postponed: Vec<Received>,
    postponed_bytes: Vec<u8>,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Arrivals {
            inner_burst: Burst::new(INNER_PACKETS),
            dealt_with: 0,
            buffers: vec![0; BUFFERS * MAX_PACKET_BYTES],
            lending: Lending::new(BUFFERS),
            postponed: Vec::with_capacity(HELD_MAX),
            postponed_bytes: vec![0; HELD_MAX * MAX_PACKET_BYTES],
        }
    }

    /// Whether nothing waits here for the next call.
    pub(super) fn is_idle(&self) -> bool {
        self.postponed.is_empty() && self.dealt_with == self.inner_burst.len()
    }

    pub(super) fn receive(
        &mut self,
        inner: &mut impl Port,
        burst: &mut Burst,
        faults: Faults,
        random: &mut Random,
        counters: &mut FaultCounters,
    ) -> usize {
        let length_before = burst.len();
        let postponed_before = self.postponed.len();
        if self.dealt_with == self.inner_burst.len() && burst.room() > 0 {
            inner.receive(&mut self.inner_burst);
        }
        while self.dealt_with < self.inner_burst.len() && burst.room() > 0 {
            let received = self.inner_burst.views()[self.dealt_with];
            self.dealt_with += 1;
            self.spoil(inner, burst, received, faults, random, counters);
        }
        self.deliver_postponed(burst, postponed_before);
        self.lending.lent(burst, length_before);
        if burst.is_empty() {
            self.settle(inner);
        }
        burst.len() - length_before
    }

    /// A packet's bytes, if it lies here and not in the port within.
    pub(super) fn view(&self, received: &Received) -> Option<&[u8]> {
        if received.buffer & Received::WRAPPED == 0 {
            return None;
        }
        let buffer = (received.buffer & !Received::WRAPPED) as usize;
        assert!(buffer < self.lending.next(), "a packet whose burst was released");
        let start = buffer * MAX_PACKET_BYTES;
        Some(&self.buffers[start..start + received.length as usize])
    }

    pub(super) fn release(&mut self, inner: &mut impl Port, burst: &mut Burst) {
        self.lending.returned(burst);
        self.settle(inner);
    }

    /// Gives everything back, once no burst is held and the inner one has been dealt with.
    fn settle(&mut self, inner: &mut impl Port) {
        if self.lending.is_idle() && self.dealt_with == self.inner_burst.len() {
            inner.release_burst(&mut self.inner_burst);
            self.dealt_with = 0;
            self.lending.reclaim();
        }
    }

    fn spoil(
        &mut self,
        inner: &impl Port,
        burst: &mut Burst,
        received: Received,
        faults: Faults,
        random: &mut Random,
        counters: &mut FaultCounters,
    ) {
        let bytes = inner.view(&received);
        if random.happens(faults.loss) {
            counters.lost += 1;
            return;
        }
        if random.happens(faults.corruption) {
            if let Some(mut copy) = self.copy(received, bytes) {
                let start = (copy.buffer as usize) * MAX_PACKET_BYTES;
                flip(&mut self.buffers[start..start + bytes.len()], random);
                copy.buffer |= Received::WRAPPED;
                counters.corrupted += 1;
                burst.push(copy);
                return;
            }
            counters.forgone += 1;
        }
        if random.happens(faults.reordering) {
            if self.postponed.len() < HELD_MAX {
                let start = self.postponed.len() * MAX_PACKET_BYTES;
                self.postponed_bytes[start..start + bytes.len()].copy_from_slice(bytes);
                self.postponed.push(received);
                counters.reordered += 1;
                return;
            }
            counters.forgone += 1;
        }
        burst.push(received);
        if random.happens(faults.duplication) {
            let pushed = burst.push(received);
            counters.duplicated += u64::from(pushed);
            counters.forgone += u64::from(!pushed);
        }
    }

    /// Delivers the oldest `count` packets that were held back, behind what came meanwhile.
    fn deliver_postponed(&mut self, burst: &mut Burst, count: usize) {
        let mut delivered = 0;
        while delivered < count && burst.room() > 0 && self.lending.free() > 0 {
            let received = self.postponed[delivered];
            let (from, length) = (delivered * MAX_PACKET_BYTES, received.length as usize);
            let buffer = self.lending.next();
            let to = buffer * MAX_PACKET_BYTES;
            self.buffers[to..to + length]
                .copy_from_slice(&self.postponed_bytes[from..from + length]);
            self.lending.take(1);
            let buffer = buffer as u32 | Received::WRAPPED;
            burst.push(Received { buffer, offset: 0, ..received });
            delivered += 1;
        }
        if delivered > 0 {
            self.postponed.drain(..delivered);
            self.postponed_bytes.copy_within(delivered * MAX_PACKET_BYTES.., 0);
        }
    }

    /// Copies a packet into the next own buffer, if one is free.
    fn copy(&mut self, received: Received, bytes: &[u8]) -> Option<Received> {
        if self.lending.free() == 0 {
            return None;
        }
        let buffer = self.lending.next();
        let start = buffer * MAX_PACKET_BYTES;
        self.buffers[start..start + bytes.len()].copy_from_slice(bytes);
        self.lending.take(1);
        Some(Received { buffer: buffer as u32, offset: 0, ..received })
    }
}
