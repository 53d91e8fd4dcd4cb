//! Packets on their way from the kernel: one operation that stays, and a buffer for each message.

use std::collections::VecDeque;

use io_uring::{cqueue, opcode};

use super::buffers::Buffers;
use super::ring::{BUFFER_GROUP, Ring, SOCKET};
use crate::lending::HeldBursts;
use crate::udp::message::{Message, cut_first, judge};
use crate::{Burst, PortCounters, Received};

/// Buffers when the kernel may coalesce: each may hold a whole run of packets, or a single one.
const COALESCED_BUFFERS: u16 = 64;
/// Their size in bytes: any UDP datagram fits.
const COALESCED_BYTES: usize = 65_536;
/// Buffers when it may not.
const PLAIN_BUFFERS: u16 = 128;
/// Their size in bytes: one packet, and room to notice a longer one.
const PLAIN_BYTES: usize = 4096;

/// Marks completions of the receiving operation.
pub(super) const RECEIVE: u64 = u64::MAX;

/// A message that was not delivered whole.
struct Arrival {
    buffer: u16,
    message: Message,
}

/// What arrives, and which buffers are out with the caller.
pub(super) struct Incoming {
    buffers: Buffers,
    /// Oldest first; never more than there are buffers.
    arrivals: VecDeque<Arrival>,
    /// How much of the oldest was delivered.
    delivered: usize,
    /// Buffers that were delivered whole and may still be looked at.
    spent: Vec<u16>,
    bursts: HeldBursts,
    /// Whether the receiving operation is with the kernel.
    armed: bool,
}

impl Incoming {
    /// For a socket that coalesces, or does not.
    pub(super) fn new(coalesces: bool) -> Self {
        let (count, message_bytes) = if coalesces {
            (COALESCED_BUFFERS, COALESCED_BYTES)
        } else {
            (PLAIN_BUFFERS, PLAIN_BYTES)
        };
        Incoming {
            buffers: Buffers::new(count, message_bytes),
            arrivals: VecDeque::with_capacity(usize::from(count)),
            delivered: 0,
            spent: Vec::with_capacity(usize::from(count)),
            bursts: HeldBursts::default(),
            armed: false,
        }
    }

    /// The buffers, to be registered.
    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Asks for all that arrives from now on, unless that is asked already. `false`: there is no
    /// buffer to receive into.
    #[inline]
    pub(super) fn arm(&mut self, ring: &mut Ring) -> bool {
        self.armed || self.arm_again(ring)
    }

    fn arm_again(&mut self, ring: &mut Ring) -> bool {
        if self.is_starved() {
            return false;
        }
        let receive = opcode::RecvMsgMulti::new(SOCKET, self.buffers.layout(), BUFFER_GROUP);
        // SAFETY: the layout stays where it is as long as the port, whose ring is dropped first.
        self.armed = unsafe { ring.push(&receive.build().user_data(RECEIVE)) };
        self.armed
    }

    /// Whether the receiving operation is with the kernel.
    #[inline]
    pub(super) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Whether the caller has all buffers, or is about to get them.
    #[inline]
    pub(super) fn is_starved(&self) -> bool {
        self.arrivals.len() + self.spent.len() == usize::from(self.buffers.count())
    }

    /// Takes a completion of the receiving operation. True: it brought packets.
    #[inline]
    pub(super) fn complete(&mut self, entry: &cqueue::Entry, counters: &mut PortCounters) -> bool {
        if !cqueue::more(entry.flags()) {
            // It ends when buffers run out, on an error, and after an empty datagram.
            self.armed = false;
        }
        let Some(buffer) = cqueue::buffer_select(entry.flags()) else {
            let expected = [-libc::ENOBUFS, -libc::ECANCELED, 0];
            counters.receive_errors += u64::from(!expected.contains(&entry.result()));
            return false;
        };
        let message = usize::try_from(entry.result())
            .ok()
            .and_then(|written| self.buffers.message(buffer, written))
            .and_then(|message| judge(message, counters));
        match message {
            Some(message) => self.arrivals.push_back(Arrival { buffer, message }),
            None => {
                self.buffers.give(buffer);
                self.buffers.publish();
            }
        }
        message.is_some()
    }

    /// Whether packets that have arrived wait for a burst with room.
    #[inline]
    pub(super) fn has_undelivered(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// Cuts arrived messages into packets, as many as the burst has room for.
    #[inline]
    pub(super) fn deliver(&mut self, burst: &mut Burst, counters: &mut PortCounters) -> usize {
        let length_before = burst.len();
        while let Some(oldest) = self.arrivals.front()
            && burst.room() > 0
        {
            let Arrival { buffer, message } = *oldest;
            let (offset, rest) = (self.delivered, message.bytes - self.delivered);
            let run = self.buffers.bytes(buffer, offset, rest);
            let place = (u32::from(buffer), offset as u32);
            self.delivered += cut_first(run, place, message.from, burst, counters);
            if self.delivered == message.bytes {
                self.delivered = 0;
                self.arrivals.pop_front();
                self.spent.push(buffer);
            }
        }
        self.bursts.lent(burst, length_before);
        if burst.is_empty() {
            self.reclaim();
        }
        burst.len() - length_before
    }

    /// Takes a burst's buffers back.
    #[inline]
    pub(super) fn release(&mut self, burst: &mut Burst) {
        if self.bursts.returned(burst) {
            self.reclaim();
        }
    }

    /// A packet's bytes.
    #[inline]
    pub(super) fn view(&self, received: &Received) -> &[u8] {
        let buffer = u16::try_from(received.buffer).expect("a packet of another port");
        self.buffers.bytes(buffer, received.offset as usize, received.length as usize)
    }

    /// Gives spent buffers to the kernel again, if no burst holds any: which burst holds which is
    /// not kept track of, as an engine has one.
    #[inline]
    fn reclaim(&mut self) {
        if self.spent.is_empty() || !self.bursts.is_idle() {
            return;
        }
        for buffer in self.spent.drain(..) {
            self.buffers.give(buffer);
        }
        self.buffers.publish();
    }
}
