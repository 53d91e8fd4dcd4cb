//! Kernels that look around before they say where their payload goes.

use nic_wire::{Fate, KernelId, Status, Time};

use crate::bench::{Bench, op};
use crate::kernel::{Event, Extent, Pointer, Step};
use crate::read::{self, Read};
use crate::{BadArguments, Call, Finish, Invocation, Kernel, PayloadError, Reply, SlotId};

/// Fetches the word at 0 so many times, then writes its payload to where that points.
struct Indirect {
    home: u8,
    fetches: u8,
    payload_length: u32,
}

impl Kernel for Indirect {
    const ID: KernelId = KernelId(0x8000);

    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let fetches = call.arguments[0];
        Ok(Indirect { home: call.home, fetches, payload_length: call.payload_length })
    }

    fn step(&mut self, event: Event<'_>, _reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => Step::Fetch(Extent::named(self.home, 0, 8)),
            Event::Fetched(word) => {
                self.fetches -= 1;
                if self.fetches > 0 {
                    return Step::Fetch(Extent::named(self.home, 0, 8));
                }
                let address = u64::from_le_bytes(word.try_into().unwrap());
                let at = Pointer { region: self.home, address };
                Step::StorePayload(Extent::followed(at, self.payload_length))
            }
            Event::Payload => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }
}

crate::kernel_set! {
    /// What these tests run.
    enum Tested { Read(Read), Indirect(Indirect) }
}

/// A region whose first word holds `target`; ops before and behind; an indirect write of 16 bytes.
fn indirect(fetches: u8, target: u64) -> (Bench<Tested>, nic_shm::RacyMem, nic_wire::Rkey, SlotId) {
    let mut bench = Bench::<Tested>::new(8);
    let (memory, rkey) = bench.region(512);
    memory.write(0, &target.to_le_bytes()).unwrap();
    let read = read::Arguments::home(8, 4).encode();
    bench.start(&rkey, &Invocation { owner: 1, ..op(KernelId::READ, &read) }).unwrap();
    let arguments = [fetches];
    let write = Invocation { owner: 2, payload_length: 16, ..op(Indirect::ID, &arguments) };
    let slot = bench.start(&rkey, &write).unwrap();
    for owner in [3, 4] {
        bench.start(&rkey, &Invocation { owner, ..op(KernelId::READ, &read) }).unwrap();
    }
    (bench, memory, rkey, slot)
}

#[test]
fn a_part_that_comes_first_finds_its_place() {
    for fetches in [1, 2, 64] {
        for ran in [false, true] {
            let (mut bench, memory, rkey, slot) = indirect(fetches, 0x48);
            let mut owners = alloc::vec::Vec::new();
            let mut run = |bench: &mut Bench<Tested>| {
                owners.extend(bench.run(Time::ZERO).iter().map(|(_, owner, _)| *owner));
            };
            if ran {
                run(&mut bench);
            }
            let (tail, head) = ([2; 6], [1; 10]);
            bench.executor.payload(slot, 10, &tail, &mut bench.memory).unwrap();
            run(&mut bench);
            bench.executor.payload(slot, 0, &head, &mut bench.memory).unwrap();
            run(&mut bench);
            assert_eq!(owners, [1, 3, 4, 2], "{fetches} fetches, ran first: {ran}");
            let written: [u8; 16] = memory.read_array(0x48).unwrap();
            assert_eq!((&written[..10], &written[10..]), (&head[..], &tail[..]));
            let (export, generation) = (rkey.export.get(), rkey.generation.get());
            assert_eq!(bench.memory.holds(export, generation), 3, "the three replies");
        }
    }
}

#[test]
fn a_part_that_comes_long_before_its_place_is_held() {
    let (mut bench, memory, rkey, slot) = indirect(200, 0x48);
    bench.executor.payload(slot, 0, &[1; 4], &mut bench.memory).unwrap();
    assert_eq!(memory.read_array(0x48), Ok([0x48, 0x49, 0x4a, 0x4b]), "untouched");
    bench.executor.payload(slot, 4, &[2; 12], &mut bench.memory).unwrap();
    let late = bench.executor.payload(slot, 4, &[3; 12], &mut bench.memory);
    assert_eq!(late, Err(PayloadError::Over));
    let over = bench.run(Time::ZERO);
    assert!(over.iter().any(|(ended, _, finish)| *ended == slot && finish.status == Status::Ok));
    let written: [u8; 16] = memory.read_array(0x48).unwrap();
    assert_eq!((&written[..4], &written[4..]), (&[1; 4][..], &[2; 12][..]));
    assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 3);
}

#[test]
fn a_part_that_is_held_or_too_long_ends_with_its_op() {
    // More than the payload has.
    let (mut bench, memory, _, slot) = indirect(200, 0x48);
    bench.executor.payload(slot, 0, &[1; 10], &mut bench.memory).unwrap();
    let refused = bench.executor.payload(slot, 0, &[1; 10], &mut bench.memory);
    assert!(matches!(refused, Err(PayloadError::Overrun { .. })));
    let finish = Finish { status: Status::BadArguments, fate: Fate::NotExecuted, reply_length: 0 };
    assert!(bench.run(Time::ZERO).contains(&(slot, 2, finish)));
    // Nobody wants it any more.
    let (mut bench, _, _, slot) = indirect(200, 0x48);
    bench.executor.payload(slot, 0, &[1; 10], &mut bench.memory).unwrap();
    assert_eq!(bench.executor.cancel(slot, &mut bench.memory), Fate::NotExecuted);
    bench.run(Time::ZERO);
    assert_eq!(memory.read_array(0x48), Ok([0x48, 0x49, 0x4a, 0x4b]), "untouched");
}

#[test]
fn a_place_that_is_refused_ends_the_op() {
    let (mut bench, _, _, slot) = indirect(2, 510);
    let refused = bench.executor.payload(slot, 0, &[1; 4], &mut bench.memory);
    assert_eq!(refused, Err(PayloadError::Over));
    let finish = Finish { status: Status::BadPointer, fate: Fate::NotExecuted, reply_length: 0 };
    assert!(bench.run(Time::ZERO).contains(&(slot, 2, finish)));
}
