//! Where messages are received: posted buffers, and the calls that announce what comes into them.

use std::collections::VecDeque;
use std::time::Duration;

use nic_engine::clock;
use nic_wire::{Span, Status, Time};
use zerocopy::{FromBytes, IntoBytes};

use super::form::{ANNOUNCE, ANNOUNCE_BYTES, CLOSE, CREDIT, HERE, OPEN, SETTLE, THERE};
use super::form::{Code, Engine, Head, Place, Verdict};
use super::form::{VERDICT_BYTES, VERSION};
use super::incoming::{Channel, Incoming, Stage, arrival, fitting, way};
use super::order::Order;
use super::pull::{Pull, Pulls};
use super::reach::Reach;
use super::{INLINE_BYTES_MAX, ReceiveError, STREAMS_MAX};
use crate::error::{NicError, OpError, SubmitError};
use crate::session::{Answer, Deferred, ServeError, Session};

/// Receives the messages of one sender at a time, into buffers that were posted.
pub struct Receiver<'s> {
    session: &'s Session,
    service: u16,
    posted: VecDeque<Vec<u8>>,
    /// Buffers that may be posted or being filled at once.
    posted_max: usize,
    inline_bytes_max: usize,
    pub(super) channel: Option<Channel>,
    /// A channel that was given up before its opening came.
    given_up: Option<u64>,
    pulls: Pulls,
    /// The engines that senders have named.
    reach: Reach,
    /// Calls to be answered outside of their handler, which must not use the session.
    answers: VecDeque<(Deferred, Code)>,
    ready: VecDeque<Arrival>,
}

/// What became of the next message of a stream.
pub type Arrival = Result<Received, ReceiveError>;

/// A message, in the buffer that was posted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its stream.
    pub stream: u16,
    buffer: Vec<u8>,
    length: usize,
}

impl Received {
    pub(super) fn new(stream: u16, buffer: Vec<u8>, length: usize) -> Self {
        Received { stream, buffer, length }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// The buffer, as long as it was posted, to be posted again.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

impl<'s> Receiver<'s> {
    /// Receives what is sent to a service of this application, which calls itself whatever it likes.
    /// The session needs receive buffers: half as many messages can be announced at once, and half
    /// as many buffers posted.
    ///
    /// # Errors
    /// The session has fewer than 4 receive buffers, or ones of less than 128 bytes; or the engine
    /// refuses (the service is served already) or is gone.
    pub fn open(session: &'s Session, service: u16) -> Result<Self, NicError> {
        let (count, bytes) = session.receive_room();
        if count < 4 || bytes < 128 {
            let what = format!(
                "found {count} receive buffers of {bytes} bytes; messages need 4 or more of 128 bytes \
                 or more: open the session with receive_buffers(16, 2048)"
            );
            return Err(NicError::Session(what));
        }
        session.serve(service)?;
        let posted_max = count as usize / 2;
        Ok(Receiver {
            session,
            service,
            posted: VecDeque::with_capacity(posted_max),
            posted_max,
            inline_bytes_max: (bytes as usize - ANNOUNCE_BYTES).min(INLINE_BYTES_MAX),
            channel: None,
            given_up: None,
            pulls: Pulls::new(session),
            reach: Reach::default(),
            answers: VecDeque::with_capacity(count as usize),
            ready: VecDeque::with_capacity(posted_max),
        })
    }

    /// Posts a buffer, which gives the sender credit for one message of at most its length.
    ///
    /// # Errors
    /// The buffer itself, if as many are posted or being filled as there can be.
    pub fn post(&mut self, buffer: Vec<u8>) -> Result<(), Vec<u8>> {
        if self.posted.len() + self.held() >= self.posted_max {
            return Err(buffer);
        }
        self.posted.push_back(buffer);
        Ok(())
    }

    /// Takes back the buffer that was posted last of those that no message has. A message that comes
    /// on its credit is refused with [`SendError::NoBuffer`](super::SendError::NoBuffer).
    pub fn withdraw(&mut self) -> Option<Vec<u8>> {
        self.posted.pop_back()
    }

    /// How many posted buffers no message has.
    pub fn posted(&self) -> usize {
        self.posted.len()
    }

    /// Goes on with what is being received, and yields what has come: messages of one stream in the
    /// order sent. Whatever else this session serves is refused; see [`Receiver::call`].
    ///
    /// # Errors
    /// [`OpError::Forked`] in a child of the process that opened the session.
    pub fn poll(&mut self) -> Result<impl Iterator<Item = Arrival> + '_, OpError> {
        self.turn()?;
        Ok(self.arrivals())
    }

    /// What has come and was not yet taken, without looking for more.
    pub fn arrivals(&mut self) -> impl Iterator<Item = Arrival> + '_ {
        std::iter::from_fn(|| self.ready.pop_front())
    }

