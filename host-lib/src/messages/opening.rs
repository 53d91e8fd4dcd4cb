//! Senders about to be opened.

use nic_wire::{Fate, Status};
use zerocopy::IntoBytes;

use super::STREAMS_MAX;
use super::form::{CLOSE, Code, Engine, Head, OPEN, VERDICT_BYTES};
use super::heard::{Heard, heard};
use super::memory::Memory;
use super::sender::Sender;
use crate::error::NicError;
use crate::nic::Nic;
use crate::remote::RemoteRegion;
use crate::session::{Session, Token};

/// A sender whose receiver has yet to answer. Dropping it gives it up: nothing of it stays here, and
/// the receiver is told, and forgets the channel.
#[must_use = "it is opened by polling it"]
pub struct Opening<'s> {
    pub(super) asked: Asked<'s>,
    pub(super) streams: u16,
    pub(super) memory: Memory,
}

/// A channel that a receiver was asked to open.
pub(super) struct Asked<'s> {
    pub(super) session: &'s Session,
    pub(super) remote: RemoteRegion,
    pub(super) service: u16,
    pub(super) channel: u64,
    /// The request, until it is over.
    call: Option<Token>,
    /// Whether the channel is open there, as far as is known, and nobody has it here.
    is_stray: bool,
}

impl<'s> Opening<'s> {
    pub(super) fn begin(
        session: &'s Session,
        remote: &RemoteRegion,
        service: u16,
        streams: u16,
        memory_bytes: u64,
    ) -> Result<Self, NicError> {
        if !(1..=STREAMS_MAX).contains(&streams) {
            let what = format!("found {streams} streams; there can be from 1 to {STREAMS_MAX}");
            return Err(NicError::Session(what));
        }
        let nic = Nic { inner: std::rc::Rc::clone(&session.nic) };
        let mut memory = Memory::new(&nic, memory_bytes)?;
        let channel = getrandom::u64().map_err(|error| NicError::Session(error.to_string()))?;
        let ticket = memory.ticket()?;
        let mut head = Head::new(OPEN, channel);
        (head.stream, head.length) = (streams.into(), ticket.length.into());
        let request = [head.as_bytes(), Engine::at(ticket.engine).as_bytes()].concat();
        let call = session.start(&remote.call(service, &request, VERDICT_BYTES), false);
        let call = match call {
            Ok(Some(call)) => Some(call),
            Ok(None) => return Err(NicError::Session("the session is full of ops".to_owned())),
            Err(error) => return Err(NicError::Session(error.to_string())),
        };
        let remote = remote.clone();
        let asked = Asked { session, remote, service, channel, call, is_stray: true };
        Ok(Opening { asked, streams, memory })
    }

    /// The sender, or this again if its receiver has not answered yet.
    ///
    /// # Errors
    /// The receiver is none, or does not answer within a second.
    pub fn poll(mut self) -> Result<Result<Sender<'s>, Self>, NicError> {
        if let Err(error) = self.asked.session.progress() {
            return Err(NicError::Session(error.to_string()));
        }
        let Some(heard) = self.asked.heard() else { return Ok(Err(self)) };
        self.opened(heard).map(Ok)
    }

    /// Waits for the receiver's answer.
    pub(super) fn wait(mut self) -> Result<Sender<'s>, NicError> {
        let mut found = None;
        let waited = self.asked.session.look_until(nic_wire::Time::NEVER, |session| {
            session.progress()?;
            found = self.asked.heard();
            Ok(found.is_some())
        });
        match (waited, found) {
            (Err(error), _) => Err(NicError::Session(error.to_string())),
            (Ok(_), heard) => self.opened(heard.unwrap_or(Err((Status::Expired, Fate::Unknown)))),
        }
    }

    fn opened(mut self, heard: Heard) -> Result<Sender<'s>, NicError> {
        let service = self.asked.service;
        let refused = |status: Status| {
            let reason = format!(
                "no receiver of messages answers at service {service} there: {status}; is one open, and \
                 does the ticket allow calls?"
            );
            NicError::Refused { status, reason }
        };
        match heard {
            Ok((Code::Done, verdict)) => {
                self.asked.is_stray = false;
                Ok(Sender::opened(self, &verdict))
            }
            Ok(_) => {
                self.asked.is_stray = false;
                Err(NicError::OutOfTurn)
            }
            Err((status, fate)) => {
                self.asked.is_stray = fate == Fate::Unknown;
                Err(refused(status))
            }
        }
    }
}

impl Asked<'_> {
    /// What was heard of the request, if it is over.
    fn heard(&mut self) -> Option<Heard> {
        let heard = heard(self.session, self.call?)?;
        self.call = None;
        Some(heard)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            // It is over already, or the session has no place for it: then it ends by its deadline.
            let _ = self.session.cancel_op(call);
            self.session.give_up(call);
        }
        if self.is_stray {
            let head = Head::new(CLOSE, self.channel);
            let close = self.remote.call(self.service, head.as_bytes(), VERDICT_BYTES);
            // A receiver that does not hear of it keeps the channel until another is opened.
            if let Ok(Some(call)) = self.session.start(&close, false) {
                self.session.give_up(call);
            }
        }
    }
}

#[cfg(test)]
mod tests;
