//! The program.

use nic_wire::KernelId;

use super::layout::Arguments;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Step};
use crate::reply::Reply;

/// Replaces a word if it holds an expected value.
#[derive(Clone, Copy, Debug)]
pub struct CompareSwap {
    word: Extent,
    expected: u64,
    desired: u64,
}

impl Kernel for CompareSwap {
    const ID: KernelId = KernelId::COMPARE_SWAP;
    const IS_BUILT_IN: bool = true;
    const IS_COMMON: bool = true;

    #[inline(always)]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::view(call.arguments)?;
        call.reply_fits(8)?;
        let region = call.region(arguments.region.get())?;
        Ok(CompareSwap {
            word: Extent::named(region, arguments.address.get(), 8),
            expected: arguments.expected.get(),
            desired: arguments.desired.get(),
        })
    }

    #[inline(always)]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => {
                Step::CompareSwap { at: self.word, expected: self.expected, desired: self.desired }
            }
            Event::Old(word) => match reply.append(&word.to_le_bytes()) {
                Ok(()) => Step::DONE,
                Err(full) => full.into(),
            },
            _ => Step::UNEXPECTED,
        }
    }
}
