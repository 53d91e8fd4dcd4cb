//! CALL: a request of one packet to a service of the application that owns a region.

use nic_wire::KernelId;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

use super::Bytes;
use crate::error::OpError;
use crate::operation::{Ask, Facts, Operation, Reply};

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    remote: u16,
    service: U16,
    request: &'a [u8],
    answer_capacity: u32,
}

impl<'a> Call<'a> {
    #[inline]
    pub(crate) fn new(remote: u16, service: u16, request: &'a [u8], answer_capacity: u32) -> Self {
        Call { remote, service: service.into(), request, answer_capacity }
    }
}

impl Operation for Call<'_> {
    type Output = Bytes;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::CALL, self.remote, self.service.as_bytes())
            .payload(self.request)
            .reply(self.answer_capacity)
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<Bytes, OpError> {
        Ok(Bytes(reply))
    }
}
