//! The program.

use nic_wire::{KernelId, Status};
use zerocopy::IntoBytes;

use super::layout::{Arguments, Outcome, REPLY_HEADER_BYTES, ReplyHeader, reply_bytes};
use crate::kernel::{BadArguments, Call, Continuation, Event, Kernel, Pointer, Step};
use crate::reply::Reply;
use crate::version_chain::Link;
use crate::version_chain::layout::{HEADER_BYTES, PointerWord};
use crate::version_chain::walk::{Came, Start, Walk, header_of};

const _: () = assert!(REPLY_HEADER_BYTES + HEADER_BYTES >= Arguments::BYTES);

/// Walks a version chain to its latest entry, and reads it.
#[derive(Clone, Copy, Debug)]
pub struct ChainRead {
    walk: Walk,
}

impl Kernel for ChainRead {
    const ID: KernelId = KernelId::CHAIN_READ;
    const IS_BUILT_IN: bool = true;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::view(call.arguments)?;
        let shortcut = match arguments.has_shortcut()? {
            true => Some(Pointer {
                region: call.region(arguments.shortcut_region.get())?,
                address: arguments.shortcut.get(),
            }),
            false => None,
        };
        call.reply_fits(reply_bytes(0))?;
        let walk = Walk::new(Start {
            cursor: Link::from_raw(arguments.cursor.get()),
            shortcut,
            shortcut_after: arguments.shortcut_after.get(),
            hops_max: arguments.hops_max.get(),
        })?;
        Ok(ChainRead { walk })
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => self.walk.begin(),
            Event::Fetched(bytes) => match self.walk.fetched(bytes) {
                Came::On(step) => step,
                Came::Latest(word) => self.answer(word, bytes, reply),
                Came::Recycled(_) => {
                    match reply.append(self.header(Outcome::Recycled, 0).as_bytes()) {
                        Ok(()) => Step::DONE,
                        Err(full) => full.into(),
                    }
                }
                Came::Bound => match reply.append(&self.rest().encode()) {
                    Ok(()) => Step::fail(Status::Continues),
                    Err(full) => full.into(),
                },
            },
            Event::Replied { .. } => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }

    fn resume_point(&self) -> Option<Continuation> {
        Some(Continuation::new(&self.rest().encode()))
    }
}

impl ChainRead {
    /// Replies with the entry that was found.
    #[inline]
    fn answer(&self, word: PointerWord, bytes: &[u8], reply: &mut Reply<'_>) -> Step {
        let flags = if word.is_pending() { ReplyHeader::PENDING } else { 0 };
        let Some(header) = header_of(bytes) else { return Step::UNEXPECTED };
        let length = header.length.get();
        // A short value was fetched with its header.
        let whole = bytes.get(..HEADER_BYTES + length as usize);
        let gathered = whole.unwrap_or(header.as_bytes());
        let header = self.header(Outcome::Latest, flags);
        match reply.append(header.as_bytes()).and_then(|()| reply.append(gathered)) {
            Ok(()) if whole.is_some() => Step::DONE,
            Ok(()) => Step::FetchToReply(self.walk.value(length)),
            Err(full) => full.into(),
        }
    }

    #[inline]
    fn header(&self, outcome: Outcome, flags: u8) -> ReplyHeader {
        let by_shortcut = if self.walk.by_shortcut() { ReplyHeader::BY_SHORTCUT } else { 0 };
        ReplyHeader {
            outcome: outcome as u8,
            flags: flags | by_shortcut,
            hops: self.walk.hops().into(),
            reserved: 0.into(),
            at: self.walk.at().raw().into(),
        }
    }

    /// The arguments with which another op goes on.
    fn rest(&self) -> Arguments {
        let rest = self.walk.rest();
        let arguments = Arguments::from_cursor(rest.cursor).hops_max(rest.hops_max);
        match rest.shortcut {
            Some(Pointer { region, address }) => {
                arguments.or_shortcut(region.into(), address, rest.shortcut_after)
            }
            None => arguments,
        }
    }
}
