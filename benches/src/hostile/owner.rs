//! The application that owns the regions, and finds out what was done to them.
//!
//! Regions that may be used lie between regions that nobody may use (canaries), so that an access
//! that leaves one, to either side in the engine's mappings, is likely to change another. All bytes
//! of a canary are the same: who has read some knows them when they turn up.

use anyhow::Result;
use nic_host::{Access, Export, Nic, Pages, Region};
use serde::{Deserialize, Serialize};

use super::link::Link;
use super::roles::{Options, Order, Tickets, connect};

/// What canaries are made of.
const MARK: u8 = 0xc5;
/// So many in a row are nobody's chance.
const MARKS: usize = 16;
/// Bytes of a canary: some pages, and a part of one.
const CANARY_BYTES: u64 = 3 * 4096 + 64;
/// Bytes of the garden and of the shelf; the garden's words stand behind its pattern.
pub(super) const PATTERN_BYTES: u64 = 1 << 20;
const WORDS_BYTES: u64 = 4096;
pub(super) const SAND_BYTES: u64 = 64 << 10;

/// Where the polite application's word for each of its ways is.
pub(super) fn word_address(way: usize) -> u64 {
    PATTERN_BYTES + 64 * way as u64
}

/// What stands at an address of the garden and the shelf, a multiple of eight.
pub(super) fn pattern(address: u64) -> u64 {
    (address + 8).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Whether there are bytes among these that can only be a canary's.
pub(super) fn is_marked(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte != MARK).any(|run| run.len() >= MARKS)
}

/// Answer to [`Order::Look`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    /// Bytes that are not what they were.
    pub(super) changed: u64,
    /// Bytes that were looked at.
    pub(super) watched: u64,
}

struct Estate {
    canaries: Vec<Region>,
    shelf: Region,
    garden: Region,
    _sand: Region,
    _exports: Vec<Export>,
}

pub(super) fn run(link: &Link, options: &Options) -> Result<()> {
    let nic = connect(&options.socket)?;
    let (estate, tickets) = estate(&nic)?;
    link.obey(|order| match order {
        Order::Introduce => Ok(serde_json::to_value(&tickets)?),
        Order::Look => Ok(serde_json::to_value(look(&estate)?)?),
        other => anyhow::bail!("found the order {other:?}, expected Introduce or Look"),
    })
}

fn estate(nic: &Nic) -> Result<(Estate, Tickets)> {
    let mut canaries = Vec::new();
    let region = |bytes| nic.region(bytes).pages(Pages::Small).create();
    let mut canary = || -> Result<()> {
        let guard = region(CANARY_BYTES)?;
        guard.memory().fill(0, CANARY_BYTES, MARK)?;
        canaries.push(guard);
        Ok(())
    };
    // One after the other, so that each region that is used has a canary on both sides.
    canary()?;
    let garden = region(PATTERN_BYTES + WORDS_BYTES)?;
    canary()?;
    let shelf = region(PATTERN_BYTES)?;
    canary()?;
    let sand = region(SAND_BYTES)?;
    canary()?;
    for address in (0..PATTERN_BYTES).step_by(8) {
        for region in [&garden, &shelf] {
            region.memory().write(address, &pattern(address).to_le_bytes())?;
        }
    }
    let all = Access::READ.and(Access::WRITE).and(Access::ATOMIC);
    // Keys that nobody is told, and that give everything: there is something to guess.
    let mut exports = vec![canaries[1].export(all.clone())?, canaries[2].export(all.clone())?];
    exports.push(garden.export(Access::READ.and(Access::ATOMIC))?);
    exports.push(shelf.export(Access::READ)?);
    exports.push(sand.export(all)?);
    let text = |index: usize| exports[index].ticket().to_string();
    let tickets = Tickets { garden: text(2), shelf: text(3), sand: text(4) };
    Ok((Estate { canaries, shelf, garden, _sand: sand, _exports: exports }, tickets))
}

/// Compares every byte that only the owner may write with what it wrote.
fn look(estate: &Estate) -> Result<Found> {
    let mut found = Found { changed: 0, watched: 0 };
    let mut bytes = vec![0; CANARY_BYTES as usize];
    for canary in &estate.canaries {
        canary.memory().read(0, &mut bytes)?;
        found.changed += bytes.iter().filter(|byte| **byte != MARK).count() as u64;
        found.watched += bytes.len() as u64;
    }
    let mut bytes = vec![0; PATTERN_BYTES as usize];
    for region in [&estate.garden, &estate.shelf] {
        region.memory().read(0, &mut bytes)?;
        found.changed += wrong_bytes(0, &bytes);
        found.watched += bytes.len() as u64;
    }
    // Of the garden's words only the two that the polite application adds to may have changed.
    let mut words = vec![0; WORDS_BYTES as usize];
    estate.garden.memory().read(PATTERN_BYTES, &mut words)?;
    for way in 0..2 {
        let at = (word_address(way) - PATTERN_BYTES) as usize;
        words[at..at + 8].fill(0);
    }
    found.changed += words.iter().filter(|byte| **byte != 0).count() as u64;
    found.watched += words.len() as u64 - 16;
    Ok(found)
}

/// How many bytes from an address on are not the pattern's.
pub(super) fn wrong_bytes(address: u64, bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).zip((address..).step_by(8));
    let wrong = words.map(|(word, at)| {
        let expected = pattern(at).to_le_bytes();
        if word == expected {
            return 0;
        }
        word.iter().zip(expected).filter(|(found, expected)| **found != *expected).count() as u64
    });
    wrong.sum()
}
