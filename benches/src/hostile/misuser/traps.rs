//! What lies in the memory that kernels are led into: words that are pointers to everywhere, and
//! structures whose form is right and whose contents are not.

use std::time::Duration;

use nic_kernels::consistent_read::writer::seal;
use nic_kernels::consistent_read::{Arguments, Checksum};
use nic_kernels::{log, sketch_write, write};
use nic_ports::Random;
use nic_wire::KernelId;

use super::lies::Lie;
use crate::hostile::owner::SAND_BYTES;

/// Where elements of lists, buckets and trees lie, every 64 bytes.
pub(super) const ELEMENTS: u64 = 0;
pub(super) const ELEMENTS_COUNT: u64 = 64;
/// Where a chain's buffers lie, every 64 bytes: a circle.
pub(super) const CHAIN: u64 = 0x4000;
pub(super) const CHAIN_COUNT: u64 = 16;
/// Where a log and a sketch begin.
pub(super) const LOG: u64 = 0x8000;
pub(super) const SKETCH: u64 = 0xa000;
/// Where an object lies that its checksum, CRC-64, proves.
pub(super) const OBJECT: u64 = 0xe000;
pub(super) const OBJECT_BYTES: u16 = 64;
/// The number of the region within its owner's domain, and how many there are.
pub(super) const REGION: u64 = 5;
pub(super) const REGIONS: u64 = 7;

/// Lays one of them, by an honest WRITE.
pub(super) fn lay(random: &mut Random) -> Lie {
    let (address, words): (u64, Vec<u64>) = match random.below(9) {
        0..3 => {
            let place = ELEMENTS + random.below(ELEMENTS_COUNT - 8) * 64;
            (place, (0..64).map(|_| word(random)).collect())
        }
        3 | 4 => (CHAIN, chain(random)),
        5 => (LOG, log_header(random)),
        6 => (SKETCH, vec![sketch_write::MAGIC, random.below(16)]),
        7 => (OBJECT, object(random)),
        _ => (random.below(SAND_BYTES / 8 - 64) * 8, (0..64).map(|_| word(random)).collect()),
    };
    Lie {
        kernel: KernelId::WRITE,
        arguments: write::Arguments::home(address).encode().to_vec(),
        payload: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        reply_capacity: 0,
        deadline: super::DEADLINE,
        is_of_shelf: false,
        is_forbidden: false,
    }
}

/// A word that may be taken for a pointer.
pub(super) fn word(random: &mut Random) -> u64 {
    match random.below(12) {
        0 => 0,
        1..4 => address(random),
        4..6 => random.below(REGIONS + 1) << 56 | address(random),
        6 => REGION << 56 | address(random),
        7 | 8 => link(random),
        9 => random.below(64),
        _ => random.next(),
    }
}

/// An address: of something that lies there, beside it, at the end of the region, beyond, or so
/// that adding to it wraps.
pub(super) fn address(random: &mut Random) -> u64 {
    match random.below(12) {
        0..3 => ELEMENTS + random.below(ELEMENTS_COUNT) * 64,
        3 => CHAIN + random.below(CHAIN_COUNT) * 64,
        4 => LOG,
        5 => SKETCH,
        6 => random.below(SAND_BYTES),
        7 => SAND_BYTES - random.below(64),
        8 => SAND_BYTES + random.below(1 << 20),
        9 => u64::MAX - random.below(128),
        10 => 1 << (17 + random.below(47)),
        _ => random.next(),
    }
}

/// A link into a version chain: mostly one of the circle's.
pub(super) fn link(random: &mut Random) -> u64 {
    let unit = match random.below(8) {
        0..6 => CHAIN / 64 + random.below(CHAIN_COUNT),
        6 => SAND_BYTES / 64 + random.below(64),
        _ => random.below(1 << 31),
    };
    let region = if random.below(8) == 0 { random.below(REGIONS + 1) } else { REGION };
    let version = if random.below(8) == 0 { random.below(1 << 12) } else { 1 };
    region << 56 | unit << 25 | version << 13
}

/// Entries that lead to each other in a circle, but for some that lead elsewhere, nowhere, or that
/// nobody has committed.
fn chain(random: &mut Random) -> Vec<u64> {
    let mut words = vec![0; CHAIN_COUNT as usize * 8];
    for place in 0..CHAIN_COUNT {
        let next = match random.below(16) {
            0 => link(random),
            1 => 0,
            _ => REGION << 56 | (CHAIN / 64 + (place + 1) % CHAIN_COUNT) << 25 | 1 << 13,
        };
        let is_uncommitted = u64::from(random.below(32) == 0);
        // Of version 1 itself.
        words[place as usize * 8] = next | 1 << 1 | is_uncommitted;
        words[place as usize * 8 + 2] = random.below(40);
    }
    words
}

/// An object that is whole.
fn object(random: &mut Random) -> Vec<u64> {
    let mut bytes = [random.below(0x80) as u8; OBJECT_BYTES as usize];
    let arguments = Arguments::trailing(OBJECT, OBJECT_BYTES, Checksum::Crc64);
    seal(&arguments, &mut bytes);
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

/// A log whose ring and positions may be anything.
fn log_header(random: &mut Random) -> Vec<u64> {
    let mut number = |tame: u64| match random.below(6) {
        0..4 => random.below(tame) * 32,
        4 => random.below(1 << 20),
        _ => random.next(),
    };
    let capacity = number(64) + 32;
    let head = number(16);
    let watermark = head.wrapping_add(number(8));
    vec![log::layout::MAGIC, capacity, head, watermark, watermark.wrapping_add(number(8))]
}

/// For ops that may find no end.
pub(super) const SHORT: Duration = Duration::from_millis(2);
