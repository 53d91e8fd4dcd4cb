//! The program.

use nic_wire::KernelId;

use super::layout::Arguments;
use crate::TRANSFER_BYTES_MAX;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Step};
use crate::reply::Reply;

/// Writes a range.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    range: Extent,
}

impl Kernel for Write {
    const ID: KernelId = KernelId::WRITE;
    const IS_BUILT_IN: bool = true;
    const IS_COMMON: bool = true;

    #[inline(always)]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::view(call.arguments)?;
        if call.payload_length > TRANSFER_BYTES_MAX {
            return Err(BadArguments::Value { field: "payload_length" });
        }
        let region = call.region(arguments.region.get())?;
        Ok(Write { range: Extent::named(region, arguments.address.get(), call.payload_length) })
    }

    #[inline(always)]
    fn step(&mut self, event: Event<'_>, _reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => Step::StorePayload(self.range),
            Event::Payload => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }
}
