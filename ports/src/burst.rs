//! Received packets: views into buffers that the port owns.

use std::net::SocketAddr;

/// Where one received packet lies. Several packets may lie in one buffer, when the kernel
/// coalesced them on arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The port's own number of the buffer. Ports number theirs below [`Received::WRAPPED`].
    pub buffer: u32,
    /// Where in the buffer the packet begins, in bytes.
    pub offset: u32,
    /// The packet's length in bytes, never zero.
    pub length: u32,
    /// Who sent it, as far as the network knows.
    pub from: SocketAddr,
    /// The UDP port that it was sent to, where a port receives for several engines; 0: its own.
    pub to_port: u16,
}

impl Received {
    /// Set in [`Received::buffer`] of buffers that belong to a port around a port.
    pub const WRAPPED: u32 = 1 << 31;
}

/// Packets that arrived together. Made once and used for every turn: it never grows.
#[derive(Debug)]
pub struct Burst {
    views: Vec<Received>,
    packets_max: usize,
}

impl Burst {
    /// A burst with room for `packets_max` packets, at least one. 64 to 256 suit an engine:
    /// large enough for one coalesced buffer, small enough to stay in the first-level cache.
    pub fn new(packets_max: usize) -> Self {
        let packets_max = packets_max.max(1);
        Burst { views: Vec::with_capacity(packets_max), packets_max }
    }

    /// The packets, in order of arrival.
    #[inline]
    pub fn views(&self) -> &[Received] {
        &self.views
    }

    /// How many packets it holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// Whether it holds none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// How many more packets fit.
    #[inline]
    pub fn room(&self) -> usize {
        self.packets_max - self.views.len()
    }

    /// Adds a packet; for ports. `false` if there was no room.
    #[inline]
    pub fn push(&mut self, received: Received) -> bool {
        if self.room() == 0 {
            return false;
        }
        self.views.push(received);
        true
    }

    /// Empties it without giving anything back; for ports, in [`crate::Port::release_burst`].
    #[inline]
    pub fn clear(&mut self) {
        self.views.clear();
    }
}
