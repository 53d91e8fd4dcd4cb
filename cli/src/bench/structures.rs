//! What kernels work on: lists, a table of pointers, objects with checksums, records, version chains
//! and a log, side by side in an area of the target's memory, as a target lays them out and as
//! initiators know that they lie there.
//!
//! ```text
//! of the area's eighths: lists | table | objects | records | chains (2) | log (2)
//! list       elements {key, next, value pointer} of 24 bytes every 32, strewn over the share
//! table      pointers to values
//! object     value, CRC-64; every so many lines
//! record     64 bytes: its number, then a pattern
//! chain      entries of a version chain, a buffer each
//! log        records one behind the other, from position 0
//! ```
//! What lists and table point to lies in the data area, whose bytes are known everywhere. Objects,
//! chains and log hold values of one length: the table's, but at most [`VALUE_BYTES_MAX`].

use std::ops::Range;

use anyhow::{Result, ensure};
use nic_host::consistent_read::{self, Checksum};
use nic_host::log::Log;
use nic_host::version_chain::layout::HEADER_BYTES;
use nic_host::version_chain::{Image, Link, PointerWord};
use nic_host::{Pointer, RacyMem};
use nic_kernels::consistent_read::writer::seal;
use nic_kernels::log::layout::record_bytes;

use super::layout::{Areas, LINE_BYTES};
use super::pattern::{Pattern, WORD_BYTES};

/// The longest value that is laid out here, in bytes: with its checksum, what one step fetches.
pub const VALUE_BYTES_MAX: u32 = 4088;
/// The longest value in the data area that something here points to, in bytes.
pub const POINTED_BYTES_MAX: u32 = 64 << 10;
/// Elements of a list: the last one is looked for.
pub const LIST_ELEMENTS: u64 = 8;
/// Entries of a chain: the last one is looked for.
pub const CHAIN_ENTRIES: u64 = 4;
/// Bytes of a record that is scanned.
pub const RECORD_BYTES: u64 = 64;
/// How far apart elements of lists lie, in bytes.
const ELEMENT_PITCH: u64 = 32;
/// Strews elements: odd, so that all places of a power of two are met.
const STREW: u64 = 0x9e37_79b9;
/// The version of all entries of chains.
const VERSION: u16 = 1;
/// The numbers of patterns: of these kinds of values, by number.
const OBJECT: u64 = 1 << 40;
const RECORD: u64 = 2 << 40;
const ENTRY: u64 = 3 << 40;
const LOGGED: u64 = 4 << 40;

/// Where everything is, relative to the region's base.
#[derive(Clone, Debug)]
pub struct Structures {
    area: Range<u64>,
    data: Range<u64>,
    /// The length of the values that are laid out here.
    value_bytes: u64,
}

impl Structures {
    /// Those between areas, with values as long as those of the table, as far as they may be.
    pub fn new(areas: &Areas, value_bytes: u64) -> Self {
        let value_bytes = value_bytes.min(VALUE_BYTES_MAX.into());
        Structures { area: areas.structures.clone(), data: areas.data.clone(), value_bytes }
    }

    /// The length of objects' values, entries' and logged ones, in bytes.
    pub fn value_bytes(&self) -> u64 {
        self.value_bytes
    }

    /// Lays all of it out in the region of that number.
    ///
    /// # Errors
    /// Memory that is not as long as it should be.
    pub fn fill(&self, memory: &RacyMem, region: u8) -> Result<()> {
        self.fill_lists(memory)?;
        for number in 0..self.pointers() {
            memory.write(self.table() + number * 8, &self.pointed(number).to_le_bytes())?;
        }
        self.fill_objects(memory)?;
        let mut record = [0; RECORD_BYTES as usize];
        for number in 0..self.records() {
            record[..WORD_BYTES].copy_from_slice(&number.to_le_bytes());
            Pattern::of(RECORD + number).fill(&mut record[WORD_BYTES..]);
            memory.write(self.record(number), &record)?;
        }
        self.fill_chains(memory, region)?;
        self.fill_log(memory)
    }

    /// Where a share of the area lies: from one of its eighths to another.
    fn share(&self, eighths: Range<u64>) -> Range<u64> {
        let eighth = (self.area.end - self.area.start) / 8 / LINE_BYTES * LINE_BYTES;
        self.area.start + eighths.start * eighth..self.area.start + eighths.end * eighth
    }
}

/// Values in the data area.
impl Structures {
    /// Where the value of a number begins, relative to the region's base.
    #[inline]
    fn pointed(&self, number: u64) -> u64 {
        self.data.start + self.pointed_offset(number)
    }

