//! Programs that run next to memory, and the executor that runs them.
//!
//! Every one-sided op is a [`Kernel`], READ being the simplest. A kernel never touches memory: it
//! consumes an [`Event`] and says what to do next, a [`Step`]. The [`Executor`] keeps many ops in
//! flight and advances them in rounds, so that their cache misses overlap; a [`Memory`] carries the
//! accesses out and checks every one of them against what the op's rkey allows.
//!
//! | module | what |
//! |---|---|
//! | [`mapped`] | [`Memory`] over regions that are mapped into this process |
//! | [`dma`] | the same behind a simulated DMA engine: latency, a bounded queue, failures |
//! | [`read`], [`mod@write`], [`compare_swap`], [`fetch_add`] | the plain one-sided ops |
//! | [`partition_write`] | records are distributed over partitions by their keys (StRoM's shuffle) |
//! | [`sketch_write`] | values are stored and the different ones counted (HyperLogLog) |
//! | [`scan_and_read`] | CliqueMap's lookup: scan a bucket, read the entry that it points to |
//! | [`append`], [`fetch`] | records at the end of a log, and from a position on |
//! | [`log`] | the log: layout, the owner's side, and the reader's validation |
//! | [`consistent_read`] | StRoM's read of an object that its checksum proves |
//! | [`indirect_read`] | Snap's batched reads through an indirection table |
//! | [`traverse`] | StRoM's pointer chase: lists, chained buckets, trees |
//! | [`bucket_table`] | the table that it looks into: layout, writer, and the reader's validation |
//! | [`chain_read`], [`chain_append`] | Clover's read and write of a chain of versions |
//! | [`prism`] | chained primitives: bounded indirection, allocation, compare-and-swap with masks |
//! | [`scan`] | a predicate over records: count, sum, least, greatest or rows |
//! | [`version_chain`] | such chains: layout, writer, and the reader's validation |
//!
//! This crate knows wire numbers (`nic-wire`) and racy memory (`nic-shm`), and nothing of packets,
//! clocks, threads or the operating system: time is an argument.
//!
//! ```
//! use nic_kernels::mapped::{MappedMemory, Tables};
//! use nic_kernels::{Access, Budget, Builtin, Executor, Invocation, Limits, Memory, read};
//! use nic_shm::RacyMem;
//! use nic_wire::{KernelId, Status, Time};
//!
//! // The control plane registers a region and exports it.
//! let region = RacyMem::allocate(4096);
//! region.write(64, b"apple")?;
//! let mut memory = MappedMemory::new(Tables::default());
//! let domain = memory.add_domain()?;
//! let home = memory.register(domain, region, 0)?;
//! let rkey = memory.export(domain, home, Access::READ, &[], 0x5ec2e7)?;
//!
//! // A request arrives.
//! let mut executor = Executor::<Builtin, MappedMemory>::new(256, Limits::default());
//! let invocation = Invocation {
//!     owner: 7,
//!     kernel: KernelId::READ,
//!     arguments: &read::Arguments::home(64, 5).encode(),
//!     payload_length: 0,
//!     reply_capacity: 64,
//!     deadline: Time::NEVER,
//! };
//! let grant = memory.admit(&rkey)?;
//! let started = executor.start(&mut memory, Time::ZERO, grant, &invocation);
//! let slot = started.map_err(|status| status.to_string())?;
//!
//! // The turn goes on, and the reply is made just in time.
//! executor.run(&mut memory, Time::ZERO, Budget::default(), &mut |slot, owner, finish| {
//!     assert_eq!((owner, finish.status, finish.reply_length), (7, Status::Ok, 5));
//! });
//! let mut reply = [0; 5];
//! executor.copy_reply(slot, &memory, 0, &mut reply).map_err(|status| status.to_string())?;
//! executor.free(slot, &mut memory);
//! assert_eq!(&reply, b"apple");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod append;
pub mod bucket_table;
pub mod chain_append;
pub mod chain_read;
pub mod compare_swap;
pub mod consistent_read;
pub mod dma;
pub mod fetch;
pub mod fetch_add;
pub mod indirect_read;
pub mod log;
pub mod mapped;
pub mod partition_write;
pub mod prism;
pub mod read;
pub mod scan;
pub mod scan_and_read;
pub mod sketch_write;
pub mod traverse;
pub mod version_chain;
pub mod write;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod checked;
mod executor;
#[cfg(test)]
mod fuzz;
mod kernel;
mod lookups;
mod memory;
mod pointer_form;
mod random;
mod reply;
mod set;
mod walk;

pub use executor::{
    Answer, Budget, Ended, Executor, Finish, Invocation, Limits, PayloadError, Progress,
    STRANDS_MAX, SlotId, StrandHeader, Strands,
};
pub use kernel::{
    BadArguments, Call, Continuation, Event, Extent, HOME_REGION, Kernel, Origin, Outcome, Pointer,
    Run, Step,
};
pub use lookups::Lookups;
pub use memory::{
    Access, AccessError, Atomicity, AtomicityScope, Done, Grant, Memory, Request, Seen, View,
};
pub use pointer_form::{PointerForm, TAGGED_ADDRESS_LIMIT};
pub use reply::{Reply, ReplyFull};
pub use set::{Builtin, Choice, KernelSet, Visit, examine};
pub use walk::Walk;

#[doc(hidden)]
pub use nic_wire::KernelId as __KernelId;
#[doc(hidden)]
pub use set::{all_differ as __all_differ, has_its_own_number as __has_its_own_number};

/// The most private state that a kernel may have, in bytes: slots stay compact and hot.
pub const KERNEL_STATE_BYTES_MAX: usize = 192;
/// The most bytes that a kernel may gather into its reply.
pub const GATHER_BYTES_MAX: usize = 512;
/// The most bytes that one step may fetch, and that a kernel may reply with from a private copy.
pub const FETCH_BYTES_MAX: usize = 4096;
/// How much memory an op has for itself whose kernel taps its payload or says that it needs some, in
/// bytes.
pub const PRIVATE_BYTES: usize = 4096;
/// How many blocks of a payload a kernel may put in order together (start).
pub const ARRANGED_BLOCKS: usize = 4;
/// How many parts of a payload one step may store (start).
pub const RUNS_MAX: u32 = 64;
/// The longest READ and the longest payload, in bytes (start): a value of 1 MiB and what stands
/// around it in a store.
pub const TRANSFER_BYTES_MAX: u32 = (1 << 20) + 4096;
/// The longest arguments of the kernels of this crate, in bytes (start). Those of the commonest fit
/// a command slot.
pub const ARGUMENT_BYTES_MAX: usize = 128;
const _: () = assert!(ARGUMENT_BYTES_MAX <= nic_wire::frame::MAX_ARGUMENT_BYTES);
