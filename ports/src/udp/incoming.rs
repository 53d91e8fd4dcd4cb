//! Packets on their way from the kernel: buffers, and the messages that fill them.

use std::cell::UnsafeCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nic_shm::RacyMem;
use nic_wire::packet::MAX_PACKET_BYTES;

use super::name::SocketName;
use crate::lending::Lending;
use crate::{Burst, PortCounters, Received};

/// Buffers when the kernel coalesces: each may hold a whole run of packets.
const COALESCED_BUFFERS: usize = 16;
/// Their size in bytes: any UDP datagram fits.
const COALESCED_BYTES: usize = 65_536;
/// Buffers when it does not.
const PLAIN_BUFFERS: usize = 64;
/// Their size in bytes: one packet, and room to notice a longer one.
const PLAIN_BYTES: usize = 4096;
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

/// A message that has arrived, as read from its slot once.
#[derive(Clone, Copy)]
struct Message {
    from: SocketAddr,
    bytes: usize,
    segment_bytes: usize,
}

/// Buffers, and the headers that describe them to the kernel; after each call only what the
/// kernel overwrote is put back.
pub(super) struct Incoming {
    memory: RacyMem,
    buffer_bytes: usize,
    slots: Vec<UnsafeCell<Slot>>,
    headers: Vec<UnsafeCell<libc::mmsghdr>>,
    lending: Lending,
    /// The messages of lent buffers; `None` for those that are dropped.
    messages: Vec<Option<Message>>,
    /// The first lent buffer that has not been delivered whole, and how far it has.
    undelivered: usize,
    undelivered_offset: usize,
    /// How many messages the next call asks for.
    ambition: usize,
    /// Whether the last call brought all that it asked for.
    was_full: bool,
}

// SAFETY: the raw pointers lead into heap memory of this structure and are followed only by the
// kernel, inside `fetch`.
unsafe impl Send for Incoming {}

