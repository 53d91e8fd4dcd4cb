//! Memory that is looked at many times in a row.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{CACHE_LINE_BYTES, PREFETCH_BYTES_MAX, RacyMem, copying};

const LINE_BYTES: usize = CACHE_LINE_BYTES as usize;

/// Where words of 8 bytes lie in a range, all of them within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places<const COUNT: usize> {
    /// Length of the range in bytes.
    length: u16,
    /// Where in it each word begins; at most 8 bytes before its end.
    starts: [u16; COUNT],
}

impl<const COUNT: usize> Places<COUNT> {
    /// Words that begin so many bytes into a range of this length. `None`: one does not lie within.
    #[inline]
    #[must_use]
    pub const fn new(length: u16, starts: [u16; COUNT]) -> Option<Self> {
        let mut number = 0;
        while number < COUNT {
            if starts[number] as u32 + 8 > length as u32 {
                return None;
            }
            number += 1;
        }
        Some(Places { length, starts })
    }

    /// Length of the range in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn length(&self) -> u16 {
        self.length
    }

    /// Where in it the words begin, in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn starts(&self) -> [u16; COUNT] {
        self.starts
    }
}

/// The bytes of a [`RacyMem`], borrowed: address and length at hand.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    base: NonNull<u8>,
    len: u64,
    memory: PhantomData<&'a RacyMem>,
}

impl RacyMem {
    /// The same bytes, to be looked at many times in a row.
    #[inline(always)]
    #[must_use]
    pub fn sight(&self) -> Sight<'_> {
        Sight { base: self.base, len: self.len, memory: PhantomData }
    }
}

impl Sight<'_> {
    /// Of no byte.
    pub const NOTHING: Sight<'static> =
        Sight { base: NonNull::dangling(), len: 0, memory: PhantomData };

    /// Copies of words, little-endian, of the range that begins at an offset; they need not be
    /// aligned. `None`: the range leaves the memory.
    #[inline(always)]
    #[must_use]
    pub fn words<const COUNT: usize>(
        &self,
        offset: u64,
        places: &Places<COUNT>,
    ) -> Option<[u64; COUNT]> {
        if offset > self.len || u64::from(places.length) > self.len - offset {
            return None;
        }
        let from = self.base.as_ptr().wrapping_add(offset as usize);
        let mut words = [0; COUNT];
        for (word, start) in words.iter_mut().zip(places.starts) {
            // SAFETY: the range was found to lie within the memory, which stays mapped while it is
            // borrowed; words lie within the range, as whoever made the places has seen to.
            *word = u64::from_le(unsafe { copying::read8(from, start.into()) });
        }
        Some(words)
    }

    /// Asks for the cache lines of a range, as [`RacyMem::prefetch`] does; whether the range lies
    /// within the memory. If not, for none.
    #[inline(always)]
    #[must_use]
    pub fn ask(&self, offset: u64, len: u64) -> bool {
        let is_within = offset <= self.len && len <= self.len - offset;
        if is_within {
            self.each_line(offset, len, copying::prefetch_line);
        }
        is_within
    }

    /// The cache lines in which words of a range begin.
    #[inline(always)]
    #[must_use]
    pub fn lines<const COUNT: usize>(&self, offset: u64, places: &Places<COUNT>) -> Lines<COUNT> {
        // What is beyond the end is not asked for.
        let offset = if offset < self.len { offset } else { 0 };
        let start = self.base.as_ptr().wrapping_add(offset as usize);
        Lines(places.starts.map(|place| start.wrapping_add(usize::from(place)).addr()))
    }

    #[inline(always)]
    pub(super) fn each_line(&self, offset: u64, len: u64, ask: impl Fn(*const u8)) {
        if offset >= self.len || len == 0 {
            return;
        }
        let len = len.min(self.len - offset).min(PREFETCH_BYTES_MAX);
        let start = self.base.as_ptr().wrapping_add(offset as usize);
        ask(start);
        // Nearly always that was all.
        let mut ahead = LINE_BYTES - start.addr() % LINE_BYTES;
        while ahead < len as usize {
            ask(start.wrapping_add(ahead));
            ahead += LINE_BYTES;
        }
    }
}

/// Addresses of cache lines to ask for, also when nothing is there any more: that is no fault.
#[derive(Clone, Copy, Debug)]
pub struct Lines<const COUNT: usize>([usize; COUNT]);

impl<const COUNT: usize> Lines<COUNT> {
    /// In place of some.
    pub const NONE: Self = Lines([0; COUNT]);

    /// Asks for them; for what is one line with the one before, once.
    #[inline(always)]
    pub fn prefetch(&self) {
        let mut before = None;
        for line in self.0 {
            let is_same = |before: usize| before / LINE_BYTES == line / LINE_BYTES;
            if !before.is_some_and(is_same) {
                copying::prefetch_line(core::ptr::without_provenance(line));
            }
            before = Some(line);
        }
    }
}
