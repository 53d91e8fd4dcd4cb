//! Ops of every kernel whose arguments are made to deceive it.

use std::time::Duration;

use nic_kernels::bucket_table::KeyHash;
use nic_kernels::prism::{Chain, CompareSwap, Comparison, Operand, Primitive, Target};
use nic_kernels::{
    ARGUMENT_BYTES_MAX, Builtin, HOME_REGION, KernelSet, append, chain_append, chain_read,
    compare_swap, consistent_read, fetch, fetch_add, indirect_read, read, scan, scan_and_read,
    sketch_write, traverse, version_chain, write,
};
use nic_ports::Random;
use nic_wire::KernelId;

use super::traps::{self, REGION, REGIONS, SHORT, address, link};
use crate::hostile::owner::SAND_BYTES;

/// An op that means no good.
#[derive(Clone, Debug)]
pub(super) struct Lie {
    pub(super) kernel: KernelId,
    pub(super) arguments: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) reply_capacity: u32,
    pub(super) deadline: Duration,
    /// Whether it goes to what may only be read.
    pub(super) is_of_shelf: bool,
    /// Whether it must not end well.
    pub(super) is_forbidden: bool,
}

/// A place that arguments name.
struct Place {
    region: u16,
    address: u64,
    /// Whether no byte from it on may be touched.
    is_forbidden: bool,
}

/// The kernels of which there are lies that some may believe; others get what chance makes.
pub(super) const BELIEVED: [KernelId; 15] = [
    KernelId::READ,
    KernelId::WRITE,
    KernelId::COMPARE_SWAP,
    KernelId::FETCH_ADD,
    KernelId::SCAN_AND_READ,
    KernelId::INDIRECT_READ,
    KernelId::TRAVERSE,
    KernelId::CONSISTENT_READ,
    KernelId::SKETCH_WRITE,
    KernelId::CHAIN_READ,
    KernelId::CHAIN_APPEND,
    KernelId::PRISM,
    KernelId::APPEND,
    KernelId::FETCH,
    KernelId::SCAN,
];

/// Makes one up.
pub(super) fn tell(random: &mut Random) -> Lie {
    let kernel = Builtin::IDS[random.below(Builtin::IDS.len() as u64) as usize];
    let place = place(kernel, random);
    let (mut arguments, deadline) = arguments(kernel, &place, random);
    let mut is_forbidden = place.is_forbidden && touches_its_place(kernel);
    // Wrong lengths, wrong fields.
    match random.below(32) {
        0 => arguments.truncate(random.below(arguments.len() as u64 + 1) as usize),
        1 => arguments.resize(ARGUMENT_BYTES_MAX.min(arguments.len() + 8), random.next() as u8),
        2..8 if !arguments.is_empty() => {
            for _ in 0..=random.below(4) {
                let at = random.below(arguments.len() as u64) as usize;
                arguments[at] =
                    [0, 0xff, 1 << random.below(8), random.next() as u8][random.below(4) as usize];
            }
            is_forbidden = false;
        }
        _ => {}
    }
    // Nothing that could be taken for a canary.
    let length = [0, 8, 8, 64, 64, 200, 1504, 5000][random.below(8) as usize];
    let payload =
        if takes_payload(kernel) { vec![random.below(0x80) as u8; length] } else { vec![] };
    is_forbidden &= !takes_payload(kernel) || !payload.is_empty();
    let reply_capacity = [0, 8, 32, 512, 5000, 5000, 5000, 5000][random.below(8) as usize];
    let is_of_shelf = random.below(16) == 0;
    // The shelf is larger, and has another number.
    is_forbidden &= !is_of_shelf;
    Lie { kernel, arguments, payload, reply_capacity, deadline, is_of_shelf, is_forbidden }
}

fn place(kernel: KernelId, random: &mut Random) -> Place {
    let region = match random.below(8) {
        0 => random.below(REGIONS + 1) as u16,
        1 => [256, 0xfffe][random.below(2) as usize],
        2 => REGION as u16,
        _ => HOME_REGION,
    };
    let structure = match kernel {
        KernelId::APPEND | KernelId::FETCH => Some(traps::LOG),
        KernelId::CONSISTENT_READ => Some(traps::OBJECT),
        KernelId::SKETCH_WRITE => Some(traps::SKETCH),
        _ => None,
    };
    let address = match structure {
        Some(structure) if random.below(2) == 0 => structure,
        _ => address(random),
    };
    let is_elsewhere = region != HOME_REGION && u64::from(region) != REGION;
    Place { region, address, is_forbidden: is_elsewhere || address >= SAND_BYTES }
}

/// Whether no op of the kernel ends well without an access to the place that it names.
fn touches_its_place(kernel: KernelId) -> bool {
    // The lookups of a batch end each for itself; primitives and chains tell in their replies.
    !matches!(
        kernel,
        KernelId::INDIRECT_READ | KernelId::PRISM | KernelId::CHAIN_READ | KernelId::CHAIN_APPEND
    )
}

