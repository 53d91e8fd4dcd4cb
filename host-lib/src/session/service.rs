//! Calls: an application answers requests of one packet that come to one of its services.

use std::time::Duration;

use nic_wire::control::ControlRequest;
use nic_wire::session::{ANSWER, AnswerArguments, Command, CommandFlags, Receive};
use nic_wire::{Status, session};
use zerocopy::{FromZeros, IntoBytes};

use super::Session;
use crate::error::{NicError, OpError};
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
            let mut state = self.state.borrow_mut();
            let wanted = state.publish();
            drop(state);
            match &self.nic.backend {
                Backend::Process(_) if wanted => self.wake_engine(),
                Backend::Process(_) => {}
                Backend::Inline(inline) => inline.turn(),
            }
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
        let budget = Duration::from_micros(receive.budget_us.get().into());
        let mut answer = Answer { bytes: &mut state.scratch[..capacity], length: 0, budget };
        let outcome = match is_read {
            true => handler(receive.service.get(), &request[..length], &mut answer),
            false => Err(ServeError),
        };
        let length = if outcome.is_ok() { answer.length } else { 0 };
        let is_written = state.buffers.write(at, &state.scratch[..length]).is_ok();
        let status = match outcome {
            Ok(()) if is_written => Status::Ok,
            _ => Status::ServiceFailed,
        };
        let arguments = AnswerArguments {
            call: receive.call,
            buffer: receive.buffer,
            length: (length as u32).into(),
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
