//! The kernel on an executor, without engines: against a plain map, stopped at bounds, and on lists
//! and arguments that make no sense.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use nic_kernels::mapped::{MappedMemory, Tables};
use nic_kernels::{Access, Budget, Executor, Invocation, Kernel, Limits, Memory};
use nic_shm::RacyMem;
use nic_wire::{Rkey, Status, Time};
use own_kernel::{Arguments, Full, HEAD, LEVELS, LowerBound, NODE_BYTES, Node, SkipList};
use zerocopy::{FromBytes, IntoBytes};

nic_kernels::kernel_set! {
    enum Mine { LowerBound(LowerBound) }
}

/// A region and what runs next to it.
struct Bench {
    executor: Executor<Mine, MappedMemory>,
    memory: MappedMemory,
    region: RacyMem,
    rkey: Rkey,
}

impl Bench {
    fn new(bytes: u64, limits: Limits) -> Self {
        let region = RacyMem::allocate(bytes);
        let mut memory = MappedMemory::new(Tables::default());
        let domain = memory.add_domain().unwrap();
        let home = memory.register(domain, region.clone(), 0).unwrap();
        let rkey = memory.export(domain, home, Access::READ, &[], 7).unwrap();
        Bench { executor: Executor::new(1, limits), memory, region, rkey }
    }

    /// One op.
    fn run(&mut self, arguments: &[u8], reply_capacity: u32) -> (Status, Vec<u8>) {
        let grant = self.memory.admit(&self.rkey).unwrap();
        let invocation = Invocation {
            owner: 0,
            kernel: LowerBound::ID,
            arguments,
            payload_length: 0,
            reply_capacity,
            deadline: Time::NEVER,
        };
        let memory = &mut self.memory;
        let slot = match self.executor.start(memory, Time::ZERO, grant, &invocation) {
            Ok(slot) => slot,
            Err(status) => return (status, Vec::new()),
        };
        let mut finish = None;
        while finish.is_none() {
            let report = &mut |_, _, end| finish = Some(end);
            self.executor.run(memory, Time::ZERO, Budget::default(), report);
        }
        let finish = finish.unwrap();
        let mut reply = vec![0; finish.reply_length as usize];
        self.executor.copy_reply(slot, memory, 0, &mut reply).unwrap();
        self.executor.free(slot, memory);
        (finish.status, reply)
    }

    /// Ops to the end; the key and the value found, and how many ops it took.
    fn find(&mut self, key: u64) -> (Option<(u64, u64)>, u32) {
        let mut arguments = Arguments::new(key);
        for ops in 1.. {
            let (status, reply) = self.run(arguments.as_bytes(), 24);
            if status == Status::Continues {
                arguments = Arguments::read_from_bytes(&reply).unwrap();
                continue;
            }
            assert_eq!(status, Status::Ok);
            let words = reply.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
            let words: Vec<u64> = words.collect();
            return (words.first().map(|key| (*key, words[1])), ops);
        }
        unreachable!()
    }

    fn set_node(&self, at: u64, key: u64, links: [u64; LEVELS]) {
        let links = links.map(Into::into);
        let node = Node { key: key.into(), value: 0.into(), links };
        self.region.write(at, node.as_bytes()).unwrap();
    }
}

/// A random number (xorshift64*).
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[test]
fn searches_agree_with_a_map() {
    for seed in 1..40 {
        let random = &mut (seed * 0x9e37_79b9);
        let steps = [64 << 10, 7][seed as usize % 2];
        let mut bench = Bench::new(64 << 10, Limits { steps, ..Limits::default() });
        let mut list = SkipList::format(bench.region.clone()).unwrap();
        let mut map = BTreeMap::new();
        let mut ops_most = 0;
        for _ in 0..next(random) % 500 {
            let (key, value) = (next(random) % 1000, next(random));
            list.insert(key, value).unwrap();
            map.entry(key).or_insert(value);
            let wanted = next(random) % 1010;
            let expected = map.range(wanted..).next().map(|(key, value)| (*key, *value));
            let (found, ops) = bench.find(wanted);
            assert_eq!(found, expected, "seed {seed}, key {wanted}");
            ops_most = ops_most.max(ops);
        }
        // Few steps make several ops of a search, enough of them make one.
        assert!(map.len() < 100 || (ops_most > 1) == (steps == 7), "seed {seed}: {ops_most} ops");
    }
}

