//! The part of a reply that a kernel writes itself.

use nic_wire::Status;

use crate::GATHER_BYTES_MAX;
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

/// Where an op's slot keeps what its kernel gathers.
#[derive(Debug)]
pub(crate) struct Gather {
    length: u16,
    /// The limit, be it the executor's or the initiator's.
    room: u16,
    bytes: [u8; GATHER_BYTES_MAX],
}

impl Gather {
    pub(crate) const EMPTY: Gather = Gather { length: 0, room: 0, bytes: [0; GATHER_BYTES_MAX] };

    /// Begins anew, for an initiator that has a place for so many bytes.
    #[inline(always)]
    pub(crate) fn begin(&mut self, reply_capacity: u32) {
        self.length = 0;
        // At most 512.
        self.room = reply_capacity.min(GATHER_BYTES_MAX as u32) as u16;
    }

    #[inline(always)]
    pub(crate) fn length(&self) -> usize {
        usize::from(self.length)
    }

    /// The executor has put so many bytes in place by itself.
    #[inline(always)]
    pub(crate) fn set_length(&mut self, length: u16) {
        self.length = length;
    }

    /// All of the bytes, gathered or not.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8; GATHER_BYTES_MAX] {
        &self.bytes
    }

    #[inline(always)]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; GATHER_BYTES_MAX] {
        &mut self.bytes
    }
}

/// Gathers the bytes that a kernel chooses, into a buffer that the op's slot owns. Ranges that
/// [`Step::FetchToReply`] adds always follow what is gathered.
#[derive(Debug)]
pub struct Reply<'a>(&'a mut Gather);

impl<'a> Reply<'a> {
    #[inline(always)]
    pub(crate) fn new(gather: &'a mut Gather) -> Self {
        Reply(gather)
    }

    /// Appends bytes, all or none.
    ///
    /// # Errors
    /// They do not fit; usually the kernel then returns `error.into()`.
    #[inline(always)]
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), ReplyFull> {
        let start = self.len();
        let limit = usize::from(self.0.room);
        let room = limit.saturating_sub(start);
        if bytes.len() > room {
            return Err(ReplyFull { wanted: bytes.len(), room });
        }
        self.0.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        // The buffer is far shorter than 64 KiB.
        self.0.length = (start + bytes.len()) as u16;
        Ok(())
    }

    /// Writes over gathered bytes, `offset` into them; whether they are there. All or none.
    #[inline]
    pub fn replace(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let gathered = &mut self.0.bytes[..usize::from(self.0.length)];
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
        self.0.length = 0;
    }

    /// How many bytes are gathered.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.length()
    }

    /// Whether nothing is gathered yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.length == 0
    }
}
