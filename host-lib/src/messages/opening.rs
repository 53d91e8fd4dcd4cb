//! Senders about to be opened.

use nic_wire::{Fate, Status};
use zerocopy::IntoBytes;

use super::STREAMS_MAX;
use super::form::{Code, Engine, Head, OPEN, VERDICT_BYTES};
use super::heard::{Heard, heard};
use super::memory::Memory;
use super::sender::Sender;
use crate::error::NicError;
use crate::nic::Nic;
use crate::remote::RemoteRegion;
use crate::session::{Session, Token};

/// A sender whose receiver has yet to answer.
#[must_use = "it is opened by polling it"]
pub struct Opening<'s> {
    pub(super) session: &'s Session,
    pub(super) remote: RemoteRegion,
    pub(super) service: u16,
    pub(super) streams: u16,
    pub(super) channel: u64,
    pub(super) memory: Memory,
    call: Token,
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
            Ok(Some(call)) => call,
            Ok(None) => return Err(NicError::Session("the session is full of ops".to_owned())),
            Err(error) => return Err(NicError::Session(error.to_string())),
        };
        let remote = remote.clone();
        Ok(Opening { session, remote, service, streams, channel, memory, call })
    }

    /// The sender, or this again if its receiver has not answered yet.
    ///
    /// # Errors
    /// The receiver is none, or does not answer within a second.
    pub fn poll(self) -> Result<Result<Sender<'s>, Self>, NicError> {
        if let Err(error) = self.session.progress() {
            return Err(NicError::Session(error.to_string()));
        }
        let Some(heard) = heard(self.session, self.call) else { return Ok(Err(self)) };
        self.opened(heard).map(Ok)
    }

    /// Waits for the receiver's answer.
    pub(super) fn wait(self) -> Result<Sender<'s>, NicError> {
        let mut found = None;
        let waited = self.session.look_until(nic_wire::Time::NEVER, |session| {
            session.progress()?;
            found = heard(session, self.call);
            Ok(found.is_some())
        });
        match (waited, found) {
            (Err(error), _) => Err(NicError::Session(error.to_string())),
            (Ok(_), heard) => self.opened(heard.unwrap_or(Err((Status::Expired, Fate::Unknown)))),
        }
    }

    fn opened(self, heard: Heard) -> Result<Sender<'s>, NicError> {
        let refused = |status: Status| {
            let reason = format!(
                "no receiver of messages answers at service {} there: {status}; is one open, and does \
                 the ticket allow calls?",
                self.service
            );
            NicError::Refused { status, reason }
        };
        match heard {
            Ok((Code::Done, verdict)) => Ok(Sender::opened(self, &verdict)),
            Ok(_) => Err(NicError::OutOfTurn),
            Err((status, _)) => Err(refused(status)),
        }
    }
}
