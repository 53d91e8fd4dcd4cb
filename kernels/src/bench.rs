//! What tests build on: one application's memory, and an executor to run ops against it.

use alloc::vec::Vec;
use core::cell::Cell;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Span, Status, Time};

use crate::checked::{Beneath, Checked};
use crate::dma::{DmaMemory, Settings};
use crate::mapped::{DomainId, MappedMemory, Tables};
use crate::{
    Access, Budget, Builtin, Executor, Finish, Invocation, KernelSet, Limits, Memory, PayloadError,
    SlotId,
};

std::thread_local! {
    /// Whether benches that this thread makes lie behind a DMA engine.
    static ON_DMA: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test with its benches behind a DMA engine.
pub(crate) fn on_dma(test: fn()) {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            ON_DMA.set(false);
        }
    }
    let _back = Back;
    ON_DMA.set(true);
    test();
}

/// Runs tests of this module once more, with their memory behind a DMA engine.
macro_rules! also_on_dma {
    ($($test:ident),+ $(,)?) => {
        mod on_dma {
            $(
                #[test]
                fn $test() {
                    $crate::bench::on_dma(super::$test);
                }
            )+
        }
    };
}
pub(crate) use also_on_dma;

/// What lies beneath: mapped memory, or the same behind a short queue whose latencies differ.
fn beneath() -> Beneath {
    let mapped = MappedMemory::new(Tables { domains: 2, regions: 16, exports: 16 });
    if !ON_DMA.get() {
        return Beneath::Mapped(mapped);
    }
    let latency = Span::from_ns(0)..=Span::from_ns(12);
    let settings = Settings { depth: 4, latency, failures_per_million: 0, seed: 77 };
    Beneath::Dma(DmaMemory::new(mapped, settings))
}

/// Memory on a file, and what cuts all of it away.
#[cfg(not(any(miri, loom)))]
pub(crate) fn file_to_cut(name: &str, length: u64) -> (RacyMem, impl Fn() + use<>) {
    nic_shm::survive_faults().unwrap();
    let name = std::format!("nic-lost-{}-{name}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = nic_shm::MappedFile::create(&path, length).unwrap().memory();
    let cut = std::fs::File::options().write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    (file, move || cut.set_len(0).unwrap())
}

/// All that an export can allow.
pub(crate) const ALL: Access = Access::all();

/// Memory of one domain, and an executor.
pub(crate) struct Bench<K: KernelSet = Builtin> {
    pub(crate) memory: Checked,
    pub(crate) domain: DomainId,
    pub(crate) executor: Executor<K, Checked>,
}

impl<K: KernelSet> Bench<K> {
    pub(crate) fn new(capacity: u32) -> Self {
        Self::with_limits(capacity, Limits::default())
    }

    pub(crate) fn with_limits(capacity: u32, limits: Limits) -> Self {
        let mut memory = Checked::new(beneath());
        let domain = memory.add_domain().unwrap();
        Bench { memory, domain, executor: Executor::new(capacity, limits) }
    }

    /// Registers a memory with base 0.
    pub(crate) fn register(&mut self, memory: &RacyMem) -> u8 {
        self.memory.register(self.domain, memory.clone(), 0).unwrap()
    }

    /// A fresh region that is exported with every right, its contents the bytes 0, 1, 2 and so on.
    pub(crate) fn region(&mut self, length: u64) -> (RacyMem, Rkey) {
        let memory = RacyMem::allocate(length);
        let bytes: Vec<u8> = (0..length).map(|place| place as u8).collect();
        memory.write(0, &bytes).unwrap();
        let number = self.register(&memory);
        let rkey = self.memory.export(self.domain, number, ALL, &[], 0x5ec).unwrap();
        (memory, rkey)
    }

    /// Begins an op.
    pub(crate) fn start(
        &mut self,
        rkey: &Rkey,
        invocation: &Invocation<'_>,
    ) -> Result<SlotId, Status> {
        let grant = self.memory.admit(rkey).map_err(|error| error.status())?;
        self.executor.start(&mut self.memory, Time::ZERO, grant, invocation)
    }

    /// Runs until nothing can go on, and says which ops are over.
    pub(crate) fn run(&mut self, now: Time) -> Vec<(SlotId, u64, Finish)> {
        let mut over = Vec::new();
        loop {
            let progress = self.executor.run(
                &mut self.memory,
                now,
                Budget::default(),
                &mut |slot, owner, finish| over.push((slot, owner, finish)),
            );
            if progress.ready == 0 {
                return over;
            }
        }
    }

    /// One op from start to end: its finish and its reply.
    pub(crate) fn call(
        &mut self,
        rkey: &Rkey,
        kernel: KernelId,
        arguments: &[u8],
        payload: &[u8],
    ) -> (Finish, Vec<u8>) {
        let invocation =
            Invocation { payload_length: payload.len() as u32, ..op(kernel, arguments) };
        let slot = match self.start(rkey, &invocation) {
            Ok(slot) => slot,
            Err(status) => {
                let finish = Finish { status, fate: Fate::NotExecuted, reply_length: 0 };
                return (finish, Vec::new());
            }
        };
        if !payload.is_empty() {
            // A kernel may come to its end without it.
            let placed = self.executor.payload(slot, 0, payload, &mut self.memory);
            assert!(matches!(placed, Ok(()) | Err(PayloadError::Over)), "{placed:?}");
        }
        let over = self.run(Time::ZERO);
        assert_eq!(over.len(), 1, "one op, one end");
        let finish = over[0].2;
        let reply = self.reply(slot);
        assert_eq!(reply.len(), finish.reply_length as usize);
        self.executor.free(slot, &mut self.memory);
        (finish, reply)
    }

    /// The whole reply of a finished op.
    pub(crate) fn reply(&self, slot: SlotId) -> Vec<u8> {
        let mut reply = alloc::vec![0; self.executor.reply_length(slot) as usize];
        self.executor.copy_reply(slot, &self.memory, 0, &mut reply).unwrap();
        reply
    }
}

/// An op without payload, deadline or a limit to its reply.
pub(crate) fn op(kernel: KernelId, arguments: &[u8]) -> Invocation<'_> {
    Invocation {
        owner: 0,
        kernel,
        arguments,
        payload_length: 0,
        reply_capacity: 4 << 20,
        deadline: Time::NEVER,
    }
}