fn takes_payload(kernel: KernelId) -> bool {
    matches!(
        kernel,
        KernelId::WRITE
            | KernelId::CHAIN_APPEND
            | KernelId::PRISM
            | KernelId::APPEND
            | KernelId::SKETCH_WRITE
    )
}

/// Arguments whose form is right, and how long the op may take.
fn arguments(kernel: KernelId, place: &Place, random: &mut Random) -> (Vec<u8>, Duration) {
    let Place { region, address: at, .. } = *place;
    let length = 1 + random.below(2000) as u32;
    let number = random.next();
    let encoded = match kernel {
        KernelId::READ => read::Arguments::new(region, at, length).encode().to_vec(),
        KernelId::WRITE => write::Arguments::new(region, at).encode().to_vec(),
        KernelId::COMPARE_SWAP => {
            compare_swap::Arguments::new(region, at, random.below(2), number).encode().to_vec()
        }
        KernelId::FETCH_ADD => fetch_add::Arguments::new(region, at, number).encode().to_vec(),
        KernelId::SCAN_AND_READ => {
            // It has no region field: a number beyond means an address beyond.
            let bucket = if place.is_forbidden { at | SAND_BYTES } else { at };
            let hash = KeyHash(number.into());
            let bytes = 64 * (1 + random.below(4)) as u16;
            scan_and_read::Arguments::new(bucket, hash, bytes).encode().to_vec()
        }
        KernelId::INDIRECT_READ => batch(place, length, random),
        KernelId::TRAVERSE => return walk(place, random),
        KernelId::CONSISTENT_READ => {
            use consistent_read::Checksum::{Crc32, Crc64, Xxh3};
            let checksum = [Crc32, Crc64, Xxh3][random.below(3) as usize];
            // Of nothing, the checksum may fit.
            let usual = traps::OBJECT_BYTES;
            let length = if random.below(2) == 0 { usual } else { usual + length as u16 };
            let whole = consistent_read::Arguments::trailing(at, length, checksum);
            let retries = random.next() as u8;
            consistent_read::Arguments { region: region.into(), retries, ..whole }.encode().to_vec()
        }
        KernelId::SKETCH_WRITE => {
            let (data, sketch) = match random.below(2) {
                0 => (at, traps::SKETCH),
                _ => (if place.is_forbidden { at } else { 0xc000 }, at),
            };
            let precision = 4 + random.below(9) as u8;
            sketch_write::Arguments::new(region, data, sketch, precision).encode().to_vec()
        }
        KernelId::CHAIN_READ | KernelId::CHAIN_APPEND => chain(kernel, place, random),
        KernelId::PRISM => primitives(place, random),
        KernelId::APPEND => {
            let payload = [random.below(0x80) as u8; 64];
            let persist = append::Persist::None;
            append::Arguments::new(region, at, number, &payload, persist).encode().to_vec()
        }
        KernelId::FETCH => {
            let wait_us = [0, 0, 0, 500, u32::MAX][random.below(5) as usize];
            let from = if random.below(4) == 0 { number } else { random.below(32) * 32 };
            return (fetch::Arguments::new(region, at, from, wait_us).encode().to_vec(), SHORT);
        }
        KernelId::SCAN => records(place, random),
        // One that has no lies of its own yet.
        _ => (0..32).map(|_| random.next() as u8).collect(),
    };
    (encoded, super::DEADLINE)
}

/// Lookups through tables of anything, at any index.
fn batch(place: &Place, length: u32, random: &mut Random) -> Vec<u8> {
    let count = random.below(28);
    let indices: Vec<u32> = (0..count)
        .map(|_| if random.below(8) == 0 { random.next() as u32 } else { random.below(512) as u32 })
        .collect();
    let length = if random.below(8) == 0 { random.next() as u32 } else { length % 64 };
    // There are never more than an op takes.
    let Ok(arguments) = indirect_read::Arguments::new(place.address, length, &indices) else {
        return Vec::new();
    };
    let arguments = arguments.entries_of(random.below(4) as u8);
    let arguments = if random.below(2) == 0 { arguments.tagged() } else { arguments };
    let arguments = match place.region {
        HOME_REGION => arguments,
        region => arguments.in_region(region as u8).values_in_region(region as u8),
    };
    arguments.encoded().to_vec()
}

