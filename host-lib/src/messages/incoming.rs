//! Messages on their way to a receiver, and the channel that they come by.

use std::collections::VecDeque;
use std::net::SocketAddr;

use nic_wire::{Rkey, Status, Time};

use super::form::{Code, Place};
use super::order::Order;
use super::pull::Pull;
use super::receiver::{Arrival, Received};
use super::{LARGE_OUT_MAX, ReceiveError};
use crate::Ticket;
use crate::error::NicError;
use crate::remote::RemoteRegion;
use crate::session::{Deferred, Session};

/// What a sender has opened here.
pub(super) struct Channel {
    pub(super) id: u64,
    pub(super) engine: SocketAddr,
    pub(super) memory_bytes: u64,
    /// Ways to the sender's memory, by its slots.
    pub(super) ways: Vec<Option<(Rkey, RemoteRegion)>>,
    pub(super) streams: Vec<Order<Incoming>>,
    /// Messages that have a buffer, or need none any more.
    pub(super) accounted: u64,
    /// A sender that waits until there is another limit than this.
    pub(super) parked: Option<(Deferred, u64)>,
}

/// A message that has not left its stream.
pub(super) struct Incoming {
    /// The announcement, unless it is answered.
    pub(super) call: Option<Deferred>,
    pub(super) length: u64,
    pub(super) deadline: Time,
    pub(super) stage: Stage,
}

/// How far a message has come.
pub(super) enum Stage {
    /// It waits for earlier ones of its stream.
    Known(Place),
    /// It is being read.
    Pulling(Pull),
    /// It is all there.
    Whole(Vec<u8>),
    /// It came to nothing.
    Failed(Code),
}

impl Incoming {
    /// Whether it has yet to be given a buffer.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Known(_))
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Whole(_) | Stage::Failed(_))
    }
}

impl Incoming {
    /// It comes to nothing: its buffer is free again, its sender is told.
    pub(super) fn fail(
        &mut self,
        code: Code,
        posted: &mut VecDeque<Vec<u8>>,
        answers: &mut VecDeque<(Deferred, Code)>,
    ) {
        let stage = std::mem::replace(&mut self.stage, Stage::Failed(code));
        if let Some(buffer) = stage.into_buffer() {
            posted.push_front(buffer);
        }
        answers.extend(self.call.take().map(|call| (call, code)));
    }

    pub(super) fn code(&self) -> Code {
        match self.stage {
            Stage::Failed(code) => code,
            _ => Code::Done,
        }
    }
}

impl Stage {
    pub(super) fn has_buffer(&self) -> bool {
        matches!(self, Stage::Pulling(_) | Stage::Whole(_))
    }

    pub(super) fn into_buffer(self) -> Option<Vec<u8>> {
        match self {
            Stage::Pulling(pull) => Some(pull.into_buffer()),
            Stage::Whole(buffer) => Some(buffer),
            Stage::Known(_) | Stage::Failed(_) => None,
        }
    }
}

/// What the application is told of a message that leaves its stream.
pub(super) fn arrival(stream: u16, message: Incoming) -> Arrival {
    let length = message.length;
    match message.stage {
        Stage::Whole(buffer) => Ok(Received::new(stream, buffer, length as usize)),
        Stage::Failed(Code::NoBuffer) => Err(ReceiveError::NoBuffer { stream }),
        Stage::Failed(Code::TooLong) => Err(ReceiveError::TooLong { stream, found: length }),
        Stage::Failed(Code::Unread(status)) => Err(ReceiveError::Unread { stream, status }),
        _ => Err(ReceiveError::Cancelled { stream }),
    }
}

/// The buffer that was posted first of those that are long enough.
pub(super) fn fitting(posted: &mut VecDeque<Vec<u8>>, length: u64) -> Result<Vec<u8>, Code> {
    let fits = |buffer: &Vec<u8>| buffer.len() as u64 >= length;
    let found = posted.iter().position(fits);
    let none = if posted.is_empty() { Code::NoBuffer } else { Code::TooLong };
    found.and_then(|place| posted.remove(place)).ok_or(none)
}

/// The way to a message: kept by the sender's slots, opened anew when a slot's key has changed.
pub(super) fn way(
    session: &Session,
    ways: &mut Vec<Option<(Rkey, RemoteRegion)>>,
    engine: SocketAddr,
    memory_bytes: u64,
    place: &Place,
) -> Result<RemoteRegion, Status> {
    let slot = usize::from(place.slot);
    if slot >= LARGE_OUT_MAX {
        return Err(Status::BadArguments);
    }
    while ways.len() <= slot {
        ways.push(None);
    }
    let rkey = place.rkey;
    if let Some((known, way)) = &ways[slot]
        && *known == rkey
    {
        return Ok(way.clone());
    }
    let access = nic_kernels::Access::READ.bits();
    let ticket = Ticket { engine, rkey, base: 0, length: memory_bytes, access };
    match session.way(&ticket) {
        Ok(way) => {
            ways[slot] = Some((rkey, way.clone()));
            Ok(way)
        }
        Err(NicError::Refused { status, .. }) => Err(status),
        Err(_) => Err(Status::EngineLost),
    }
}
