//! The program.

use nic_wire::KernelId;

use super::layout::Arguments;
use crate::TRANSFER_BYTES_MAX;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Step};
use crate::reply::Reply;

/// Reads a range.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    range: Extent,
}

impl Kernel for Read {
    const ID: KernelId = KernelId::READ;
    const IS_BUILT_IN: bool = true;
    const IS_COMMON: bool = true;

    #[inline(always)]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::view(call.arguments)?;
        let length = arguments.length.get();
        if length > TRANSFER_BYTES_MAX {
            return Err(BadArguments::Value { field: "length" });
        }
        let region = call.region(arguments.region.get())?;
        Ok(Read { range: Extent::named(region, arguments.address.get(), length) })
    }

    #[inline(always)]
    fn step(&mut self, event: Event<'_>, _reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => Step::FetchToReply(self.range),
            Event::Replied { .. } => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }
}
