//! APPEND and FETCH: records at the end of a log, and from a position on.

use std::time::Duration;

use nic_kernels::append::{self, Appended, Persist};
use nic_kernels::fetch::{self, ReplyHeader};
use nic_kernels::log::{BadBatch, Batch};
use nic_wire::KernelId;
use zerocopy::IntoBytes;

use crate::error::OpError;
use crate::operation::{Ask, Facts, Judgement, Op, Operation, Reply};

/// Appends a record.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    remote: u16,
    arguments: append::Arguments,
    payload: &'a [u8],
}

/// Reads records, or waits for them.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    remote: u16,
    arguments: fetch::Arguments,
    room: u32,
}

/// What a fetch brought; dropping it frees its place in the arena.
#[derive(Debug)]
pub struct Fetched {
    reply: Reply,
    from: u64,
}

impl<'a> Append<'a> {
    #[inline]
    pub(crate) fn new(remote: u16, log: u64, tag: u64, payload: &'a [u8]) -> Self {
        Append { remote, arguments: append::Arguments::home(log, tag, payload), payload }
    }
}

impl Op<Append<'_>> {
    /// Waits until the record would survive a loss of power: it is over when the file of the log's
    /// region has it. Readers see the record earlier. Without such a file it ends as
    /// [`Status::Unsupported`](crate::Status::Unsupported), not executed. If it ends as
    /// [`Status::NotPersisted`](crate::Status::NotPersisted) or by its deadline with
    /// [`Fate::Unknown`](crate::Fate::Unknown), the record may be in the log and not in the file.
    #[must_use]
    pub fn persist(mut self) -> Self {
        self.operation.arguments.persist = Persist::Flush.code().into();
        self
    }
}

impl Operation for Append<'_> {
    type Output = Appended;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::APPEND, self.remote, self.arguments.as_bytes())
            .payload(self.payload)
            .reply(append::REPLY_BYTES)
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<Appended, OpError> {
        append::decode_reply(reply.bytes()).ok_or(OpError::BadReply)
    }
}

impl Fetch {
    #[inline]
    pub(crate) fn new(remote: u16, log: u64, from: u64, bytes_max: u32) -> Self {
        let room = bytes_max.saturating_add(ReplyHeader::BYTES as u32);
        Fetch { remote, arguments: fetch::Arguments::home(log, from, 0), room }
    }
}

impl Op<Fetch> {
    /// If there are no records yet, waits for some, whole microseconds and about an hour at the
    /// most; then it ends well, without records. The op's deadline, one second unless it is given
    /// another, should be later.
    #[must_use]
    pub fn wait_for_records(mut self, at_most: Duration) -> Self {
        let wait_us = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
        self.operation.arguments.wait_us = wait_us.into();
        self
    }
}

impl Operation for Fetch {
    type Output = Fetched;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::FETCH, self.remote, self.arguments.as_bytes()).reply(self.room).facts([
            self.arguments.from.get(),
            0,
            0,
        ])
    }

    #[inline]
    fn judge(facts: &Facts, _: &[u8], reply: &[u8]) -> Judgement {
        match Batch::parse(reply, facts[0]) {
            Err(BadBatch::Torn { .. }) => Judgement::Again,
            _ => Judgement::Keep,
        }
    }

    #[inline]
    fn result(facts: &Facts, reply: Reply) -> Result<Fetched, OpError> {
        Ok(Fetched { reply, from: facts[0] })
    }
}

impl Fetched {
    /// The records, or why there are none. It is looked through anew each time.
    ///
    /// # Errors
    /// The target answers something else than a log's records.
    pub fn batch(&self) -> Result<Batch<'_>, BadBatch> {
        Batch::parse(self.reply.bytes(), self.from)
    }
}
