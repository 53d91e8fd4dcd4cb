//! Regions behind a DMA engine.

use core::ops::{Deref, DerefMut};

use nic_wire::{Rkey, Time};

use super::queue::{Completion, Counts, Queue, Settings};
use crate::mapped::{self, MappedMemory};
use crate::memory::{Access, AccessError, Atomicity, Done, Grant, Memory, Request};

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    mapped: mapped::Pending,
    ticket: u64,
}

/// See the [module](crate::dma). The control plane works on the [`MappedMemory`] that it derefs to.
#[derive(Debug)]
pub struct DmaMemory {
    mapped: MappedMemory,
    queue: Queue,
}

impl DmaMemory {
    /// Puts a DMA engine before regions.
    pub fn new(mapped: MappedMemory, settings: Settings) -> Self {
        DmaMemory { mapped, queue: Queue::new(settings) }
    }

    /// Tells the time, such as once a turn. Time that goes back is not heard.
    pub fn advance(&mut self, now: Time) {
        self.queue.advance(now);
    }

    /// The time as it was last told.
    pub fn now(&self) -> Time {
        self.queue.now()
    }

    /// What its queue has done.
    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// How many requests its queue carries out now.
    pub fn under_way(&self) -> usize {
        self.queue.under_way()
    }
}

impl Deref for DmaMemory {
    type Target = MappedMemory;

    fn deref(&self) -> &MappedMemory {
        &self.mapped
    }
}

impl DerefMut for DmaMemory {
    fn deref_mut(&mut self) -> &mut MappedMemory {
        &mut self.mapped
    }
}

impl Memory for DmaMemory {
    type Pending = Pending;

    fn admit(&self, rkey: &Rkey) -> Result<Grant, AccessError> {
        self.mapped.admit(rkey)
    }

    fn permit(&self, grant: Grant, access: Access) -> Result<(), AccessError> {
        self.mapped.permit(grant, access)
    }

    fn submit(&mut self, grant: Grant, request: &Request) -> Result<Pending, AccessError> {
        let mapped = self.mapped.submit(grant, request)?;
        Ok(Pending { mapped, ticket: self.queue.ticket() })
    }

    fn poll(&mut self, pending: &Pending, into: &mut [u8]) -> Result<Option<Done>, AccessError> {
        // A file is not behind the DMA engine.
        if pending.mapped.is_flush() {
            return self.mapped.poll(&pending.mapped, into);
        }
        match self.queue.ask(pending.ticket) {
            None => Ok(None),
            Some(Completion::Done) => self.mapped.poll(&pending.mapped, into),
            Some(Completion::Failed) => {
                self.mapped.abandon(&pending.mapped);
                Err(AccessError::TransferFailed)
            }
        }
    }

    fn abandon(&mut self, pending: &Pending) {
        self.queue.recall(pending.ticket);
        self.mapped.abandon(&pending.mapped);
    }

    fn copy_out(&self, pending: &Pending, offset: u32, into: &mut [u8]) -> Result<(), AccessError> {
        self.mapped.copy_out(&pending.mapped, offset, into)
    }

    fn place(&mut self, pending: &Pending, offset: u32, bytes: &[u8]) -> Result<(), AccessError> {
        self.mapped.place(&pending.mapped, offset, bytes)
    }

    fn place_whole(&mut self, pending: &Pending, bytes: &[u8]) -> Result<(), AccessError> {
        self.mapped.place_whole(&pending.mapped, bytes)
    }

    fn last_word(&self, pending: &Pending) -> Option<u32> {
        self.mapped.last_word(&pending.mapped)
    }

    fn place_last_word(&mut self, pending: &Pending, word: [u8; 8]) -> Result<(), AccessError> {
        self.mapped.place_last_word(&pending.mapped, word)
    }

    fn flushes_over(&self) -> u64 {
        self.mapped.flushes_over()
    }

    fn is_flush_over(&self, pending: &Pending) -> bool {
        self.mapped.is_flush_over(&pending.mapped)
    }

    fn atomicity(&self) -> Atomicity {
        self.mapped.atomicity()
    }
}