    fn pointed_offset(&self, number: u64) -> u64 {
        let lines = (self.data.end - self.data.start - u64::from(POINTED_BYTES_MAX)) / LINE_BYTES;
        // A permutation is not needed: some values are pointed to twice.
        (number.wrapping_mul(STREW) % lines) * LINE_BYTES
    }

    /// What stands there.
    #[inline]
    pub fn pointed_value(&self, number: u64) -> Pattern {
        Areas::data_pattern(self.pointed_offset(number))
    }
}

/// Lists.
impl Structures {
    /// How many elements there are, a power of two.
    fn elements(&self) -> u64 {
        let share = self.share(0..1);
        1 << ((share.end - share.start) / ELEMENT_PITCH).ilog2()
    }

    /// How many lists.
    pub fn lists(&self) -> u64 {
        self.elements() / LIST_ELEMENTS
    }

    /// The address of an element of a list, relative to the region's base.
    #[inline]
    pub fn element(&self, list: u64, place: u64) -> u64 {
        let number = (list * LIST_ELEMENTS + place).wrapping_mul(STREW);
        self.share(0..1).start + number % self.elements() * ELEMENT_PITCH
    }

    fn fill_lists(&self, memory: &RacyMem) -> Result<()> {
        for list in 0..self.lists() {
            for place in 0..LIST_ELEMENTS {
                let is_last = place + 1 == LIST_ELEMENTS;
                let next = if is_last { 0 } else { self.element(list, place + 1) };
                let words = [place, next, self.pointed(list)];
                let bytes = words.map(u64::to_le_bytes);
                memory.write(self.element(list, place), bytes.as_flattened())?;
            }
        }
        Ok(())
    }
}

/// The table of pointers.
impl Structures {
    /// Where it begins, relative to the region's base.
    pub fn table(&self) -> u64 {
        self.share(1..2).start
    }

    /// How many pointers there are: at most as many as an op can name in 16 bits.
    pub fn pointers(&self) -> u64 {
        let share = self.share(1..2);
        ((share.end - share.start) / 8).min(1 << 16)
    }
}

/// Objects with checksums.
impl Structures {
    fn object_pitch(&self) -> u64 {
        (self.value_bytes + 8).next_multiple_of(LINE_BYTES)
    }

    /// How many there are.
    pub fn objects(&self) -> u64 {
        let share = self.share(2..3);
        (share.end - share.start) / self.object_pitch()
    }

    /// How one is read, in a region whose base is so much.
    #[inline]
    pub fn object(&self, base: u64, number: u64) -> consistent_read::Arguments {
        let at = base + self.share(2..3).start + number * self.object_pitch();
        // At most 4096.
        consistent_read::Arguments::trailing(at, self.value_bytes as u16 + 8, Checksum::Crc64)
    }

    /// The value of one, before its checksum.
    #[inline]
    pub fn object_value(number: u64) -> Pattern {
        Pattern::of(OBJECT + number)
    }

    fn fill_objects(&self, memory: &RacyMem) -> Result<()> {
        let mut object = vec![0; self.value_bytes as usize + 8];
        for number in 0..self.objects() {
            let arguments = self.object(0, number);
            Self::object_value(number).fill(&mut object[..self.value_bytes as usize]);
            ensure!(seal(&arguments, &mut object), "an object of this length has no checksum");
            memory.write(arguments.address.get(), &object)?;
        }
        Ok(())
    }
}

/// Records to be scanned.
impl Structures {
    /// How many there are.
    pub fn records(&self) -> u64 {
        let share = self.share(3..4);
        (share.end - share.start) / RECORD_BYTES
    }

    /// The address of one, relative to the region's base; its first word is its number.
    #[inline]
    pub fn record(&self, number: u64) -> u64 {
        self.share(3..4).start + number * RECORD_BYTES
    }
}

/// Version chains.
impl Structures {
    /// Bytes of the buffer of a value.
    pub fn buffer_bytes(value_bytes: u64) -> u64 {
        (HEADER_BYTES as u64 + value_bytes).next_multiple_of(LINE_BYTES)
    }

    /// How many chains there are.
    pub fn chains(&self) -> u64 {
        let share = self.share(4..6);
        (share.end - share.start) / Self::buffer_bytes(self.value_bytes) / CHAIN_ENTRIES
    }

    /// An entry of a chain. The first is a cursor; the last has the value that readers find.
    #[inline]
    pub fn entry(&self, region: u8, chain: u64, place: u64) -> Link {
        let number = place * self.chains() + chain;
        let address = self.share(4..6).start + number * Self::buffer_bytes(self.value_bytes);
        // The area lies at a multiple of a page, far below what links can name.
        Link::new(Pointer { region, address }, VERSION).unwrap_or(Link::NONE)
    }

