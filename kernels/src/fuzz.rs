//! Arbitrary arguments, payload and memory for every kernel: each op ends, touches nothing outside
//! its regions, and leaves nothing behind.

use alloc::vec::Vec;

use bolero::check;
use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Status};

use crate::bench::{Bench, op};
use crate::{Access, Builtin, Invocation, KernelSet};

const SENTINEL: u8 = 0xa5;
/// Sentinels before, between and behind the regions.
const GUARD: u64 = 256;
const REGION: u64 = 1024;

/// Two regions within one memory, with sentinels around them.
struct Guarded {
    whole: RacyMem,
    regions: [RacyMem; 2],
}

impl Guarded {
    fn new(contents: &[u8]) -> Self {
        let whole = RacyMem::allocate(3 * GUARD + 2 * REGION);
        whole.fill(0, whole.len(), SENTINEL).unwrap();
        let regions = [GUARD, 2 * GUARD + REGION].map(|at| whole.slice(at, REGION).unwrap());
        for (place, byte) in contents.iter().enumerate().take(2 * REGION as usize) {
            let place = place as u64;
            regions[(place / REGION) as usize].write(place % REGION, &[*byte]).unwrap();
        }
        Guarded { whole, regions }
    }

    fn guards_are_intact(&self) -> bool {
        [0, GUARD + REGION, 2 * GUARD + 2 * REGION].iter().all(|at| {
            let guard = self.whole.read_array::<{ GUARD as usize }>(*at).unwrap();
            guard == [SENTINEL; GUARD as usize]
        })
    }
}

/// Makes numbers that are near what is interesting out of arbitrary ones.
fn plausible(arguments: &mut [u8], kernel: KernelId, tame: bool) {
    if !tame || arguments.len() < 8 {
        return;
    }
    arguments[2..8].fill(0);
    if kernel == KernelId::SCAN_AND_READ && arguments.len() >= 28 {
        arguments[0] &= 0xc0;
        arguments[1] &= 3;
        arguments[24..28].copy_from_slice(&[0, 1, 0, 0]);
    }
}

#[test]
fn no_input_breaks_a_kernel() {
    type Input = (u8, bool, [u8; 32], u8, Vec<u8>, Vec<u8>, u16);
    check!().with_iterations(4000).with_type::<Input>().for_each(
        |(kernel, tame, arguments, length, contents, payload, room)| {
            let kernel = Builtin::IDS[usize::from(*kernel) % Builtin::IDS.len()];
            let right = match kernel {
                KernelId::READ | KernelId::WRITE => 16,
                KernelId::FETCH_ADD => 24,
                _ => 28,
            };
            let length = if *tame { right } else { usize::from(*length % 33) };
            let mut arguments = *arguments;
            plausible(&mut arguments, kernel, *tame);
            let guarded = Guarded::new(contents);
            let mut bench = Bench::<Builtin>::new(1);
            for region in &guarded.regions {
                bench.register(region);
            }
            let rkey = bench.memory.export(bench.domain, 0, Access::all(), &[1], 3).unwrap();
            let invocation = Invocation {
                payload_length: payload.len() as u32,
                reply_capacity: u32::from(*room),
                ..op(kernel, &arguments[..length])
            };
            let started = bench.start(&rkey, &invocation);
            if let Ok(slot) = started {
                if !payload.is_empty() {
                    let _ = bench.executor.payload(slot, 0, payload, &mut bench.memory);
                }
                let over = bench.run(nic_wire::Time::ZERO);
                let waits = kernel != KernelId::WRITE && over.is_empty();
                assert!(!waits, "{kernel:?} never ends");
                for (slot, _, finish) in over {
                    assert!(finish.reply_length <= u32::from(*room));
                    assert_eq!(finish.status == Status::Ok, finish.fate == Fate::Executed);
                    assert_eq!(bench.reply(slot).len(), finish.reply_length as usize);
                }
                bench.executor.cancel(slot, &mut bench.memory);
                bench.run(nic_wire::Time::ZERO);
            }
            assert!(bench.executor.is_idle());
            assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 0);
            assert!(guarded.guards_are_intact(), "{kernel:?} left its regions");
        },
    );
}
