//! How an initiator asks for the kernel, and what it gets.

use nic_host::{Ask, Facts, Op, OpError, Operation, RemoteRegion, Reply, Status};
use nic_kernels::Kernel;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use crate::kernel::LowerBound;
use crate::layout::Arguments;

/// Finds the first node whose key is not below a given one.
#[derive(Clone, Copy, Debug)]
pub struct FindLowerBound {
    remote: u16,
    arguments: Arguments,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// The node.
    Found {
        /// Its key.
        key: u64,
        /// Its value.
        value: u64,
    },
    /// All keys are below.
    Beyond,
    /// It was stopped at a bound: go on with these arguments.
    Continues(Arguments),
}

impl FindLowerBound {
    /// In a list in that region.
    pub fn new(region: &RemoteRegion, arguments: Arguments) -> Op<Self> {
        Op::new(FindLowerBound { remote: region.remote(), arguments })
    }
}

impl Operation for FindLowerBound {
    type Output = Bound;

    fn ask(&self) -> Ask<'_> {
        // The longest reply is a continuation.
        Ask::new(LowerBound::ID, self.remote, self.arguments.as_bytes())
            .reply(size_of::<Arguments>() as u32)
    }

    fn result(_: &Facts, reply: Reply) -> Result<Bound, OpError> {
        let bytes = reply.bytes();
        if reply.status() == Status::Continues {
            let arguments = Arguments::read_from_bytes(bytes).map_err(|_| OpError::BadReply)?;
            return Ok(Bound::Continues(arguments));
        }
        if bytes.is_empty() {
            return Ok(Bound::Beyond);
        }
        let [key, value] =
            <[U64; 2]>::read_from_bytes(bytes).map_err(|_| OpError::BadReply)?.map(U64::get);
        Ok(Bound::Found { key, value })
    }
}