impl Incoming {
    /// Buffers for a socket that does or does not coalesce.
    pub(super) fn new(coalescing: bool) -> Self {
        let (buffers, buffer_bytes) = if coalescing {
            (COALESCED_BUFFERS, COALESCED_BYTES)
        } else {
            (PLAIN_BUFFERS, PLAIN_BYTES)
        };
        let memory = RacyMem::allocate((buffers * (buffer_bytes + SPREAD_BYTES)) as u64);
        let slot = |number: usize| {
            let iov_base = memory.as_ptr().wrapping_add(number * (buffer_bytes + SPREAD_BYTES));
            UnsafeCell::new(Slot {
                name: SocketName::EMPTY,
                control: Control { bytes: [0; 32] },
                vector: libc::iovec { iov_base: iov_base.cast(), iov_len: buffer_bytes },
            })
        };
        let slots: Vec<UnsafeCell<Slot>> = (0..buffers).map(slot).collect();
        let headers = slots.iter().map(|slot| UnsafeCell::new(header(slot.get()))).collect();
        Incoming {
            memory,
            buffer_bytes,
            slots,
            headers,
            lending: Lending::new(buffers),
            messages: vec![None; buffers],
            undelivered: 0,
            undelivered_offset: 0,
            ambition: 1,
            was_full: false,
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
            match self.fetch(socket, wanted) {
                Ok(messages) => {
                    counters.receive_calls += 1;
                    self.adapt(wanted, messages);
                    self.read_slots(messages, counters);
                }
                Err(error) => {
                    self.adapt(wanted, 0);
                    match error.kind() {
                        io::ErrorKind::WouldBlock => counters.empty_polls += 1,
                        _ => counters.receive_errors += 1,
                    }
                    return 0;
                }
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
        let (offset, length) = (received.offset as usize, received.length as usize);
        let buffer = received.buffer as usize;
        assert!(buffer < self.lending.next(), "a packet whose burst was released");
        assert!(
            offset <= self.buffer_bytes && length <= self.buffer_bytes - offset,
            "a packet of another port"
        );
        let start = buffer * (self.buffer_bytes + SPREAD_BYTES) + offset;
        // SAFETY: the range lies within the buffer, which is within the memory. The kernel writes
        // a buffer only in `fetch`, which needs this structure exclusively, and only one that is
        // not lent.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(start), length) }
    }

    /// Asks the kernel for `wanted` messages, at least one, into the next buffers.
    #[inline]
    fn fetch(&mut self, socket: BorrowedFd<'_>, wanted: usize) -> io::Result<usize> {
        let header = self.headers[self.lending.next()].get();
        debug_assert!(wanted <= self.lending.free());
        if wanted == 1 {
            // SAFETY: the header describes live memory of this structure that nothing borrows,
            // since the buffer is not lent.
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

    /// A lone packet is fetched by the cheapest call; when polls keep bringing all that they ask
    /// for, the next one asks for more.
    #[inline]
    fn adapt(&mut self, wanted: usize, got: usize) {
        if got < wanted {
            self.was_full = false;
            if got <= 1 {
                self.ambition = 1;
            }
        } else if self.was_full {
            self.ambition = (self.ambition * 4).min(self.slots.len());
        } else {
            self.was_full = true;
        }
    }

    /// Reads what the kernel wrote beside the next `messages` buffers, once, puts the headers
    /// back in order and counts the buffers as lent.
    fn read_slots(&mut self, messages: usize, counters: &mut PortCounters) {
        let first = self.lending.next();
        for number in first..first + messages {
            // SAFETY: the kernel is done with slot and header, and this structure is borrowed
            // exclusively.
            let (slot, header) =
                unsafe { (&*self.slots[number].get(), &mut *self.headers[number].get()) };
            let bytes = header.msg_len as usize;
            let controls = &slot.control.bytes[..(header.msg_hdr.msg_controllen as usize).min(32)];
            self.messages[number] = match slot.name.get(header.msg_hdr.msg_namelen) {
                _ if header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 => {
                    counters.receive_truncated += 1;
                    None
                }
                Some(from) if bytes != 0 => {
                    let segment_bytes = segment_bytes(controls).unwrap_or(bytes);
                    Some(Message { from, bytes, segment_bytes })
                }
                _ => {
                    counters.receive_foreign += 1;
                    None
                }
            };
            header.msg_hdr.msg_namelen = SocketName::CAPACITY;
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
        }
        self.lending.take(messages);
    }

    /// Cuts arrived messages into packets, as many as the burst has room for.
    fn deliver(&mut self, burst: &mut Burst, counters: &mut PortCounters) -> usize {
        let length_before = burst.len();
        while self.has_undelivered() && burst.room() > 0 {
            let Some(message) = self.messages[self.undelivered] else {
                self.next_message();
                continue;
            };
            let offset = self.undelivered_offset;
            let length = message.segment_bytes.min(message.bytes - offset);
            if length > MAX_PACKET_BYTES {
                counters.receive_foreign += 1;
            } else {
                burst.push(Received {
                    buffer: self.undelivered as u32,
                    offset: offset as u32,
                    length: length as u32,
                    from: message.from,
                });
                counters.received_packets += 1;
                counters.received_bytes += length as u64;
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

/// A header that describes a slot to the kernel.
fn header(slot: *mut Slot) -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is plain data for which all zeroes (null pointers, no lengths) is valid.
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
    let level_at = size_of::<libc::size_t>();
    let word = |at: usize| -> Option<i32> {
        Some(i32::from_ne_bytes(controls.get(at..at + 4)?.try_into().ok()?))
    };
    if word(level_at)? != libc::SOL_UDP || word(level_at + 4)? != libc::UDP_GRO {
        return None;
    }
    usize::try_from(word(DATA_AT)?).ok().filter(|&bytes| bytes > 0)
}
