//! TRAVERSE: a walk over pointers, next to the memory.

use nic_kernels::traverse::{Arguments, Found, ReplyHeader};
use nic_wire::{KernelId, Status};
use zerocopy::IntoBytes;

use super::Bytes;
use crate::error::OpError;
use crate::operation::{Ask, Facts, Operation, Reply};

/// Walks from element to element until a field fits, and reads what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Traverse {
    remote: u16,
    arguments: Arguments,
}

/// How a walk ended.
#[derive(Debug)]
pub enum Traversal {
    /// With a match.
    Found(Match),
    /// Where nothing leads on; so many elements were looked at.
    Missed {
        /// Those of the ops before, which it continued, included.
        hops: u32,
    },
    /// At a bound: walk on with these arguments.
    Continues(Box<Arguments>),
}

/// What a walk found.
#[derive(Debug)]
pub struct Match {
    bytes: Bytes,
    found: Found,
    hops: u32,
}

impl Match {
    /// The value. It was read after the element that led to it, and may be torn if somebody writes
    /// it meanwhile.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.bytes.get(ReplyHeader::BYTES..).unwrap_or_default()
    }

    /// Where it was found.
    pub fn found(&self) -> Found {
        self.found
    }

    /// How many elements were looked at, those of the ops before included.
    pub fn hops(&self) -> u32 {
        self.hops
    }
}

impl Traverse {
    #[inline]
    pub(crate) fn new(remote: u16, arguments: Arguments) -> Self {
        Traverse { remote, arguments }
    }
}

impl Operation for Traverse {
    type Output = Traversal;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::TRAVERSE, self.remote, self.arguments.as_bytes())
            .reply(self.arguments.reply_bytes())
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<Traversal, OpError> {
        if reply.status() == Status::Continues {
            let arguments = Arguments::decode(reply.bytes()).map_err(|_| OpError::BadReply)?;
            return Ok(Traversal::Continues(Box::new(arguments)));
        }
        let (header, _) = ReplyHeader::parse(reply.bytes()).ok_or(OpError::BadReply)?;
        let hops = header.hops.get();
        Ok(match header.found() {
            Some(found) => Traversal::Found(Match { bytes: Bytes(reply), found, hops }),
            None => Traversal::Missed { hops },
        })
    }
}
