//! CONSISTENT_READ: an object that its checksum proves, whole or not at all.

use nic_kernels::consistent_read::Arguments;
use nic_wire::KernelId;
use zerocopy::IntoBytes;

use super::Bytes;
use crate::error::OpError;
use crate::operation::{Ask, Facts, Operation, Reply};

/// Reads an object whose checksum was verified next to the memory.
#[derive(Clone, Copy, Debug)]
pub struct ConsistentRead {
    remote: u16,
    arguments: Arguments,
}

impl ConsistentRead {
    #[inline]
    pub(crate) fn new(remote: u16, arguments: Arguments) -> Self {
        ConsistentRead { remote, arguments }
    }
}

impl Operation for ConsistentRead {
    type Output = Bytes;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::CONSISTENT_READ, self.remote, self.arguments.as_bytes())
            .reply(self.arguments.length.get().into())
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<Bytes, OpError> {
        Ok(Bytes(reply))
    }
}
