//! Calls: an application answers requests of one packet that come to one of its services. An answer
//! that fits the call's receive buffer is left there; a longer one lies in a piece of the session's
//! arena until the engine has read it.

use std::time::Duration;

use nic_engine::engine::OP_BYTES_MAX;
use nic_shm::Lease;
use nic_wire::control::ControlRequest;
use nic_wire::session::{ANSWER, AnswerArguments, Command, Receive};
use nic_wire::{Status, session};
use zerocopy::{FromZeros, IntoBytes};

use super::Session;
use super::slots::Token;
use super::state::State;
use crate::error::{NicError, OpError, OpPart, SubmitError};
use crate::nic::Backend;

/// A handler could not answer; the caller sees [`Status::ServiceFailed`], or
/// [`Status::ReplyTooLong`] if its answer did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the handler did not answer")]
pub struct ServeError;

/// Where a handler writes its answer.
#[derive(Debug)]
pub struct Answer<'a> {
    bytes: &'a mut [u8],
    length: usize,
    budget: Duration,
    call: Deferred,
    is_deferred: bool,
    /// Something was written that did not fit.
    is_too_long: bool,
}

/// A call that is answered later, by [`Session::answer_later`]. It keeps its receive buffer until
/// then, also when its caller does not wait any more: one that is forgotten leaks the buffer until
/// the session closes.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a call that is never answered keeps its receive buffer"]
pub struct Deferred {
    call: u32,
    buffer: u32,
    capacity: u32,
}

impl Answer<'_> {
    /// How many more bytes fit: what the caller has a place for, at most what fits a receive buffer or
    /// an op's reply ([`SessionBuilder::receive_buffers`](super::SessionBuilder::receive_buffers)).
    pub fn room(&self) -> usize {
        self.bytes.len() - self.length
    }

    /// How long the caller still waited when its call arrived here.
    pub fn budget(&self) -> Duration {
        self.budget
    }

    /// Answers the call later. What was written so far is not sent.
    pub fn defer(&mut self) -> Deferred {
        self.is_deferred = true;
        let Deferred { call, buffer, capacity } = self.call;
        Deferred { call, buffer, capacity }
    }

    /// Has the rest of the place filled; the writer says with how much, or that there is more than
    /// fits, or (`None`) nothing at all.
    pub(crate) fn fill(
        &mut self,
        write: impl FnOnce(&mut [u8]) -> Option<Filled>,
    ) -> Result<(), ServeError> {
        match write(&mut self.bytes[self.length..]) {
            Some(Filled::Bytes(written)) => {
                self.length += written;
                Ok(())
            }
            Some(Filled::TooLong) => self.overflow(),
            None => Err(ServeError),
        }
    }

    /// Adds bytes, all or none.
    ///
    /// # Errors
    /// They do not fit. A handler that passes this on has its caller told
    /// [`Status::ReplyTooLong`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), ServeError> {
        let Some(room) = self.bytes.get_mut(self.length..self.length + bytes.len()) else {
            return self.overflow();
        };
        room.copy_from_slice(bytes);
        self.length += bytes.len();
        Ok(())
    }

    fn overflow(&mut self) -> Result<(), ServeError> {
        self.is_too_long = true;
        Err(ServeError)
    }
}

/// What a writer has made of the place for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many bytes of it are the answer.
    Bytes(usize),
    /// The answer does not fit.
    TooLong,
}

/// What a call is answered with.
enum Given<'a> {
    /// These bytes, which fit the call's receive buffer.
    Short(&'a [u8]),
    /// What lies in a piece of the arena, by the command of this name.
    Long(Token, Lease, u32),
    /// No answer, for this reason.
    Nothing(Status),
}

impl Session {
    /// Makes the calls to a service of this application arrive at this session, which needs
    /// receive buffers. Callers need a ticket with [`Access::CALL`](crate::Access::CALL).
    ///
    /// # Errors
    /// The engine refuses (no receive buffers, the service is served already) or is gone.
    pub fn serve(&self, service: u16) -> Result<(), NicError> {
        let request = ControlRequest::Serve { session: self.id, service };
        self.nic.request(&request, &[])?;
        Ok(())
    }

