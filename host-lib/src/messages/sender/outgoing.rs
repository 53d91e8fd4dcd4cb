//! The life of a message at its sender: announced, perhaps to be ended, over.

use std::time::Duration;

use nic_wire::{Fate, Status};
use zerocopy::IntoBytes;

use super::{MessageId, Sender, Sent};
use crate::messages::SendError;
use crate::messages::form::{ANNOUNCE, Code, Head, Place, SETTLE, VERDICT_BYTES};
use crate::messages::heard::{Heard, heard};
use crate::messages::memory::Placed;
use crate::session::Token;

/// What a sender knows of one message.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) generation: u32,
    stream: u16,
    sequence: u32,
    number: u64,
    length: u64,
    /// The announcement, until it is answered.
    pub(super) call: Option<Token>,
    /// The word to the receiver that the message is to end, or will not come.
    pub(super) settling: Option<Token>,
    /// Whether the receiver has to be told so.
    pub(super) is_unsettled: bool,
    pub(super) is_cancelled: bool,
    pub(super) placed: Option<Placed>,
}

impl Sender<'_> {
    /// Announces a message.
    pub(super) fn announce(
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
        (head.number, head.length) = (self.credit.next().into(), length.into());
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
        (message.number, message.length) = (self.credit.spend(), length);
        (message.is_cancelled, message.is_unsettled) = (false, false);
        self.streams[usize::from(stream)] = sequence.wrapping_add(1);
        Ok(MessageId { slot, generation: message.generation })
    }

    /// Tells the receiver that a message is to end or will not come.
    pub(super) fn settle(&mut self, slot: u16) {
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

    /// Takes in what has come for a message. True: nothing more will, its slot is free.
    pub(super) fn advance(&mut self, slot: u16) -> bool {
        let at = usize::from(slot);
        if let Some(result) = self.messages[at].settling.and_then(|call| heard(self.session, call))
        {
            self.messages[at].settling = None;
            match result {
                Ok((Code::Done, verdict)) => {
                    self.messages[at].is_unsettled = false;
                    self.credit.grant(&verdict);
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
                self.credit.grant(&verdict);
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
}
