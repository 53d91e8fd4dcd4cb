//! READ, WRITE and the atomics.

use nic_kernels::{compare_swap, fetch_add, read, write};
use nic_wire::KernelId;
use zerocopy::IntoBytes;

use crate::error::OpError;
use crate::operation::{Ask, Facts, Operation, Reply};

/// Reads a range. It may be torn if somebody writes it meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    remote: u16,
    arguments: read::Arguments,
}

/// Bytes that an op brought, in the session's arena; dropping them frees their place.
#[derive(Debug)]
pub struct Bytes(pub(crate) Reply);

/// Writes a range.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    remote: u16,
    arguments: write::Arguments,
    bytes: &'a [u8],
}

/// Replaces a word if it holds an expected value.
#[derive(Clone, Copy, Debug)]
pub struct CompareSwap {
    remote: u16,
    arguments: compare_swap::Arguments,
}

/// Adds to a word.
#[derive(Clone, Copy, Debug)]
pub struct FetchAdd {
    remote: u16,
    arguments: fetch_add::Arguments,
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl AsRef<[u8]> for Bytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Read {
    #[inline]
    pub(crate) fn new(remote: u16, range: std::ops::Range<u64>) -> Self {
        let length = range.end.saturating_sub(range.start);
        // A longer range than any op takes is refused as too long, not cut.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        Read { remote, arguments: read::Arguments::home(range.start, length) }
    }

    #[inline]
    pub(crate) fn of(remote: u16, arguments: read::Arguments) -> Self {
        Read { remote, arguments }
    }
}

impl Operation for Read {
    type Output = Bytes;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::READ, self.remote, self.arguments.as_bytes())
            .reply(self.arguments.length.get())
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<Bytes, OpError> {
        Ok(Bytes(reply))
    }
}

impl<'a> Write<'a> {
    #[inline]
    pub(crate) fn new(remote: u16, address: u64, bytes: &'a [u8]) -> Self {
        Write { remote, arguments: write::Arguments::home(address), bytes }
    }
}

impl Operation for Write<'_> {
    type Output = ();

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::WRITE, self.remote, self.arguments.as_bytes()).payload(self.bytes)
    }

    #[inline]
    fn result(_: &Facts, _: Reply) -> Result<(), OpError> {
        Ok(())
    }
}

impl CompareSwap {
    #[inline]
    pub(crate) fn new(remote: u16, address: u64, expected: u64, desired: u64) -> Self {
        let arguments = compare_swap::Arguments::home(address, expected, desired);
        CompareSwap { remote, arguments }
    }
}

impl Operation for CompareSwap {
    type Output = u64;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::COMPARE_SWAP, self.remote, self.arguments.as_bytes()).reply(8)
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<u64, OpError> {
        reply.word()
    }
}

impl FetchAdd {
    #[inline]
    pub(crate) fn new(remote: u16, address: u64, addend: u64) -> Self {
        FetchAdd { remote, arguments: fetch_add::Arguments::home(address, addend) }
    }
}

impl Operation for FetchAdd {
    type Output = u64;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::FETCH_ADD, self.remote, self.arguments.as_bytes()).reply(8)
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<u64, OpError> {
        reply.word()
    }
}
