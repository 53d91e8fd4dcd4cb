//! Where messages are sent from: each is announced by a call, which its receiver answers when it has
//! the message.

mod credit;
mod outgoing;

use std::collections::VecDeque;
use std::time::Duration;

use nic_engine::clock;
use nic_wire::{Span, Status, Time};
use zerocopy::IntoBytes;

use self::credit::Credit;
use self::outgoing::Outgoing;
use super::form::{ANNOUNCE_BYTES, CREDIT, THERE, VERDICT_BYTES};
use super::form::{Code, Head, Place, Verdict};
use super::heard::Heard;
use super::memory::{Draft, Memory};
use super::opening::Opening;
use super::{INLINE_BYTES_MAX, MESSAGE_BYTES_MAX, SendError};
use crate::error::{NicError, OpError};
use crate::operation::DEFAULT_DEADLINE;
use crate::remote::RemoteRegion;
use crate::session::Session;

/// Messages that may be out at once.
const OUT_MAX: usize = 256;

/// Sends messages to one receiver. What is out when it is dropped is given up.
pub struct Sender<'s> {
    session: &'s Session,
    remote: RemoteRegion,
    service: u16,
    memory: Memory,
    channel: u64,
    /// The next sequence number of each stream.
    streams: Vec<u32>,
    inline_bytes_max: usize,
    messages: Vec<Outgoing>,
    free: Vec<u16>,
    /// The messages that are not free, oldest first.
    out: Vec<u16>,
    credit: Credit,
    ready: VecDeque<Sent>,
    request: Vec<u8>,
    /// Why nothing more can be sent.
    closed: Option<SendError>,
}

/// Names a message of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    slot: u16,
    generation: u32,
}

/// A message is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Which.
    pub message: MessageId,
    /// Whether it was received. Its memory is no longer read in any case.
    pub outcome: Result<(), SendError>,
}

/// A message that did not leave, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotSent {
    /// Why.
    pub error: SendError,
    /// The message, to be sent again.
    pub draft: Draft,
}

impl<'s> Sender<'s> {
    /// Opens a channel of some streams, numbered from 0, to a service that a
    /// [`Receiver`](super::Receiver) serves; `remote` is any region of that application that
    /// allows calls. `memory_bytes` is what messages that are out may take together, besides small
    /// ones; the longest message is the greatest power of two within, and at most 64 MiB.
    /// Another sender of that receiver is closed.
    ///
    /// # Errors
    /// The receiver does not answer within a second, or is none; the memory cannot be had.
    pub fn open(
        session: &'s Session,
        remote: &RemoteRegion,
        service: u16,
        streams: u16,
        memory_bytes: u64,
    ) -> Result<Self, NicError> {
        Sender::begin(session, remote, service, streams, memory_bytes)?.wait()
    }

