//! Walks against plain structures.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status};

use super::writer::{BUCKET_BYTES, Writer, bucket_of};
use super::*;
use crate::bench::Bench;
use crate::kernel::Pointer;
use crate::random::Random;
use crate::{Access, Builtin, Limits, PointerForm};

/// Two regions, of which the second may be followed, and a third that may not.
struct Memory {
    bench: Bench<Builtin>,
    regions: Vec<RacyMem>,
    rkey: Rkey,
}

impl Memory {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        let mut bench = Bench::with_limits(2, limits);
        let regions: Vec<RacyMem> = (0..3).map(|_| RacyMem::allocate(256 << 10)).collect();
        for (number, region) in regions.iter().enumerate() {
            assert_eq!(usize::from(bench.register(region)), number);
        }
        let rkey = bench.memory.export(bench.domain, 0, Access::READ, &[1], 7).unwrap();
        Memory { bench, regions, rkey }
    }

    fn writer(&self, region: u8, form: PointerForm) -> Writer {
        Writer::new(self.regions[usize::from(region)].clone(), region, form)
    }

    fn run(&mut self, arguments: &Arguments) -> (Status, Vec<u8>) {
        let encoded = arguments.encode();
        let (finish, reply) = self.bench.call(&self.rkey, KernelId::TRAVERSE, &encoded, &[]);
        let (export, generation) = (self.rkey.export.get(), self.rkey.generation.get());
        assert_eq!(self.bench.memory.holds(export, generation), 0);
        (finish.status, reply)
    }

    /// Walks to the end, through continuations; returns the header, the value and how many ops it
    /// took.
    fn walk(&mut self, arguments: &Arguments) -> (ReplyHeader, Vec<u8>, u32) {
        let mut arguments = *arguments;
        for ops in 1.. {
            let (status, reply) = self.run(&arguments);
            if status == Status::Continues {
                arguments = Arguments::decode(&reply).unwrap();
                continue;
            }
            assert_eq!(status, Status::Ok);
            let (header, value) = ReplyHeader::parse(&reply).unwrap();
            return (header, value.to_vec(), ops);
        }
        unreachable!()
    }

    fn value(&mut self, arguments: &Arguments) -> Option<Vec<u8>> {
        let (header, value, _) = self.walk(arguments);
        let is_found = header.found().is_some();
        assert!(is_found || value.is_empty());
        is_found.then_some(value)
    }
}

fn value_of(number: u64) -> [u8; 16] {
    let mut value = [0x5a; 16];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

fn fits(predicate: Predicate, field: u64, key: u64) -> bool {
    match predicate {
        Predicate::Equal => field == key,
        Predicate::Less => field < key,
        Predicate::Greater => field > key,
        Predicate::NotEqual => field != key,
        Predicate::AtDepth => false,
    }
}

const PREDICATES: [Predicate; 4] =
    [Predicate::Equal, Predicate::Less, Predicate::Greater, Predicate::NotEqual];

#[test]
fn lists_agree_with_an_oracle() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut memory = Memory::new();
        // Values in another region, or all in one.
        let is_tagged = seed % 2 == 0;
        let form = if is_tagged { PointerForm::Tagged } else { PointerForm::Plain { region: 0 } };
        let value_form = if is_tagged { form } else { PointerForm::Plain { region: 1 } };
        let mut values = memory.writer(1, value_form);
        let length = random.below(40);
        let keys: Vec<u64> = (0..length).map(|_| random.below(32)).collect();
        let entries: Vec<(u64, u64)> = (0..length)
            .map(|place| (keys[place as usize], values.value(&value_of(place)).unwrap()))
            .collect();
        let head = memory.writer(0, form).list(&entries).unwrap();
        if head == 0 {
            continue;
        }
        for _ in 0..20 {
            let predicate = PREDICATES[random.below(4) as usize];
            let (key, most) = (random.below(34), random.below(8) as u32);
            let list = Arguments::list(head, key, 16).hops(most);
            let arguments = Arguments {
                predicate: predicate as u8,
                value_region: 1.into(),
                ..if is_tagged { list.with(Flags::TAGGED) } else { list }
            };
            let expected = keys.iter().position(|field| fits(predicate, *field, key));
            let (header, value, ops) = memory.walk(&arguments);
            let hops = expected.map_or(length, |place| place as u64 + 1) as u32;
            assert_eq!(header.hops.get(), hops, "seed {seed}");
            assert_eq!(ops, if most == 0 { 1 } else { hops.div_ceil(most) }, "seed {seed}");
            match expected {
                Some(place) => {
                    assert_eq!(value, value_of(place as u64), "seed {seed}");
                    let found = header.found().unwrap();
                    assert_eq!((found.field, found.element.region, found.value.region), (0, 0, 1));
                }
                None => assert_eq!((header.found(), value.len()), (None, 0), "seed {seed}"),
            }
        }
        // By depth, in as many ops as the bound asks for.
        let depth = random.below(2 * length);
        let arguments = Arguments {
            mask: 0.into(),
            predicate: Predicate::AtDepth as u8,
            value_region: 1.into(),
            ..Arguments::list(head, depth, 16).hops(3)
        };
        let arguments = if is_tagged { arguments.with(Flags::TAGGED) } else { arguments };
        let expected = (depth < length).then(|| value_of(depth).to_vec());
        assert_eq!(memory.value(&arguments), expected, "seed {seed}, depth {depth} of {length}");
    }
}

