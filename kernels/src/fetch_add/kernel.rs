//! The program.

use nic_wire::KernelId;

use super::layout::Arguments;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Step};
use crate::reply::Reply;

/// Adds to a word.
#[derive(Clone, Copy, Debug)]
pub struct FetchAdd {
    word: Extent,
    addend: u64,
}

impl Kernel for FetchAdd {
    const ID: KernelId = KernelId::FETCH_ADD;
    const IS_BUILT_IN: bool = true;
    const IS_COMMON: bool = true;

    #[inline(always)]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::view(call.arguments)?;
        call.reply_fits(8)?;
        let region = call.region(arguments.region.get())?;
        Ok(FetchAdd {
            word: Extent::named(region, arguments.address.get(), 8),
            addend: arguments.addend.get(),
        })
    }

    #[inline(always)]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => Step::FetchAdd { at: self.word, addend: self.addend },
            Event::Old(word) => match reply.append(&word.to_le_bytes()) {
                Ok(()) => Step::DONE,
                Err(full) => full.into(),
            },
            _ => Step::UNEXPECTED,
        }
    }
}
