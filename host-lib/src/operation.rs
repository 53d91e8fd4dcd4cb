//! What an operation is to a session: how it is asked for, how its reply is judged, what it yields.

use std::time::Duration;

use nic_shm::CompletedLease;
use nic_wire::session::COMMAND_ARGUMENT_BYTES_MAX;
use nic_wire::{Fate, KernelId, Status};

use crate::error::OpError;

/// An op's deadline unless it is given another.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(1);

/// A kind of operation. Implemented by the types in [`ops`](crate::ops) and by whoever brings a
/// kernel.
pub trait Operation {
    /// What a good reply yields.
    type Output;

    /// What to ask for.
    fn ask(&self) -> Ask<'_>;

    /// Whether a good reply may be kept; [`Judgement::Again`] issues the op anew within its
    /// deadline. Called inside poll, before the op is reported. `facts` is [`Ask::facts`], `note`
    /// is [`Ask::note`].
    fn judge(facts: &Facts, note: &[u8], reply: &[u8]) -> Judgement {
        let _ = (facts, note, reply);
        Judgement::Keep
    }

    /// Makes the result of a kept reply.
    ///
    /// # Errors
    /// A reply that is not of this kind.
    fn result(facts: &Facts, reply: Reply) -> Result<Self::Output, OpError>;
}

/// Numbers that an operation keeps for judging its reply.
pub type Facts = [u64; 3];

/// What an operation asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What to run.
    pub kernel: KernelId,
    /// Which of the session's opened remotes.
    pub remote: u16,
    /// The kernel's arguments, at most [`COMMAND_ARGUMENT_BYTES_MAX`] bytes.
    pub arguments: &'a [u8],
    /// Bytes that go with the op.
    pub payload: &'a [u8],
    /// Bytes that stay here for judging the reply, such as the key.
    pub note: &'a [u8],
    /// The longest reply in bytes.
    pub reply_capacity: u32,
    /// Numbers that stay here for judging the reply.
    pub facts: Facts,
}

impl<'a> Ask<'a> {
    /// A kernel with its arguments, of at most [`COMMAND_ARGUMENT_BYTES_MAX`] bytes.
    ///
    /// # Panics
    /// If there are more: layouts of arguments are fixed when a kernel is written.
    #[inline]
    pub fn new(kernel: KernelId, remote: u16, arguments: &'a [u8]) -> Self {
        assert!(
            arguments.len() <= COMMAND_ARGUMENT_BYTES_MAX,
            "a command has no room for so many arguments"
        );
        Ask { kernel, remote, arguments, payload: &[], note: &[], reply_capacity: 0, facts: [0; 3] }
    }

    /// With a payload.
    #[inline]
    pub fn payload(self, payload: &'a [u8]) -> Self {
        Ask { payload, ..self }
    }

    /// With bytes to keep.
    #[inline]
    pub fn note(self, note: &'a [u8]) -> Self {
        Ask { note, ..self }
    }

    /// With room for a reply.
    #[inline]
    pub fn reply(self, reply_capacity: u32) -> Self {
        Ask { reply_capacity, ..self }
    }

    /// With numbers to keep.
    #[inline]
    pub fn facts(self, facts: Facts) -> Self {
        Ask { facts, ..self }
    }
}

/// What to do with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Report the op.
    Keep,
    /// What was read is torn: issue the op anew.
    Again,
}

/// The reply of an op, in the piece of the arena in which it landed.
#[derive(Debug)]
pub struct Reply {
    pub(crate) lease: CompletedLease,
    pub(crate) start: u32,
    pub(crate) note_length: u32,
    pub(crate) status: Status,
    pub(crate) fate: Fate,
}

impl Reply {
    /// Its bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.lease.bytes()[self.start as usize..]
    }

    /// The bytes that were kept for judging it: [`Ask::note`].
    #[inline]
    pub fn note(&self) -> &[u8] {
        &self.lease.bytes()[..self.note_length as usize]
    }

    /// How the op ended: [`Status::Ok`] or [`Status::Continues`].
    pub fn status(&self) -> Status {
        self.status
    }

    /// What is known of its effect.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// The only word of the reply.
    ///
    /// # Errors
    /// A reply of another length.
    #[inline]
    pub fn word(&self) -> Result<u64, OpError> {
        let bytes = self.bytes().try_into().map_err(|_| OpError::BadReply)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// An operation with its circumstances: deadline, order.
#[derive(Clone, Copy, Debug)]
pub struct Op<O> {
    pub(crate) operation: O,
    pub(crate) deadline: Duration,
    pub(crate) fence: bool,
    pub(crate) stream: u16,
}

impl<O: Operation> Op<O> {
    /// An operation in stream 0, unordered, with the default deadline.
    #[inline]
    pub fn new(operation: O) -> Self {
        Op { operation, deadline: DEFAULT_DEADLINE, fence: false, stream: 0 }
    }

    /// It ends after this long at the latest (whole microseconds, from 1 us to about an hour).
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Op { deadline, ..self }
    }

    /// It starts only after all earlier ops of its stream have finished at the target.
    #[must_use]
    pub fn fence(self) -> Self {
        Op { fence: true, ..self }
    }

    /// It belongs to another stream: a lost packet and a fence hold up only their own.
    #[must_use]
    pub fn stream(self, stream: u16) -> Self {
        Op { stream, ..self }
    }
}
