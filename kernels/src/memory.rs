//! What carries the accesses of kernels out, and checks every one of them.

use nic_shm::{Lines, Places, Sight};
use nic_wire::{Rkey, Status};

use crate::kernel::{Extent, Origin};

bitflags::bitflags! {
    /// What an export allows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Access: u32 {
        /// Reads, also by kernels.
        const READ = 1;
        /// Writes of payload and words.
        const WRITE = 2;
        /// Compare-and-swap, fetch-and-add.
        const ATOMIC = 4;
        /// Calls to the owner's services.
        const CALL = 8;
    }
}

/// The right to access regions, as admitted for one op: the rkey's secret has been compared. Every
/// access still checks that the export lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Slot in the table of exports.
    pub(crate) export: u16,
    /// Which of the slot's successive exports.
    pub(crate) generation: u16,
    /// The region that the rkey names.
    pub(crate) home: u8,
}

impl Grant {
    /// For implementers of [`Memory`].
    #[inline]
    pub const fn new(export: u16, generation: u16, home: u8) -> Self {
        Grant { export, generation, home }
    }

    /// Slot in the table of exports.
    #[inline]
    pub const fn export(self) -> u16 {
        self.export
    }

    /// Which of the slot's successive exports.
    #[inline]
    pub const fn generation(self) -> u16 {
        self.generation
    }

    /// The number of the region that the rkey names.
    #[inline]
    pub const fn home(self) -> u8 {
        self.home
    }
}

/// One access. Its extent names the place; words have a length of 8.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// A copy, by [`Memory::poll`] or, for a reply, by [`Memory::copy_out`].
    Read(Extent),
    /// A place for payload, filled by [`Memory::place`].
    Payload(Extent),
    /// Store a word with Release.
    Store(Extent, u64),
    /// Replace a word if it holds `expected`.
    CompareSwap {
        /// Where.
        at: Extent,
        /// What it must hold.
        expected: u64,
        /// What it then holds.
        desired: u64,
    },
    /// Add to a word.
    FetchAdd(Extent, u64),
    /// Whether a [`Request::Flush`] would find room: [`Done::Fetched`], of nothing.
    MayFlush(Extent),
    /// Write a range to the region's file.
    Flush(Extent),
}

impl Request {
    /// The place.
    #[inline(always)]
    pub const fn extent(&self) -> Extent {
        match *self {
            Request::Read(at) | Request::Payload(at) => at,
            Request::MayFlush(at) | Request::Flush(at) => at,
            Request::Store(at, _) | Request::FetchAdd(at, _) => at,
            Request::CompareSwap { at, .. } => at,
        }
    }

    /// What the export must allow.
    #[inline(always)]
    pub const fn needs(&self) -> Access {
        match self {
            Request::Read(_) => Access::READ,
            Request::Payload(_) | Request::Store(..) => Access::WRITE,
            Request::MayFlush(_) | Request::Flush(_) => Access::WRITE,
            Request::CompareSwap { .. } | Request::FetchAdd(..) => Access::ATOMIC,
        }
    }

    /// Whether the place must be an aligned word.
    #[inline(always)]
    pub const fn is_word(&self) -> bool {
        !matches!(
            self,
            Request::Read(_) | Request::Payload(_) | Request::MayFlush(_) | Request::Flush(_)
        )
    }
}

/// A region that an op may read, looked up once. It is good as long as nobody's rights change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub(crate) grant: Grant,
    /// The region's number within its domain.
    pub(crate) number: u8,
    /// Where the memory has the region, in the lower 16 bits; above, which of the successive states
    /// of everybody's rights it was looked up in. Two views of which this is the same show the same.
    pub(crate) shown: u64,
}

impl View {
    /// In place of one.
    pub(crate) const NONE: View = View::new(Grant::new(0, 0, 0), 0, u16::MAX, 0);

    #[inline(always)]
    pub(crate) const fn new(grant: Grant, number: u8, region: u16, epoch: u32) -> Self {
        View { grant, number, shown: (epoch as u64) << 16 | region as u64 }
    }

    #[inline(always)]
    pub(crate) const fn region(&self) -> u16 {
        self.shown as u16
    }

    #[inline(always)]
    pub(crate) const fn epoch(&self) -> u32 {
        (self.shown >> 16) as u32
    }
}

/// The memory behind a [`View`] that is good, found once for many looks.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub(crate) bytes: Sight<'a>,
    /// Address of the first byte.
    pub(crate) base: u64,
}

