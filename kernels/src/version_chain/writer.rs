//! The owner's side: buffers, shortcuts, recycling.
//!
//! ```text
//! first region                                other regions
//!   0   nothing: unit 0 is no buffer            0   nothing
//!   64  shortcuts, a word each                  64  buffers
//!   ..  buffers, at the next multiple of 64
//! ```

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use nic_shm::{Permission, RacyMem};

use super::image::{EntryState, Image, ValueTooLong, check_entry};
use super::layout::{ADDRESS_LIMIT, HEADER_BYTES, Link, PointerWord, UNIT_BYTES};
use crate::kernel::Pointer;

/// Epochs that a retired buffer waits before it is recycled.
const EPOCHS: usize = 2;

/// Buffers of one size in one or several regions of a domain, and the shortcuts of chains. The
/// regions must be registered with base 0.
///
/// Only allocation, retirement and recycling are the owner's alone; remote writers link buffers
/// that they were given, and all may append at once.
#[derive(Debug)]
pub struct Pool {
    regions: Vec<(u8, RacyMem)>,
    buffer_bytes: u32,
    /// How many buffers there are: no chain is longer.
    buffers: usize,
    /// Shortcuts that no chain has, by address.
    shortcuts: Vec<u64>,
    /// Buffers that nothing points to, with the version that an entry there will have.
    free: Vec<Link>,
    /// Entries that were retired in this epoch and the one before.
    retired: [Vec<Link>; EPOCHS],
}

/// A chain as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its first entry: a cursor.
    pub first: Link,
    /// Address of its shortcut, in the pool's first region.
    pub shortcut: u64,
}

/// Why a pool cannot be laid out. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// There is no region.
    #[error("a pool needs at least one region")]
    NoRegion,
    /// The buffers have another size than may be.
    #[error("buffers of {found} bytes; they have a multiple of 64, to 1 MiB and 64")]
    BufferSize {
        /// The size in bytes.
        found: u32,
    },
    /// The region has no room for the shortcuts and one buffer, or is too long: make it larger, or
    /// at most 128 GiB.
    #[error("region {region} has {found} bytes; it must have {needed} to 2^37")]
    RegionSize {
        /// Its number.
        region: u8,
        /// Its length in bytes.
        found: u64,
        /// What it must have.
        needed: u64,
    },
    /// A region is mapped read-only, or words in it are not aligned: use the owner's own mapping.
    #[error("region {region} cannot be written in words; format through the owner's mapping")]
    NotWritable {
        /// Its number.
        region: u8,
    },
}

/// Why a value was not appended. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No buffer is free, or no shortcut: retire old entries, or make the pool larger.
    #[error("the pool has no free buffer or shortcut; retire old entries or make it larger")]
    Full,
    /// The cursor's chain cannot be followed: it names a buffer that was recycled.
    #[error("the cursor names a buffer that was recycled; use a newer one")]
    Recycled,
    /// Another writer's link is not committed: try again when it is.
    #[error("another writer's link behind the latest entry is not committed yet")]
    Pending,
    /// The value does not fit.
    #[error(transparent)]
    TooLong(#[from] ValueTooLong),
}

