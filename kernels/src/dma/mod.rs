//! Memory that is reached over a DMA engine, as a DPU reaches its host's: simulated.
//!
//! Behind it lie the same regions, rights and checks as those of [`mapped`](crate::mapped), but a
//! request takes its time. A [`Queue`] of bounded depth carries requests out, each after a latency
//! of its own, so that they end in any order; some fail. What finds no place in the queue waits its
//! turn. Everything follows from the seed and from the moments that the driver tells.
//!
//! What is simulated are the accesses that a kernel waits for: fetches, stores and atomics. Payload
//! is placed and replies are made at once, as through a window onto the host's memory. A request
//! that is given up is recalled: it has no effect, and its place is free.
//!
//! ```
//! use nic_kernels::dma::{DmaMemory, Settings};
//! use nic_kernels::mapped::{MappedMemory, Tables};
//! use nic_kernels::{Access, Extent, Memory, Request};
//! use nic_shm::RacyMem;
//! use nic_wire::{Span, Time};
//!
//! let latency = Span::from_us(2)..=Span::from_us(3);
//! let settings = Settings { latency, ..Settings::default() };
//! let mut memory = DmaMemory::new(MappedMemory::new(Tables::default()), settings);
//! let domain = memory.add_domain()?;
//! let region = memory.register(domain, RacyMem::allocate(64), 0)?;
//! let rkey = memory.export(domain, region, Access::READ, &[], 0x5ec2e7)?;
//! let grant = memory.admit(&rkey)?;
//! let pending = memory.submit(grant, &Request::Read(Extent::named(region, 0, 8)))?;
//! let mut word = [0; 8];
//! assert_eq!(memory.poll(&pending, &mut word)?, None, "it is posted");
//! memory.advance(Time::from_ns(3_000));
//! assert!(memory.poll(&pending, &mut word)?.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod memory;
mod queue;

pub use memory::{DmaMemory, Pending};
pub use queue::{Counts, Queue, Settings};

#[cfg(test)]
mod tests;
