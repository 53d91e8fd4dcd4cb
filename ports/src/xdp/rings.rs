//! The four rings that a socket shares with the kernel: to transmit, to receive, and for the
//! memory that goes each way (Documentation/networking/af_xdp.rst).
//!
//! Of each ring one side produces entries and the other consumes them; each publishes how far it
//! has come. Indices run freely, entries are found by masking. The kernel is trusted, as for
//! everything, but whatever stands in a ring nothing here reaches outside of it.

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::xdp::{XdpRingFlags, XdpRingOffset};

/// A packet in a ring: where it lies in the UMEM, and its length, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) address: u64,
    pub(super) length: u32,
    pub(super) options: u32,
}

const _: () = assert!(size_of::<Descriptor>() == 16);

/// What rings hold: plain data of which every bit pattern is valid.
pub(super) trait Entry: Copy {}

impl Entry for Descriptor {}
/// An address of memory, in the fill and the completion ring.
impl Entry for u64 {}

/// A mapped ring.
struct Ring<E> {
    base: NonNull<u8>,
    bytes: usize,
    offsets: XdpRingOffset,
    entries: u32,
    kind: PhantomData<E>,
}

// SAFETY: an address of memory that belongs to the process; each side of a ring has one owner.
unsafe impl<E: Entry> Send for Ring<E> {}

impl<E: Entry> Ring<E> {
    fn map(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        offsets: XdpRingOffset,
        entries: u32,
    ) -> io::Result<Self> {
        assert!(entries.is_power_of_two(), "rings are masked");
        let bytes = offsets.desc as usize + entries as usize * size_of::<E>();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        let anywhere = std::ptr::null_mut();
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing. The kernel
        // refuses a length above that of its ring.
        let base = unsafe { mmap(anywhere, bytes, protection, flags, socket, page_offset)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Ring { base, bytes, offsets, entries, kind: PhantomData })
    }

    #[inline]
    fn word(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: the kernel said that an aligned word is there, before the entries; it stays
        // mapped as long as the ring, and both sides use it atomically.
        unsafe { &*self.base.as_ptr().add(offset as usize).cast::<AtomicU32>() }
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        self.word(self.offsets.producer)
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        self.word(self.offsets.consumer)
    }

    #[inline]
    fn entry(&self, index: u32) -> *mut E {
        let place = (index & (self.entries - 1)) as usize;
        // SAFETY: a masked index lies within the entries, which lie within the mapping.
        unsafe { self.base.as_ptr().add(self.offsets.desc as usize).cast::<E>().add(place) }
    }
}

impl<E> Drop for Ring<E> {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by us, and no reference into it outlives the ring.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "unmapping a ring: {unmapped:?}");
    }
}

/// A ring that the kernel consumes.
pub(super) struct ProducerRing<E> {
    ring: Ring<E>,
    /// The index of the next entry.
    next: u32,
    /// What the kernel has been told.
    published: u32,
    /// What the kernel had consumed when it was last asked.
    consumed: u32,
}

impl<E: Entry> ProducerRing<E> {
    /// Maps one that was never used.
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        offsets: XdpRingOffset,
        entries: u32,
    ) -> io::Result<Self> {
        let ring = Ring::map(socket, page_offset, offsets, entries)?;
        Ok(ProducerRing { ring, next: 0, published: 0, consumed: 0 })
    }

    /// Adds an entry, which the kernel does not see yet. `false`: the ring is full.
    #[inline]
    pub(super) fn push(&mut self, entry: E) -> bool {
        if self.next.wrapping_sub(self.consumed) >= self.ring.entries {
            self.look();
            if self.next.wrapping_sub(self.consumed) >= self.ring.entries {
                return false;
            }
        }
        // SAFETY: the place is free, so the kernel does not read it until it is published.
        unsafe { self.ring.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Shows the kernel all entries, and returns how many are new to it.
    #[inline]
    pub(super) fn publish(&mut self) -> u32 {
        let new = self.next.wrapping_sub(self.published);
        if new != 0 {
            self.published = self.next;
            self.ring.producer().store(self.next, Ordering::Release);
        }
        new
    }

    /// How many published entries the kernel has not consumed. Asks it only if there may be any.
    #[inline]
    pub(super) fn unconsumed(&mut self) -> u32 {
        if self.published != self.consumed {
            self.look();
        }
        self.published.wrapping_sub(self.consumed)
    }

    /// Whether the kernel waits to be called before it consumes more.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        let Some(offset) = self.ring.offsets.flags else { return true };
        let flags = self.ring.word(offset).load(Ordering::Relaxed);
        flags & XdpRingFlags::XDP_RING_NEED_WAKEUP.bits() != 0
    }

    #[inline]
    fn look(&mut self) {
        self.consumed = self.ring.consumer().load(Ordering::Acquire);
    }
}

/// A ring that the kernel produces.
pub(super) struct ConsumerRing<E> {
    ring: Ring<E>,
    /// The index of the next entry to take.
    next: u32,
    /// How far the kernel had come when it was last asked.
    produced: u32,
}

impl<E: Entry> ConsumerRing<E> {
    /// Maps one that was never used.
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        offsets: XdpRingOffset,
        entries: u32,
    ) -> io::Result<Self> {
        let ring = Ring::map(socket, page_offset, offsets, entries)?;
        Ok(ConsumerRing { ring, next: 0, produced: 0 })
    }

    /// How many entries can be taken.
    #[inline]
    pub(super) fn available(&mut self) -> u32 {
        self.produced = self.ring.producer().load(Ordering::Acquire);
        self.produced.wrapping_sub(self.next).min(self.ring.entries)
    }

    /// The entry `ahead` of the next one, if [`ConsumerRing::available`] counted it.
    #[inline]
    pub(super) fn peek(&self, ahead: u32) -> Option<E> {
        let index = self.next.wrapping_add(ahead);
        if self.produced.wrapping_sub(index).wrapping_sub(1) >= self.ring.entries {
            return None;
        }
        // SAFETY: the kernel has published the entry and does not write it until it is released.
        Some(unsafe { self.ring.entry(index).read() })
    }

    /// Takes the next entry, if [`ConsumerRing::available`] counted it.
    #[inline]
    pub(super) fn take(&mut self) -> Option<E> {
        let entry = self.peek(0)?;
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Gives the kernel the room of what was taken.
    #[inline]
    pub(super) fn release(&mut self) {
        self.ring.consumer().store(self.next, Ordering::Release);
    }
}
