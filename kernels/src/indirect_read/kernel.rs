//! The program.

use nic_wire::KernelId;

use super::layout::{Arguments, Flags};
use crate::TRANSFER_BYTES_MAX;
use crate::executor::{STRANDS_MAX, Strands};
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Step};
use crate::lookups::Lookups;
use crate::pointer_form::PointerForm;
use crate::reply::Reply;

/// Reads through many entries of an indirection table.
#[derive(Clone, Copy, Debug)]
pub struct IndirectRead(Part);

/// The op, or one of its strands.
#[derive(Clone, Copy, Debug)]
enum Part {
    Whole { arguments: Arguments, region: u8, form: PointerForm },
    Lookup { entry: Extent, form: PointerForm, length: u32 },
}

impl Kernel for IndirectRead {
    const ID: KernelId = KernelId::INDIRECT_READ;
    const IS_BUILT_IN: bool = true;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::decode(call.arguments)?;
        let bad = |field| BadArguments::Value { field };
        let flags = arguments.flags().ok_or(bad("flags"))?;
        let region = call.region(arguments.region())?;
        let value_region = call.region(arguments.value_region())?;
        if !(1..=STRANDS_MAX).contains(&usize::from(arguments.count())) {
            return Err(bad("count"));
        }
        if arguments.length() > TRANSFER_BYTES_MAX {
            return Err(bad("length"));
        }
        if arguments.entry_bytes() == 0 {
            return Err(bad("entry_words"));
        }
        if call.payload_length != 0 {
            return Err(bad("payload"));
        }
        call.reply_fits(arguments.reply_bytes())?;
        let form = if flags.contains(Flags::TAGGED) {
            PointerForm::Tagged
        } else {
            PointerForm::Plain { region: value_region }
        };
        Ok(IndirectRead(Part::Whole { arguments, region, form }))
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, _reply: &mut Reply<'_>) -> Step {
        match (&self.0, event) {
            (Part::Whole { arguments, .. }, Event::Start) => {
                Step::Split(Strands { count: arguments.count(), stride: arguments.stride() })
            }
            (Part::Lookup { entry, .. }, Event::Start) => Step::Fetch(*entry),
            (Part::Lookup { form, length, .. }, Event::Fetched(pointer)) => {
                let Some(word) = pointer.first_chunk() else { return Step::UNEXPECTED };
                match form.follow(u64::from_le_bytes(*word)) {
                    Some(at) => Step::FetchToReply(Extent::followed(at, *length)),
                    None => Step::DONE,
                }
            }
            (Part::Lookup { .. }, Event::Replied { .. }) => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }

    #[inline]
    fn strand(&self, place: u8) -> Option<Self> {
        let Part::Whole { arguments, region, form } = &self.0 else { return None };
        let entry = Extent::named(*region, self.lookup(place), 8);
        Some(IndirectRead(Part::Lookup { entry, form: *form, length: arguments.length() }))
    }

    #[inline]
    fn lookups(&self) -> Option<Lookups> {
        let Part::Whole { arguments, region, form } = &self.0 else { return None };
        Some(Lookups { region: *region, form: *form, length: arguments.length() })
    }

    #[inline]
    fn lookup(&self, place: u8) -> u64 {
        let Part::Whole { arguments, .. } = &self.0 else { return 0 };
        let offset = u64::from(arguments.index(place)) * arguments.entry_bytes();
        // An address that wraps lies before the table; it is checked like any other.
        arguments.table().wrapping_add(offset)
    }
}