impl Pool {
    /// Lays a pool out over regions, each given with its number in the domain, whatever they hold.
    /// The first also holds `shortcuts` words.
    ///
    /// # Errors
    /// Regions or sizes are of no use.
    pub fn format(
        regions: &[(u8, RacyMem)],
        shortcuts: u32,
        buffer_bytes: u32,
    ) -> Result<Self, FormatError> {
        let most = super::VALUE_BYTES_MAX as u64 + UNIT_BYTES;
        let bytes = u64::from(buffer_bytes);
        if !bytes.is_multiple_of(UNIT_BYTES) || bytes == 0 || bytes > most {
            return Err(FormatError::BufferSize { found: buffer_bytes });
        }
        let shortcut_bytes = (u64::from(shortcuts) * 8).next_multiple_of(UNIT_BYTES);
        let begins = (0..regions.len())
            .map(|place| UNIT_BYTES + if place == 0 { shortcut_bytes } else { 0 });
        for ((region, memory), begin) in regions.iter().zip(begins.clone()) {
            let (region, found, needed) = (*region, memory.len(), begin + bytes);
            if !(needed..=ADDRESS_LIMIT).contains(&found) {
                return Err(FormatError::RegionSize { region, found, needed });
            }
            let is_aligned = memory.as_ptr().addr().is_multiple_of(8);
            if memory.permission() == Permission::ReadOnly || !is_aligned {
                return Err(FormatError::NotWritable { region });
            }
        }
        if regions.is_empty() {
            return Err(FormatError::NoRegion);
        }
        let mut pool = Pool {
            regions: regions.to_vec(),
            buffer_bytes,
            buffers: 0,
            shortcuts: (0..u64::from(shortcuts)).rev().map(|n| UNIT_BYTES + n * 8).collect(),
            free: Vec::new(),
            retired: Default::default(),
        };
        for shortcut in &pool.shortcuts {
            pool.shortcut_word(*shortcut).store(Link::NONE.raw(), Ordering::Release);
        }
        for ((region, memory), begin) in regions.iter().zip(begins) {
            for place in 0..(memory.len() - begin) / bytes {
                let at = Pointer { region: *region, address: begin + place * bytes };
                let link = Link::new(at, 0).expect("an address of a unit below the limit");
                pool.word(link).store(PointerWord::last(0).raw(), Ordering::Release);
                // No reader that remembers what was here before takes it for that.
                pool.free.push(link.reborn());
            }
        }
        pool.free.reverse();
        pool.buffers = pool.free.len();
        Ok(pool)
    }

    /// Makes a chain of one value, with a shortcut.
    ///
    /// # Errors
    /// [`AppendError::Full`], [`AppendError::TooLong`].
    pub fn create(&mut self, value: &[u8]) -> Result<Chain, AppendError> {
        let shortcut = *self.shortcuts.last().ok_or(AppendError::Full)?;
        let first = self.write(value)?;
        self.shortcuts.pop();
        self.shortcut_word(shortcut).store(first.raw(), Ordering::Release);
        Ok(Chain { first, shortcut })
    }

    /// Links a value behind the latest entry of the chain that a cursor leads into. Remote writers
    /// may do the same at once. The shortcut is left as it is: see [`set_shortcut`](Self::set_shortcut).
    ///
    /// # Errors
    /// There is no room for the value, or no way to the chain's end.
    pub fn append(&mut self, cursor: Link, value: &[u8]) -> Result<Link, AppendError> {
        let mut at = cursor;
        // Checked first, so that a buffer is taken only for a chain that is there.
        self.walk(&mut at).ok_or(AppendError::Recycled)?;
        let fresh = self.write(value)?;
        loop {
            let refused = match self.walk(&mut at) {
                None => AppendError::Recycled,
                Some(found) if found.is_pending() => AppendError::Pending,
                Some(found) => {
                    let linked = found.followed_by(fresh, true).raw();
                    let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
                    let word = self.word(at);
                    if word.compare_exchange(found.raw(), linked, success, failure).is_ok() {
                        return Ok(fresh);
                    }
                    continue;
                }
            };
            self.recycle(fresh);
            return Err(refused);
        }
    }

    /// The latest committed entry of the chain that a cursor leads into, and its value; `None` if
    /// the cursor's buffer was recycled.
    pub fn latest(&self, cursor: Link) -> Option<(Link, Vec<u8>)> {
        let mut at = cursor;
        self.walk(&mut at)?;
        Some((at, self.value(at)?))
    }

    /// The entry that follows another, be it committed or not; `None` if the buffer was recycled.
    pub fn next(&self, entry: Link) -> Option<Link> {
        Some(self.look(entry)?.next())
    }

