//! Calls: an application answers requests of one packet that come to one of its services.

use std::time::Duration;

use nic_wire::control::ControlRequest;
use nic_wire::session::{ANSWER, AnswerArguments, Command, CommandFlags, Receive};
use nic_wire::{Status, session};
use zerocopy::{FromZeros, IntoBytes};

use super::Session;
use super::state::State;
use crate::error::{NicError, OpError, OpPart};
use crate::nic::Backend;

/// A handler could not answer; the caller sees [`Status::ServiceFailed`].
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
    /// How many more bytes fit: what the caller has a place for, and the receive buffer's length.
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

    /// Has the rest of the place filled; the writer says with how much.
    pub(crate) fn fill(
        &mut self,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<(), ServeError> {
        let written = write(&mut self.bytes[self.length..]).ok_or(ServeError)?;
        self.length += written;
        Ok(())
    }

    /// Adds bytes, all or none.
    ///
    /// # Errors
    /// They do not fit.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), ServeError> {
        let room = self.bytes.get_mut(self.length..self.length + bytes.len()).ok_or(ServeError)?;
        room.copy_from_slice(bytes);
        self.length += bytes.len();
        Ok(())
    }
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
    /// handler must not use this session itself: it is busy with the call.
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
        let capacity = state.scratch.len().min(receive.answer_capacity.get() as usize);
        let call = Deferred {
            call: receive.call.get(),
            buffer: receive.buffer.get(),
            capacity: capacity as u32,
        };
        let mut answer = Answer {
            bytes: &mut state.scratch[..capacity],
            length: 0,
            budget: Duration::from_micros(receive.budget_us.get().into()),
            call,
            is_deferred: false,
        };
        let outcome = match is_read {
            true => handler(receive.service.get(), &request[..length], &mut answer),
            false => Err(ServeError),
        };
        if answer.is_deferred {
            return state.deferred.push((receive.call.get(), true));
        }
        let (length, call) = (answer.length, answer.call);
        let is_written =
            outcome.is_ok() && state.buffers.write(at, &state.scratch[..length]).is_ok();
        let (length, status) =
            if is_written { (length, Status::Ok) } else { (0, Status::ServiceFailed) };
        self.stage_answer(state, &call, length as u32, status);
    }

    /// Answers a call that was deferred; `Err` tells its caller [`Status::ServiceFailed`]. Nothing
    /// happens if the caller does not wait any more. It leaves with the next poll at the latest.
    ///
    /// # Errors
    /// [`OpError::TooLong`] if the caller, or the call's receive buffer, has no room for so many
    /// bytes: its caller is told that the service failed. [`OpError::Forked`].
    pub fn answer_later(
        &self,
        call: Deferred,
        answer: Result<&[u8], ServeError>,
    ) -> Result<(), OpError> {
        self.check_process()?;
        let mut state = self.state.borrow_mut();
        if let Some(place) = state.deferred.iter().position(|(deferred, _)| *deferred == call.call)
        {
            state.deferred.swap_remove(place);
        }
        let at = u64::from(call.buffer) * u64::from(state.buffer_bytes);
        let bytes = answer.unwrap_or_default();
        let fits = bytes.len() <= call.capacity as usize;
        let is_written = answer.is_ok() && fits && state.buffers.write(at, bytes).is_ok();
        let (length, status) =
            if is_written { (bytes.len(), Status::Ok) } else { (0, Status::ServiceFailed) };
        self.stage_answer(&mut state, &call, length as u32, status);
        let (found, most) = (bytes.len() as u64, call.capacity.into());
        if fits { Ok(()) } else { Err(OpError::TooLong { part: OpPart::Reply, found, most }) }
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

    fn stage_answer(&self, state: &mut State, call: &Deferred, length: u32, status: Status) {
        let arguments = AnswerArguments {
            call: call.call.into(),
            buffer: call.buffer.into(),
            length: length.into(),
            status: status.code().into(),
        };
        let mut command = Command::new_zeroed();
        command.kernel = ANSWER.0.into();
        command.flags = CommandFlags::empty().bits();
        let bytes = arguments.as_bytes();
        command.argument_length = bytes.len() as u8;
        command.arguments[..bytes.len()].copy_from_slice(bytes);
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
