//! Where messages are sent from: each is announced by a call, which its receiver answers when it has
//! the message.

use std::collections::VecDeque;
use std::time::Duration;

use nic_engine::clock;
use nic_wire::{Fate, Span, Status, Time};
use zerocopy::IntoBytes;

use super::form::{ANNOUNCE, ANNOUNCE_BYTES, CREDIT, SETTLE, THERE, VERDICT_BYTES};
use super::form::{Code, Head, Place, Verdict};
use super::heard::{Heard, heard};
use super::memory::{Draft, Memory, Placed};
use super::opening::Opening;
use super::{INLINE_BYTES_MAX, MESSAGE_BYTES_MAX, SendError};
use crate::error::{NicError, OpError};
use crate::operation::DEFAULT_DEADLINE;
use crate::remote::RemoteRegion;
use crate::session::{Session, Token};

/// Messages that may be out at once.
const OUT_MAX: usize = 256;

/// How long a busy receiver is left alone.
const BUSY_PAUSE: Span = Span::from_ms(1);

/// Sends messages to one receiver. What is out when it is dropped is given up.
pub struct Sender<'s> {
    session: &'s Session,
    remote: RemoteRegion,
    service: u16,
    memory: Memory,
    channel: u64,
    /// The next sequence number of each stream.
    streams: Vec<u32>,
    /// How many messages were announced, all in all, and how many may be.
    announced: u64,
    limit: u64,
    inline_bytes_max: usize,
    messages: Vec<Outgoing>,
    free: Vec<u16>,
    /// The messages that are not free, oldest first.
    out: Vec<u16>,
    /// A call that the receiver answers when there is more credit.
    credit: Option<Token>,
    /// [`SendError::Full`] was reported for want of credit: from when on to ask for some.
    wants_credit: Option<Time>,
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

