//! Requests that wait for a fence: copies of their frames, in a fixed pool.

use std::collections::VecDeque;

use nic_wire::Time;
use nic_wire::frame::{Frames, Request, RequestFrame};
use nic_wire::packet::MAX_PACKET_BYTES;

/// A request frame that waits.
pub(super) struct Held {
    pub(super) link: u16,
    pub(super) arrived: Time,
    pub(super) age_us: u32,
    pub(super) request: Request,
    length: u16,
    buffer: u16,
}

impl Held {
    /// Whether nobody waits for it any more.
    pub(super) fn is_expired(&self, now: Time) -> bool {
        let waited_us = u64::from(self.age_us) + now.since(self.arrived).as_us();
        waited_us >= u64::from(self.request.budget_us)
    }
}

/// The pool, in order of arrival.
pub(super) struct Holds {
    buffers: Box<[[u8; MAX_PACKET_BYTES]]>,
    free: Vec<u16>,
    held: VecDeque<Held>,
}

impl Holds {
    /// Room for `capacity` frames.
    pub(super) fn new(capacity: u16) -> Self {
        Holds {
            buffers: vec![[0; MAX_PACKET_BYTES]; usize::from(capacity)].into(),
            free: (0..capacity).rev().collect(),
            held: VecDeque::with_capacity(usize::from(capacity)),
        }
    }

    /// How many frames fit.
    pub(super) fn capacity(&self) -> usize {
        self.buffers.len()
    }

    /// How many more frames fit.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Keeps a frame. False if the pool is exhausted.
    pub(super) fn hold(
        &mut self,
        link: u16,
        arrived: Time,
        age_us: u32,
        frame: RequestFrame<'_>,
    ) -> bool {
        let Some(buffer) = self.free.pop() else { return false };
        let bytes = frame.bytes;
        self.buffers[usize::from(buffer)][..bytes.len()].copy_from_slice(bytes);
        self.held.push_back(Held {
            link,
            arrived,
            age_us,
            request: frame.request(),
            // A frame is no longer than a packet.
            length: bytes.len() as u16,
            buffer,
        });
        true
    }

    /// How many frames wait.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The `index`-th frame in order of arrival.
    pub(super) fn get(&self, index: usize) -> &Held {
        &self.held[index]
    }

    /// Copies a frame out and lets go of it.
    pub(super) fn release<'a>(
        &mut self,
        index: usize,
        into: &'a mut [u8; MAX_PACKET_BYTES],
    ) -> Option<(Held, RequestFrame<'a>)> {
        let held = self.held.remove(index)?;
        let bytes = &self.buffers[usize::from(held.buffer)][..usize::from(held.length)];
        let into = &mut into[..bytes.len()];
        into.copy_from_slice(bytes);
        self.free.push(held.buffer);
        // It was well-formed when it came.
        let frame = Frames::new(into).next_request()?.ok()?;
        Some((held, frame))
    }

    /// Forgets the frames of a flow that has ended.
    pub(super) fn drop_link(&mut self, link: u16) {
        let free = &mut self.free;
        self.held.retain(|held| {
            if held.link == link {
                free.push(held.buffer);
            }
            held.link != link
        });
    }
}
