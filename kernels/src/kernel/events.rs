//! What passes between a kernel and its executor: an event in, a step out.

use nic_wire::{Span, Status};

#[cfg(doc)]
use super::Kernel;
use super::{Extent, Pointer};
use crate::executor::Strands;

/// What has happened since the kernel's last step.
///
/// Kernels end in `_ => Step::UNEXPECTED`: further events belong to further steps.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The op begins.
    Start,
    /// A private copy of the range fetched. It may be torn, but it no longer changes.
    Fetched(&'a [u8]),
    /// The whole payload is in the range that [`Step::StorePayload`] named.
    Payload,
    /// A range was added to the reply.
    Replied {
        /// Its length in bytes.
        length: u32,
    },
    /// The word as it was before the atomic operation.
    Old(u64),
    /// What was to be stored is stored.
    Written,
    /// The whole payload is with the executor: [`Step::HoldPayload`].
    Held,
    /// [`Kernel::arrange`] has seen the block that [`Step::Arrange`] named.
    Arranged,
    /// The word that [`Step::Await`] named, as it is now. It is what it was if the time is over.
    Woken(u64),
    /// What [`Step::Flush`] named is in the region's file.
    Flushed,
    /// What [`Step::Walk`] wanted has been walked.
    Walked {
        /// The element before which the walk has ended.
        at: Pointer,
        /// How many were passed by.
        hops: u32,
        /// A private copy of that element. Empty: it could not be had at once, and is to be fetched.
        element: &'a [u8],
    },
    /// Memory refused the last step. Only kernels hear of it that
    /// [must end by themselves](Kernel::must_end).
    Refused(Status),
}

/// What a kernel wants next.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// A private copy of a range, of at most [`crate::FETCH_BYTES_MAX`]: [`Event::Fetched`].
    Fetch(Extent),
    /// Add a range to the reply, at any size, behind all that was gathered: [`Event::Replied`]. It
    /// is read when the reply's packets are made, so it may differ from what was fetched before.
    FetchToReply(Extent),
    /// Walk as [`Kernel::walk`] says: [`Event::Walked`]. Each element that is passed by counts as a
    /// step, and takes far less time than one: the executor looks at two words of it. Over a memory
    /// that takes its time, and for strands and ops that bring payload, the walk ends where it
    /// begins.
    Walk,
    /// Place the op's payload, whose length the extent must have: [`Event::Payload`]. Its last
    /// naturally aligned word appears after all other bytes.
    StorePayload(Extent),
    /// Place the op's payload as [`StorePayload`](Step::StorePayload) does, each part going through
    /// [`Kernel::tap`] first, with [`PRIVATE_BYTES`](crate::PRIVATE_BYTES) of memory that the op has
    /// for itself from here to its end, zero at first: [`Event::Payload`]. If there is no room the
    /// op ends as [`Status::Busy`], not executed.
    TapPayload(Extent),
    /// A part of the memory that the op has for itself: [`Event::Fetched`].
    Peek {
        /// Where it begins.
        offset: u32,
        /// Its length in bytes.
        length: u32,
    },
    /// Take the op's payload into memory of the executor's own until it is whole: [`Event::Held`].
    /// Nothing of the region is touched before; [`StorePayload`](Step::StorePayload) then places
    /// it, 4 KiB per round. If there is no room the op ends as [`Status::Busy`], not executed; if the
    /// export allows no writes, as [`Status::Denied`]. A kernel that
    /// [has memory for itself](Kernel::HAS_PRIVATE) gets that as well, from here on to its end.
    HoldPayload,
    /// Show [`Kernel::arrange`] a part of the payload that is held: [`Event::Arranged`]. For kernels
    /// that have memory for themselves.
    Arrange {
        /// Where the part begins in the payload: a multiple of
        /// [`FETCH_BYTES_MAX`](crate::FETCH_BYTES_MAX), the length of each of its
        /// [`ARRANGED_BLOCKS`](crate::ARRANGED_BLOCKS) blocks but at the payload's end.
        offset: u32,
    },
    /// Store parts of one such block, in no order: those that [`Kernel::next_run`] names, up to
    /// [`RUNS_MAX`](crate::RUNS_MAX) of them: [`Event::Written`].
    StoreRuns {
        /// Where the block begins in the payload.
        offset: u32,
        /// The number of the region that they go to, to places that the kernel found in the data.
        region: u8,
    },
    /// Store up to four words, in no order: the first of [`Kernel::words`], as many as the extent
    /// is long, which is 8, 16, 24 or 32 bytes: [`Event::Written`].
    StoreWords(Extent),
    /// Wait until an aligned word holds something else: [`Event::Woken`].
    ///
    /// The op costs nothing meanwhile. It is woken by any op of this executor that changes the
    /// word; others change it unseen (the application, another engine), so the word is looked at
    /// again every [`Limits::look_again`](crate::Limits::look_again) as well. The op's deadline ends
    /// the wait and the op.
    ///
    /// If [as many as may](crate::Limits::waits) wait already, the time is over after the first look;
    /// an op that would wait for as long as it takes ends as [`Status::Busy`].
    Await {
        /// Where; the length is 8.
        word: Extent,
        /// What it held.
        unlike: u64,
        /// How long to wait at the most; [`Span::MAX`] is as long as it takes.
        at_most: Span,
    },
    /// Ask whether a range could be flushed now: [`Event::Fetched`], of nothing. A memory without a
    /// file refuses it as [`Status::Unsupported`], one whose file failed as
    /// [`Status::NotPersisted`], one that has much to do as [`Status::Busy`]. For a kernel that
    /// flushes only what it has changed: where this was granted, [`Step::Flush`] finds room.
    MayFlush(Extent),
    /// Write a range to the region's file, and wait until it would survive a loss of power:
    /// [`Event::Flushed`]. The op costs nothing meanwhile; its deadline ends the wait and the op.
    /// Not for strands.
    Flush(Extent),
    /// Store an aligned word with Release: [`Event::Written`].
    Store {
        /// Where; the length is 8.
        at: Extent,
        /// What.
        word: u64,
    },
    /// Replace an aligned word if it holds an expected value: [`Event::Old`].
    CompareSwap {
        /// Where; the length is 8.
        at: Extent,
        /// What it must hold.
        expected: u64,
        /// What it then holds.
        desired: u64,
    },
    /// Add to an aligned word, wrapping: [`Event::Old`].
    FetchAdd {
        /// Where; the length is 8.
        at: Extent,
        /// How much.
        addend: u64,
    },
    /// Go on as independent parts, each of which [`Kernel::strand`] makes; the op is over when all
    /// of them are, and its reply is theirs. For a kernel that has neither replied nor takes
    /// payload. Where all of them are [lookups](Kernel::lookups), the executor may make those by
    /// itself.
    Split(Strands),
    /// The op is over.
    Finish(Outcome),
}