#[test]
fn the_greatest_keys_and_an_empty_list() {
    let mut bench = Bench::new(4096, Limits::default());
    let mut list = SkipList::format(bench.region.clone()).unwrap();
    assert_eq!(bench.find(0), (None, 1));
    list.insert(u64::MAX, 1).unwrap();
    list.insert(0, 2).unwrap();
    assert_eq!(bench.find(0).0, Some((0, 2)));
    assert_eq!(bench.find(1).0, Some((u64::MAX, 1)));
    let room = (4096 / NODE_BYTES) - 3;
    (1..=room).for_each(|key| list.insert(key, key).unwrap());
    assert_eq!(list.insert(5000, 0).unwrap_err().downcast_ref(), Some(&Full));
}

#[test]
fn lists_that_lead_back_or_outside_are_told() {
    let mut bench = Bench::new(4096, Limits::default());
    let lowest = |link| {
        let mut links = [0; LEVELS];
        links[0] = link;
        links
    };
    let mut search = |first: u64, second: u64| {
        bench.set_node(HEAD, 0, lowest(first));
        bench.set_node(80, 1, lowest(160));
        bench.set_node(160, 2, lowest(second));
        bench.run(Arguments::new(9).as_bytes(), 24).0
    };
    assert_eq!(search(80, 0), Status::Ok);
    assert_eq!(search(80, 80), Status::BadPointer);
    assert_eq!(search(80, 160), Status::BadPointer);
    for outside in [4096, 4095, 4096 - NODE_BYTES + 1, u64::MAX, u64::MAX - 7, 1 << 63] {
        assert_eq!(search(outside, 0), Status::BadPointer, "{outside:#x}");
        assert_eq!(search(80, outside), Status::BadPointer, "{outside:#x}");
    }
}

/// None, within the region, or anything: which chance alone would have too seldom.
fn address(random: &mut u64) -> u64 {
    match next(random) % 8 {
        0..4 => 0,
        4..7 => next(random) % 512 * 8,
        _ => next(random),
    }
}

#[test]
fn any_arguments_on_any_bytes_end_with_a_status() {
    let random = &mut 0x5eed;
    let mut bench = Bench::new(4096, Limits { steps: 100, ..Limits::default() });
    let mut seen = [0_u32; 3];
    for _ in 0..20_000 {
        let place = next(random) % 512 * 8;
        let word = address(random);
        bench.region.write(place, &word.to_le_bytes()).unwrap();
        let mut arguments = Arguments::new(next(random));
        arguments.from = address(random).into();
        arguments.level = (next(random) % 9) as u8;
        arguments.region = [0xffff, 0, 1, 256][next(random) as usize % 4].into();
        arguments.reserved[0] = u8::from(next(random).is_multiple_of(16));
        let length = 24 - (next(random) % 8 / 7) as usize;
        let (status, reply) = bench.run(&arguments.as_bytes()[..length], 24);
        match status {
            Status::Ok => assert!(matches!(reply.len(), 0 | 16)),
            Status::Continues => assert_eq!(reply.len(), 24),
            _ => assert!(reply.is_empty(), "{status:?}"),
        }
        seen[0] += u32::from(status == Status::Ok);
        seen[1] += u32::from(status == Status::BadArguments);
        seen[2] += u32::from(status == Status::BadPointer);
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

#[test]
fn a_reply_without_room_is_refused() {
    let mut bench = Bench::new(4096, Limits::default());
    let mut list = SkipList::format(bench.region.clone()).unwrap();
    list.insert(3, 4).unwrap();
    assert_eq!(bench.run(Arguments::new(1).as_bytes(), 15).0, Status::ReplyTooLong);
    assert_eq!(bench.run(Arguments::new(1).as_bytes(), 16).0, Status::Ok);
}