impl Seen<'_> {
    /// What there is to be seen through a view that is good no longer.
    pub(crate) const NOTHING: Seen<'static> = Seen { bytes: Sight::NOTHING, base: 0 };

    /// Asks for a range to be copied soon; whether it can be seen as a whole.
    #[inline(always)]
    pub(crate) fn ask(&self, address: u64, length: u32) -> bool {
        self.bytes.ask(address.wrapping_sub(self.base), length.into())
    }

    /// The cache lines of words of a range, to be looked at soon.
    #[inline(always)]
    pub(crate) fn lines<const COUNT: usize>(
        &self,
        address: u64,
        places: &Places<COUNT>,
    ) -> Lines<COUNT> {
        self.bytes.lines(address.wrapping_sub(self.base), places)
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// So many bytes were copied to the buffer's start.
    Fetched(usize),
    /// The word as it was before the atomic operation.
    Old(u64),
    /// The word is stored.
    Written,
    /// The range is in the region's file, and would survive a loss of power.
    Flushed,
}

/// Against whom a memory's atomics are atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomicityScope {
    /// Against ops that run on the same engine.
    Engine,
    /// Against every engine, and the application's own CPU.
    Host,
}

/// What a memory's atomics give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atomicity {
    /// The widest atomic in bytes.
    pub width_bytes: u8,
    /// Against whom.
    pub scope: AtomicityScope,
}

/// Why an access is refused. Nothing was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The rkey names nothing, or its secret is wrong: ask the owner for a fresh ticket.
    #[error("the rkey names no export, or its secret is wrong; ask the owner for a fresh ticket")]
    BadRkey,
    /// The export is gone: ask the owner for a fresh ticket.
    #[error("the region is no longer exported; ask the owner for a fresh ticket")]
    Revoked,
    /// The range leaves the region.
    #[error("a range of {length} bytes at address {address:#x} leaves region {region}")]
    OutOfBounds {
        /// The region's number within its domain.
        region: u8,
        /// Where the range begins.
        address: u64,
        /// Its length in bytes.
        length: u32,
    },
    /// The export allows no such access, or none to this region.
    #[error("the export does not allow {needs:?} on region {region}; ask its owner for more")]
    Denied {
        /// The region's number within its domain.
        region: u8,
        /// What the access needs.
        needs: Access,
    },
    /// An atomic word must lie at a multiple of its size.
    #[error("the word at address {address:#x} is not aligned to {expected} bytes")]
    Misaligned {
        /// Where the word was to be.
        address: u64,
        /// What the address must be a multiple of.
        expected: u8,
    },
    /// A pointer that the kernel read leads where the export may not follow.
    #[error(
        "a pointer in the data leads to {length} bytes at address {address:#x} of region {region}, \
         which the export may not follow"
    )]
    BadPointer {
        /// The region that it names.
        region: u8,
        /// The address that it names.
        address: u64,
        /// How many bytes were to be accessed there.
        length: u32,
    },
    /// The region's owner took pages away from under it: ask for a new region.
    #[error("pages of the region were taken away by its owner; ask it for a new region")]
    MemoryLost,
    /// The device that reaches the memory failed to carry the access out: try again.
    #[error("the device that reaches the memory failed to carry the access out; try again")]
    TransferFailed,
    /// The region's file could not be written: its owner should make the region anew.
    #[error("the region's file could not be written; its owner should make the region anew")]
    NotPersisted,
    /// More is to be written to the region's file than it takes now: try again.
    #[error("too much waits to be written to the region's file; try again")]
    FlushesFull,
    /// This memory cannot do such an access.
    #[error("this memory does not support the access")]
    Unsupported,
}

impl AccessError {
    /// The status with which an op ends that meets this error.
    pub const fn status(self) -> Status {
        match self {
            AccessError::BadRkey => Status::BadRkey,
            AccessError::Revoked => Status::Revoked,
            AccessError::OutOfBounds { .. } => Status::OutOfBounds,
            AccessError::Denied { .. } => Status::Denied,
            AccessError::Misaligned { .. } => Status::Misaligned,
            AccessError::BadPointer { .. } => Status::BadPointer,
            AccessError::MemoryLost => Status::MemoryLost,
            AccessError::TransferFailed => Status::TransferFailed,
            AccessError::NotPersisted => Status::NotPersisted,
            AccessError::FlushesFull => Status::Busy,
            AccessError::Unsupported => Status::Unsupported,
        }
    }

    /// The same, as it is reported when the place came from `origin`.
    #[cold]
    pub(crate) fn seen_from(self, extent: &Extent) -> Self {
        match (extent.origin, self) {
            (
                Origin::Followed,
                AccessError::OutOfBounds { .. }
                | AccessError::Denied { .. }
                | AccessError::Misaligned { .. },
            ) => AccessError::BadPointer {
                region: extent.at.region,
                address: extent.at.address,
                length: extent.length,
            },
            (_, error) => error,
        }
    }
}

/// Regions, and the rights to them.
///
/// A request is submitted, then polled until it is done or refused: a mapped memory prefetches and
/// then copies, a DMA engine posts and reaps, and completions may come in any order. Whatever
/// [`submit`](Memory::submit) returned is given back exactly once: by a poll that ends it, or by
/// [`abandon`](Memory::abandon). Until then the memory counts it as held by its export, and
/// revocation waits for it. Every method checks that the grant still lives.
pub trait Memory {
    /// A request under way; small and plain.
    type Pending: Copy;

