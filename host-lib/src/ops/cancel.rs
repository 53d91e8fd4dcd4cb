//! CANCEL: ends another op of the same session.

use nic_wire::KernelId;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use crate::error::OpError;
use crate::operation::{Ask, Facts, Operation, Reply};

/// Ends an op that is out; whatever comes of it is told by that op's own end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cancel {
    pub(crate) remote: u16,
    pub(crate) token: U64,
}

impl Operation for Cancel {
    type Output = ();

    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::CANCEL, self.remote, self.token.as_bytes())
    }

    fn result(_: &Facts, _: Reply) -> Result<(), OpError> {
        Ok(())
    }
}