#[test]
fn hash_tables_agree_with_a_map() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut memory = Memory::new();
        let form =
            if seed % 2 == 0 { PointerForm::Tagged } else { PointerForm::Plain { region: 0 } };
        let mut writer = memory.writer(0, form);
        let map: BTreeMap<u64, u64> =
            (0..random.below(120)).map(|place| (random.below(150), place)).collect();
        let entries: Vec<(u64, u64)> = map
            .iter()
            .map(|(key, number)| (*key, writer.value(&value_of(*number)).unwrap()))
            .collect();
        let buckets = 1 + random.below(16);
        let table = writer.hash_table(buckets, &entries).unwrap();
        for key in 0..150 {
            let bucket = table + bucket_of(key, buckets) * BUCKET_BYTES;
            let arguments = Arguments::bucket(bucket, key, 16);
            let arguments =
                if form == PointerForm::Tagged { arguments.with(Flags::TAGGED) } else { arguments };
            let expected = map.get(&key).map(|number| value_of(*number).to_vec());
            assert_eq!(memory.value(&arguments), expected, "seed {seed}, key {key}");
        }
    }
}

#[test]
fn trees_agree_with_a_map() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut memory = Memory::new();
        let form =
            if seed % 2 == 0 { PointerForm::Tagged } else { PointerForm::Plain { region: 0 } };
        let mut writer = memory.writer(0, form);
        let map: BTreeMap<u64, u64> =
            (0..random.below(300)).map(|place| (random.below(400), place)).collect();
        let entries: Vec<(u64, u64)> = map
            .iter()
            .map(|(key, number)| (*key, writer.value(&value_of(*number)).unwrap()))
            .collect();
        let keys = 2 + random.below(14) as u8;
        let tree = writer.tree(keys, &entries).unwrap();
        let flags = if form == PointerForm::Tagged { Flags::TAGGED } else { Flags::empty() };
        for key in 0..400 {
            let most = random.below(4) as u32;
            let search = Arguments::tree(tree.root, tree.levels, keys, key, 16);
            let arguments = search.with(flags).hops(most);
            let expected = map.get(&key).map(|number| value_of(*number).to_vec());
            let (header, value, _) = memory.walk(&arguments);
            let found = header.found().map(|_| value);
            assert_eq!(found, expected, "seed {seed}, key {key}, {keys} keys per node");
            assert_eq!(header.hops.get(), u32::from(tree.levels) + 1, "a way down, and no more");
            // The first key above: perhaps in the next leaf.
            let above =
                Arguments { predicate: Predicate::Greater as u8, ..arguments.with(Flags::NEXT) };
            let expected =
                map.range(key + 1..).next().map(|(_, number)| value_of(*number).to_vec());
            assert_eq!(memory.value(&above), expected, "seed {seed}, above {key}");
        }
    }
}

/// Writes a binary search tree of {key, left, right, value}; returns its root.
fn binary_tree(writer: &mut Writer, sorted: &[(u64, u64)]) -> u64 {
    if sorted.is_empty() {
        return 0;
    }
    let middle = sorted.len() / 2;
    let left = binary_tree(writer, &sorted[..middle]);
    let right = binary_tree(writer, &sorted[middle + 1..]);
    let (key, value) = sorted[middle];
    writer.words(&[key, left, right, value]).unwrap()
}

