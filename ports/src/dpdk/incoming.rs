//! From the device's queue to views: each mbuf stays as it came until its burst is released.

use std::net::IpAddr;

use dpdk_sys as sys;
use nic_wire::packet::MAX_PACKET_BYTES;

use super::answers::Answers;
use super::neighbours::Neighbours;
use crate::lending::Lending;
use crate::link::{Datagram, Foreign, parse};
use crate::{Burst, PortCounters, Received};

/// Packets that all held bursts together have at most.
pub(super) const LENT_MAX: usize = 512;

/// What an engine's packets are sent to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    pub(super) address: IpAddr,
    /// The UDP port of the first queue, and how many follow: what arrives for any of them is
    /// handed to the engine of this queue, which knows whose it is.
    pub(super) first_port: u16,
    pub(super) ports: u16,
    pub(super) vlan: Option<u16>,
}

impl Accepted {
    /// The datagram in a frame, if it is for an engine.
    #[inline]
    fn datagram(&self, view: &sys::View) -> Result<Datagram, Foreign> {
        if view.pieces > 1 {
            return Err(Foreign::Other);
        }
        let vlan = match (view.vlan, self.vlan) {
            (-1, vlan) => vlan,
            // The device took the tag off.
            (tag, vlan) if tag == i32::from(vlan.unwrap_or_default()) => None,
            _ => return Err(Foreign::Other),
        };
        let datagram = parse(bytes(view), vlan)?;
        let is_ours = datagram.to.ip() == self.address
            && datagram.to.port().wrapping_sub(self.first_port) < self.ports;
        // No engine sends from port 0, and none could answer it.
        let can_be =
            datagram.length.wrapping_sub(1) < MAX_PACKET_BYTES && datagram.from.port() != 0;
        if is_ours && can_be { Ok(datagram) } else { Err(Foreign::Other) }
    }
}

/// The receiving half of a queue.
pub(super) struct Incoming {
    port: u16,
    queue: u16,
    accepted: Accepted,
    /// What the device handed over and no burst has: drivers that work on vectors hand over
    /// nothing when asked for few.
    stash: [sys::View; sys::BURST_MAX],
    stash_next: usize,
    stash_end: usize,
    /// What bursts hold.
    lent: Vec<sys::View>,
    lending: Lending,
}

impl Incoming {
    pub(super) fn new(port: u16, queue: u16, accepted: Accepted) -> Self {
        let none = sys::View {
            frame: std::ptr::null_mut(),
            bytes: std::ptr::null(),
            length: 0,
            pieces: 0,
            vlan: -1,
        };
        Incoming {
            port,
            queue,
            accepted,
            stash: [none; sys::BURST_MAX],
            stash_next: 0,
            stash_end: 0,
            lent: Vec::with_capacity(LENT_MAX),
            lending: Lending::new(LENT_MAX),
        }
    }

    #[inline]
    pub(super) fn receive(
        &mut self,
        burst: &mut Burst,
        neighbours: &Neighbours,
        answers: &mut Answers,
        counters: &mut PortCounters,
    ) -> usize {
        let length_before = burst.len();
        let mut may_be_more = true;
        // So many fill the burst, if all are for us. Who floods the link with others must not keep
        // the engine here.
        let mut looks_left = burst.room().div_ceil(sys::BURST_MAX);
        while burst.room() > 0 {
            if self.stash_next == self.stash_end {
                if !may_be_more || looks_left == 0 || !self.look() {
                    break;
                }
                looks_left -= 1;
            }
            if self.lending.free() == 0 {
                counters.receive_starved += 1;
                break;
            }
            may_be_more = self.stash_end == sys::BURST_MAX;
            self.deliver(burst, neighbours, answers, counters);
        }
        self.lending.lent(burst, length_before);
        let received = burst.len() - length_before;
        if received == 0 {
            counters.empty_polls += 1;
        } else {
            counters.receive_calls += 1;
        }
        received
    }

    /// Asks the device for more, when the stash is empty. True: there was something.
    #[inline]
    pub(super) fn look(&mut self) -> bool {
        if self.stash_next == self.stash_end {
            let room = self.stash.as_mut_ptr();
            // SAFETY: the stash has so much room, and the queue is this port's alone.
            let received =
                unsafe { sys::receive(self.port, self.queue, room, sys::BURST_MAX as u16) };
            self.stash_next = 0;
            self.stash_end = usize::from(received).min(sys::BURST_MAX);
        }
        self.stash_next != self.stash_end
    }

    /// Moves frames from the stash to a burst, while both have some and it has room.
    #[inline]
    fn deliver(
        &mut self,
        burst: &mut Burst,
        neighbours: &Neighbours,
        answers: &mut Answers,
        counters: &mut PortCounters,
    ) {
        let room = burst.room().min(self.lending.free());
        let mut left = room;
        while left > 0 && self.stash_next < self.stash_end {
            let view = self.stash[self.stash_next];
            self.stash_next += 1;
            match self.accepted.datagram(&view) {
                Ok(datagram) => {
                    burst.push(Received {
                        buffer: self.lent.len() as u32,
                        offset: datagram.offset as u32,
                        length: datagram.length as u32,
                        from: datagram.from,
                        to_port: datagram.to.port(),
                    });
                    counters.received_packets += 1;
                    counters.received_bytes += datagram.length as u64;
                    self.lent.push(view);
                    left -= 1;
                }
                Err(foreign) => take_foreign(&view, foreign, neighbours, answers, counters),
            }
        }
        self.lending.take(room - left);
    }

    #[inline]
    pub(super) fn view(&self, received: &Received) -> &[u8] {
        let view = &self.lent[received.buffer as usize];
        let start = received.offset as usize;
        &bytes(view)[start..start + received.length as usize]
    }

    #[inline]
    pub(super) fn release(&mut self, burst: &mut Burst) {
        if self.lending.returned(burst) {
            self.lending.reclaim();
            release_views(&self.lent);
            self.lent.clear();
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        release_views(&self.lent);
        release_views(&self.stash[self.stash_next..self.stash_end]);
    }
}

fn release_views(views: &[sys::View]) {
    if !views.is_empty() {
        // SAFETY: each was received, is released once, and is looked at no more.
        unsafe { sys::release_views(views.as_ptr(), views.len() as u32) };
    }
}

/// The bytes of a frame, or of its first piece.
#[inline]
fn bytes(view: &sys::View) -> &[u8] {
    // SAFETY: the device handed over so many bytes, which stay until the frame is released: after
    // the last borrow of the view that is ours. A peer that shares EAL's memory is trusted not to
    // write frames that it has handed over (see the module's documentation).
    unsafe { std::slice::from_raw_parts(view.bytes, view.length.into()) }
}

#[cold]
fn take_foreign(
    view: &sys::View,
    foreign: Foreign,
    neighbours: &Neighbours,
    answers: &mut Answers,
    counters: &mut PortCounters,
) {
    let tag = u16::try_from(view.vlan).ok();
    let whole = view.pieces == 1;
    if whole && foreign == Foreign::Other && answers.take(neighbours, bytes(view), tag) {
        counters.neighbour_messages += 1;
    } else if foreign == Foreign::Truncated {
        counters.receive_truncated += 1;
    } else {
        counters.receive_foreign += 1;
    }
    // SAFETY: it was received and is looked at no more.
    unsafe { sys::release(view.frame) };
}
