//! What a kernel is, and what it is given.

mod events;

use nic_wire::{Fate, KernelId, Status};

use crate::ARRANGED_BLOCKS;
pub use events::{Event, Outcome, Run, Step};

use crate::lookups::Lookups;
use crate::reply::Reply;
use crate::walk::Walk;

/// In arguments, stands for the region that the rkey names.
pub const HOME_REGION: u16 = 0xffff;

/// A place in the memory of the op's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The region's number within the domain.
    pub region: u8,
    /// The address within the region: its base, chosen at registration, plus an offset.
    pub address: u64,
}

/// Who named a place: it decides how a refusal is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The initiator, in the op's arguments.
    Arguments,
    /// A pointer that the kernel read: a refusal is [`Status::BadPointer`].
    Followed,
}

/// A range of region memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub at: Pointer,
    /// Its length in bytes.
    pub length: u32,
    /// Who named it.
    pub origin: Origin,
}

impl Extent {
    /// A range that the op's arguments name.
    #[inline]
    pub const fn named(region: u8, address: u64, length: u32) -> Self {
        Extent { at: Pointer { region, address }, length, origin: Origin::Arguments }
    }

    /// A range that the kernel found in the data.
    #[inline]
    pub const fn followed(at: Pointer, length: u32) -> Self {
        Extent { at, length, origin: Origin::Followed }
    }
}

/// What an op asks of its kernel.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The kernel's own layout; untrusted.
    pub arguments: &'a [u8],
    /// The number of the region that the op's rkey names.
    pub home: u8,
    /// How many bytes of payload the op brings.
    pub payload_length: u32,
    /// How many bytes of reply the initiator has a place for.
    pub reply_capacity: u32,
}

impl Call<'_> {
    /// Makes sure, before anything is changed, that a reply of `needed` bytes has a place.
    ///
    /// # Errors
    /// The landing place is shorter.
    #[inline]
    pub fn reply_fits(&self, needed: u32) -> Result<(), BadArguments> {
        if self.reply_capacity < needed {
            return Err(BadArguments::NoRoom { needed });
        }
        Ok(())
    }

    /// The region that a region field of the arguments means.
    ///
    /// # Errors
    /// A number that no region can have.
    #[inline]
    pub fn region(&self, number: u16) -> Result<u8, BadArguments> {
        if number == HOME_REGION {
            return Ok(self.home);
        }
        u8::try_from(number).map_err(|_| BadArguments::Value { field: "region" })
    }
}

/// Why a kernel refuses to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadArguments {
    /// The arguments have another length than the kernel's layout.
    #[error("arguments of {found} bytes where the kernel's layout has {expected}")]
    Length {
        /// How many bytes came.
        found: usize,
        /// How many the layout has.
        expected: usize,
    },
    /// A field has a value that it may not have.
    #[error(
        "the argument field `{field}` has a value that the kernel does not take: see its `Arguments`"
    )]
    Value {
        /// Which.
        field: &'static str,
    },
    /// An address is not aligned as the kernel needs.
    #[error("the address is not a multiple of {expected}")]
    Misaligned {
        /// What it must be a multiple of.
        expected: u32,
    },
    /// The kernel's reply has no place at the initiator.
    #[error("the kernel replies with {needed} bytes; bring a landing place of that length")]
    NoRoom {
        /// How many bytes of reply it makes.
        needed: u32,
    },
    /// The engine was built without such a kernel.
    #[error("no kernel has the number {0:?}; use one that the target's engine was built with")]
    Unknown(KernelId),
}

impl BadArguments {
    /// The status with which the op ends.
    pub const fn status(self) -> Status {
        match self {
            BadArguments::Misaligned { .. } => Status::Misaligned,
            BadArguments::NoRoom { .. } => Status::ReplyTooLong,
            BadArguments::Unknown(_) => Status::UnknownKernel,
            _ => Status::BadArguments,
        }
    }
}

/// Arguments with which an op that was stopped at a bound may go on. They pass through the
/// initiator, so they come back as untrusted as any.
///
/// They stand at the end of the reply, and are as long as the kernel's arguments are.
#[derive(Clone, Copy, Debug)]
pub struct Continuation {
    bytes: [u8; crate::ARGUMENT_BYTES_MAX],
    length: usize,
}

impl Continuation {
    /// Arguments as they would come with an op; what is beyond
    /// [`ARGUMENT_BYTES_MAX`](crate::ARGUMENT_BYTES_MAX) is cut off.
    pub fn new(arguments: &[u8]) -> Self {
        let mut bytes = [0; crate::ARGUMENT_BYTES_MAX];
        let length = arguments.len().min(bytes.len());
        bytes[..length].copy_from_slice(&arguments[..length]);
        Continuation { bytes, length }
    }

