//! Packets on their way from the kernel: how many to ask for.
//!
//! Packets say how long they are, so a coalesced run can be cut without the control message that
//! only `recvmsg` brings, and a packet that travels alone is fetched by `recvfrom`, the cheapest
//! call, even while the socket coalesces.

use std::os::fd::BorrowedFd;

use super::message::{Message, cut_first, judge};
use super::slots::Slots;
use crate::lending::Lending;
use crate::{Burst, PortCounters, Received};

/// Buffers when the kernel may coalesce: each may hold a whole run of packets.
const COALESCED_BUFFERS: usize = 16;
/// Their size in bytes: any UDP datagram fits.
const COALESCED_BYTES: usize = 65_536;
/// Buffers when it may not.
const PLAIN_BUFFERS: usize = 64;
/// Their size in bytes: one packet, and room to notice a longer one.
const PLAIN_BYTES: usize = 4096;
/// How many full polls in a row it takes to ask for more, at least and at most.
const PATIENCE_MIN: u32 = 2;
const PATIENCE_MAX: u32 = 64;

/// Receives into [`Slots`] and keeps track of what is lent.
pub(super) struct Incoming {
    slots: Slots,
    lending: Lending,
    /// The messages in lent buffers; `None` for those that are dropped.
    messages: Vec<Option<Message>>,
    /// The first lent buffer that has not been delivered whole, and how far it has.
    undelivered: usize,
    undelivered_offset: usize,
    /// How many messages the next call asks for.
    ambition: usize,
    /// How many calls in a row brought all that they asked for.
    full_polls: u32,
    /// How many of those it takes to ask for more.
    patience: u32,
}

impl Incoming {
    /// For a socket that coalesces, or does not.
    pub(super) fn new(coalesces: bool) -> Self {
        let (buffers, buffer_bytes) = if coalesces {
            (COALESCED_BUFFERS, COALESCED_BYTES)
        } else {
            (PLAIN_BUFFERS, PLAIN_BYTES)
        };
        Incoming {
            slots: Slots::new(buffers, buffer_bytes),
            lending: Lending::new(buffers),
            messages: vec![None; buffers],
            undelivered: 0,
            undelivered_offset: 0,
            ambition: 1,
            full_polls: 0,
            patience: PATIENCE_MIN,
        }
    }

    /// Appends what has arrived to `burst`: first what did not fit the last time, else what one
    /// call to the kernel brings.
    #[inline]
    pub(super) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        burst: &mut Burst,
        counters: &mut PortCounters,
    ) -> usize {
        if burst.room() == 0 {
            return 0;
        }
        if !self.has_undelivered() {
            let wanted = self.ambition.min(self.lending.free());
            if wanted == 0 {
                counters.receive_starved += 1;
                return 0;
            }
            if !self.fetch(socket, wanted, counters) {
                return 0;
            }
        }
        self.deliver(burst, counters)
    }

    /// Whether packets that have arrived wait for a burst with room.
    #[inline]
    pub(super) fn has_undelivered(&self) -> bool {
        self.undelivered < self.lending.next()
    }

    /// Takes a burst's buffers back.
    #[inline]
    pub(super) fn release(&mut self, burst: &mut Burst) {
        if self.lending.returned(burst) {
            self.reclaim();
        }
    }

    /// A packet's bytes.
    #[inline]
    pub(super) fn view(&self, received: &Received) -> &[u8] {
        let buffer = received.buffer as usize;
        assert!(buffer < self.lending.next(), "a packet whose burst was released");
        self.slots.bytes(buffer, received.offset as usize, received.length as usize)
    }

    /// Brings up to `wanted` messages, at least one, into the next buffers. False: none came.
    #[inline]
    fn fetch(
        &mut self,
        socket: BorrowedFd<'_>,
        wanted: usize,
        counters: &mut PortCounters,
    ) -> bool {
        let first = self.lending.next();
        let fetched = if wanted == 1 {
            self.slots.fetch_alone(socket, first).map(|message| {
                self.messages[first] = judge(message, counters);
                1
            })
        } else {
            self.slots.fetch(socket, first, wanted).inspect(|&messages| {
                for number in first..first + messages {
                    self.messages[number] = judge(self.slots.take(number), counters);
                }
            })
        };
        match fetched {
            Ok(messages) => {
                counters.receive_calls += 1;
                self.lending.take(messages);
                self.adapt(wanted, messages);
                true
            }
            Err(error) => {
                self.adapt(wanted, 0);
                if error.raw_os_error() == Some(libc::EAGAIN) {
                    counters.empty_polls += 1;
                } else {
                    counters.receive_errors += 1;
                }
                false
            }
        }
    }

    /// A lone packet is fetched by the cheapest call; when polls keep bringing all that they ask
    /// for, one asks for more. If that brought nothing more, the next such attempt comes later:
    /// packets that always come singly must not pay for it every few polls.
    #[inline]
    fn adapt(&mut self, wanted: usize, got: usize) {
        if got == wanted {
            self.full_polls += 1;
            if self.full_polls >= self.patience {
                self.full_polls = 0;
                self.ambition = (self.ambition * 4).min(self.slots.len());
            }
            return;
        }
        self.full_polls = 0;
        if got > 1 {
            self.patience = PATIENCE_MIN;
        } else {
            if wanted > 1 {
                self.patience = (self.patience * 2).min(PATIENCE_MAX);
            }
            self.ambition = 1;
        }
    }

    /// Cuts arrived messages into packets, as many as the burst has room for.
    #[inline]
    fn deliver(&mut self, burst: &mut Burst, counters: &mut PortCounters) -> usize {
        let length_before = burst.len();
        while self.has_undelivered() && burst.room() > 0 {
            let Some(message) = self.messages[self.undelivered] else {
                self.next_message();
                continue;
            };
            let (offset, rest) = (self.undelivered_offset, message.bytes - self.undelivered_offset);
            let run = self.slots.bytes(self.undelivered, offset, rest);
            let place = (self.undelivered as u32, offset as u32);
            self.undelivered_offset += cut_first(run, place, message.from, burst, counters);
            if self.undelivered_offset == message.bytes {
                self.next_message();
            }
        }
        self.lending.lent(burst, length_before);
        if burst.is_empty() {
            self.reclaim();
        }
        burst.len() - length_before
    }

    #[inline]
    fn next_message(&mut self) {
        self.undelivered += 1;
        self.undelivered_offset = 0;
    }

    /// Starts from the first buffer again, once everything was delivered and released.
    #[inline]
    fn reclaim(&mut self) {
        if !self.has_undelivered() {
            self.lending.reclaim();
            if self.lending.next() == 0 {
                self.undelivered = 0;
            }
        }
    }
}
