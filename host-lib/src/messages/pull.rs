//! Messages that are read out of their sender's memory, piece by piece.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use nic_wire::{Status, Time};

use super::incoming::{Incoming, Stage};
use super::order::Order;
use super::reach::{May, Reach};
use crate::error::OpError;
use crate::ops::{Bytes, Read};
use crate::remote::RemoteRegion;
use crate::session::{Session, Token};

/// The length of a piece in bytes: long enough that a piece costs little beside its bytes, short
/// enough that it is still in the cache when it is copied to its buffer.
const PIECE_BYTES: u32 = 128 << 10;
/// The most pieces that are out at once, of all messages together.
const PIECES_OUT: usize = 16;
/// The stream of pieces that no message waits for.
const NOBODY: u16 = u16::MAX;

/// A message being read.
pub(super) struct Pull {
    way: RemoteRegion,
    address: u64,
    length: u64,
    buffer: Vec<u8>,
    /// How much of it has been asked for.
    asked: u64,
    landed: u64,
}

impl Pull {
    pub(super) fn new(way: RemoteRegion, address: u64, length: u64, buffer: Vec<u8>) -> Pull {
        Pull { way, address, length, buffer, asked: 0, landed: 0 }
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// A piece that was asked for.
struct Piece {
    token: Token,
    engine: SocketAddr,
    stream: u16,
    sequence: u32,
    at: u64,
}

/// All that is being read.
pub(super) struct Pulls {
    piece_bytes: u32,
    /// Pieces that are out at once: so many that the session has room for a cancel beside them.
    out_max: usize,
    out: Vec<Piece>,
    /// Messages with something still to be asked for, in turn.
    waiting: VecDeque<(u16, u32)>,
}

impl Pulls {
    pub(super) fn new(session: &Session) -> Self {
        let piece_bytes = PIECE_BYTES.min(session.piece_bytes_max());
        Pulls {
            piece_bytes,
            out_max: session.pieces_beside_an_op(piece_bytes).clamp(1, PIECES_OUT),
            out: Vec::with_capacity(PIECES_OUT),
            waiting: VecDeque::new(),
        }
    }

    /// A message is to be read.
    pub(super) fn begin(&mut self, stream: u16, sequence: u32) {
        self.waiting.push_back((stream, sequence));
    }

    /// Copies the pieces that have come to their buffers. `fail` is told of messages that cannot be
    /// read. Pieces that no message waits for are cancelled: whom they are read from may never end
    /// them.
    pub(super) fn harvest(
        &mut self,
        session: &Session,
        now: Time,
        reach: &mut Reach,
        streams: &mut [Order<Incoming>],
        mut fail: impl FnMut(&mut Incoming, Status),
    ) -> Result<(), OpError> {
        let mut next = 0;
        while let Some(piece) = self.out.get(next) {
            let Some(result) = session.take_over::<Read>(piece.token) else {
                // Without room for a cancel it is for another turn.
                if piece.stream == NOBODY && session.cancel_op(piece.token)? {
                    session.give_up(piece.token);
                    self.out.swap_remove(next);
                } else {
                    next += 1;
                }
                continue;
            };
            let Piece { engine, stream, sequence, at, .. } = self.out.swap_remove(next);
            reach.heard(engine, status_of(&result), now);
            // A message that has ended meanwhile has no use for it.
            let Some(message) = find(streams, stream, sequence) else { continue };
            let Stage::Pulling(pull) = &mut message.stage else { continue };
            match result {
                Ok(bytes) => {
                    let at = at as usize;
                    pull.buffer[at..at + bytes.len()].copy_from_slice(&bytes);
                    pull.landed += bytes.len() as u64;
                    if pull.landed == pull.length {
                        message.stage = Stage::Whole(std::mem::take(&mut pull.buffer));
                    }
                }
                failed => fail(message, status_of(&failed)),
            }
        }
        Ok(())
    }

    /// Asks an engine for more pieces, of all messages in turn; for one at first, as long as it has
    /// not answered.
    pub(super) fn issue(
        &mut self,
        session: &Session,
        now: Time,
        engine: SocketAddr,
        reach: &mut Reach,
        streams: &mut [Order<Incoming>],
        mut fail: impl FnMut(&mut Incoming, Status),
    ) -> Result<(), OpError> {
        while self.out.len() < self.out_max {
            let Some((stream, sequence)) = self.waiting.pop_front() else { break };
            let Some(message) = find(streams, stream, sequence) else { continue };
            let left = Duration::from_nanos(message.deadline.since(now).as_ns());
            let Stage::Pulling(pull) = &mut message.stage else { continue };
            match reach.ask(engine, now) {
                Ok(May::Read) => {}
                Ok(May::Try) if self.out.iter().all(|piece| piece.engine != engine) => {}
                Ok(May::Try) => {
                    self.waiting.push_front((stream, sequence));
                    break;
                }
                Err(status) => {
                    fail(message, status);
                    continue;
                }
            }
            let (at, bytes) = (pull.asked, (pull.length - pull.asked).min(self.piece_bytes.into()));
            let from = pull.address.saturating_add(at);
            let read = pull.way.read(from..from.saturating_add(bytes)).deadline(left);
            let Some(token) = session.start(&read, false)? else {
                // The session is full: its other ops make room.
                self.waiting.push_front((stream, sequence));
                break;
            };
            pull.asked += bytes;
            self.out.push(Piece { token, engine, stream, sequence, at });
            if pull.asked < pull.length {
                self.waiting.push_back((stream, sequence));
            }
        }
        Ok(())
    }

    /// Nobody wants what is being read any more; it is cancelled at the next harvest.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.out.iter_mut().for_each(|piece| piece.stream = NOBODY);
    }

    /// Gives up all that is being read.
    pub(super) fn give_up(&mut self, session: &Session) {
        self.waiting.clear();
        for piece in self.out.drain(..) {
            // One that finds no room for its cancel ends by its deadline.
            let _ = session.cancel_op(piece.token);
            session.give_up(piece.token);
        }
    }
}

/// How a piece ended.
fn status_of(result: &Result<Bytes, OpError>) -> Status {
    match result {
        Ok(_) => Status::Ok,
        Err(OpError::Failed { status, .. }) => *status,
        Err(_) => Status::BadArguments,
    }
}

fn find(streams: &mut [Order<Incoming>], stream: u16, sequence: u32) -> Option<&mut Incoming> {
    streams.get_mut(usize::from(stream))?.get(sequence)
}