    /// The arguments.
    pub fn arguments(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A bounded program that runs near memory on behalf of one op.
///
/// Plain data of at most [`crate::KERNEL_STATE_BYTES_MAX`] bytes; it owns nothing. Bounds on steps,
/// bytes and time are the executor's.
///
/// ```
/// use nic_kernels::{BadArguments, Call, Event, Extent, Kernel, Reply, Step};
/// use nic_wire::{Fate, KernelId, Status};
///
/// /// Replies with the byte that the first word of the region points to.
/// struct Indirect { home: u8 }
///
/// impl Kernel for Indirect {
///     const ID: KernelId = KernelId(0x8000);
///
///     fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
///         Ok(Indirect { home: call.home })
///     }
///
///     fn step(&mut self, event: Event<'_>, _reply: &mut Reply<'_>) -> Step {
///         match event {
///             Event::Start => Step::Fetch(Extent::named(self.home, 0, 8)),
///             Event::Fetched(word) => match word.first_chunk() {
///                 Some(word) => {
///                     let address = u64::from_le_bytes(*word);
///                     let at = nic_kernels::Pointer { region: self.home, address };
///                     Step::FetchToReply(Extent::followed(at, 1))
///                 }
///                 None => Step::UNEXPECTED,
///             },
///             Event::Replied { .. } => Step::DONE,
///             _ => Step::UNEXPECTED,
///         }
///     }
/// }
///
/// nic_kernels::kernel_set! {
///     /// What this daemon runs.
///     pub enum Mine { Read(nic_kernels::read::Read), Indirect(Indirect) }
/// }
/// ```
pub trait Kernel: Sized + 'static {
    /// The kernel's number on the wire; users' own begin at [`KernelId::FIRST_OF_USERS`], and
    /// [`kernel_set!`](crate::kernel_set) takes no other from them.
    const ID: KernelId;

    /// Whether the kernel is this crate's, which has the numbers below.
    #[doc(hidden)]
    const IS_BUILT_IN: bool = false;

    /// Whether the kernel is so common that it has code of its own in the executor's innermost
    /// loop. Others are called from there, which costs them a few instructions per event and
    /// spares the common ones many.
    const IS_COMMON: bool = false;

    /// Whether an op has [`PRIVATE_BYTES`](crate::PRIVATE_BYTES) of memory for itself while its
    /// payload is held, zero at first, which its kernel sees at every step:
    /// [`step_privately`](Self::step_privately).
    const HAS_PRIVATE: bool = false;

    /// Parses the arguments, once. Nothing is touched yet.
    ///
    /// # Errors
    /// Arguments that the kernel does not take; the op then ends as not executed.
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments>;

    /// Consumes what happened and says what to do next. It must not loop without bound: only
    /// steps are counted.
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step;

    /// Looks at a part of the payload on its way to memory, `offset` bytes into the whole, after
    /// [`Step::TapPayload`]. Parts come in any order, each once; they begin at multiples of 8 bytes
    /// and but for the last end there, if the initiator's engine behaves. `private` is the op's
    /// own.
    ///
    /// # Errors
    /// A part that the kernel does not take; the op ends with its status.
    #[inline]
    fn tap(&mut self, offset: u32, part: &[u8], private: &mut [u8]) -> Result<(), BadArguments> {
        let _ = (offset, part, private);
        Ok(())
    }

    /// The same as [`step`](Self::step), for kernels that have memory for themselves, which is
    /// `private`: nothing before there is any.
    #[inline]
    fn step_privately(
        &mut self,
        event: Event<'_>,
        reply: &mut Reply<'_>,
        private: &mut [u8],
    ) -> Step {
        let _ = private;
        self.step(event, reply)
    }

    /// Looks at a part of the payload that is held, after [`Step::Arrange`], and may change it: some
    /// blocks, which may be empty. How many bytes that took is what the op is charged with.
    #[inline]
    fn arrange(&mut self, blocks: &mut [&mut [u8]; ARRANGED_BLOCKS], private: &mut [u8]) -> u32 {
        let _ = private;
        blocks.iter().map(|block| block.len() as u32).sum()
    }

    /// Which part of a block goes where, asked again and again after [`Step::StoreRuns`]: the one
    /// named before is stored, unless the kernel has heard since that it was
    /// [refused](Event::Refused). `None` if no more of the block is to be stored.
    #[inline]
    fn next_run(&mut self, block: &[u8], private: &mut [u8]) -> Option<Run> {
        let _ = (block, private);
        None
    }

    /// What [`Step::StoreWords`] stores. It is asked for apart, because every kernel would pay for
    /// longer steps.
    #[inline]
    fn words(&self) -> [u64; 4] {
        [0; 4]
    }

    /// The walk of [`Step::Walk`]. It is asked for apart for the same reason. The element before which
    /// it ends may have changed by the time that it is fetched.
    #[inline]
    fn walk(&self) -> Walk {
        Walk::NOWHERE
    }

    /// Whether the op has begun something in memory that it must bring to an end, such as a
    /// reservation that others wait behind. While that is so, neither its deadline nor the end of
    /// its initiator stops it, and it hears of refused accesses: [`Event::Refused`]. Such a stretch
    /// must be short, and wait for nobody.
    #[inline]
    fn must_end(&self) -> bool {
        false
    }

    /// From where the initiator may go on, asked when the op stops at a bound: the executor's, or
    /// its own ([`Outcome::Bounded`]).
    fn resume_point(&self) -> Option<Continuation> {
        None
    }

    /// The kernel of a part of the op, after [`Step::Split`]: it hears [`Event::Start`] and runs
    /// beside the others. Strands take no payload, await no word and are not split again; they are
    /// stopped with their op, which goes on for them only if [it must](Self::must_end).
    fn strand(&self, place: u8) -> Option<Self> {
        let _ = place;
        None
    }

    /// What the strands do, if each of them is a lookup: the executor then looks all of them up in a
    /// row, in far less time. It does so for ops over mapped memory as long as nothing is wrong; in all
    /// other cases it makes the strands.
    #[inline]
    fn lookups(&self) -> Option<Lookups> {
        None
    }

    /// The address of the pointer that a lookup begins with.
    #[inline]
    fn lookup(&self, place: u8) -> u64 {
        let _ = place;
        0
    }

    /// What is known of the op's effect, asked when it fails, be it at a bound, at a refused access
    /// or by the kernel's own decision. `None`: what the executor knows, which counts any change of
    /// memory. A kernel whose changes mean nothing until the last of them says more. `placed`:
    /// whether any of the op's payload stands in memory.
    fn fate(&self, placed: bool) -> Option<Fate> {
        let _ = placed;
        None
    }
}
