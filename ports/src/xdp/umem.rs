//! The memory that a port shares with the kernel: transmit frames, then receive chunks.

use nic_shm::{Pages, RacyMem, SharedMemory};

use super::XdpError;
use crate::pool::FrameLayout;

/// Bytes of a chunk, the kernel's unit of this memory: a page, so that every driver takes it.
pub(super) const CHUNK_BYTES: u64 = 4096;

/// Transmit frames are chunks too. Link headers stand before the packet; consecutive frames begin
/// at different cache lines of their pages, or all would crowd into a few sets of the cache.
pub(super) const LAYOUT: FrameLayout =
    FrameLayout { stride: CHUNK_BYTES as usize, headroom: 128, colours: 16 };

/// How much of the memory is for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) frames: u32,
    /// Receive chunks, a power of two.
    pub(super) chunks: u32,
}

impl Shape {
    pub(super) fn bytes(&self) -> u64 {
        self.chunks_start() + u64::from(self.chunks) * CHUNK_BYTES
    }

    /// Where receive chunks begin, in bytes.
    pub(super) fn chunks_start(&self) -> u64 {
        LAYOUT.bytes(self.frames)
    }

    /// Makes the memory, all of it allocated.
    pub(super) fn create(&self, pages: Pages) -> Result<SharedMemory, XdpError> {
        let mut memory = SharedMemory::create("nic-xdp", self.bytes(), pages)?;
        memory.populate()?;
        Ok(memory)
    }
}

/// The receive chunks, and which of them the caller holds.
#[derive(Debug)]
pub(super) struct Chunks {
    memory: RacyMem,
    start: u64,
    lent: Box<[bool]>,
    lent_count: u32,
}

impl Chunks {
    /// The chunks of a memory of this shape.
    ///
    /// # Safety
    /// Nobody but the kernel may write the chunks, and it only those that stand in a fill ring.
    pub(super) unsafe fn new(memory: RacyMem, shape: Shape) -> Self {
        assert!(memory.len() >= shape.bytes(), "the memory has the shape");
        let lent = vec![false; shape.chunks as usize].into_boxed_slice();
        Chunks { memory, start: shape.chunks_start(), lent, lent_count: 0 }
    }

    /// The addresses of all chunks.
    pub(super) fn addresses(&self) -> impl Iterator<Item = u64> + use<> {
        let start = self.start;
        (0..self.lent.len() as u64).map(move |chunk| start + chunk * CHUNK_BYTES)
    }

    /// Whether the caller holds them all.
    #[inline]
    pub(super) fn all_lent(&self) -> bool {
        self.lent_count as usize == self.lent.len()
    }

    /// Asks for the first lines at an address, which are looked at soon.
    #[inline]
    pub(super) fn prefetch(&self, address: u64) {
        self.memory.prefetch(address, 128);
    }

    /// The chunk of an address, and where in it that is. `None`: it lies in no chunk.
    #[inline]
    pub(super) fn find(&self, address: u64) -> Option<(u32, u32)> {
        let place = address.checked_sub(self.start)?;
        let chunk = place / CHUNK_BYTES;
        let exists = chunk < self.lent.len() as u64;
        exists.then_some((chunk as u32, (place % CHUNK_BYTES) as u32))
    }

    /// The bytes of a chunk that the kernel has filled, as far as they lie in it.
    ///
    /// # Safety
    /// The kernel must not have the chunk.
    #[inline]
    unsafe fn slice(&self, chunk: u32, offset: u32, length: u32) -> &[u8] {
        assert!(u64::from(offset) + u64::from(length) <= CHUNK_BYTES, "beyond its chunk");
        let start = self.start + u64::from(chunk) * CHUNK_BYTES + u64::from(offset);
        // SAFETY: chunk and range lie within the memory, which stays mapped as long as this; the
        // kernel, the only one to write it, does not have the chunk.
        unsafe {
            let first = self.memory.as_ptr().add(start as usize);
            core::slice::from_raw_parts(first, length as usize)
        }
    }

    /// The bytes of a frame that has just come out of the receive ring. `None`: it does not lie
    /// within its chunk.
    #[inline]
    pub(super) fn arrived(&self, chunk: u32, offset: u32, length: u32) -> Option<&[u8]> {
        let within = u64::from(offset) + u64::from(length) <= CHUNK_BYTES;
        // SAFETY: what is in the receive ring has left the fill ring.
        (within && !self.lent[chunk as usize]).then(|| unsafe { self.slice(chunk, offset, length) })
    }

    /// The bytes of a lent chunk.
    ///
    /// # Panics
    /// If it is not lent, or is shorter.
    #[inline]
    pub(super) fn view(&self, chunk: u32, offset: u32, length: u32) -> &[u8] {
        assert!(self.lent[chunk as usize], "a packet whose burst was released");
        // SAFETY: a lent chunk is in no fill ring.
        unsafe { self.slice(chunk, offset, length) }
    }

    /// Lends a chunk to the caller.
    #[inline]
    pub(super) fn lend(&mut self, chunk: u32) {
        self.lent[chunk as usize] = true;
        self.lent_count += 1;
    }

    /// Takes a chunk back, and says where it begins. `None`: it was not lent.
    #[inline]
    pub(super) fn take_back(&mut self, chunk: u32) -> Option<u64> {
        let lent = self.lent.get_mut(chunk as usize)?;
        if !std::mem::take(lent) {
            return None;
        }
        self.lent_count -= 1;
        Some(self.start + u64::from(chunk) * CHUNK_BYTES)
    }
}