    /// Turns an rkey into a grant.
    ///
    /// # Errors
    /// [`AccessError::BadRkey`], [`AccessError::Revoked`].
    fn admit(&self, rkey: &Rkey) -> Result<Grant, AccessError>;

    /// Whether the export lives and allows all of `access`: for what is not an access to memory,
    /// such as a call.
    ///
    /// # Errors
    /// [`AccessError::Revoked`], [`AccessError::Denied`].
    fn permit(&self, grant: Grant, access: Access) -> Result<(), AccessError>;

    /// A round begins, in which so many ops may each submit something: memory may then set what
    /// they ask for going together.
    #[inline]
    fn begin_round(&mut self, ops: usize) {
        let _ = ops;
    }

    /// The round has ended: whatever was submitted has to be under way.
    #[inline]
    fn end_round(&mut self) {}

    /// Checks a request against region, bounds and permission, and sets it going.
    ///
    /// # Errors
    /// The access is refused.
    fn submit(&mut self, grant: Grant, request: &Request) -> Result<Self::Pending, AccessError>;

    /// Asks after a request; `into` is at least as long as its extent. `None`: not yet. An error
    /// ends the request without effect.
    ///
    /// # Errors
    /// [`AccessError::Revoked`] if the export died meanwhile; others if the memory did.
    fn poll(
        &mut self,
        pending: &Self::Pending,
        into: &mut [u8],
    ) -> Result<Option<Done>, AccessError>;

    /// Gives a request up that will not be polled to its end.
    fn abandon(&mut self, pending: &Self::Pending);

    /// Copies a part of a submitted [`Request::Read`], `offset` bytes into it, as often as wanted.
    ///
    /// # Errors
    /// The export or the memory died, or the part leaves the range.
    fn copy_out(
        &self,
        pending: &Self::Pending,
        offset: u32,
        into: &mut [u8],
    ) -> Result<(), AccessError>;

    /// Places a part of the payload of a submitted [`Request::Payload`], `offset` bytes into it.
    ///
    /// # Errors
    /// The export or the memory died, or the part leaves the range.
    fn place(
        &mut self,
        pending: &Self::Pending,
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), AccessError>;

    /// Places the whole payload, its last aligned word after all else.
    ///
    /// # Errors
    /// As for [`place`](Memory::place).
    fn place_whole(&mut self, pending: &Self::Pending, bytes: &[u8]) -> Result<(), AccessError>;

    /// Where in the payload of a [`Request::Payload`] its last naturally aligned word begins, if it
    /// covers one.
    fn last_word(&self, pending: &Self::Pending) -> Option<u32>;

    /// Stores that word with Release.
    ///
    /// # Errors
    /// As for [`place`](Memory::place).
    fn place_last_word(
        &mut self,
        pending: &Self::Pending,
        word: [u8; 8],
    ) -> Result<(), AccessError>;

    /// A region as a range of words that are looked at at once, without a request. `None`: the op
    /// may not read it, or this memory takes its time.
    #[inline]
    fn view(&self, grant: Grant, region: u8) -> Option<View> {
        let _ = (grant, region);
        None
    }

    /// The memory behind a view. Nothing can be seen through one that is no longer good.
    #[inline]
    fn seen(&self, view: &View) -> Seen<'_> {
        let _ = view;
        Seen::NOTHING
    }

    /// Copies of words of a range, little-endian, through a view whose memory that is. `None`: the
    /// range does not lie within; a [`Request::Read`] tells why. What is copied means nothing if
    /// [`is_whole`](Memory::is_whole) then says no.
    #[inline(always)]
    fn words<const COUNT: usize>(
        &self,
        view: &View,
        seen: &Seen<'_>,
        address: u64,
        places: &Places<COUNT>,
    ) -> Option<[u64; COUNT]> {
        let _ = view;
        seen.bytes.words(address.wrapping_sub(seen.base), places)
    }

    /// Whether no pages of any region were missing in all the looks until now, since regions were
    /// last looked over. What is looked at from here on is not older than what was seen before.
    #[inline]
    fn is_whole(&self) -> bool {
        false
    }

    /// A copy of a range of such a region, as long as `into`; whether it could be made. If not, a
    /// [`Request::Read`] tells why.
    #[inline]
    fn copy(&self, view: &View, address: u64, into: &mut [u8]) -> bool {
        let _ = (view, address, into);
        false
    }

    /// A number that grows each time that flushes are over, be it well or badly. Whoever waits for
    /// one asks after it when the number has changed.
    #[inline]
    fn flushes_over(&self) -> u64 {
        0
    }

    /// Whether a [`Request::Flush`] is over, and a poll would say how. True if that is not known.
    #[inline]
    fn is_flush_over(&self, pending: &Self::Pending) -> bool {
        let _ = pending;
        true
    }

    /// What the atomics of this memory give.
    fn atomicity(&self) -> Atomicity;
}
