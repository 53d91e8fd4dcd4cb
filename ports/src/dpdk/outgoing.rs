//! From submitted frames to the device, and back when they have left.

use std::collections::VecDeque;

use dpdk_sys as sys;
use nic_transport::FrameId;

use super::frames::FrameTable;
use crate::PortCounters;

/// Turns with nothing to send after which the driver is asked for frames that have left, while it
/// holds some.
const TURNS_UNTIL_ASKED: u32 = 64;
/// Turns after which frames are taken back by copying: virtio looks at what has left only when
/// there is more to send. Rare enough that no copy is made while packets flow.
const TURNS_UNTIL_TAKEN: u32 = 4096;

/// What a driver does with frames that have left.
#[derive(Clone, Copy, Debug)]
pub(super) struct DriverHabits {
    /// Whether a burst of no packets makes it look what has left.
    pub(super) looks_at_empty_bursts: bool,
    /// Whether packets must be prepared, for checksums that the device computes.
    pub(super) prepare: bool,
}

/// The transmitting half of a queue.
pub(super) struct Outgoing {
    port: u16,
    queue: u16,
    habits: DriverHabits,
    /// Submitted packets that the device has not taken, from `first` on: as the device wants
    /// them, and as they are counted.
    mbufs: Vec<*mut sys::Frame>,
    packets: Vec<(FrameId, u32)>,
    first: usize,
    packets_max: usize,
    /// What the device has taken and not given back, oldest first.
    in_flight: VecDeque<FrameId>,
    in_flight_max: usize,
    /// Turns in which nothing was sent and nothing came back.
    idle_turns: u32,
    /// Whether the driver gives back what has left when it is asked.
    gives_back: bool,
}

impl Outgoing {
    pub(super) fn new(port: u16, queue: u16, packets_max: usize, habits: DriverHabits) -> Self {
        let in_flight_max = 2 * packets_max;
        Outgoing {
            port,
            queue,
            habits,
            mbufs: Vec::with_capacity(packets_max),
            packets: Vec::with_capacity(packets_max),
            first: 0,
            packets_max,
            in_flight: VecDeque::with_capacity(in_flight_max),
            in_flight_max,
            idle_turns: 0,
            gives_back: true,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.mbufs.is_empty()
    }

    #[inline]
    pub(super) fn has_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether a packet more has place.
    #[inline]
    pub(super) fn has_place(&mut self) -> bool {
        if self.mbufs.len() == self.packets_max {
            self.mbufs.drain(..self.first);
            self.packets.drain(..self.first);
            self.first = 0;
        }
        self.mbufs.len() < self.packets_max
    }

    /// Adds a packet, for which [`Outgoing::has_place`] was asked.
    #[inline]
    pub(super) fn push(&mut self, frame: FrameId, mbuf: *mut sys::Frame, length: usize) {
        self.mbufs.push(mbuf);
        self.packets.push((frame, length as u32));
    }

    /// Hands to the device what it takes.
    #[inline]
    pub(super) fn transmit(&mut self, frames: &mut FrameTable, counters: &mut PortCounters) {
        while self.first < self.mbufs.len() {
            let room = self.in_flight_max - self.in_flight.len();
            let count = (self.mbufs.len() - self.first).min(room).min(usize::from(u16::MAX) - 1);
            let waiting = self.mbufs[self.first..].as_mut_ptr();
            let prepare = self.habits.prepare.into();
            // SAFETY: so many frames wait, each with a reference for this; the queue is ours.
            let taken =
                unsafe { sys::transmit(self.port, self.queue, waiting, count as u16, prepare) };
            if taken == sys::UNFIT {
                self.drop_first(frames, counters);
                continue;
            }
            if taken == 0 {
                counters.transmit_blocked += 1;
                return;
            }
            counters.transmit_calls += 1;
            self.idle_turns = 0;
            let next = self.first + usize::from(taken);
            for (frame, length) in &self.packets[self.first..next] {
                self.in_flight.push_back(*frame);
                counters.transmitted_packets += 1;
                counters.transmitted_bytes += u64::from(*length);
            }
            self.first = next;
        }
        self.mbufs.clear();
        self.packets.clear();
        self.first = 0;
    }

    /// Takes back what has left.
    #[inline]
    pub(super) fn reclaim(&mut self, frames: &mut FrameTable, counters: &mut PortCounters) {
        let before = self.in_flight.len();
        while let Some(frame) = self.in_flight.front().copied() {
            if !frames.has_left(frame) {
                break;
            }
            self.in_flight.pop_front();
            frames.ledger_mut().end_transmission(frame);
        }
        if self.in_flight.len() != before {
            self.idle_turns = 0;
            return;
        }
        self.idle_turns += 1;
        if self.idle_turns.is_multiple_of(TURNS_UNTIL_ASKED) {
            self.ask(frames, counters);
        }
    }

    #[cold]
    fn ask(&mut self, frames: &mut FrameTable, counters: &mut PortCounters) {
        if self.habits.looks_at_empty_bursts {
            let none = std::ptr::NonNull::dangling().as_ptr();
            // SAFETY: no frame is handed over; the queue is ours.
            unsafe { sys::transmit(self.port, self.queue, none, 0, 0) };
        } else if self.gives_back {
            // SAFETY: the queue is ours.
            self.gives_back = unsafe { sys::clean(self.port, self.queue) } >= 0;
        }
        if self.idle_turns >= TURNS_UNTIL_TAKEN {
            self.idle_turns = 0;
            self.take_back(frames, counters);
        }
    }

    /// Takes back what the driver holds, without it.
    #[cold]
    pub(super) fn take_back(&mut self, frames: &mut FrameTable, counters: &mut PortCounters) {
        while let Some(frame) = self.in_flight.front().copied() {
            if !frames.has_left(frame) {
                if !frames.replace(frame) {
                    return;
                }
                counters.transmit_recovered += 1;
            }
            self.in_flight.pop_front();
            frames.ledger_mut().end_transmission(frame);
        }
    }

    /// Gives up on all that waits.
    #[cold]
    pub(super) fn drop_waiting(&mut self, frames: &mut FrameTable, counters: &mut PortCounters) {
        while self.first < self.mbufs.len() {
            self.drop_first(frames, counters);
        }
        self.mbufs.clear();
        self.packets.clear();
        self.first = 0;
    }

    fn drop_first(&mut self, frames: &mut FrameTable, counters: &mut PortCounters) {
        counters.transmit_errors += 1;
        frames.unstage(self.packets[self.first].0, self.mbufs[self.first]);
        self.first += 1;
    }
}
