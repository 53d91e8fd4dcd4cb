//! Receive buffers, and the headers that describe them to the kernel.

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nic_shm::RacyMem;

use super::message::Message;
use super::name::SocketName;

/// By how much a buffer's distance exceeds its size, so that the first lines of all buffers do
/// not fall into the same sets of the cache.
const SPREAD_BYTES: usize = 128;

/// What the kernel fills in beside a buffer.
#[repr(C)]
struct Slot {
    name: SocketName,
    vector: libc::iovec,
}

/// Buffers with headers that persist: after each call only what the kernel overwrote is put back.
pub(super) struct Slots {
    memory: RacyMem,
    buffer_bytes: usize,
    slots: Vec<UnsafeCell<Slot>>,
    headers: Vec<UnsafeCell<libc::mmsghdr>>,
}

// SAFETY: the raw pointers lead into heap memory of this structure and are followed only by the
// kernel, inside `fetch` and `fetch_alone`.
unsafe impl Send for Slots {}

impl Slots {
    pub(super) fn new(buffers: usize, buffer_bytes: usize) -> Self {
        let stride = buffer_bytes + SPREAD_BYTES;
        let memory = RacyMem::allocate((buffers * stride) as u64);
        let slot = |number: usize| {
            UnsafeCell::new(Slot {
                name: SocketName::EMPTY,
                vector: libc::iovec {
                    iov_base: memory.as_ptr().wrapping_add(number * stride).cast(),
                    iov_len: buffer_bytes,
                },
            })
        };
        let slots: Vec<UnsafeCell<Slot>> = (0..buffers).map(slot).collect();
        let headers = slots.iter().map(|slot| UnsafeCell::new(header(slot.get()))).collect();
        Slots { memory, buffer_bytes, slots, headers }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Asks the kernel for one message, into buffer `number`: the cheapest call.
    #[inline]
    pub(super) fn fetch_alone(
        &mut self,
        socket: BorrowedFd<'_>,
        number: usize,
    ) -> io::Result<Message> {
        let slot = self.slots[number].get_mut();
        let mut name_bytes = SocketName::CAPACITY;
        // SAFETY: buffer and name are live memory of this structure with that much room, borrowed
        // exclusively.
        let bytes = unsafe {
            libc::recvfrom(
                socket.as_raw_fd(),
                slot.vector.iov_base,
                slot.vector.iov_len,
                libc::MSG_TRUNC,
                (&raw mut slot.name).cast(),
                &raw mut name_bytes,
            )
        };
        let Ok(bytes) = usize::try_from(bytes) else {
            return Err(io::Error::last_os_error());
        };
        Ok(Message {
            from: slot.name.get(name_bytes),
            bytes: bytes.min(self.buffer_bytes),
            truncated: bytes > self.buffer_bytes,
        })
    }

    /// Asks the kernel for up to `wanted` messages, into the buffers from `first` on.
    #[inline]
    pub(super) fn fetch(
        &mut self,
        socket: BorrowedFd<'_>,
        first: usize,
        wanted: usize,
    ) -> io::Result<usize> {
        let headers = &self.headers[first..first + wanted];
        let header = headers[0].get();
        // SAFETY: the headers describe live memory of this structure, borrowed exclusively, and lie
        // one after the other (`UnsafeCell` has the layout of what it holds).
        let messages = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                header,
                wanted as libc::c_uint,
                0,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(messages).map_err(|_| io::Error::last_os_error())
    }

    /// Reads what [`Slots::fetch`] brought into buffer `number`, and readies its header.
    #[inline]
    pub(super) fn take(&mut self, number: usize) -> Message {
        let slot = self.slots[number].get_mut();
        let header = self.headers[number].get_mut();
        let message = Message {
            from: slot.name.get(header.msg_hdr.msg_namelen),
            bytes: header.msg_len as usize,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        };
        header.msg_hdr.msg_namelen = SocketName::CAPACITY;
        message
    }

    /// A part of buffer `number`. The caller sees to it that no fetch into that buffer follows
    /// while the part is looked at; the borrow does so within one call.
    ///
    /// # Panics
    /// If the part does not lie within the buffer.
    #[inline]
    pub(super) fn bytes(&self, number: usize, offset: usize, length: usize) -> &[u8] {
        assert!(
            number < self.slots.len()
                && offset <= self.buffer_bytes
                && length <= self.buffer_bytes - offset,
            "a packet of another port"
        );
        let start = number * (self.buffer_bytes + SPREAD_BYTES) + offset;
        // SAFETY: the range lies within the buffer, which is within the memory. The kernel writes
        // buffers only in the fetching calls, which need this structure exclusively.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(start), length) }
    }
}

/// A header that describes a slot to the kernel.
fn header(slot: *mut Slot) -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is plain data; all zeroes (null pointers, no lengths) is valid.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    // SAFETY: the slot is live; only addresses of its fields are taken.
    let (name, vector) = unsafe { (&raw mut (*slot).name, &raw mut (*slot).vector) };
    header.msg_hdr.msg_name = name.cast();
    header.msg_hdr.msg_namelen = SocketName::CAPACITY;
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header
}
