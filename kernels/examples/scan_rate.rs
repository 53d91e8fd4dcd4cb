//! How many Scan-and-Reads one core does, by the number in flight, on a table larger than its
//! inner caches: `cargo run --release -p nic-kernels --example scan_rate`. With huge pages, which
//! spare it two page walks per lookup: `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` before it.
//!
//! The windows take turns in slices of about a millisecond, and the tenth percentile is printed: on
//! a machine that others use as well, many slices are interrupted. Every reply is copied out, as it
//! would be into a packet; the last columns include the initiator's validation.

use std::time::Instant;

use nic_kernels::bucket_table::{BucketTable, Geometry, Identity, KeyHash, TableView, Verdict};
use nic_kernels::bucket_table::{layout, validate};
use nic_kernels::mapped::{MappedMemory, Tables};
use nic_kernels::{Access, Budget, Builtin, Executor, Invocation, Limits, Memory, SlotId};
use nic_shm::RacyMem;
use nic_wire::{KernelId, Status, Time};

const KEYS: u64 = 1_000_000;
const VALUE_BYTES: usize = 64;
const LOOKUPS_PER_SLICE: u64 = 2048;
const SLICES: usize = 201;
const WINDOWS: [usize; 6] = [1, 4, 16, 32, 64, 128];

struct Target {
    memory: MappedMemory,
    executor: Executor<Builtin, MappedMemory>,
    grant: nic_kernels::Grant,
    view: TableView,
    keys: Keys,
}

/// Keys in an order that no prefetcher guesses.
struct Keys(u64);

impl Keys {
    fn next(&mut self) -> [u8; 16] {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        key((self.0 >> 33) % KEYS)
    }
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:............";
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

fn target() -> Result<Target, Box<dyn std::error::Error>> {
    let geometry = Geometry::for_entries(KEYS);
    let index = RacyMem::allocate(geometry.index_bytes());
    let entries = RacyMem::allocate(Geometry::entries_bytes(KEYS, 16, VALUE_BYTES as u64));
    println!(
        "{KEYS} keys, {} MiB of index, {} MiB of entries",
        index.len() >> 20,
        entries.len() >> 20
    );
    let identity = Identity::default();
    let mut table = BucketTable::format(index.clone(), entries.clone(), geometry, identity)?;
    for number in 0..KEYS {
        table.insert(&key(number), &[number as u8; VALUE_BYTES])?;
    }
    println!("{} overflowed", table.overflowed());
    let mut memory = MappedMemory::new(Tables::default());
    let domain = memory.add_domain()?;
    let home = memory.register(domain, index.clone(), 0)?;
    let follow = [memory.register(domain, entries, 0)?];
    let rkey = memory.export(domain, home, Access::READ, &follow, 1)?;
    let header = index.read_array::<{ size_of::<layout::TableHeader>() }>(0)?;
    Ok(Target {
        grant: memory.admit(&rkey)?,
        view: TableView::parse(&header)?,
        executor: Executor::new(256, Limits::default()),
        keys: Keys(1),
        memory,
    })
}

impl Target {
    fn start(&mut self) -> Result<(), Status> {
        let key = self.keys.next();
        let number = u64::from_le_bytes(*key.last_chunk().ok_or(Status::BadArguments)?);
        let arguments = self.view.scan_and_read(KeyHash::of(&key)).encode();
        let invocation = Invocation {
            owner: number,
            kernel: KernelId::SCAN_AND_READ,
            arguments: &arguments,
            payload_length: 0,
            reply_capacity: 4096,
            deadline: Time::NEVER,
        };
        self.executor.start(&mut self.memory, Time::ZERO, self.grant, &invocation).map(|_| ())
    }

    /// Nanoseconds per lookup.
    fn slice(&mut self, window: usize, checked: bool) -> Result<f64, Status> {
        let mut over: Vec<(SlotId, u64)> = Vec::with_capacity(window);
        let mut reply = [0; 4096];
        let begun = Instant::now();
        for _ in 0..LOOKUPS_PER_SLICE / window as u64 {
            for _ in 0..window {
                self.start()?;
            }
            self.executor.run(
                &mut self.memory,
                Time::ZERO,
                Budget { rounds: 64, cost: u64::MAX },
                &mut |slot, owner, _| over.push((slot, owner)),
            );
            for (slot, owner) in over.drain(..) {
                let reply = &mut reply[..self.executor.reply_length(slot) as usize];
                self.executor.copy_reply(slot, &self.memory, 0, reply)?;
                self.executor.free(slot, &mut self.memory);
                if checked {
                    let key = key(owner);
                    let hash = KeyHash::of(&key);
                    let verdict = validate(reply, &key, hash, self.view.config_id);
                    assert!(!matches!(verdict, Verdict::Torn(_) | Verdict::Miss), "{verdict:?}");
                }
            }
        }
        let lookups = LOOKUPS_PER_SLICE / window as u64 * window as u64;
        Ok(begun.elapsed().as_nanos() as f64 / lookups as f64)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut target = target()?;
    let mut taken = vec![[Vec::new(), Vec::new()]; WINDOWS.len()];
    for _ in 0..SLICES {
        for (window, taken) in WINDOWS.iter().zip(&mut taken) {
            for (checked, taken) in [false, true].into_iter().zip(taken) {
                taken.push(target.slice(*window, checked).map_err(|status| status.to_string())?);
            }
        }
    }
    println!("in flight   ns per lookup   M/s   with validation: ns   M/s");
    for (window, taken) in WINDOWS.iter().zip(&mut taken) {
        let [plain, checked] = taken.each_mut().map(|taken| {
            taken.sort_by(f64::total_cmp);
            taken[taken.len() / 10]
        });
        let rate = |ns: f64| 1000.0 / ns;
        println!(
            "{window:9} {plain:15.0} {:5.1} {checked:21.0} {:5.1}",
            rate(plain),
            rate(checked)
        );
    }
    Ok(())
}