// Steps are kept in registers where kernels are inlined; longer ones are not.
const _: () = assert!(size_of::<Step>() <= 48);

impl Step {
    /// The op is over and well.
    pub const DONE: Step = Step::Finish(Outcome::Done);
    /// The answer to an event that the kernel never asked for.
    pub const UNEXPECTED: Step = Step::Finish(Outcome::Failed(Status::Unsupported));

    /// Ends the op with a status; whether it had its effect is unknown if it has changed anything.
    #[inline]
    pub const fn abandon(status: Status) -> Step {
        Step::Finish(Outcome::Abandoned(status))
    }

    /// Ends the op with a status.
    #[inline]
    pub const fn fail(status: Status) -> Step {
        Step::Finish(Outcome::Failed(status))
    }
}

/// How a kernel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a whole reply.
    Done,
    /// With the private copy that it was just handed as its whole reply: the very bytes that it has
    /// looked at. One of more than [`GATHER_BYTES_MAX`](crate::GATHER_BYTES_MAX) bytes needs one of
    /// the executor's few long buffers; if none is free the op ends as [`Status::Busy`].
    Fetched,
    /// At a bound of its own: with its [`Kernel::resume_point`], as if the executor had stopped it.
    Bounded,
    /// With a status other than [`Status::Ok`]; what it has changed is all that it ever would.
    /// Nothing of the reply is sent, unless the status is [`Status::Continues`]: then the kernel has
    /// put a continuation at its end.
    Failed(Status),
    /// The same, in the middle of what it wanted to change.
    Abandoned(Status),
}

/// A part of a block, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where in the block it begins.
    pub start: u32,
    /// Its length in bytes.
    pub length: u32,
    /// The address within the region that [`Step::StoreRuns`] named.
    pub address: u64,
}
