//! Buffers for replies that a kernel has looked at and that are longer than an op gathers.
//!
//! Every op has room to gather 512 bytes. A reply that is the private copy of something longer has
//! to be kept until its packets are made: it goes to one of a few buffers, which the op has until it
//! gives its slot back.

use alloc::vec::Vec;

use nic_wire::Status;

use super::slot::{KEPT, Op};
use crate::FETCH_BYTES_MAX;

/// How many there are (start).
pub(super) const LONG_BUFFERS: usize = 256;
const _: () = assert!(LONG_BUFFERS <= 1 << 16);

/// See the module's description.
#[derive(Debug)]
pub(super) struct LongBuffers {
    buffers: Vec<[u8; FETCH_BYTES_MAX]>,
    free: Vec<u16>,
}

impl LongBuffers {
    /// All memory is taken here.
    pub(super) fn new() -> Self {
        LongBuffers {
            buffers: alloc::vec![[0; FETCH_BYTES_MAX]; LONG_BUFFERS],
            free: (0..LONG_BUFFERS).rev().map(|number| number as u16).collect(),
        }
    }

    /// Makes bytes the whole reply of an op that has none yet.
    #[cold]
    pub(super) fn keep<P>(&mut self, op: &mut Op<P>, bytes: &[u8]) -> Result<(), Status> {
        if (op.gather.length(), op.ranges) != (0, 0) || bytes.len() > FETCH_BYTES_MAX {
            return Err(Status::Unsupported);
        }
        if bytes.len() > op.reply_capacity as usize {
            return Err(Status::ReplyTooLong);
        }
        if let Some(place) = op.gather.bytes_mut().get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        } else {
            let number = self.free.pop().ok_or(Status::Busy)?;
            self.buffers[usize::from(number)][..bytes.len()].copy_from_slice(bytes);
            op.gather.bytes_mut()[..2].copy_from_slice(&number.to_le_bytes());
            op.ranges = KEPT;
        }
        // At most 4096.
        op.gather.set_length(bytes.len() as u16);
        Ok(())
    }

    /// Takes the buffer of an op back.
    pub(super) fn release<P>(&mut self, op: &Op<P>) {
        self.free.push(number_of(op));
    }

    /// Copies a part of an op's reply, which must lie within it.
    pub(super) fn copy<P>(&self, op: &Op<P>, offset: u32, into: &mut [u8]) -> Result<(), Status> {
        let from = self.buffers[usize::from(number_of(op))]
            .get(offset as usize..offset as usize + into.len())
            .ok_or(Status::OutOfBounds)?;
        into.copy_from_slice(from);
        Ok(())
    }
}

/// The number of its buffer stands where an op gathers else.
fn number_of<P>(op: &Op<P>) -> u16 {
    let bytes = op.gather.bytes();
    u16::from_le_bytes([bytes[0], bytes[1]])
}
