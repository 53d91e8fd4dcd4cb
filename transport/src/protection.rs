//! What keeps packets whole, and one day secret. The algorithms live outside this crate and are
//! handed in.

use core::ops::Range;

/// Seals packets before they leave and opens them when they arrive.
pub trait Protection {
    /// Fills in what proves the packet whole; called after the header is complete, once per
    /// sending (a retransmission is sealed anew).
    fn seal(&mut self, packet: &mut [u8]);

    /// Verifies a received packet, at least a header long, and says where the plaintext of its
    /// body lies: within the packet, after the header.
    ///
    /// # Errors
    /// The packet was changed on its way, or made by somebody else.
    fn open(&mut self, packet: &[u8]) -> Result<Range<usize>, NotAuthentic>;
}

/// A packet failed verification. It is counted and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet's checksum does not match its bytes: it was changed on the way")]
pub struct NotAuthentic;