/// Walks without an end, to everywhere, with masks and offsets of anything.
fn walk(place: &Place, random: &mut Random) -> (Vec<u8>, Duration) {
    let (at, key) = (place.address, random.below(64));
    let length = [0, 8, 64, 1024, u32::MAX][random.below(5) as usize];
    let walk = match random.below(3) {
        0 => traverse::Arguments::list(at, key, length),
        1 => traverse::Arguments::bucket(at, key, length),
        _ => {
            let keys = random.below(17) as u8;
            let levels = [1, 2, 30, u16::MAX][random.below(4) as usize];
            traverse::Arguments::tree(at, levels, keys, key, length)
        }
    };
    let flags = traverse::Flags::from_bits_retain(random.below(64) as u16);
    let walk = if random.below(3) == 0 { walk.with(flags) } else { walk };
    let mask = if random.below(6) == 0 { random.next() } else { walk.mask.get() };
    let predicate = random.below(5) as u8;
    let is_endless = random.below(64) == 0;
    let hops = if is_endless { 0 } else { 1 + random.below(200) as u32 };
    let walk = traverse::Arguments {
        region: place.region.into(),
        mask: mask.into(),
        predicate,
        hops_before: [0, 0, 0, u32::MAX][random.below(4) as usize].into(),
        ..walk.hops(hops)
    };
    (walk.encode().to_vec(), if is_endless { SHORT } else { super::DEADLINE })
}

/// Chains that are circles, from cursors and shortcuts of anything, to buffers of anything.
fn chain(kernel: KernelId, place: &Place, random: &mut Random) -> Vec<u8> {
    let cursor = version_chain::Link::from_raw(link(random));
    let most = random.next();
    let has_shortcut = random.below(2) == 0;
    let Place { region, address, .. } = *place;
    if kernel == KernelId::CHAIN_READ {
        let read = chain_read::Arguments::from_cursor(cursor).hops_max(most as u16);
        let after = random.below(300) as u16;
        let read = if has_shortcut { read.or_shortcut(region, address, after) } else { read };
        return read.encode().to_vec();
    }
    let fresh = version_chain::Link::from_raw(link(random));
    let append = chain_append::Arguments::new(cursor, fresh).hops_max(most as u8);
    let first = random.below(2) == 0;
    let append = if has_shortcut { append.with_shortcut(region, address, first) } else { append };
    let append = if random.below(4) == 0 { append.uncommitted() } else { append };
    let append = if random.below(4) == 0 { append.written() } else { append };
    append.encode().to_vec()
}

/// Primitives that lead each other astray.
fn primitives(place: &Place, random: &mut Random) -> Vec<u8> {
    let mut chain = None::<Chain>;
    for _ in 0..=random.below(4) {
        let next = primitive(place, random);
        let added = match chain {
            None => Ok(Chain::first(next)),
            Some(chain) if random.below(2) == 0 => chain.then(next),
            Some(chain) => chain.also(next),
        };
        // No more of them fit.
        let Ok(longer) = added else { break };
        chain = Some(longer);
    }
    chain.map(|chain| chain.arguments().to_vec()).unwrap_or_default()
}

fn primitive(place: &Place, random: &mut Random) -> Primitive {
    let address = if random.below(2) == 0 { place.address } else { address(random) };
    let target = Target {
        indirect: random.below(2) == 0,
        at_output: random.below(4) == 0,
        ..Target::new(place.region, address)
    };
    let target = if random.below(4) == 0 { target.bounded() } else { target };
    let operand =
        |word: u64, is_output| if is_output { Operand::Output } else { Operand::Word(word) };
    match random.below(5) {
        0 => {
            let length = [1, 8, 64, 300, 1 << 20, u32::MAX][random.below(6) as usize];
            Primitive::Read { target, length }
        }
        1 => Primitive::Write { target },
        2 => Primitive::WriteOutput { target },
        3 => Primitive::Allocate { region: place.region, list: address },
        _ => {
            let comparison = [Comparison::Equal, Comparison::Less, Comparison::Greater]
                [random.below(3) as usize];
            let compare = operand(random.below(64), random.below(3) == 0);
            let swap = operand(traps::word(random), random.below(3) == 0);
            let swap = CompareSwap::new(target, comparison, compare, swap);
            Primitive::CompareSwap(match random.below(2) {
                0 => swap.masked(random.next(), random.next()),
                _ => swap,
            })
        }
    }
}

/// Scans that begin or end beyond, of records of any length.
fn records(place: &Place, random: &mut Random) -> Vec<u8> {
    let record = [1, 8, 16, 64, 4096, u16::MAX][random.below(6) as usize];
    let count = match random.below(8) {
        0 => 1 + random.next() as u32 / 2,
        _ => 1 + random.below(200) as u32,
    };
    let scan = scan::Arguments::new(place.region, place.address, record, count);
    let mut field = || scan::Field {
        offset: random.below(u64::from(record)) as u16,
        width: [1, 2, 4, 8, 3, 0][random.below(6) as usize],
        signed: random.below(2) == 0,
    };
    let (filter, part) = (field(), field());
    let scan = match random.below(2) {
        0 => scan.only(filter, scan::Comparison::Less, random.next()),
        _ => scan,
    };
    let scan = match random.below(5) {
        0 => scan.sum(part),
        1 => scan.least(part),
        2 => scan.greatest(part),
        3 => scan.rows(part.offset, random.below(500) as u16),
        _ => scan,
    };
    scan.encode().to_vec()
}