    /// The value of a chain's last entry.
    #[inline]
    pub fn entry_value(chain: u64) -> Pattern {
        Pattern::of(ENTRY + chain)
    }

    fn fill_chains(&self, memory: &RacyMem, region: u8) -> Result<()> {
        let mut value = vec![0; self.value_bytes as usize];
        let buffer_bytes = u32::try_from(Self::buffer_bytes(self.value_bytes))?;
        for chain in 0..self.chains() {
            for place in 0..CHAIN_ENTRIES {
                let is_last = place + 1 == CHAIN_ENTRIES;
                let age = CHAIN_ENTRIES - 1 - place;
                Self::entry_value(chain + (age << 32)).fill(&mut value);
                let entry = self.entry(region, chain, place);
                ensure!(!entry.is_none(), "a region of this length has no place for chains");
                let image = Image::compose(entry, buffer_bytes, &value)?;
                let at = entry.pointer().address;
                memory.write(at, image.bytes())?;
                if !is_last {
                    let next = self.entry(region, chain, place + 1).raw();
                    let word = PointerWord::last(VERSION).raw() | next;
                    memory.write(at, &word.to_le_bytes())?;
                }
            }
        }
        Ok(())
    }
}

/// The log.
impl Structures {
    /// Its address, relative to the region's base.
    pub fn log(&self) -> u64 {
        self.share(6..8).start
    }

    /// How many records it has; fewer than its ring has room for, so that none begins it anew.
    pub fn logged(&self) -> u64 {
        let share = self.share(6..8);
        (share.end - share.start - LINE_BYTES) / self.logged_bytes()
    }

    /// How many bytes of the log a record takes.
    pub fn logged_bytes(&self) -> u64 {
        // At most 4088.
        record_bytes(self.value_bytes as u32)
    }

    /// The payload of a record.
    #[inline]
    pub fn logged_value(number: u64) -> Pattern {
        Pattern::of(LOGGED + number)
    }

    fn fill_log(&self, memory: &RacyMem) -> Result<()> {
        let share = self.share(6..8);
        let log = Log::format(memory.clone(), share.start, share.end - share.start)?;
        let mut value = vec![0; self.value_bytes as usize];
        for number in 0..self.logged() {
            Self::logged_value(number).fill(&mut value);
            log.append(number, &value)?;
        }
        ensure!(
            log.watermark() == self.logged() * self.logged_bytes(),
            "the log has other records"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::layout::REGION_BYTES_MIN;

    #[test]
    fn the_smallest_memory_has_some_of_each_and_they_do_not_overlap() {
        for value_bytes in [1, 64, 4088, 1 << 20] {
            let areas = Areas::of(REGION_BYTES_MIN).unwrap();
            let structures = Structures::new(&areas, value_bytes);
            let counts = [
                structures.lists(),
                structures.pointers(),
                structures.objects(),
                structures.records(),
                structures.chains(),
                structures.logged(),
            ];
            assert!(counts.iter().all(|count| *count > 0), "{counts:?} of {value_bytes} bytes");
            let memory = RacyMem::allocate(REGION_BYTES_MIN);
            structures.fill(&memory, 1).unwrap();
            // What was laid first is still whole, and nothing lies beyond the area.
            let first: [u8; 24] = memory.read_array(structures.element(0, 0)).unwrap();
            let next = u64::from_le_bytes(first[8..16].try_into().unwrap());
            assert_eq!(next, structures.element(0, 1));
            let last = structures.objects() - 1;
            let arguments = structures.object(0, last);
            let mut object = vec![0; usize::from(arguments.length.get())];
            memory.read(arguments.address.get(), &mut object).unwrap();
            assert!(arguments.is_whole(&object));
            let mut beyond = [1; 64];
            for at in [areas.structures.start - 64, areas.structures.end] {
                memory.read(at, &mut beyond).unwrap();
                assert_eq!(beyond, [0; 64], "at {at:#x}");
            }
        }
    }

    #[test]
    fn elements_of_lists_have_places_of_their_own() {
        let structures = Structures::new(&Areas::of(REGION_BYTES_MIN).unwrap(), 64);
        let mut places: Vec<u64> = (0..structures.lists())
            .flat_map(|list| (0..LIST_ELEMENTS).map(move |place| (list, place)))
            .map(|(list, place)| structures.element(list, place))
            .collect();
        let count = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), count);
    }
}
