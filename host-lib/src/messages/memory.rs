//! The sender's memory: what large messages lie in while they are read by their receiver.
//!
//! Each message that is out has a slot, and each slot an export of its own over the whole memory.
//! A message that its receiver has not said to be done with ends by the revocation of its slot's
//! export: from then on no engine reads it, whatever its receiver does, and other messages go on.

use nic_shm::{Arena, BlockSizes, Lease, LeaseArena, WriteError};
use nic_wire::{Fate, Rkey, Status};

use super::{LARGE_OUT_MAX, MESSAGE_BYTES_MAX, NotSent, SendError};
use crate::error::NicError;
use crate::nic::Nic;
use crate::region::{Access, Export, Region};

/// The least piece of the memory in bytes.
const BLOCK_BYTES: u32 = 4096;

pub(super) struct Memory {
    region: Region,
    arena: LeaseArena,
    exports: Vec<Option<Export>>,
    free: Vec<u8>,
    /// Slots whose exports may not have ended: the engine did not answer.
    doubtful: Vec<u8>,
}

/// A message being built in the memory that it will be read from.
pub struct Draft {
    lease: Lease,
    length: u32,
}

/// Where a message lies that is out.
pub(super) struct Placed {
    lease: Lease,
    pub(super) slot: u8,
    pub(super) rkey: Rkey,
    pub(super) address: u64,
}

impl Draft {
    /// Its length in bytes.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Copies bytes to a place in it.
    ///
    /// # Errors
    /// They would leave it.
    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), WriteError> {
        self.lease.write(at, bytes)
    }
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Draft").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Memory {
    pub(super) fn new(nic: &Nic, bytes: u64) -> Result<Self, NicError> {
        let bytes = bytes.max(BLOCK_BYTES.into());
        let region = nic.region(bytes).create()?;
        let greatest = MESSAGE_BYTES_MAX.min(1 << bytes.ilog2()) as u32;
        let sizes = BlockSizes { least: BLOCK_BYTES, greatest };
        let arena = Arena::new(region.memory(), sizes)
            .map_err(|error| NicError::Session(error.to_string()))?;
        Ok(Memory {
            region,
            arena: LeaseArena::new(arena),
            exports: (0..LARGE_OUT_MAX).map(|_| None).collect(),
            free: (0..LARGE_OUT_MAX as u8).rev().collect(),
            doubtful: Vec::new(),
        })
    }

    /// The longest message in bytes.
    pub(super) fn longest(&self) -> u64 {
        self.arena.lease_len_max().into()
    }

    /// Where its receiver finds it: any slot's export names the same engine and length.
    pub(super) fn ticket(&mut self) -> Result<crate::Ticket, NicError> {
        let export = match self.exports[0].take() {
            Some(export) => export,
            None => self.region.export(Access::READ)?,
        };
        Ok(self.exports[0].insert(export).ticket())
    }

    /// Room for a message, if there is any now.
    pub(super) fn draft(&self, length: u32) -> Option<Draft> {
        self.arena.lease(length.max(1)).map(|lease| Draft { lease, length })
    }

    /// A slot for a message.
    pub(super) fn place(&mut self, draft: Draft) -> Result<Placed, NotSent> {
        let Some(slot) = self.free.pop() else {
            return Err(NotSent { error: SendError::Full, draft });
        };
        let export = match self.exports[usize::from(slot)].take() {
            Some(export) => Ok(export),
            None => self.region.export(Access::READ),
        };
        let export = match export {
            Ok(export) => self.exports[usize::from(slot)].insert(export),
            Err(error) => {
                self.free.push(slot);
                let status = match error {
                    NicError::Refused { status, .. } => status,
                    _ => Status::EngineLost,
                };
                let error = SendError::Failed { status, fate: Fate::NotExecuted };
                return Err(NotSent { error, draft });
            }
        };
        let rkey = export.ticket().rkey;
        let address = draft.lease.offset().into();
        Ok(Placed { lease: draft.lease, slot, rkey, address })
    }

    /// Ends every right to a message.
    pub(super) fn revoke(&mut self, slot: u8) {
        let Some(export) = self.exports[usize::from(slot)].take() else { return };
        // An engine that is gone reads nothing either, and one that says no knows of no such export.
        if let Err(NicError::EngineSilent { .. }) = export.revoke() {
            self.doubtful.push(slot);
        }
    }

    /// A message is over, and its receiver is done with it or has no right to it any more.
    pub(super) fn release(&mut self, placed: Placed) {
        if self.doubtful.contains(&placed.slot) {
            // Nobody can say that it is not read any more: it is never used again.
            std::mem::forget(placed);
        } else {
            self.free.push(placed.slot);
        }
    }

    /// A message that did not leave after all.
    pub(super) fn unplace(&mut self, placed: Placed, length: u32) -> Draft {
        self.free.push(placed.slot);
        Draft { lease: placed.lease, length }
    }
}
