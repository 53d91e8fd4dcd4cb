//! Frames as the transport sees them: opaque ids of one packet's bytes in a fixed pool, with
//! counted references.

/// Names one frame of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(pub u32);

/// Takes frames of acknowledged packets back: a pool at once, or a list to be given back later,
/// while the pool's received packets are still being read.
pub trait Reclaim {
    /// Takes one reference to a frame back.
    fn reclaim(&mut self, frame: FrameId);
}

impl<F: Frames> Reclaim for F {
    #[inline]
    fn reclaim(&mut self, frame: FrameId) {
        self.release(frame);
    }
}

/// A pool of packet frames. Implemented by each port; a frame is free again when the last
/// reference is released. The port holds one reference while a frame is queued or being sent, a
/// flow holds another until the packet is acknowledged.
pub trait Frames {
    /// The frame's bytes, the packet header first. Link headers lie outside, where only the port
    /// sees them.
    fn bytes(&self, frame: FrameId) -> &[u8];

    /// The same, to write. Must not be called while [`Frames::is_queued`].
    fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8];

    /// Takes one more reference.
    fn retain(&mut self, frame: FrameId);

    /// Gives one reference back.
    fn release(&mut self, frame: FrameId);

    /// Whether the port still holds the frame for a transmission that it has not finished. Such a
    /// frame has not left yet: it must be neither rewritten nor submitted again.
    fn is_queued(&self, frame: FrameId) -> bool;
}