#[test]
fn binary_trees_match_on_the_way_down() {
    let mut memory = Memory::new();
    let mut writer = memory.writer(0, PointerForm::Plain { region: 0 });
    let map: BTreeMap<u64, u64> = (0..200).map(|place| (3 * place + 1, place)).collect();
    let entries: Vec<(u64, u64)> =
        map.iter().map(|(key, number)| (*key, writer.value(&value_of(*number)).unwrap())).collect();
    let root = binary_tree(&mut writer, &entries);
    for key in 0..610 {
        let arguments = Arguments {
            element_bytes: 32.into(),
            flags: Flags::MATCH_ABOVE.bits().into(),
            value_offset: 6,
            levels: 64.into(),
            descend: Predicate::Greater as u8,
            child_offset: 2,
            next_offset: 4,
            ..Arguments::list(root, key, 16).hops(key as u32 % 5)
        };
        let expected = map.get(&key).map(|number| value_of(*number).to_vec());
        assert_eq!(memory.value(&arguments), expected, "key {key}");
    }
}

#[test]
fn values_within_elements_and_short_keys() {
    let mut memory = Memory::new();
    let region = memory.regions[0].clone();
    // Two elements of {next, short key 7 or 9, 4 bytes of value}.
    for (at, next, key) in [(64u64, 80u64, 7u32), (80, 0, 9)] {
        region.write(at, &next.to_le_bytes()).unwrap();
        region.write(at + 8, &key.to_le_bytes()).unwrap();
        region.write(at + 12, &[key as u8; 4]).unwrap();
    }
    let arguments = |key| {
        Arguments {
            mask: 0b100.into(),
            element_bytes: 16.into(),
            value: Value::Within as u8,
            value_offset: 1,
            next_offset: 0,
            ..Arguments::list(64, key, 4)
        }
        .with(Flags::SHORT_KEYS | Flags::RELATIVE)
    };
    assert_eq!(memory.value(&arguments(7)), Some([7; 4].to_vec()));
    assert_eq!(memory.value(&arguments(9)), Some([9; 4].to_vec()));
    assert_eq!(memory.value(&arguments(8)), None);
    assert_eq!(memory.value(&arguments(1 << 32 | 7)), None, "a short key is no more than that");
    // Which element it was is all that is asked.
    let bare = Arguments { value: Value::None as u8, value_length: 0.into(), ..arguments(9) };
    let (header, value, _) = memory.walk(&bare);
    let element = Pointer { region: 0, address: 80 };
    let found = Found { field: 8, element, value: Pointer { region: 0, address: 0 } };
    assert_eq!((header.found(), value.len()), (Some(found), 0));
}

#[test]
fn a_walk_without_end_is_bounded_and_can_be_resumed() {
    let limits = Limits { steps: 100, bytes: 24 * 40, ..Limits::default() };
    let mut memory = Memory::with_limits(limits);
    let region = memory.regions[0].clone();
    // An element that points to itself.
    region.write(72, &64u64.to_le_bytes()).unwrap();
    let bounded = |hops: u32, bytes: u32| Arguments {
        bytes_max: bytes.into(),
        ..Arguments::list(64, 1, 8).hops(hops)
    };
    for (hops, bytes, looked_at) in
        [(10, 0, 10), (0, 24 * 7 + 23, 7), (10, 24 * 7, 7), (0, 0, 40), (u32::MAX, u32::MAX, 40)]
    {
        let (status, reply) = memory.run(&bounded(hops, bytes));
        assert_eq!(status, Status::Continues);
        let next = Arguments::decode(&reply).unwrap();
        assert_eq!(next.hops_before.get(), looked_at, "{hops} hops, {bytes} bytes");
        assert_eq!(next.start.get(), 64);
        // Where it goes on is as untrusted as what it read.
        let astray = Arguments { start: (1 << 40).into(), ..next };
        assert_eq!(memory.run(&astray), (Status::BadPointer, Vec::new()));
    }
    // What has no room for a continuation ends without one.
    let encoded = bounded(10, 0).encode();
    let short =
        crate::Invocation { reply_capacity: 55, ..crate::bench::op(KernelId::TRAVERSE, &encoded) };
    memory.bench.start(&memory.rkey, &short).unwrap();
    let over = memory.bench.run(nic_wire::Time::ZERO);
    assert_eq!((over[0].2.status, over[0].2.fate), (Status::TooManySteps, Fate::NotExecuted));
}