    /// Polls until something has come, at most `timeout`. Returns whether anything has, or the engine
    /// process is gone.
    ///
    /// # Errors
    /// As [`Receiver::poll`].
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, OpError> {
        let timeout = Span::from_ns(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let end = clock::now() + timeout;
        loop {
            let until = end.min(self.next_deadline());
            let has_come = self.session.look_until(until, |session| {
                self.turn()?;
                Ok(!self.ready.is_empty() || session.is_lost())
            })?;
            if has_come || clock::now() >= end {
                return Ok(has_come);
            }
        }
    }

    fn turn(&mut self) -> Result<(), OpError> {
        // Whoever does not take what has come is sent no more.
        if self.ready.len() < self.posted_max {
            let (session, service) = (self.session, self.service);
            session.answer_calls(|asked, request, answer| {
                if asked == service { self.call(request, answer) } else { Err(ServeError) }
            })?;
        } else {
            self.session.progress()?;
        }
        self.progress()
    }

    /// Goes on with what is being received: for those who hand the session's calls out themselves.
    ///
    /// # Errors
    /// [`OpError::Forked`].
    pub fn progress(&mut self) -> Result<(), OpError> {
        let now = clock::now();
        self.take_in(now);
        self.pull(now)?;
        self.expire(now);
        self.leave();
        self.answer()
    }

    /// Handles one call to the receiver's service, for those who serve more than messages by
    /// [`Session::answer_calls`]; [`Receiver::progress`] has to follow.
    ///
    /// # Errors
    /// The request makes no sense.
    pub fn call(&mut self, request: &[u8], answer: &mut Answer<'_>) -> Result<(), ServeError> {
        let (head, rest) = Head::read_from_prefix(request).map_err(|_| ServeError)?;
        if head.version != VERSION || answer.room() < VERDICT_BYTES as usize {
            return Err(ServeError);
        }
        if head.kind == OPEN && self.given_up.take_if(|id| *id == head.channel.get()).is_none() {
            self.opened(&head, rest)?;
            return self.say(answer, Code::Done, self.inline_bytes_max as u64);
        }
        let limit = self.limit();
        match &mut self.channel {
            Some(channel) if channel.id == head.channel.get() => match head.kind {
                CLOSE => {
                    self.close();
                    self.say(answer, Code::Closed, 0)
                }
                ANNOUNCE => self.announced(&head, rest, answer),
                SETTLE => {
                    self.settled(&head)?;
                    self.say(answer, Code::Done, 0)
                }
                CREDIT if limit > head.number.get() => self.say(answer, Code::Done, 0),
                CREDIT => {
                    let parked = channel.parked.replace((answer.defer(), head.number.get()));
                    self.answers.extend(parked.map(|(call, _)| (call, Code::Done)));
                    Ok(())
                }
                _ => Err(ServeError),
            },
            _ => {
                if head.kind == CLOSE {
                    self.given_up = Some(head.channel.get());
                }
                self.say(answer, Code::Closed, 0)
            }
        }
    }

    /// A sender opens a channel: it takes the place of the one before.
    fn opened(&mut self, head: &Head, rest: &[u8]) -> Result<(), ServeError> {
        let (engine, _) = Engine::read_from_prefix(rest).map_err(|_| ServeError)?;
        let streams = head.stream.get();
        if !(1..=STREAMS_MAX).contains(&streams) {
            return Err(ServeError);
        }
        self.close();
        self.channel = Some(Channel {
            id: head.channel.get(),
            engine: engine.address(),
            memory_bytes: head.length.get(),
            ways: Vec::new(),
            streams: (0..streams).map(|_| Order::new()).collect(),
            accounted: 0,
            parked: None,
        });
        Ok(())
    }

    /// Gives up what is being received.
    fn close(&mut self) {
        self.pulls.forget();
        let Some(mut channel) = self.channel.take() else { return };
        self.answers.extend(channel.parked.take().map(|(call, _)| (call, Code::Closed)));
        for (stream, order) in channel.streams.iter_mut().enumerate() {
            for message in order.drain() {
                self.answers.extend(message.call.map(|call| (call, Code::Closed)));
                self.ready.push_back(Err(ReceiveError::Replaced { stream: stream as u16 }));
                self.posted.extend(message.stage.into_buffer());
            }
        }
    }

    /// A message is announced.
    fn announced(
        &mut self,
        head: &Head,
        rest: &[u8],
        answer: &mut Answer<'_>,
    ) -> Result<(), ServeError> {
        let (place, bytes) = Place::read_from_prefix(rest).map_err(|_| ServeError)?;
        let length = head.length.get();
        let is_good = match place.place {
            HERE => bytes.len() as u64 == length,
            THERE => bytes.is_empty(),
            _ => false,
        };
        let channel = self.channel.as_mut().ok_or(ServeError)?;
        let (stream, sequence) = (head.stream.get(), head.sequence.get());
        let order = channel.streams.get_mut(usize::from(stream)).ok_or(ServeError)?;
        if !is_good {
            return Err(ServeError);
        }
        let budget = Span::from_us(answer.budget().as_micros() as u64);
        let deadline = clock::now() + budget;
        let stage = Stage::Known(place);
        let message = Incoming { call: None, length, deadline, stage };
        if order.place(sequence, self.posted_max * 2, message).is_err() {
            // It has been settled before it came, or was never to be sent.
            return self.say(answer, Code::Cancelled, 0);
        }
        // Whatever lies in its announcement, is next and waits for none before it ends here and at
        // once.
        if place.place == HERE && order.is_next(sequence) && order.is_first(sequence) {
            channel.accounted += 1;
            let fitting = fitting(&mut self.posted, length);
            if let Some((_, message)) = order.take_in() {
                message.stage = match fitting {
                    Ok(mut buffer) => {
                        buffer[..bytes.len()].copy_from_slice(bytes);
                        Stage::Whole(buffer)
                    }
                    Err(code) => Stage::Failed(code),
                };
            }
            if let Some(message) = order.leave(Incoming::is_over) {
                let code = message.code();
                self.ready.push_back(arrival(stream, message));
                return self.say(answer, code, self.longest());
            }
        }
        if let Some(message) = order.get(sequence) {
            message.call = Some(answer.defer());
        }
        Ok(())
    }

    /// A message is to end, if it has not: its sender has given it up.
    fn settled(&mut self, head: &Head) -> Result<(), ServeError> {
        let channel = self.channel.as_mut().ok_or(ServeError)?;
        let sequence = head.sequence.get();
        let order = channel.streams.get_mut(usize::from(head.stream.get())).ok_or(ServeError)?;
        if order.has_left(sequence) {
            return Ok(());
        }
        if let Some(message) = order.get(sequence) {
            if !message.is_over() {
                channel.accounted += u64::from(message.is_waiting());
                message.fail(Code::Cancelled, &mut self.posted, &mut self.answers);
            }
            return Ok(());
        }
        let stage = Stage::Failed(Code::Cancelled);
        let message = Incoming { call: None, length: 0, deadline: Time::NEVER, stage };
        // There is a place for all that was announced on credit.
        order.place(sequence, self.posted_max * 2, message).map_err(|_| ServeError)?;
        channel.accounted += 1;
        Ok(())
    }

    /// Gives buffers to messages whose turn it is.
    fn take_in(&mut self, now: Time) {
        let Receiver { session, channel, posted, pulls, reach, answers, .. } = self;
        let Some(channel) = channel else { return };
        let Channel { streams, ways, engine, memory_bytes, accounted, .. } = channel;
        for (stream, order) in streams.iter_mut().enumerate() {
            while let Some((sequence, message)) = order.take_in() {
                let Stage::Known(place) = message.stage else { continue };
                *accounted += 1;
                let mut buffer = match fitting(posted, message.length) {
                    Ok(buffer) => buffer,
                    Err(code) => {
                        message.fail(code, posted, answers);
                        continue;
                    }
                };
                if let (HERE, Some(call)) = (place.place, &message.call) {
                    let into = &mut buffer[..message.length as usize];
                    // Its length was checked when it was announced.
                    let is_read = session.read_request(call, ANNOUNCE_BYTES, into);
                    debug_assert!(is_read, "an announcement lies in its receive buffer");
                    message.stage = Stage::Whole(buffer);
                    continue;
                }
                let may = reach.ask(*engine, now);
                match may.and_then(|_| way(session, ways, *engine, *memory_bytes, &place)) {
                    Ok(way) => {
                        let pull = Pull::new(way, place.address.get(), message.length, buffer);
                        message.stage = Stage::Pulling(pull);
                        pulls.begin(stream as u16, sequence);
                    }
                    Err(status) => {
                        posted.push_front(buffer);
                        message.fail(Code::Unread(status), posted, answers);
                    }
                }
            }
        }
    }

    /// Takes what was read, and reads on; ends what is read in vain, be there a channel or not.
    fn pull(&mut self, now: Time) -> Result<(), OpError> {
        let Receiver { session, channel, pulls, reach, posted, answers, .. } = self;
        let mut fail = |message: &mut Incoming, status| {
            message.fail(Code::Unread(status), posted, answers);
        };
        let Some(Channel { streams, engine, .. }) = channel else {
            return pulls.harvest(session, now, reach, &mut [], fail);
        };
        pulls.harvest(session, now, reach, streams, &mut fail)?;
        pulls.issue(session, now, *engine, reach, streams, &mut fail)
    }

    /// Ends what nobody waits for any more.
    fn expire(&mut self, now: Time) {
        let Receiver { channel, posted, answers, .. } = self;
        let Some(Channel { streams, accounted, .. }) = channel else { return };
        for order in streams {
            for (_, message) in order.iter_mut() {
                if now >= message.deadline && !message.is_over() {
                    *accounted += u64::from(message.is_waiting());
                    message.fail(Code::Unread(Status::Expired), posted, answers);
                }
            }
        }
    }

    /// Has messages leave whose turn it is.
    fn leave(&mut self) {
        let Receiver { channel, answers, ready, .. } = self;
        let Some(channel) = channel else { return };
        for (stream, order) in channel.streams.iter_mut().enumerate() {
            // One that has failed in advance counts as taken in by its turn alone.
            while let Some(mut message) = order.leave(Incoming::is_over) {
                answers.extend(message.call.take().map(|call| (call, message.code())));
                ready.push_back(arrival(stream as u16, message));
            }
        }
    }

    /// Answers calls, also a sender that waits for credit.
    fn answer(&mut self) -> Result<(), OpError> {
        let limit = self.limit();
        if let Some(channel) = &mut self.channel {
            let parked = channel.parked.take_if(|(_, known)| limit > *known);
            self.answers.extend(parked.map(|(call, _)| (call, Code::Done)));
        }
        if self.answers.is_empty() {
            return Ok(());
        }
        let longest = self.longest();
        for (call, code) in self.answers.drain(..) {
            let verdict = Verdict::new(code, limit, longest);
            match self.session.answer_later(call, Ok(verdict.as_bytes())) {
                // Its caller was told that it has no room; the others are told the truth. A verdict
                // fits the receive buffer of any call.
                Ok(())
                | Err(SubmitError::Full(_) | SubmitError::Invalid(OpError::TooLong { .. })) => {}
                Err(SubmitError::Invalid(error)) => return Err(error),
            }
        }
        self.session.publish_answers();
        Ok(())
    }

    fn say(&self, answer: &mut Answer<'_>, code: Code, most: u64) -> Result<(), ServeError> {
        answer.append(Verdict::new(code, self.limit(), most).as_bytes())
    }

    /// How many messages may have been announced, all in all: one for each buffer, as long as there
    /// is a place for each in its stream, where over ones may wait behind a slow one.
    fn limit(&self) -> u64 {
        let Some(channel) = &self.channel else { return self.posted.len() as u64 };
        let ahead = channel.streams.iter().map(Order::ahead).max().unwrap_or(0);
        let places = (self.posted_max * 2).saturating_sub(ahead);
        channel.accounted + self.posted.len().min(places) as u64
    }

    /// How many buffers messages have that have not left.
    fn held(&mut self) -> usize {
        self.messages().filter(|message| message.stage.has_buffer()).count()
    }

    fn messages(&mut self) -> impl Iterator<Item = &mut Incoming> {
        let orders = self.channel.iter_mut().flat_map(|channel| &mut channel.streams);
        orders.flat_map(|order| order.iter_mut().map(|(_, message)| message))
    }

    /// The longest message that there is a buffer for.
    fn longest(&self) -> u64 {
        self.posted.iter().map(Vec::len).max().unwrap_or(0) as u64
    }

    /// When the next message ends for want of time.
    fn next_deadline(&mut self) -> Time {
        let open = self.messages().filter(|message| !message.is_over());
        open.map(|message| message.deadline).min().unwrap_or(Time::NEVER)
    }
}

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        self.close();
        self.pulls.give_up(self.session);
        // In a child of the process that opened the session there is nothing to be told.
        let _ = self.answer();
    }
}