    /// Answers the calls that have come: `handler` is given the service's number, the request and
    /// a place for the answer. Returns how many there were. [`Session::wait`] waits for more. The
    /// handler must not use this session itself: it is busy with the call. A call whose answer may be
    /// longer than a receive buffer is refused as [`Status::Busy`], without the handler, if the
    /// session has no piece of its arena, or no place among its ops, for such an answer now.
    ///
    /// # Errors
    /// [`OpError::Forked`] in a child of the process that opened the session.
    pub fn answer_calls(
        &self,
        mut handler: impl FnMut(u16, &[u8], &mut Answer<'_>) -> Result<(), ServeError>,
    ) -> Result<usize, OpError> {
        self.progress()?;
        let mut count = 0;
        loop {
            let Some(receive) = self.state.borrow_mut().receive() else { break };
            self.answer_call(&receive, &mut handler);
            count += 1;
        }
        if count > 0 {
            self.publish_answers();
        }
        Ok(count)
    }

    fn answer_call(
        &self,
        receive: &Receive,
        handler: &mut impl FnMut(u16, &[u8], &mut Answer<'_>) -> Result<(), ServeError>,
    ) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let at = u64::from(receive.buffer.get()) * u64::from(state.buffer_bytes);
        let length = receive.length.get() as usize;
        let mut request = [0; session::REQUEST_BYTES_MAX];
        let is_read =
            request.get_mut(..length).is_some_and(|into| state.buffers.read(at, into).is_ok());
        let capacity = state.answer_room.len().min(receive.answer_capacity.get() as usize);
        let call = Deferred {
            call: receive.call.get(),
            buffer: receive.buffer.get(),
            capacity: capacity as u32,
        };
        // What is found here is there again once the handler has answered: it cannot use the session.
        if capacity > state.buffer_bytes as usize && !state.has_piece(capacity as u32) {
            return self.give(state, &call, Given::Nothing(Status::Busy));
        }
        let mut answer = Answer {
            bytes: &mut state.answer_room[..capacity],
            length: 0,
            budget: Duration::from_micros(receive.budget_us.get().into()),
            call,
            is_deferred: false,
            is_too_long: false,
        };
        let outcome = match is_read {
            true => handler(receive.service.get(), &request[..length], &mut answer),
            false => Err(ServeError),
        };
        let Answer { length, call, is_deferred, is_too_long, .. } = answer;
        if is_deferred {
            return state.deferred.push((receive.call.get(), true));
        }
        let room = std::mem::take(&mut state.answer_room);
        let given = match outcome {
            Ok(()) => state.place_answer(&room[..length]),
            Err(ServeError) if is_too_long => Some(Given::Nothing(Status::ReplyTooLong)),
            Err(ServeError) => None,
        };
        self.give(state, &call, given.unwrap_or(Given::Nothing(Status::ServiceFailed)));
        state.answer_room = room;
    }

    /// Answers a call that was deferred; `Err` tells its caller [`Status::ServiceFailed`]. Nothing
    /// happens if the caller does not wait any more. It leaves with the next poll at the latest.
    ///
    /// # Errors
    /// [`SubmitError::Full`] hands the call back: its answer is longer than a receive buffer, and
    /// there is no room in the session for it now; poll, then answer again.
    /// [`OpError::TooLong`] if its caller, or a reply, has no room for so many bytes: its caller is
    /// told so. [`OpError::Forked`].
    pub fn answer_later(
        &self,
        call: Deferred,
        answer: Result<&[u8], ServeError>,
    ) -> Result<(), SubmitError<Deferred>> {
        self.check_process()?;
        let mut state = self.state.borrow_mut();
        let bytes = answer.unwrap_or_default();
        let fits = bytes.len() <= call.capacity as usize;
        let given = match answer {
            Err(ServeError) => Given::Nothing(Status::ServiceFailed),
            Ok(_) if !fits => Given::Nothing(Status::ReplyTooLong),
            Ok(bytes) => match state.place_answer(bytes) {
                Some(given) => given,
                None => return Err(SubmitError::Full(call)),
            },
        };
        if let Some(place) = state.deferred.iter().position(|(deferred, _)| *deferred == call.call)
        {
            state.deferred.swap_remove(place);
        }
        self.give(&mut state, &call, given);
        if fits {
            return Ok(());
        }
        let (found, most) = (bytes.len() as u64, call.capacity.into());
        Err(OpError::TooLong { part: OpPart::Reply, found, most }.into())
    }

    /// Whether the caller of a deferred call still waits, as far as [`Session::answer_calls`] has heard:
    /// a caller may cancel its call. That its deadline has passed is not told; see
    /// [`Answer::budget`].
    pub fn is_awaited(&self, call: &Deferred) -> bool {
        let state = self.state.borrow();
        state.deferred.iter().any(|(deferred, awaits)| *deferred == call.call && *awaits)
    }

    /// Copies the bytes from `skip` on of a deferred call's request, which lies in its receive buffer
    /// until the call is answered. False if they would leave the buffer.
    pub(crate) fn read_request(&self, call: &Deferred, skip: usize, into: &mut [u8]) -> bool {
        let state = self.state.borrow();
        let at = u64::from(call.buffer) * u64::from(state.buffer_bytes) + skip as u64;
        skip + into.len() <= state.buffer_bytes as usize && state.buffers.read(at, into).is_ok()
    }

    /// Has the engine see answers that were staged.
    pub(crate) fn publish_answers(&self) {
        let is_wanted = self.state.borrow_mut().publish();
        match &self.nic.backend {
            Backend::Process(_) if is_wanted => self.wake_engine(),
            Backend::Process(_) => {}
            Backend::Inline(inline) => inline.turn(),
        }
    }

    /// How many calls may wait here, and the longest request in bytes.
    pub(crate) fn receive_room(&self) -> (u32, u32) {
        let state = self.state.borrow();
        let bytes = state.buffer_bytes;
        let count = state.buffers.len().checked_div(bytes.into()).unwrap_or(0);
        (count as u32, bytes)
    }

    /// Tells the engine what a call is answered with.
    fn give(&self, state: &mut State, call: &Deferred, given: Given<'_>) {
        let mut arguments = AnswerArguments {
            call: call.call.into(),
            buffer: call.buffer.into(),
            length: 0.into(),
            status: Status::Ok.code().into(),
        };
        let mut command = Command::new_zeroed();
        command.kernel = ANSWER.0.into();
        let mut piece = None;
        match given {
            Given::Short(bytes) => {
                let at = u64::from(call.buffer) * u64::from(state.buffer_bytes);
                arguments.length = (bytes.len() as u32).into();
                if state.buffers.write(at, bytes).is_err() {
                    (arguments.length, arguments.status) =
                        (0.into(), Status::ServiceFailed.code().into());
                }
            }
            Given::Long(token, lease, length) => {
                command.token = token.into();
                command.payload_offset = lease.offset().into();
                command.payload_length = length.into();
                piece = Some((token, lease));
            }
            Given::Nothing(status) => arguments.status = status.code().into(),
        }
        let bytes = arguments.as_bytes();
        command.argument_length = bytes.len() as u8;
        command.arguments[..bytes.len()].copy_from_slice(bytes);
        if let Some((token, lease)) = piece {
            state.slots.lend(token, lease, command);
        }
        while !state.stage(&command) {
            // The command ring is full of ops: let the engine take some.
            if state.publish() {
                self.wake_engine();
            }
            match &self.nic.backend {
                Backend::Inline(inline) => inline.turn(),
                Backend::Process(process) if process.is_gone() => {
                    state.engine_died();
                    return;
                }
                Backend::Process(_) => std::hint::spin_loop(),
            }
        }
    }
}

impl State {
    /// The longest answer that there can be room for, in bytes.
    pub(super) fn answer_bytes_max(&self) -> u32 {
        self.buffer_bytes.max(self.arena.lease_len_max().min(OP_BYTES_MAX))
    }

    /// Whether there is room for an answer of so many bytes in the arena.
    fn has_piece(&mut self, bytes: u32) -> bool {
        self.slots.has_free() && self.arena.lease(bytes).is_some()
    }

    /// Puts an answer where its length belongs. `None`: there is no room for it now.
    fn place_answer<'a>(&mut self, bytes: &'a [u8]) -> Option<Given<'a>> {
        if bytes.len() <= self.buffer_bytes as usize {
            return Some(Given::Short(bytes));
        }
        let length = u32::try_from(bytes.len()).ok()?;
        let mut lease = self.arena.lease(length)?;
        lease.write(0, bytes).ok()?;
        let token = self.slots.reserve()?;
        Some(Given::Long(token, lease, length))
    }
}
