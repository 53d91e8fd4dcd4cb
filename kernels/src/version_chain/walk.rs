//! The walk to the latest entry: what CHAIN_READ and CHAIN_APPEND have in common.
//!
//! It has two ways into the chain, a cursor and a shortcut, and tries the second where the first
//! ends at a buffer that was recycled. Clover tries its shortcut after four hops; here the
//! initiator says after how many.

use zerocopy::FromBytes;

use super::layout::{EntryHeader, HEADER_BYTES, Link, PointerWord, UNIT_BYTES};
use crate::kernel::{BadArguments, Extent, Origin, Pointer, Step};

/// How much of an entry is fetched: the whole of a short one, in one cache line.
const ENTRY_FETCH_BYTES: u32 = UNIT_BYTES as u32;

/// Where a walk begins, and how far it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// [`Link::NONE`] if there is only a shortcut.
    pub(crate) cursor: Link,
    /// Where the shortcut's word is.
    pub(crate) shortcut: Option<Pointer>,
    /// After how many hops from the cursor the shortcut is tried.
    pub(crate) shortcut_after: u16,
    pub(crate) hops_max: u16,
}

/// A walk under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    start: Start,
    /// The entry that is looked at.
    at: Link,
    /// Where to go on if the shortcut leads to a recycled buffer.
    aside: Link,
    /// Who named `at`.
    origin: Origin,
    hops: u16,
    shortcut: Shortcut,
}

/// What has become of the shortcut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortcut {
    /// It was not needed yet, or there is none.
    Untried,
    /// Its word is under way.
    Awaited,
    /// It led to where the walk is.
    Taken,
    /// It led nowhere.
    Useless,
}

/// How far a step of the walk has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Came {
    /// It goes on.
    On(Step),
    /// This is the latest committed entry.
    Latest(PointerWord),
    /// The buffer was recycled, and there is no other way in: only the owner knows.
    Recycled(PointerWord),
    /// It has made all its hops.
    Bound,
}

impl Walk {
    pub(crate) fn new(start: Start) -> Result<Self, BadArguments> {
        if start.cursor.is_none() && start.shortcut.is_none() {
            return Err(BadArguments::Value { field: "cursor" });
        }
        if start.hops_max == 0 {
            return Err(BadArguments::Value { field: "hops_max" });
        }
        Ok(Walk {
            start,
            at: start.cursor,
            aside: Link::NONE,
            origin: Origin::Arguments,
            hops: 0,
            shortcut: Shortcut::Untried,
        })
    }

    /// The first step.
    #[inline]
    pub(crate) fn begin(&mut self) -> Step {
        match self.start.shortcut {
            Some(word) if self.at.is_none() || self.start.shortcut_after == 0 => {
                self.take_shortcut(word)
            }
            _ => self.fetch(),
        }
    }

    /// Looks at what was fetched.
    #[inline]
    pub(crate) fn fetched(&mut self, bytes: &[u8]) -> Came {
        let Some(word) = bytes.first_chunk().map(|word| u64::from_le_bytes(*word)) else {
            return Came::On(Step::UNEXPECTED);
        };
        if self.shortcut != Shortcut::Awaited {
            return self.look(PointerWord::from_raw(word));
        }
        let there = Link::from_raw(word);
        if !there.is_none() {
            self.shortcut = Shortcut::Taken;
            self.aside = self.at;
            return self.go_to(there);
        }
        self.shortcut = Shortcut::Useless;
        if self.at.is_none() {
            return Came::Recycled(PointerWord::from_raw(word));
        }
        Came::On(self.fetch())
    }

    /// Judges the word of the entry that is looked at, as it was fetched or found by a swap.
    #[inline]
    pub(crate) fn look(&mut self, word: PointerWord) -> Came {
        if word.version() != self.at.version() {
            return self.turn_back(word);
        }
        if word.is_latest() {
            return Came::Latest(word);
        }
        if self.hops == self.start.hops_max {
            return Came::Bound;
        }
        self.hops += 1;
        match self.start.shortcut {
            Some(shortcut)
                if self.shortcut == Shortcut::Untried && self.hops >= self.start.shortcut_after =>
            {
                // Should the shortcut fail, the walk goes on where it would have gone.
                self.at = word.next();
                self.origin = Origin::Followed;
                Came::On(self.take_shortcut(shortcut))
            }
            _ => self.go_to(word.next()),
        }
    }

    /// The entry that is looked at.
    #[inline]
    pub(crate) fn at(&self) -> Link {
        self.at
    }

    /// Where its pointer word is.
    #[inline]
    pub(crate) fn word(&self) -> Extent {
        Extent { at: self.at.pointer(), length: 8, origin: self.origin }
    }

    /// Where its value is.
    #[inline]
    pub(crate) fn value(&self, length: u32) -> Extent {
        let Pointer { region, address } = self.at.pointer();
        Extent::followed(Pointer { region, address: address + HEADER_BYTES as u64 }, length)
    }

    #[inline]
    pub(crate) fn hops(&self) -> u16 {
        self.hops
    }

    #[inline]
    pub(crate) fn by_shortcut(&self) -> bool {
        self.shortcut == Shortcut::Taken
    }

    /// From where another op would go on: the entry that is looked at, and the shortcut if it has
    /// not been tried.
    pub(crate) fn rest(&self) -> Start {
        let untried = matches!(self.shortcut, Shortcut::Untried | Shortcut::Awaited);
        Start { cursor: self.at, shortcut: self.start.shortcut.filter(|_| untried), ..self.start }
    }

    #[inline]
    fn go_to(&mut self, link: Link) -> Came {
        self.at = link;
        self.origin = Origin::Followed;
        Came::On(self.fetch())
    }

    #[inline]
    fn fetch(&self) -> Step {
        let at = self.at.pointer();
        Step::Fetch(Extent { at, length: ENTRY_FETCH_BYTES, origin: self.origin })
    }

    /// Asks the shortcut, once.
    fn take_shortcut(&mut self, word: Pointer) -> Step {
        self.shortcut = Shortcut::Awaited;
        Step::Fetch(Extent::named(word.region, word.address, 8))
    }

    /// This way ends at a buffer that was recycled: there may be another.
    #[cold]
    fn turn_back(&mut self, found: PointerWord) -> Came {
        if !self.aside.is_none() {
            self.shortcut = Shortcut::Useless;
            let aside = core::mem::take(&mut self.aside);
            return self.go_to(aside);
        }
        match self.start.shortcut {
            Some(word) if self.shortcut == Shortcut::Untried => {
                self.at = Link::NONE;
                Came::On(self.take_shortcut(word))
            }
            _ => Came::Recycled(found),
        }
    }
}

/// The header in an entry's first bytes.
#[inline]
pub(crate) fn header_of(bytes: &[u8]) -> Option<&EntryHeader> {
    EntryHeader::ref_from_prefix(bytes).ok().map(|(header, _)| header)
}
