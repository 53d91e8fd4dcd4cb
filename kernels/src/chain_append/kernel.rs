//! The program.

use nic_wire::{Fate, KernelId, Status};
use zerocopy::IntoBytes;

use super::layout::{self, Arguments, Flags, Outcome};
use crate::TRANSFER_BYTES_MAX;
use crate::kernel::{BadArguments, Call, Continuation, Event, Extent, Kernel, Pointer, Step};
use crate::reply::Reply;
use crate::version_chain::layout::HEADER_BYTES;
use crate::version_chain::walk::{Came, Start, Walk};
use crate::version_chain::{Link, PointerWord};

const _: () = assert!(layout::Reply::BYTES <= Arguments::BYTES);

/// What becomes of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Image {
    /// Whether the fresh buffer has one already is looked at.
    Unknown,
    /// It is placed before the walk begins.
    First,
    /// Its buffer has one, perhaps of an op that was sent before: it is placed only when the walk has
    /// come to the chain's end and not met it.
    Last,
    /// The walk has come to its bound: the same.
    LastAtBound,
}

/// Writes an entry and links it behind the latest of its chain.
#[derive(Clone, Copy, Debug)]
pub struct ChainAppend {
    walk: Walk,
    fresh: Link,
    /// Where the shortcut's word is; the walk forgets it when it was of no use.
    shortcut: Option<Pointer>,
    payload_length: u32,
    flags: Flags,
    /// What the latest entry's word must be for the swap under way.
    expected: PointerWord,
    image: Image,
    is_linked: bool,
}

impl Kernel for ChainAppend {
    const ID: KernelId = KernelId::CHAIN_APPEND;
    const IS_BUILT_IN: bool = true;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::view(call.arguments)?;
        let flags = arguments.flags()?;
        let fresh = Link::from_raw(arguments.fresh.get());
        if fresh.is_none() {
            return Err(BadArguments::Value { field: "fresh" });
        }
        let payload_length = call.payload_length;
        let expected = if flags.contains(Flags::WRITTEN) {
            0..=0
        } else {
            HEADER_BYTES as u32..=TRANSFER_BYTES_MAX
        };
        if !expected.contains(&payload_length) {
            return Err(BadArguments::Value { field: "payload_length" });
        }
        call.reply_fits(Arguments::BYTES as u32)?;
        let shortcut = match flags.contains(Flags::HAS_SHORTCUT) {
            true => Some(Pointer {
                region: call.region(arguments.shortcut_region.get())?,
                address: arguments.shortcut.get(),
            }),
            false => None,
        };
        let first = flags.contains(Flags::SHORTCUT_FIRST);
        let cursor = Link::from_raw(arguments.cursor.get());
        if cursor == fresh {
            return Err(BadArguments::Value { field: "cursor" });
        }
        let walk = Walk::new(Start {
            cursor,
            shortcut,
            shortcut_after: if first { 0 } else { u16::MAX },
            hops_max: arguments.hops_max.into(),
        })?;
        let expected = PointerWord::last(0);
        let (image, is_linked) = (Image::Unknown, false);
        Ok(ChainAppend { walk, fresh, shortcut, payload_length, flags, expected, image, is_linked })
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start if self.flags.contains(Flags::WRITTEN) => self.walk.begin(),
            Event::Start => {
                let Pointer { region, address } = self.fresh.pointer();
                Step::Fetch(Extent::named(region, address, 8))
            }
            Event::Fetched(bytes) if self.image == Image::Unknown && !self.is_written() => {
                match bytes.first_chunk() {
                    Some(word) => self.begin_image(u64::from_le_bytes(*word), reply),
                    None => Step::UNEXPECTED,
                }
            }
            Event::Held => self.walk.begin(),
            Event::Payload => {
                self.flags |= Flags::WRITTEN;
                match self.image {
                    Image::Last => self.go_on(Came::Latest(self.expected), reply),
                    Image::LastAtBound => self.go_on(Came::Bound, reply),
                    Image::Unknown | Image::First => self.walk.begin(),
                }
            }
            Event::Fetched(bytes) => {
                let came = self.walk.fetched(bytes);
                self.go_on(came, reply)
            }
            Event::Old(found) if found == self.expected.raw() => self.linked(reply),
            Event::Old(found) => {
                // Another writer was first, or the buffer was recycled: the word tells.
                let came = self.walk.look(PointerWord::from_raw(found));
                self.go_on(came, reply)
            }
            Event::Written => self.answer(Outcome::Linked, self.link(), reply),
            _ => Step::UNEXPECTED,
        }
    }

    fn resume_point(&self) -> Option<Continuation> {
        let is_only_written = self.flags.contains(Flags::WRITTEN) && !self.is_linked;
        is_only_written.then(|| Continuation::new(&self.rest().encode()))
    }

    fn fate(&self, _: bool) -> Option<Fate> {
        // A buffer that was written and not linked is as fresh as before.
        Some(if self.is_linked { Fate::Executed } else { Fate::NotExecuted })
    }
}

