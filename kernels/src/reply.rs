//! The part of a reply that a kernel writes itself.

use nic_wire::Status;

use crate::kernel::Step;

/// The reply has no room for the bytes: they were not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} more bytes of reply where {room} fit; bring a larger landing place")]
pub struct ReplyFull {
    /// How many bytes were to be appended.
    pub wanted: usize,
    /// How many still fit.
    pub room: usize,
}

impl From<ReplyFull> for Step {
    fn from(_: ReplyFull) -> Step {
        Step::fail(Status::ReplyTooLong)
    }
}

/// Gathers the bytes that a kernel chooses, into a buffer that the op's slot owns. Ranges that
/// [`Step::FetchToReply`] adds always follow what is gathered.
#[derive(Debug)]
pub struct Reply<'a> {
    buffer: &'a mut [u8],
    length: &'a mut u16,
}

impl<'a> Reply<'a> {
    /// A reply whose first `length` bytes are already there; the buffer's end is the limit, be it
    /// the executor's or the initiator's.
    #[inline]
    pub(crate) fn new(buffer: &'a mut [u8], length: &'a mut u16) -> Self {
        Reply { buffer, length }
    }

    /// Appends bytes, all or none.
    ///
    /// # Errors
    /// They do not fit; usually the kernel then returns `error.into()`.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), ReplyFull> {
        let start = usize::from(*self.length);
        let room = self.buffer.len().saturating_sub(start);
        let Some(place) = self.buffer.get_mut(start..start + bytes.len()) else {
            return Err(ReplyFull { wanted: bytes.len(), room });
        };
        place.copy_from_slice(bytes);
        // The buffer is far shorter than 64 KiB.
        *self.length = (start + bytes.len()) as u16;
        Ok(())
    }

    /// Writes over gathered bytes, `offset` into them; whether they are there. All or none.
    #[inline]
    pub fn replace(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let gathered = &mut self.buffer[..usize::from(*self.length)];
        let Some(place) = gathered.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len()))
        else {
            return false;
        };
        place.copy_from_slice(bytes);
        true
    }

    /// Takes all back that was gathered.
    #[inline]
    pub fn clear(&mut self) {
        *self.length = 0;
    }

    /// How many bytes are gathered.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(*self.length)
    }

    /// Whether nothing is gathered yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        *self.length == 0
    }
}
