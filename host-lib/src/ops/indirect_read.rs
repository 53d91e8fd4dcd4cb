//! INDIRECT_READ: many reads through an indirection table, as one op.

use nic_kernels::StrandHeader;
use nic_kernels::indirect_read::Arguments;
use nic_wire::{KernelId, Status};

use super::Bytes;
use crate::error::OpError;
use crate::operation::{Ask, Facts, Operation, Reply};

/// Reads through many entries of an indirection table.
#[derive(Clone, Copy, Debug)]
pub struct IndirectRead {
    remote: u16,
    arguments: Arguments,
}

/// What lookups brought, in their order.
#[derive(Debug)]
pub struct Lookups {
    bytes: Bytes,
    stride: usize,
}

impl Lookups {
    /// Each value, or how its lookup failed; empty where the pointer is null. A value may be torn
    /// if somebody writes it meanwhile.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<&[u8], Status>> {
        StrandHeader::parts(&self.bytes, self.stride).map(|part| match part {
            Some((Status::Ok, value)) => Ok(value),
            Some((failed, _)) => Err(failed),
            // Looked at when it came.
            None => Err(Status::Unsupported),
        })
    }
}

impl IndirectRead {
    #[inline]
    pub(crate) fn new(remote: u16, arguments: Arguments) -> Self {
        IndirectRead { remote, arguments }
    }
}

impl Operation for IndirectRead {
    type Output = Lookups;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        let stride = self.arguments.stride().into();
        let whole = self.arguments.reply_bytes();
        Ask::new(KernelId::INDIRECT_READ, self.remote, self.arguments.encoded())
            .reply(whole)
            .facts([stride, whole.into(), 0])
    }

    #[inline]
    fn result(facts: &Facts, reply: Reply) -> Result<Lookups, OpError> {
        let stride = usize::try_from(facts[0]).unwrap_or(usize::MAX);
        let is_whole = reply.bytes().len() as u64 == facts[1]
            && StrandHeader::parts(reply.bytes(), stride).all(|part| part.is_some());
        if !is_whole {
            return Err(OpError::BadReply);
        }
        Ok(Lookups { bytes: Bytes(reply), stride })
    }
}