    /// Begins to open a channel, see [`Sender::open`], and does not wait for the receiver's answer.
    ///
    /// # Errors
    /// The memory cannot be had, or the session is full.
    pub fn begin(
        session: &'s Session,
        remote: &RemoteRegion,
        service: u16,
        streams: u16,
        memory_bytes: u64,
    ) -> Result<Opening<'s>, NicError> {
        Opening::begin(session, remote, service, streams, memory_bytes)
    }

    pub(super) fn opened(opening: Opening<'s>, verdict: &Verdict) -> Self {
        let Opening { asked, streams, memory } = opening;
        Sender {
            session: asked.session,
            remote: asked.remote.clone(),
            service: asked.service,
            memory,
            channel: asked.channel,
            streams: vec![0; usize::from(streams)],
            inline_bytes_max: INLINE_BYTES_MAX.min(verdict.most.get() as usize),
            messages: (0..OUT_MAX).map(|_| Outgoing::default()).collect(),
            free: (0..OUT_MAX as u16).rev().collect(),
            out: Vec::with_capacity(OUT_MAX),
            credit: Credit::new(verdict.limit.get()),
            ready: VecDeque::with_capacity(OUT_MAX),
            request: Vec::with_capacity(ANNOUNCE_BYTES + INLINE_BYTES_MAX),
            closed: None,
        }
    }

    /// The longest message in bytes.
    pub fn longest(&self) -> u64 {
        self.memory.longest()
    }

    /// Sends a copy of `bytes`, to be received within `deadline`. Never waits.
    ///
    /// # Errors
    /// [`SendError::Full`] if there is no credit or room now: poll, then send again. Otherwise it
    /// can never be sent: [`SendError::TooLong`], [`SendError::NoStream`], [`SendError::Closed`].
    pub fn send(
        &mut self,
        stream: u16,
        bytes: &[u8],
        deadline: Duration,
    ) -> Result<MessageId, SendError> {
        self.check(stream, bytes.len() as u64)?;
        if bytes.len() <= self.inline_bytes_max {
            return self.announce(stream, bytes.len() as u64, Place::here(), bytes, deadline);
        }
        // Known in advance, so that nothing is copied in vain.
        self.check_credit()?;
        let mut draft = self.draft(bytes.len() as u32).ok_or(SendError::Full)?;
        draft.write(0, bytes).map_err(|_| SendError::Full)?;
        self.send_draft(stream, draft, deadline).map_err(|not_sent| not_sent.error)
    }

    /// Room to build a message in, which is sent without being copied. `None`: there is none now, or
    /// there never is: see [`Sender::longest`].
    pub fn draft(&self, length: u32) -> Option<Draft> {
        self.memory.draft(length)
    }

    /// Sends a message that was built in place.
    ///
    /// # Errors
    /// As [`Sender::send`], with the message.
    pub fn send_draft(
        &mut self,
        stream: u16,
        draft: Draft,
        deadline: Duration,
    ) -> Result<MessageId, NotSent> {
        let length = draft.length();
        if let Err(error) = self.check(stream, length.into()).and_then(|()| self.check_credit()) {
            return Err(NotSent { error, draft });
        }
        let placed = self.memory.place(draft)?;
        let place = Place::there(THERE, placed.slot, placed.rkey, placed.address);
        match self.announce(stream, length.into(), place, &[], deadline) {
            Ok(message) => {
                self.messages[usize::from(message.slot)].placed = Some(placed);
                Ok(message)
            }
            Err(error) => Err(NotSent { error, draft: self.memory.unplace(placed, length) }),
        }
    }

    /// Sends a message, waiting for credit and room, and waits until it is received; at most
    /// `deadline` for both. Other messages that end meanwhile stay to be reported.
    ///
    /// # Errors
    /// How it ended; [`SendError::NoBuffer`] if there was no credit within the deadline.
    pub fn deliver(
        &mut self,
        stream: u16,
        bytes: &[u8],
        deadline: Duration,
    ) -> Result<(), SendError> {
        let session = self.session;
        let span = Span::from_ns(u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX));
        let end = clock::now() + span;
        let message = loop {
            let left = Duration::from_nanos(end.since(clock::now()).as_ns());
            if left.is_zero() {
                return Err(SendError::NoBuffer);
            }
            match self.send(stream, bytes, left) {
                Err(SendError::Full) => {}
                outcome => break outcome?,
            }
            let (limit, out) = (self.credit.limit(), self.out.len());
            session.look_until(end, |_| {
                self.turn()?;
                // Whatever may have made room.
                Ok(self.credit.limit() > limit || self.out.len() < out || self.closed.is_some())
            })?;
        };
        let mut outcome = None;
        session.look_until(Time::NEVER, |_| {
            self.turn()?;
            let place = self.ready.iter().position(|sent| sent.message == message);
            outcome = place.and_then(|place| self.ready.remove(place)).map(|sent| sent.outcome);
            Ok(outcome.is_some())
        })?;
        outcome.unwrap_or(Err(SendError::Full))
    }

    /// Ends a message that is out, as soon as its receiver has said what became of it and at its
    /// deadline at the latest: as [`SendError::Cancelled`], or well if it had been received before.
    /// From now on its memory is not read any more. False: it is over already.
    pub fn cancel(&mut self, message: MessageId) -> bool {
        let outgoing = &mut self.messages[usize::from(message.slot)];
        if outgoing.generation != message.generation || outgoing.call.is_none() {
            return false;
        }
        if !outgoing.is_cancelled {
            outgoing.is_cancelled = true;
            outgoing.is_unsettled = true;
            if let Some(placed) = &outgoing.placed {
                self.memory.revoke(placed.slot);
            }
            self.settle(message.slot);
        }
        true
    }

    /// Takes in what has come; yields the messages that are over.
    ///
    /// # Errors
    /// [`OpError::Forked`] in a child of the process that opened the session.
    pub fn poll(&mut self) -> Result<impl Iterator<Item = Sent> + '_, OpError> {
        self.turn()?;
        Ok(std::iter::from_fn(|| self.ready.pop_front()))
    }

    /// Polls until a message is over, or there is credit again after [`SendError::Full`], at most
    /// `timeout`. Returns whether anything has happened.
    ///
    /// # Errors
    /// As [`Sender::poll`].
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, OpError> {
        let session = self.session;
        let span = Span::from_ns(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let (limit, is_open) = (self.credit.limit(), self.closed.is_none());
        session.look_until(clock::now() + span, |_| {
            self.turn()?;
            let is_closed = is_open && self.closed.is_some();
            Ok(!self.ready.is_empty() || self.credit.limit() > limit || is_closed)
        })
    }

    /// How many messages may be sent before the receiver posts more buffers.
    pub fn credits(&self) -> u64 {
        self.credit.left()
    }

    /// How many messages are out.
    pub fn out(&self) -> usize {
        self.out.len()
    }

    /// Whether a message may ever be sent.
    fn check(&self, stream: u16, found: u64) -> Result<(), SendError> {
        if let Some(error) = self.closed {
            return Err(error);
        }
        if usize::from(stream) >= self.streams.len() {
            return Err(SendError::NoStream { found: stream, streams: self.streams.len() as u16 });
        }
        let most = self.longest().min(MESSAGE_BYTES_MAX);
        if found > most { Err(SendError::TooLong { found, most }) } else { Ok(()) }
    }

    /// Whether a message may be sent now; asks for credit if there is none.
    fn check_credit(&mut self) -> Result<(), SendError> {
        // Whoever does not take what is over sends no more.
        if self.free.is_empty() || self.ready.len() >= OUT_MAX {
            return Err(SendError::Full);
        }
        if self.credit.left() > 0 {
            return Ok(());
        }
        if self.credit.want() {
            self.ask_for_credit()?;
        }
        Err(SendError::Full)
    }

    /// Asks for credit, if it is wanted and there is none.
    fn ask_for_credit(&mut self) -> Result<(), OpError> {
        if let (None, Some(limit)) = (self.closed, self.credit.request_due()) {
            let mut head = Head::new(CREDIT, self.channel);
            head.number = limit.into();
            let call = self.remote.call(self.service, head.as_bytes(), VERDICT_BYTES);
            self.credit.asked(self.session.start(&call.deadline(DEFAULT_DEADLINE), false)?);
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), OpError> {
        self.session.progress()?;
        if let Some(refused) = self.credit.hear(self.session) {
            self.close(refused);
        }
        self.ask_for_credit()?;
        let mut next = 0;
        while let Some(slot) = self.out.get(next).copied() {
            if self.advance(slot) {
                self.out.remove(next);
                self.free.push(slot);
            } else {
                next += 1;
            }
        }
        Ok(())
    }

    /// Nothing more can be sent: the receiver is gone, or another sender has taken its place.
    fn close(&mut self, heard: Heard) {
        let status = match heard {
            Ok((Code::Closed, _)) => Status::Cancelled,
            Ok(_) => Status::BadArguments,
            Err((status, _)) => status,
        };
        self.closed.get_or_insert(SendError::Closed(status));
    }
}

impl Drop for Sender<'_> {
    fn drop(&mut self) {
        let calls = self.messages.iter().flat_map(|message| [message.call, message.settling]);
        calls.flatten().chain(self.credit.call()).for_each(|call| self.session.give_up(call));
    }
}
