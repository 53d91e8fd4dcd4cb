//! The program.

use nic_wire::{KernelId, Status};

use super::layout::Arguments;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Outcome, Step};
use crate::reply::Reply;

/// Reads an object whose checksum fits.
#[derive(Clone, Copy, Debug)]
pub struct ConsistentRead {
    arguments: Arguments,
    object: Extent,
    /// How often it may still be read again.
    retries: u8,
}

impl Kernel for ConsistentRead {
    const ID: KernelId = KernelId::CONSISTENT_READ;
    const IS_BUILT_IN: bool = true;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::decode(call.arguments)?;
        arguments.check()?;
        let region = call.region(arguments.region.get())?;
        let length = arguments.length.get().into();
        call.reply_fits(length)?;
        let object = Extent::named(region, arguments.address.get(), length);
        Ok(ConsistentRead { arguments, object, retries: arguments.retries })
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, _reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => Step::Fetch(self.object),
            Event::Fetched(object) if self.arguments.is_whole(object) => {
                Step::Finish(Outcome::Fetched)
            }
            Event::Fetched(_) if self.retries > 0 => {
                self.retries -= 1;
                Step::Fetch(self.object)
            }
            Event::Fetched(_) => Step::fail(Status::Torn),
            _ => Step::UNEXPECTED,
        }
    }
}