impl ChainAppend {
    /// What the fresh buffer holds decides when the image is placed: over an entry that is linked it
    /// would cut the chain.
    fn begin_image(&mut self, word: u64, reply: &mut Reply<'_>) -> Step {
        let word = PointerWord::from_raw(word);
        if word.version() != self.fresh.version() {
            self.image = Image::First;
            return self.place_image();
        }
        if !word.next().is_none() {
            return self.answer(Outcome::LinkedBefore, word, reply);
        }
        self.image = Image::Last;
        Step::HoldPayload
    }

    fn place_image(&self) -> Step {
        let Pointer { region, address } = self.fresh.pointer();
        Step::StorePayload(Extent::named(region, address, self.payload_length))
    }

    #[inline]
    fn is_written(&self) -> bool {
        self.flags.contains(Flags::WRITTEN)
    }

    #[inline]
    fn go_on(&mut self, came: Came, reply: &mut Reply<'_>) -> Step {
        match came {
            // It would become a circle.
            Came::On(_) | Came::Latest(_) if self.walk.at() == self.fresh => {
                self.answer(Outcome::LinkedBefore, PointerWord::from_raw(0), reply)
            }
            Came::On(step) => step,
            Came::Latest(word) if word.is_pending() => {
                let is_own = word.next() == self.fresh;
                let outcome = if is_own { Outcome::LinkedBefore } else { Outcome::Pending };
                self.answer(outcome, word, reply)
            }
            Came::Latest(word) if !self.is_written() => {
                self.expected = word;
                self.place_image()
            }
            Came::Latest(word) => {
                self.expected = word;
                let desired = self.link().raw();
                Step::CompareSwap { at: self.walk.word(), expected: word.raw(), desired }
            }
            Came::Recycled(word) => self.answer(Outcome::Recycled, word, reply),
            Came::Bound if !self.is_written() => {
                self.image = Image::LastAtBound;
                self.place_image()
            }
            Came::Bound => match reply.append(&self.rest().encode()) {
                Ok(()) => Step::fail(Status::Continues),
                Err(full) => full.into(),
            },
        }
    }

    /// The buffer is linked: what is left is to tell the shortcut.
    #[inline]
    fn linked(&mut self, reply: &mut Reply<'_>) -> Step {
        self.is_linked = true;
        match self.shortcut {
            Some(Pointer { region, address }) if !self.flags.contains(Flags::UNCOMMITTED) => {
                let at = Extent::named(region, address, 8);
                Step::Store { at, word: self.fresh.raw() }
            }
            _ => self.answer(Outcome::Linked, self.link(), reply),
        }
    }

    /// The word of the entry behind which the buffer is linked.
    #[inline]
    fn link(&self) -> PointerWord {
        let is_committed = !self.flags.contains(Flags::UNCOMMITTED);
        self.expected.followed_by(self.fresh, is_committed)
    }

    #[inline]
    fn answer(&self, outcome: Outcome, word: PointerWord, reply: &mut Reply<'_>) -> Step {
        let answer = layout::Reply {
            outcome: outcome as u8,
            reserved: 0,
            hops: self.walk.hops().into(),
            reserved_too: 0.into(),
            at: self.walk.at().raw().into(),
            word: word.raw().into(),
        };
        match reply.append(answer.as_bytes()) {
            Ok(()) => Step::DONE,
            Err(full) => full.into(),
        }
    }

    /// The arguments with which another op goes on.
    fn rest(&self) -> Arguments {
        let rest = self.walk.rest();
        let mut flags = self.flags | Flags::WRITTEN;
        // Where it was taken before, it would lead back.
        flags.set(Flags::SHORTCUT_FIRST, self.is_shortcut_first() && rest.shortcut.is_some());
        let arguments = Arguments::new(rest.cursor, self.fresh);
        let arguments = match self.shortcut {
            Some(Pointer { region, address }) => {
                arguments.with_shortcut(region.into(), address, false)
            }
            None => arguments,
        };
        // What came as a byte.
        Arguments { hops_max: rest.hops_max as u8, flags: flags.bits(), ..arguments }
    }

    #[inline]
    fn is_shortcut_first(&self) -> bool {
        self.flags.contains(Flags::SHORTCUT_FIRST)
    }
}