/// What a sender knows of one message.
#[derive(Default)]
struct Outgoing {
    generation: u32,
    stream: u16,
    sequence: u32,
    number: u64,
    length: u64,
    /// The announcement, until it is answered.
    call: Option<Token>,
    /// The word to the receiver that the message is to end, or will not come.
    settling: Option<Token>,
    /// Whether the receiver has to be told so.
    is_unsettled: bool,
    is_cancelled: bool,
    placed: Option<Placed>,
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
            announced: 0,
            limit: verdict.limit.get(),
            inline_bytes_max: INLINE_BYTES_MAX.min(verdict.most.get() as usize),
            messages: (0..OUT_MAX).map(|_| Outgoing::default()).collect(),
            free: (0..OUT_MAX as u16).rev().collect(),
            out: Vec::with_capacity(OUT_MAX),
            credit: None,
            wants_credit: None,
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
            let (limit, out) = (self.limit, self.out.len());
            session.look_until(end, |_| {
                self.turn()?;
                // Whatever may have made room.
                Ok(self.limit > limit || self.out.len() < out || self.closed.is_some())
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
        let (limit, is_open) = (self.limit, self.closed.is_none());
        session.look_until(clock::now() + span, |_| {
            self.turn()?;
            let is_closed = is_open && self.closed.is_some();
            Ok(!self.ready.is_empty() || self.limit > limit || is_closed)
        })
    }

    /// How many messages may be sent before the receiver posts more buffers.
    pub fn credits(&self) -> u64 {
        self.limit.saturating_sub(self.announced)
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
        if self.announced < self.limit {
            return Ok(());
        }
        if self.wants_credit.is_none() {
            self.wants_credit = Some(Time::ZERO);
            self.ask_for_credit()?;
        }
        Err(SendError::Full)
    }

    /// Asks for credit, if it is wanted and there is none.
    fn ask_for_credit(&mut self) -> Result<(), OpError> {
        if self.announced < self.limit {
            self.wants_credit = None;
        }
        let Some(from) = self.wants_credit else { return Ok(()) };
        let is_due = from == Time::ZERO || clock::now() >= from;
        if self.credit.is_none() && self.closed.is_none() && is_due {
            let mut head = Head::new(CREDIT, self.channel);
            head.number = self.limit.into();
            let call = self.remote.call(self.service, head.as_bytes(), VERDICT_BYTES);
            self.credit = self.session.start(&call.deadline(DEFAULT_DEADLINE), false)?;
        }
        Ok(())
    }

    fn announce(
        &mut self,
        stream: u16,
        length: u64,
        place: Place,
        bytes: &[u8],
        deadline: Duration,
    ) -> Result<MessageId, SendError> {
        self.check_credit()?;
        let slot = *self.free.last().ok_or(SendError::Full)?;
        let mut head = Head::new(ANNOUNCE, self.channel);
        let sequence = self.streams[usize::from(stream)];
        (head.stream, head.sequence) = (stream.into(), sequence.into());
        (head.number, head.length) = (self.announced.into(), length.into());
        self.request.clear();
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(place.as_bytes());
        self.request.extend_from_slice(bytes);
        let call = self.remote.call(self.service, &self.request, VERDICT_BYTES).deadline(deadline);
        let Some(token) = self.session.start(&call, false)? else { return Err(SendError::Full) };
        self.free.pop();
        self.out.push(slot);
        let message = &mut self.messages[usize::from(slot)];
        message.call = Some(token);
        (message.stream, message.sequence) = (stream, sequence);
        (message.number, message.length) = (self.announced, length);
        (message.is_cancelled, message.is_unsettled) = (false, false);
        self.streams[usize::from(stream)] = sequence.wrapping_add(1);
        self.announced += 1;
        Ok(MessageId { slot, generation: message.generation })
    }

    /// Tells the receiver that a message is to end or will not come.
    fn settle(&mut self, slot: u16) {
        let message = &mut self.messages[usize::from(slot)];
        if message.settling.is_some() || !message.is_unsettled || self.closed.is_some() {
            return;
        }
        let mut head = Head::new(SETTLE, self.channel);
        (head.stream, head.sequence) = (message.stream.into(), message.sequence.into());
        head.number = message.number.into();
        let call = self.remote.call(self.service, head.as_bytes(), VERDICT_BYTES);
        // A full session takes it at a later poll.
        if let Ok(token) = self.session.start(&call, false) {
            message.settling = token;
        }
    }

    fn turn(&mut self) -> Result<(), OpError> {
        self.session.progress()?;
        if let Some(result) = self.credit.and_then(|call| heard(self.session, call)) {
            self.credit = None;
            match result {
                Ok((Code::Done, verdict)) => self.grant(&verdict),
                // Nothing was posted in a second, or the receiver has much to do: it is asked again.
                Err((Status::Expired, _)) => {}
                Err((Status::Busy, _)) => {
                    self.wants_credit = self.wants_credit.map(|_| clock::now() + BUSY_PAUSE);
                }
                other => self.close(other),
            }
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

    /// Takes in what has come for a message. True: nothing more will, its slot is free.
    fn advance(&mut self, slot: u16) -> bool {
        let at = usize::from(slot);
        if let Some(result) = self.messages[at].settling.and_then(|call| heard(self.session, call))
        {
            self.messages[at].settling = None;
            match result {
                Ok((Code::Done, verdict)) => {
                    self.messages[at].is_unsettled = false;
                    self.grant(&verdict);
                }
                Err((Status::Expired | Status::Busy, _)) => {}
                other => self.close(other),
            }
        }
        if let Some(result) = self.messages[at].call.and_then(|call| heard(self.session, call)) {
            self.messages[at].call = None;
            self.end(slot, result);
        }
        self.settle(slot);
        let message = &self.messages[at];
        let is_open = self.closed.is_none() && message.is_unsettled;
        message.call.is_none() && message.settling.is_none() && !is_open
    }

    /// The announcement of a message was answered, or has failed: the message is over.
    fn end(&mut self, slot: u16, result: Heard) {
        let message = &mut self.messages[usize::from(slot)];
        let id = MessageId { slot, generation: message.generation };
        message.generation = message.generation.wrapping_add(1);
        // A receiver that has it, or refused it unread, has nothing out on its memory.
        let is_done_with = matches!(result, Ok((Code::Done | Code::NoBuffer | Code::TooLong, _)));
        if let Some(placed) = message.placed.take() {
            if !is_done_with {
                self.memory.revoke(placed.slot);
            }
            self.memory.release(placed);
        }
        let (is_cancelled, found) = (message.is_cancelled, message.length);
        if result.is_err() {
            message.is_unsettled = true;
        }
        let outcome = match result {
            Ok((code, verdict)) => {
                self.grant(&verdict);
                match code {
                    Code::Done => Ok(()),
                    Code::NoBuffer => Err(SendError::NoBuffer),
                    Code::TooLong => Err(SendError::TooLong { found, most: verdict.most.get() }),
                    Code::Closed => {
                        self.close(result);
                        Err(SendError::Closed(Status::Cancelled))
                    }
                    _ if is_cancelled => Err(SendError::Cancelled(Fate::NotExecuted)),
                    Code::Cancelled => Err(SendError::Cancelled(Fate::NotExecuted)),
                    Code::Unread(status) => Err(SendError::Unread(status)),
                }
            }
            Err((_, fate)) if is_cancelled => Err(SendError::Cancelled(fate)),
            Err((status, fate)) => Err(SendError::Failed { status, fate }),
        };
        if let Err((status, _)) = result
            && !matches!(status, Status::Expired | Status::Busy)
        {
            self.close(result);
        }
        self.ready.push_back(Sent { message: id, outcome });
    }

    fn grant(&mut self, verdict: &Verdict) {
        self.limit = self.limit.max(verdict.limit.get());
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
        calls.flatten().chain(self.credit).for_each(|call| self.session.give_up(call));
    }
}
