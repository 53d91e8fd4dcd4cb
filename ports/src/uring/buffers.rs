//! Receive buffers, and the ring through which the kernel is given them.

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, RecvMsgOut};
use nic_shm::RacyMem;

use crate::udp::message::Message;
use crate::udp::name::SocketName;

/// Room for the sender's name in each buffer: as much as brings packets to a cache line's start.
const NAME_BYTES: usize = 48;
/// Before a message the kernel writes how long things are, and who sent it.
const HEADROOM: usize = 16 + NAME_BYTES;
/// By how much a buffer's distance exceeds its size, so that the first lines of all buffers do
/// not fall into the same sets of the cache.
const SPREAD_BYTES: usize = 128;
/// No machine has larger pages.
const PAGE_BYTES_MAX: usize = 65_536;

/// Buffers of one size. The kernel has those that were given to it; the port, all others.
pub(super) struct Buffers {
    memory: RacyMem,
    ring: RacyMem,
    /// Where in its memory the ring begins.
    ring_start: usize,
    count: u16,
    buffer_bytes: usize,
    /// How many buffers were ever given; the kernel knows of those before the published tail.
    given: u16,
    /// What the kernel is to write before each message.
    layout: Box<libc::msghdr>,
}

// SAFETY: the message header's pointers are null and stay so.
unsafe impl Send for Buffers {}

impl Buffers {
    /// So many buffers (a power of two) for messages of up to so many bytes, all given.
    pub(super) fn new(count: u16, message_bytes: usize) -> Self {
        assert!(count.is_power_of_two(), "the kernel's rings are powers of two");
        let buffer_bytes = HEADROOM + message_bytes;
        let stride = buffer_bytes + SPREAD_BYTES;
        let memory = RacyMem::allocate((usize::from(count) * stride) as u64);
        let ring_bytes = usize::from(count) * size_of::<BufRingEntry>();
        let ring = RacyMem::allocate((ring_bytes + PAGE_BYTES_MAX) as u64);
        let ring_start = ring.as_ptr().align_offset(PAGE_BYTES_MAX);
        assert!(ring_start <= PAGE_BYTES_MAX, "a page begins within a page's length");
        // SAFETY: `msghdr` is plain data; all zeroes (null pointers, no lengths) is valid.
        let mut layout: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        layout.msg_namelen = NAME_BYTES as libc::socklen_t;
        let mut buffers =
            Buffers { memory, ring, ring_start, count, buffer_bytes, given: 0, layout };
        (0..count).for_each(|buffer| buffers.give(buffer));
        buffers.publish();
        buffers
    }

    /// How many there are.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Where the kernel finds the ring.
    pub(super) fn ring_address(&self) -> u64 {
        self.entries().addr() as u64
    }

    /// How the kernel is to lay out what it writes into a buffer. Stays where it is.
    pub(super) fn layout(&self) -> *const libc::msghdr {
        &raw const *self.layout
    }

    /// Gives a buffer to the kernel, with the next [`Buffers::publish`].
    #[inline]
    pub(super) fn give(&mut self, buffer: u16) {
        let place = usize::from(self.given & (self.count - 1));
        let start = usize::from(buffer) * (self.buffer_bytes + SPREAD_BYTES);
        // SAFETY: the place lies within the ring. The kernel reads entries only before the
        // published tail, and this one, being free, is not among them. The tail, which lies in the
        // first entry's reserved field, is not touched.
        let entry = unsafe { &mut *self.entries().add(place) };
        entry.set_addr(self.memory.as_ptr().wrapping_add(start).addr() as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(buffer);
        self.given = self.given.wrapping_add(1);
    }

    /// Shows the kernel what was given.
    #[inline]
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail lies within the first entry of a live ring, is aligned, and is only ever
        // written here, atomically, while the kernel reads it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries()).cast_mut()) };
        tail.store(self.given, Ordering::Release);
    }

    /// What the kernel wrote into a buffer, of which it says how many bytes. `None`: no message.
    #[inline]
    pub(super) fn message(&self, buffer: u16, written: usize) -> Option<Message> {
        let whole = self.slice(buffer, 0, written.min(self.buffer_bytes));
        let parsed = RecvMsgOut::parse(whole, &self.layout).ok()?;
        let name = parsed.name_data();
        Some(Message {
            from: SocketName::copied(name).get(name.len() as libc::socklen_t),
            bytes: parsed.payload_data().len(),
            truncated: parsed.is_payload_truncated(),
        })
    }

    /// A part of the message in a buffer.
    ///
    /// # Panics
    /// If the part does not lie within the buffer.
    #[inline]
    pub(super) fn bytes(&self, buffer: u16, offset: usize, length: usize) -> &[u8] {
        self.slice(buffer, HEADROOM + offset, length)
    }

    #[inline]
    fn slice(&self, buffer: u16, offset: usize, length: usize) -> &[u8] {
        assert!(
            buffer < self.count
                && offset <= self.buffer_bytes
                && length <= self.buffer_bytes - offset,
            "a packet of another port"
        );
        let start = usize::from(buffer) * (self.buffer_bytes + SPREAD_BYTES) + offset;
        // SAFETY: the range lies within the buffer, which is within the memory. The kernel writes
        // buffers only while the port enters it (see the module `ring`), which needs the port
        // exclusively.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(start), length) }
    }

    #[inline]
    fn entries(&self) -> *mut BufRingEntry {
        self.ring.as_ptr().wrapping_add(self.ring_start).cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_begin_on_a_cache_line_and_the_ring_on_a_page() {
        let buffers = Buffers::new(4, 4096);
        assert_eq!(buffers.ring_address() % PAGE_BYTES_MAX as u64, 0);
        for buffer in 0..4 {
            assert_eq!(buffers.bytes(buffer, 0, 4096).as_ptr().addr() % 64, 0);
        }
    }

    #[test]
    fn what_the_kernel_cannot_have_written_is_no_message() {
        let buffers = Buffers::new(2, 256);
        assert!(buffers.message(0, 0).is_none());
        assert!(buffers.message(0, HEADROOM - 1).is_none());
        let empty = buffers.message(1, usize::MAX).unwrap();
        assert_eq!((empty.from, empty.bytes, empty.truncated), (None, 0, false));
    }
}