#[test]
fn pointers_are_followed_only_where_the_export_allows() {
    let mut memory = Memory::new();
    let region = memory.regions[0].clone();
    let tagged = |region: u64, address: u64| region << 56 | address;
    let length = region.len();
    for (next, value, status) in [
        (tagged(1, 64), 0, Status::Ok),
        (tagged(1, length - 24), 0, Status::Ok),
        (tagged(1, length - 23), 0, Status::BadPointer),
        (tagged(2, 64), 0, Status::BadPointer),
        (tagged(9, 64), 0, Status::BadPointer),
        (tagged(255, (1 << 56) - 1), 0, Status::BadPointer),
        (0, tagged(1, length - 8), Status::Ok),
        (0, tagged(1, length - 7), Status::BadPointer),
        (0, tagged(2, 64), Status::BadPointer),
    ] {
        let words = [5 ^ u64::from(value == 0), next, value];
        for (place, word) in words.iter().enumerate() {
            region.write(64 + 8 * place as u64, &word.to_le_bytes()).unwrap();
        }
        let (found, _) = memory.run(&Arguments::list(64, 5, 8).with(Flags::TAGGED));
        assert_eq!(found, status, "next {next:#x}, value {value:#x}");
    }
    assert_eq!(memory.run(&Arguments::list(length, 5, 8)).0, Status::OutOfBounds);
    let elsewhere = Arguments { region: 2.into(), ..Arguments::list(64, 5, 8) };
    assert_eq!(memory.run(&elsewhere).0, Status::Denied);
}

#[test]
fn every_bad_argument_has_its_status() {
    let mut memory = Memory::new();
    let list = Arguments::list(64, 1, 8);
    let bucket = Arguments::bucket(64, 1, 8);
    let tree = Arguments::tree(64, 1, 3, 1, 8);
    let depth = Arguments { mask: 0.into(), predicate: 4, ..list };
    assert_eq!(memory.run(&list).0, Status::Ok);
    assert_eq!(memory.run(&depth).0, Status::Ok);
    for arguments in [
        Arguments { element_bytes: 0.into(), ..list },
        Arguments { element_bytes: 22.into(), ..list },
        Arguments { element_bytes: 260.into(), ..list },
        Arguments { mask: 0.into(), ..list },
        Arguments { mask: (1 << 5).into(), ..list },
        Arguments { mask: (1 << 63).into(), element_bytes: 256.into(), ..list },
        Arguments { predicate: 5, ..list },
        Arguments { descend: 5, ..list },
        Arguments { value: 3, ..list },
        Arguments { value: Value::None as u8, ..list },
        Arguments { value: Value::Within as u8, value_length: 9.into(), ..list },
        Arguments { value_length: (crate::TRANSFER_BYTES_MAX + 1).into(), ..list },
        Arguments { value_offset: 5, ..list },
        Arguments { value_offset: -1, ..list },
        Arguments { value_offset: 7, ..bucket },
        Arguments { value_offset: -1, ..bucket },
        Arguments { next_offset: 5, ..list },
        Arguments { next_offset: 255, ..list },
        Arguments { next_offset: 255, ..tree },
        Arguments { child_offset: 9, ..tree },
        Arguments { child_offset: -1, ..tree },
        Arguments { descend: 4, ..tree },
        Arguments { flags: 32.into(), ..list },
        Arguments { region: 256.into(), ..list },
        Arguments { value_region: 256.into(), ..list },
        Arguments { bytes_max: 23.into(), ..list },
        Arguments { mask: 1.into(), ..depth },
        Arguments { levels: 1.into(), ..depth },
        depth.with(Flags::RELATIVE),
    ] {
        assert_eq!(memory.run(&arguments), (Status::BadArguments, Vec::new()), "{arguments:?}");
    }
    let short = Arguments { value_length: 0.into(), value: 0, ..list }.encode();
    let no_room =
        crate::Invocation { reply_capacity: 23, ..crate::bench::op(KernelId::TRAVERSE, &short) };
    assert_eq!(memory.bench.start(&memory.rkey, &no_room), Err(Status::ReplyTooLong));
}

crate::bench::also_on_dma!(
    lists_agree_with_an_oracle,
    hash_tables_agree_with_a_map,
    trees_agree_with_a_map,
    binary_trees_match_on_the_way_down,
    a_walk_without_end_is_bounded_and_can_be_resumed,
);
