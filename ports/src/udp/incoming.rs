//! Packets on their way from the kernel: how many to ask for, and cutting what arrived in one
//! piece.
//!
//! A packet that travels alone is fetched by `recvfrom`, the cheapest call. It cannot say how a
//! coalesced message was put together, so the socket does not coalesce until packets come in
//! bursts, and stops when they have come singly for long.

use std::io;
use std::os::fd::BorrowedFd;

use nic_wire::packet::MAX_PACKET_BYTES;

use super::slots::{Message, Slots};
use super::socket;
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
/// After how many single packets in a row coalescing stops.
const SINGLES_MAX: u32 = 1024;
/// How many polls must then find nothing before no coalesced message can be left.
const EMPTY_POLLS_AFTER: u32 = 16;

/// Whether the kernel hands over runs of packets in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coalescing {
    /// It must not, or cannot.
    Never,
    /// It could, but packets come singly.
    Off,
    /// It does.
    On,
    /// It was told to stop; so many polls have found nothing since.
    Ending(u32),
}

/// Receives into [`Slots`] and keeps track of what is lent.
pub(super) struct Incoming {
    slots: Slots,
    lending: Lending,
    /// The messages in lent buffers; `None` for those that are dropped.
    messages: Vec<Option<Message>>,
    /// The first lent buffer that has not been delivered whole, and how far it has.
    undelivered: usize,
    undelivered_offset: usize,
    coalescing: Coalescing,
    /// How many messages the next call asks for.
    ambition: usize,
    /// How many calls in a row brought all that they asked for.
    full_polls: u32,
    /// How many of those it takes to ask for more.
    patience: u32,
    /// How many packets in a row came singly.
    singles: u32,
}

impl Incoming {
    /// For a socket in this state.
    pub(super) fn new(coalescing: Coalescing) -> Self {
        let (buffers, buffer_bytes) = match coalescing {
            Coalescing::Never => (PLAIN_BUFFERS, PLAIN_BYTES),
            _ => (COALESCED_BUFFERS, COALESCED_BYTES),
        };
        Incoming {
            slots: Slots::new(buffers, buffer_bytes),
            lending: Lending::new(buffers),
            messages: vec![None; buffers],
            undelivered: 0,
            undelivered_offset: 0,
            coalescing,
            ambition: 1,
            full_polls: 0,
            patience: PATIENCE_MIN,
            singles: 0,
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

    /// Whether the kernel coalesces now.
    #[cfg(test)]
    pub(super) fn coalescing(&self) -> Coalescing {
        self.coalescing
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
        let alone = matches!(self.coalescing, Coalescing::Never | Coalescing::Off) && wanted == 1;
        let fetched = if alone {
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
                if !alone {
                    self.follow_bursts(socket, first, messages);
                }
                true
            }
            Err(error) => {
                self.after_nothing(wanted, &error, counters);
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

    /// Has the kernel coalesce when packets come in bursts, and stop when they have not for long.
    /// If it refuses, all goes on as it is.
    #[inline]
    fn follow_bursts(&mut self, socket: BorrowedFd<'_>, first: usize, messages: usize) {
        let is_run = |message: &Option<Message>| {
            message.is_some_and(|message| message.segment_bytes < message.bytes)
        };
        let burst = messages > 1 || is_run(&self.messages[first]);
        self.singles = if burst { 0 } else { self.singles + 1 };
        let stop = self.singles >= SINGLES_MAX;
        let next = match self.coalescing {
            Coalescing::Off | Coalescing::Ending(_) if burst => Coalescing::On,
            Coalescing::On if stop => Coalescing::Ending(0),
            _ => return,
        };
        self.singles = 0;
        if socket::coalesce(socket, next == Coalescing::On).is_ok() {
            self.coalescing = next;
        }
    }

    /// Counts a poll that brought nothing.
    #[inline]
    fn after_nothing(&mut self, wanted: usize, error: &io::Error, counters: &mut PortCounters) {
        self.adapt(wanted, 0);
        if error.raw_os_error() != Some(libc::EAGAIN) {
            counters.receive_errors += 1;
            return;
        }
        counters.empty_polls += 1;
        if let Coalescing::Ending(empty_polls) = &mut self.coalescing {
            *empty_polls += 1;
            if *empty_polls == EMPTY_POLLS_AFTER {
                self.coalescing = Coalescing::Off;
            }
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
            let offset = self.undelivered_offset;
            let length = message.segment_bytes.min(message.bytes - offset);
            if let (Some(from), true) = (message.from, length <= MAX_PACKET_BYTES) {
                burst.push(Received {
                    buffer: self.undelivered as u32,
                    offset: offset as u32,
                    length: length as u32,
                    from,
                });
                counters.received_packets += 1;
                counters.received_bytes += length as u64;
            } else {
                counters.receive_foreign += 1;
            }
            self.undelivered_offset += length;
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

/// Sorts out messages that hold no packet at all.
#[inline]
fn judge(message: Message, counters: &mut PortCounters) -> Option<Message> {
    if message.truncated {
        counters.receive_truncated += 1;
        return None;
    }
    if message.bytes == 0 {
        counters.receive_foreign += 1;
        return None;
    }
    Some(message)
}
