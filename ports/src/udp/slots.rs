//! Receive buffers, and the headers that describe them to the kernel.

use std::cell::UnsafeCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nic_shm::RacyMem;

use super::name::SocketName;

/// By how much a buffer's distance exceeds its size, so that the first lines of all buffers do
/// not fall into the same sets of the cache.
const SPREAD_BYTES: usize = 128;

/// Room for the control message that says how a coalesced buffer was put together.
#[repr(C, align(8))]
struct Control {
    bytes: [u8; 32],
}

/// What the kernel fills in beside a buffer.
#[repr(C)]
struct Slot {
    name: SocketName,
    control: Control,
    vector: libc::iovec,
}

/// A message as the kernel described it, read once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    /// `None` for a family that no engine uses.
    pub(super) from: Option<SocketAddr>,
    pub(super) bytes: usize,
    /// The length of the packets in it; the last may be shorter.
    pub(super) segment_bytes: usize,
    /// Whether something was cut off.
    pub(super) truncated: bool,
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
                control: Control { bytes: [0; 32] },
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

    /// Asks the kernel for one message without a word on its parts, into buffer `number`: the
    /// cheapest call, for a socket that does not coalesce.
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
            bytes,
            segment_bytes: bytes,
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
        if wanted == 1 {
            // SAFETY: the header describes live memory of this structure, borrowed exclusively.
            let bytes = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut (*header).msg_hdr, 0) };
            if bytes < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: as above; the kernel is done with it.
            unsafe { (*header).msg_len = bytes as libc::c_uint };
            return Ok(1);
        }
        // SAFETY: as above, for `wanted` headers that lie one after the other (`UnsafeCell` has
        // the layout of what it holds).
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
        let bytes = header.msg_len as usize;
        let controls = header.msg_hdr.msg_controllen.min(size_of::<Control>() as _);
        let message = Message {
            from: slot.name.get(header.msg_hdr.msg_namelen),
            bytes,
            segment_bytes: segment_bytes(&slot.control.bytes[..controls as _]).unwrap_or(bytes),
            truncated: header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        };
        header.msg_hdr.msg_namelen = SocketName::CAPACITY;
        header.msg_hdr.msg_controllen = size_of::<Control>() as _;
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
    let (name, control, vector) =
        unsafe { (&raw mut (*slot).name, &raw mut (*slot).control, &raw mut (*slot).vector) };
    header.msg_hdr.msg_name = name.cast();
    header.msg_hdr.msg_namelen = SocketName::CAPACITY;
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_control = control.cast();
    header.msg_hdr.msg_controllen = size_of::<Control>() as _;
    header
}

/// The length of the packets that were coalesced, from the control message that says so: a
/// `cmsghdr` of level UDP and type GRO, then a C `int`. It is the only one that the socket asks
/// for, so it stands first.
#[inline]
fn segment_bytes(controls: &[u8]) -> Option<usize> {
    const DATA_AT: usize = size_of::<libc::cmsghdr>();
    const LEVEL_AT: usize = std::mem::offset_of!(libc::cmsghdr, cmsg_level);
    const TYPE_AT: usize = std::mem::offset_of!(libc::cmsghdr, cmsg_type);
    let word = |at: usize| -> Option<i32> {
        Some(i32::from_ne_bytes(controls.get(at..at + 4)?.try_into().ok()?))
    };
    if word(LEVEL_AT)? != libc::SOL_UDP || word(TYPE_AT)? != libc::UDP_GRO {
        return None;
    }
    usize::try_from(word(DATA_AT)?).ok().filter(|&bytes| bytes > 0)
}