    /// The value of an entry; `None` if its buffer was recycled.
    pub fn value(&self, entry: Link) -> Option<Vec<u8>> {
        let Pointer { address, .. } = entry.pointer();
        let memory = self.memory(entry)?;
        let length = memory.load32(address + 16).ok()? as usize;
        if length > self.buffer_bytes as usize - HEADER_BYTES {
            return None;
        }
        let mut bytes = alloc::vec![0; HEADER_BYTES + length];
        memory.read(address, &mut bytes).ok()?;
        let state = check_entry(entry, &bytes);
        matches!(state, EntryState::Whole { .. }).then(|| bytes.split_off(HEADER_BYTES))
    }

    /// Points a chain's shortcut to one of its entries.
    pub fn set_shortcut(&mut self, chain: &Chain, entry: Link) {
        self.shortcut_word(chain.shortcut).store(entry.raw(), Ordering::Release);
    }

    /// What a chain's shortcut points to.
    pub fn shortcut(&self, chain: &Chain) -> Link {
        Link::from_raw(self.shortcut_word(chain.shortcut).load(Ordering::Acquire))
    }

    /// A fresh buffer to give to a writer: nothing points to it, and an entry there has the link's
    /// version. `None`: retire old entries, or make the pool larger.
    pub fn allocate(&mut self) -> Option<Link> {
        self.free.pop()
    }

    /// Takes a fresh buffer back that was never linked.
    pub fn give_back(&mut self, fresh: Link) {
        self.recycle(fresh);
    }

    /// Says that an entry is not the latest any more and may go. Until the epoch after the next
    /// begins readers may walk through it.
    pub fn retire(&mut self, entry: Link) {
        self.retired[0].push(entry);
    }

    /// Begins an epoch: what was retired before the last one began is recycled. An epoch must last
    /// longer than any op, so that nobody is in the middle of reading what is recycled; whoever
    /// comes later finds another version there. Returns how many buffers became free.
    pub fn begin_epoch(&mut self) -> usize {
        self.retired.rotate_right(1);
        let over = core::mem::take(&mut self.retired[0]);
        for entry in &over {
            self.recycle(*entry);
        }
        over.len()
    }

    /// Length of each buffer.
    pub fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    /// How many buffers are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Makes a buffer free: whoever still knows its entry finds another version there.
    fn recycle(&mut self, entry: Link) {
        let reborn = entry.reborn();
        self.word(entry).store(PointerWord::last(reborn.version()).raw(), Ordering::Release);
        self.free.push(reborn);
    }

    /// Writes a value into a fresh buffer.
    fn write(&mut self, value: &[u8]) -> Result<Link, AppendError> {
        let fresh = *self.free.last().ok_or(AppendError::Full)?;
        let image = Image::compose(fresh, self.buffer_bytes, value)?;
        self.free.pop();
        let memory = self.memory(fresh).expect("a buffer of the pool");
        memory.write(fresh.pointer().address, image.bytes()).expect("a buffer is writable");
        Ok(fresh)
    }

    /// Goes on to the latest committed entry, and says what its word is; `None` if there is no way.
    fn walk(&self, at: &mut Link) -> Option<PointerWord> {
        // A remote writer could have linked a circle.
        for _ in 0..=self.buffers {
            let word = self.look(*at)?;
            if word.is_latest() {
                return Some(word);
            }
            *at = word.next();
        }
        None
    }

    /// The word of an entry; `None` if its buffer was recycled, or is none.
    fn look(&self, entry: Link) -> Option<PointerWord> {
        let word = self.memory(entry)?.load64(entry.pointer().address).ok()?;
        let word = PointerWord::from_raw(word);
        (word.version() == entry.version()).then_some(word)
    }

    fn memory(&self, link: Link) -> Option<&RacyMem> {
        let number = link.pointer().region;
        self.regions.iter().find(|(region, _)| *region == number).map(|(_, memory)| memory)
    }

    fn word(&self, link: Link) -> &AtomicU64 {
        let memory = self.memory(link).expect("a link into the pool");
        memory.word64(link.pointer().address).expect("buffers are aligned and writable")
    }

    fn shortcut_word(&self, address: u64) -> &AtomicU64 {
        let (_, memory) = &self.regions[0];
        memory.word64(address).expect("shortcuts are aligned and writable")
    }
}
