//! Regions that are kept in files.
//!
//! The memory itself stays what it is, so that no access ever meets a page of the file. A thread
//! beside the engine writes what it is asked for to the file; here is how it is asked.

use alloc::boxed::Box;
use core::fmt::Debug;
use core::sync::atomic::{AtomicU64, Ordering};

use super::access::Pending;
use super::control::ControlError;
use super::tables::{DomainId, MappedMemory};
use crate::memory::{AccessError, Done, Memory, Request};

/// A region's file, as its memory asks it. Nothing here waits, allocates or locks.
pub trait Backing: Debug + Send {
    /// Whether a flush would find room, also if every op of an engine asks for one at once after
    /// this was granted.
    ///
    /// # Errors
    /// [`AccessError::FlushesFull`]; [`AccessError::NotPersisted`], for good.
    fn check(&self) -> Result<(), AccessError>;

    /// Asks for a range of the region, in bytes, to be written; returns a number to ask after it.
    ///
    /// # Errors
    /// As for [`check`](Backing::check).
    fn request(&mut self, offset: u64, length: u64) -> Result<u64, AccessError>;

    /// What became of a request; `None`: nothing yet.
    ///
    /// # Errors
    /// [`AccessError::NotPersisted`].
    fn outcome(&self, number: u64) -> Option<Result<(), AccessError>>;
}

/// What has been done to persist the regions of one memory. Whoever does it counts here.
#[derive(Debug, Default)]
pub struct Flushes {
    /// Times that requests were over. Counted after their outcomes can be seen, with Release.
    pub over: AtomicU64,
    /// Requests.
    pub requests: AtomicU64,
    /// Times that a file was synced.
    pub syncs: AtomicU64,
    /// Bytes written to files.
    pub bytes: AtomicU64,
    /// Files that could not be written, each once.
    pub failures: AtomicU64,
}

impl MappedMemory {
    /// Keeps a region in a file from now on.
    ///
    /// # Errors
    /// No such domain or region.
    pub fn back(
        &mut self,
        domain: DomainId,
        number: u8,
        backing: Box<dyn Backing>,
    ) -> Result<(), ControlError> {
        let index = self.region_index(domain, number)?;
        self.regions[usize::from(index)].backing = Some(backing);
        Ok(())
    }

    /// Hands a region's file back, before the region is given up. Flushes under way fail.
    pub fn unback(&mut self, domain: DomainId, number: u8) -> Option<Box<dyn Backing>> {
        let index = self.region_index(domain, number).ok()?;
        self.regions[usize::from(index)].backing.take()
    }

    /// Sets a flush going, or says whether one could be, after its checks.
    #[cold]
    pub(super) fn begin_flush(
        &mut self,
        mut pending: Pending,
        request: &Request,
    ) -> Result<Pending, AccessError> {
        let backing = self.regions[usize::from(pending.region)].backing.as_mut();
        let begun = match (backing, request) {
            (None, _) => Err(AccessError::Unsupported),
            (Some(backing), Request::Flush(_)) => backing
                .request(pending.offset, pending.length.into())
                .map(|number| pending.await_flush(number)),
            (Some(backing), _) => backing.check(),
        };
        match begun {
            Ok(()) => Ok(pending),
            Err(error) => {
                self.abandon(&pending);
                Err(error)
            }
        }
    }

    /// What became of a flush whose region lives.
    pub(super) fn flush_outcome(
        &self,
        pending: &Pending,
        number: u64,
    ) -> Result<Option<Done>, AccessError> {
        let region = &self.regions[usize::from(pending.region)];
        let backing = region.backing.as_ref().ok_or(AccessError::Revoked)?;
        match backing.outcome(number) {
            None => Ok(None),
            Some(outcome) => outcome.map(|()| Some(Done::Flushed)),
        }
    }

    #[inline]
    pub(super) fn flushes_seen(&self) -> u64 {
        self.flushes.over.load(Ordering::Acquire)
    }
}
