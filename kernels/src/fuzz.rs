//! Arbitrary arguments, payload and memory for every kernel: each op ends, touches nothing that its
//! rkey does not allow, and leaves nothing behind. Each access is looked at by
//! [`Checked`](crate::checked::Checked), and pages that fault lie around each region.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use bolero::check;
use nic_shm::{Edge, FencedMemory, RacyMem};
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use crate::bench::{Bench, op};
use crate::{Access, Builtin, Invocation, KernelSet, log, sketch_write};

const SENTINEL: u8 = 0xa5;
const REGION: u64 = 1024;

/// A region that is exported, one that may be followed, and one that nobody was given.
struct Regions([RacyMem; 3]);

impl Regions {
    fn new(contents: &[u8]) -> Self {
        let regions = [Edge::End, Edge::Start, Edge::End].map(|edge| {
            let memory = FencedMemory::new(REGION, edge).unwrap().memory();
            memory.fill(0, REGION, SENTINEL).unwrap();
            memory
        });
        for (place, bytes) in contents.chunks(REGION as usize).take(2).enumerate() {
            regions[place].write(0, bytes).unwrap();
        }
        Regions(regions)
    }

    /// Makes what lies at the start of the first region look like a log.
    fn lay_log(&self, numbers: &[u8]) {
        let number = |place: usize| u64::from(numbers.get(place).copied().unwrap_or(8)) * 32;
        let [head, watermark] = [number(1) % 1024, number(2) % 256];
        let words = [log::layout::MAGIC, 32 + number(0) % 1024, head, head + watermark];
        let tail = [head + watermark + number(3) % 256];
        for (place, word) in words.iter().chain(&tail).enumerate() {
            self.0[0].write(place as u64 * 8, &word.to_le_bytes()).unwrap();
        }
    }

    fn stranger_is_intact(&self) -> bool {
        self.0[2].read_array::<{ REGION as usize }>(0).unwrap() == [SENTINEL; REGION as usize]
    }
}

/// Makes numbers that are near what is interesting out of arbitrary ones.
fn plausible(arguments: &mut [u8], kernel: KernelId, tame: bool) {
    if !tame || arguments.len() < 8 {
        return;
    }
    arguments[2..8].fill(0);
    if matches!(kernel, KernelId::APPEND | KernelId::FETCH) && arguments.len() >= 24 {
        arguments[..2].fill(0);
        arguments[8] &= 0xe0;
        arguments[10..16].fill(0);
        arguments[20..].fill(0xff);
        if kernel == KernelId::FETCH {
            arguments[22..24].fill(0);
        } else {
            arguments[26..28].fill(0);
        }
    }
    if kernel == KernelId::SKETCH_WRITE && arguments.len() >= 24 {
        arguments[8..16].fill(0);
        arguments[16..18].fill(0xff);
        arguments[18] &= 15;
        arguments[19..].fill(0);
    }
    if kernel == KernelId::SCAN_AND_READ && arguments.len() >= 28 {
        arguments[0] &= 0xc0;
        arguments[1] &= 3;
        arguments[24..28].copy_from_slice(&[0, 1, 0, 0]);
    }
}

/// Makes all rights of most numbers, so that most ops get somewhere.
fn rights(number: u8) -> Access {
    if number < 160 { Access::all() } else { Access::from_bits_truncate(number.into()) }
}

#[test]
fn no_input_breaks_a_kernel() {
    type Input = (u8, bool, [u8; 32], u8, Vec<u8>, Vec<u8>, u16, u8);
    let (admitted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    check!().with_iterations(4000).with_type::<Input>().for_each(
        |(kernel, tame, arguments, length, contents, payload, room, allowed)| {
            let kernel = Builtin::IDS[usize::from(*kernel) % Builtin::IDS.len()];
            let right = match kernel {
                KernelId::READ | KernelId::WRITE => 16,
                KernelId::FETCH_ADD | KernelId::FETCH | KernelId::SKETCH_WRITE => 24,
                _ => 28,
            };
            let length = if *tame { right } else { usize::from(*length % 33) };
            let mut arguments = *arguments;
            plausible(&mut arguments, kernel, *tame);
            let regions = Regions::new(contents);
            if *tame && kernel == KernelId::SKETCH_WRITE {
                let precision = u64::from(arguments[18]);
                let words = [sketch_write::MAGIC.to_le_bytes(), precision.to_le_bytes()];
                regions.0[0].write(0, words.as_flattened()).unwrap();
            }
            if *tame && matches!(kernel, KernelId::APPEND | KernelId::FETCH) {
                regions.lay_log(contents);
            }
            let mut bench = Bench::<Builtin>::new(1);
            for region in &regions.0 {
                bench.register(region);
            }
            let (access, follow) = (rights(*allowed), &[1][usize::from(allowed % 4 == 3)..]);
            let rkey = bench.memory.export(bench.domain, 0, access, follow, 3).unwrap();
            let invocation = Invocation {
                payload_length: payload.len() as u32,
                reply_capacity: u32::from(*room),
                ..op(kernel, &arguments[..length])
            };
            run(&mut bench, &rkey, &invocation, payload);
            assert!(regions.stranger_is_intact(), "{kernel:?} left its regions");
            admitted.fetch_add(bench.memory.admitted, Ordering::Relaxed);
            refused.fetch_add(bench.memory.refused, Ordering::Relaxed);
        },
    );
    let tried = (admitted.into_inner(), refused.into_inner());
    assert!(tried.0 > 0 && tried.1 > 0, "{tried:?} accesses were admitted and refused");
}

/// Runs an op to its end, or gives it up where its payload is missing.
fn run(bench: &mut Bench, rkey: &Rkey, invocation: &Invocation<'_>, payload: &[u8]) {
    if let Ok(slot) = bench.start(rkey, invocation) {
        if !payload.is_empty() {
            let _ = bench.executor.payload(slot, 0, payload, &mut bench.memory);
        }
        let over = bench.run(Time::ZERO);
        let may_wait = [KernelId::WRITE, KernelId::SKETCH_WRITE, KernelId::APPEND, KernelId::FETCH];
        let waits = !may_wait.contains(&invocation.kernel) && over.is_empty();
        assert!(!waits, "{:?} never ends", invocation.kernel);
        for (slot, _, finish) in over {
            assert!(finish.reply_length <= invocation.reply_capacity);
            assert_eq!(finish.status == Status::Ok, finish.fate == Fate::Executed);
            assert_eq!(bench.reply(slot).len(), finish.reply_length as usize);
        }
        bench.executor.cancel(slot, &mut bench.memory);
        bench.run(Time::ZERO);
    }
    assert!(bench.executor.is_idle());
    assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 0);
}

crate::bench::also_on_dma!(no_input_breaks_a_kernel,);
