//! Arbitrary arguments, payload and memory for every kernel: each op ends, touches nothing that its
//! rkey does not allow, and leaves nothing behind. Each access is looked at by
//! [`Checked`](crate::checked::Checked), and pages that fault lie around each region.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use bolero::check;
use nic_shm::{Edge, FencedMemory, RacyMem};
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use crate::bench::{Bench, op};
use crate::{
    ARGUMENT_BYTES_MAX, Access, Builtin, Invocation, KernelSet, consistent_read, log,
    partition_write, sketch_write, traverse,
};

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

    /// Makes what lies at the start of the first region look like a header of partitions, which may
    /// promise more than there is.
    fn lay_partitions(&self, numbers: &[u8]) {
        let number = |place: usize| numbers.get(place).copied().unwrap_or(2);
        let mut header = [0; 64];
        header[..8].copy_from_slice(&partition_write::MAGIC.to_le_bytes());
        header[8] = number(0);
        header[15] = number(1) / 254;
        header[16] = 8 << (number(2) % 3);
        header[18] = number(3) % 2 * 8;
        (header[20], header[21]) = (number(4) % 4, number(5) % 2);
        header[22] = if header[21] == 0 { number(6) % 8 } else { 0 };
        self.0[0].write(0, &header).unwrap();
        // Counters from there on, small or as they are.
        for place in (64..128).step_by(16) {
            let count = number(place);
            if count < 128 {
                self.0[0].write(place as u64, &u64::from(count).to_le_bytes()).unwrap();
            }
        }
    }

    /// Makes pointer words of what stands where buffers begin, so that some lead to others.
    fn make_links(&self) {
        for region in &self.0[..2] {
            for unit in 0..REGION / 64 {
                let [to, unit_there, next, version, ..]: [u8; 8] =
                    region.read_array(unit * 64).unwrap();
                let word = small_link(to, unit_there, next) | u64::from(version % 2) << 1;
                region.write(unit * 64, &word.to_le_bytes()).unwrap();
            }
        }
    }

    /// Makes pointers, small numbers and powers of two of most words, which are free lists as well.
    fn make_pointers(&self) {
        for region in &self.0[..2] {
            for place in (0..REGION).step_by(8) {
                let [kind, a, b, ..]: [u8; 8] = region.read_array(place).unwrap();
                let word = match kind % 4 {
                    0 => (u64::from(a % 2) << 56) | (u64::from(b) * 4),
                    1 => 1 << (a % 6),
                    2 => u64::from(a % 4),
                    _ => continue,
                };
                region.write(place, &word.to_le_bytes()).unwrap();
            }
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
    if kernel == KernelId::PARTITION_WRITE {
        arguments[0] = 0;
        arguments[1] &= 1;
        arguments[8..16].fill(0);
        arguments[10] = arguments[1] & 3;
    }
    if kernel == KernelId::CONSISTENT_READ {
        // All within an object of up to 1023 bytes.
        (arguments[1], arguments[8], arguments[9]) = (arguments[1] & 3, 0, 0);
        (arguments[11], arguments[18]) = (arguments[11] & 3, arguments[18] % 3);
        arguments[12..18].fill(0);
        arguments[14] = 8;
        (arguments[16], arguments[17]) = (arguments[10], arguments[11]);
        return;
    }
    if kernel == KernelId::INDIRECT_READ {
        // Nine long indices, or eighteen short ones.
        (arguments[1], arguments[9]) = (arguments[1] & 3, arguments[9] & 1);
        arguments[10..16].fill(0);
        (arguments[12], arguments[14]) = (arguments[12] & 1, arguments[14] & 1);
        (arguments[16], arguments[17]) = (arguments[16] & 3, 0);
        arguments[18] = if arguments[16] & 2 == 0 { 9 } else { 18 };
        arguments[19] = 1;
        arguments[20..].iter_mut().skip(1).step_by(2).for_each(|byte| *byte = 0);
        return;
    }
    if kernel == KernelId::TRAVERSE {
        // Most places within an element of 64 bytes, and few bits beyond what arguments have.
        arguments[1] &= 3;
        arguments[18..24].fill(0);
        for byte in [26, 27, 30, 31, 34, 35, 43, 45, 47, 53] {
            arguments[byte] = 0;
        }
        (arguments[40], arguments[41]) = (arguments[40] & 1, 0);
        arguments[25] &= 3;
        (arguments[44], arguments[46]) = (64, arguments[46] & 31);
        (arguments[48], arguments[54]) = (arguments[48] % 5, arguments[54] % 4);
        (arguments[49], arguments[50]) = (arguments[49] % 3, arguments[50] % 6);
        (arguments[51], arguments[55]) = (arguments[51] % 15, arguments[55] % 6);
        if arguments[48] == 4 {
            arguments[16..24].fill(0);
            (arguments[46], arguments[52]) = (arguments[46] & !2, 0);
        } else {
            arguments[16] |= 1;
            arguments[17] &= 1;
        }
        if arguments[49] == 2 {
            arguments[25] = 0;
            arguments[24] %= 8;
        }
        return;
    }
    if kernel == KernelId::SCAN_AND_READ && arguments.len() >= 28 {
        arguments[0] &= 0xc0;
        arguments[1] &= 3;
        arguments[24..28].copy_from_slice(&[0, 1, 0, 0]);
    }
    if kernel == KernelId::CHAIN_READ || kernel == KernelId::CHAIN_APPEND {
        // Links into a kilobyte: region 0 or 1, a unit from 1 to 15, a small version.
        for link in arguments[..16].as_chunks_mut::<8>().0 {
            let [region, unit, version, ..] = *link;
            *link = small_link(region, unit, version).to_le_bytes();
        }
        let shortcut = if kernel == KernelId::CHAIN_READ { 8 } else { 16 };
        let [place, ..] = arguments[shortcut..] else { return };
        let address = u64::from(place) * 8 % REGION;
        arguments[shortcut..shortcut + 8].copy_from_slice(&address.to_le_bytes());
        arguments[shortcut + 9] = 0;
        arguments[if kernel == KernelId::CHAIN_READ { 23 } else { 25 }] = 0;
        arguments[if kernel == KernelId::CHAIN_READ { 22 } else { 27 }] &= 15;
    }
    if kernel == KernelId::SCAN {
        // Up to 255 records of up to 16 bytes, with fields of one or two.
        for (place, least, modulus, length) in
            [(16, 0, 256, 4), (20, 0, 1, 2), (22, 2, 15, 2), (24, 0, 4, 2), (26, 1, 2, 1)]
        {
            shrink(arguments, place, least, modulus, length);
        }
        for (place, least, modulus, length) in
            [(27, 0, 7, 1), (28, 0, 2, 2), (30, 1, 2, 2), (32, 0, 5, 1), (33, 0, 4, 3)]
        {
            shrink(arguments, place, least, modulus, length);
        }
    }
    if kernel == KernelId::PRISM {
        for half in arguments[..64].as_chunks_mut::<32>().0 {
            half[0] %= 4;
            let (length, kinds) = if half[0] == 3 { (32, 4) } else { (16, 3) };
            for part in half.chunks_mut(length) {
                shrink(part, 0, 0, kinds, 1);
                // Mostly flags that go together.
                part[1] &= [0x0f, 0x1f, 0x01, 0x3f][usize::from(part[0])];
                part[1] |= (part[1] & 4) >> 1;
                shrink(part, 2, 0, 2, 2);
                let is_read = u8::from(part[0] == 0);
                shrink(part, 4, is_read, if part[0] % 3 == 0 { 3 } else { 1 }, 4);
                part[8] &= 0xf8;
                shrink(part, 9, 0, 4, 7);
            }
        }
    }
}

/// Makes a little-endian number of some bytes one that is small, but not below `least`.
fn shrink(bytes: &mut [u8], place: usize, least: u8, modulus: u16, length: usize) {
    let number = &mut bytes[place..place + length];
    // Below 256 with the moduli and leasts that there are.
    number[0] = least + (u16::from(number[0]) % modulus) as u8;
    number[1..].fill(0);
}

/// A link, or with a version of its own the pointer word of an entry, as may lead somewhere.
fn small_link(region: u8, unit: u8, version: u8) -> u64 {
    let (region, unit, version) = (region % 2, unit % 16, version % 2);
    u64::from(region) << 56 | u64::from(unit) << 25 | u64::from(version) << 13
}

/// Makes all rights of most numbers, so that most ops get somewhere.
fn rights(number: u8) -> Access {
    if number < 160 { Access::all() } else { Access::from_bits_truncate(number.into()) }
}

#[test]
fn no_input_breaks_a_kernel() {
    type Input = (u8, bool, [u8; ARGUMENT_BYTES_MAX + 1], u8, Vec<u8>, Vec<u8>, u16, u8);
    let (admitted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    check!().with_iterations(4000).with_type::<Input>().for_each(
        |(kernel, tame, arguments, length, contents, payload, room, allowed)| {
            let kernel = Builtin::IDS[usize::from(*kernel) % Builtin::IDS.len()];
            let right = match kernel {
                KernelId::READ | KernelId::WRITE | KernelId::PARTITION_WRITE => 16,
                KernelId::FETCH_ADD
                | KernelId::CHAIN_READ
                | KernelId::FETCH
                | KernelId::SKETCH_WRITE => 24,
                KernelId::TRAVERSE => traverse::Arguments::BYTES,
                KernelId::INDIRECT_READ => 56,
                KernelId::CONSISTENT_READ => consistent_read::Arguments::BYTES,
                KernelId::SCAN => 36,
                KernelId::PRISM => 64,
                _ => 28,
            };
            let length = if *tame { right } else { usize::from(*length) % (arguments.len() + 1) };
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
            if *tame && kernel == KernelId::PARTITION_WRITE {
                regions.lay_partitions(contents);
            }
            if kernel == KernelId::CHAIN_READ || kernel == KernelId::CHAIN_APPEND {
                regions.make_links();
            } else if kernel == KernelId::PRISM {
                regions.make_pointers();
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
        let may_wait = matches!(
            invocation.kernel,
            KernelId::WRITE
                | KernelId::SKETCH_WRITE
                | KernelId::PARTITION_WRITE
                | KernelId::CHAIN_APPEND
                | KernelId::PRISM
                | KernelId::APPEND
                | KernelId::FETCH
        );
        assert!(may_wait || !over.is_empty(), "{:?} never ends", invocation.kernel);
        for (slot, _, finish) in over {
            assert!(finish.reply_length <= invocation.reply_capacity);
            let replies = matches!(finish.status, Status::Ok | Status::Continues);
            assert!(!replies || finish.fate == Fate::Executed);
            // Only of these several changes may be made before one is refused.
            let is_partial = matches!(invocation.kernel, KernelId::CHAIN_APPEND | KernelId::PRISM);
            assert!(replies || is_partial || finish.fate != Fate::Executed);
            assert_eq!(bench.reply(slot).len(), finish.reply_length as usize);
        }
        bench.executor.cancel(slot, &mut bench.memory);
        bench.run(Time::ZERO);
    }
    assert!(bench.executor.is_idle());
    assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 0);
}

crate::bench::also_on_dma!(no_input_breaks_a_kernel,);
