//! One region's file.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use nic_kernels::AccessError;
use nic_kernels::mapped::{Backing, Flushes};
use nic_shm::{Doorbell, RacyMem, faults};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fdatasync, fstat, fstatfs};

use super::Shared;
use super::ranges::Ranges;

/// File systems that a process of their owner's serves, and can stop, by their number.
const FUSE: u64 = 0x6573_5546;

/// Why a descriptor cannot be what a region is kept in.
#[derive(Debug, thiserror::Error)]
pub enum BackingError {
    /// It cannot be looked at.
    #[error("the region's file cannot be examined: {0}")]
    Examine(io::Error),
    /// It is a directory, a device, a pipe: open an ordinary file.
    #[error("the region's file is {found:?}; expected an ordinary file")]
    NotFile {
        /// What it is.
        found: FileType,
    },
    /// It cannot be written at any place: open it for reading and writing, and nothing else.
    #[error(
        "the region's file was opened with flags {found:#o}; expected O_RDWR, without O_APPEND and \
         O_DIRECT"
    )]
    Opened {
        /// Its flags.
        found: u32,
    },
    /// It is too short: give it the region's length first, with its blocks.
    #[error("the region's file has {found} bytes; expected at least the region's {expected}")]
    TooShort {
        /// Its length in bytes.
        found: u64,
        /// The region's length in bytes.
        expected: u64,
    },
    /// Whoever serves its file system could hold up the files of all others.
    #[error("the region's file lies on a FUSE file system; put it on one that the kernel serves")]
    Fuse,
}

/// What the thread has of a region.
#[derive(Debug)]
pub(super) struct BackedFile {
    memory: RacyMem,
    file: OwnedFd,
    requests: ArrayQueue<(u64, u64)>,
    /// How many requests were served: they are in order.
    over: AtomicU64,
    /// A request has failed, and so do all after it: what a failed sync has lost nobody can say, so
    /// the file is never believed again.
    is_broken: AtomicBool,
    flushes: Arc<Flushes>,
    engine_bell: Arc<Doorbell>,
    /// [`faults`] when the region was registered.
    faults: u64,
}

impl BackedFile {
    /// For an engine of so many ops at a time.
    pub(super) fn new(
        memory: RacyMem,
        file: OwnedFd,
        flushes: Arc<Flushes>,
        engine_bell: Arc<Doorbell>,
        ops: usize,
    ) -> Result<Self, BackingError> {
        check(&file, memory.len())?;
        Ok(BackedFile {
            memory,
            file,
            // While no more than a half waits, each op of the engine that was told so has a place.
            requests: ArrayQueue::new(2 * ops.max(1)),
            over: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            flushes,
            engine_bell,
            faults: faults(),
        })
    }

    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Serves all requests that are there. Whether there were any.
    pub(super) fn flush(&self, ranges: &mut Ranges) -> bool {
        ranges.clear();
        let mut count = 0;
        while count < self.requests.capacity() as u64
            && let Some((offset, length)) = self.requests.pop()
        {
            ranges.add(offset..offset + length);
            count += 1;
        }
        if count == 0 {
            return false;
        }
        if !self.is_broken() {
            match self.write(ranges) {
                Ok(()) => {
                    self.over.fetch_add(count, Ordering::Release);
                }
                Err(error) => self.fail(&error),
            }
        }
        self.flushes.over.fetch_add(1, Ordering::Release);
        // It may sleep; a bell that cannot be rung is heard late, for it looks again by itself.
        let _ = self.engine_bell.ring();
        true
    }

    fn write(&self, ranges: &mut Ranges) -> io::Result<()> {
        ranges.join();
        let written = ranges.write(&self.memory, &self.file)?;
        if faults() != self.faults && self.memory.is_lost() {
            return Err(io::Error::other("pages of the region were taken away by its owner"));
        }
        // The file's length and blocks are its owner's doing, and synced by it.
        fdatasync(&self.file)?;
        self.flushes.bytes.fetch_add(written, Ordering::Relaxed);
        self.flushes.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn fail(&self, error: &io::Error) {
        tracing::error!(%error, "a region's file cannot be written; it persists nothing any more");
        self.flushes.failures.fetch_add(1, Ordering::Relaxed);
        self.is_broken.store(true, Ordering::Release);
    }

    fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }
}

/// Whether a descriptor can be a region's file.
fn check(file: &OwnedFd, expected: u64) -> Result<(), BackingError> {
    let examine = |error: rustix::io::Errno| BackingError::Examine(error.into());
    let status = fstat(file).map_err(examine)?;
    let found = FileType::from_raw_mode(status.st_mode);
    if found != FileType::RegularFile {
        return Err(BackingError::NotFile { found });
    }
    let flags = fcntl_getfl(file).map_err(examine)?;
    let unfit = OFlags::APPEND | OFlags::DIRECT | OFlags::PATH;
    if flags & OFlags::RWMODE != OFlags::RDWR || flags.intersects(unfit) {
        return Err(BackingError::Opened { found: flags.bits() });
    }
    let found = u64::try_from(status.st_size).unwrap_or(0);
    if found < expected {
        return Err(BackingError::TooShort { found, expected });
    }
    if fstatfs(file).map_err(examine)?.f_type as u64 == FUSE {
        return Err(BackingError::Fuse);
    }
    Ok(())
}

/// What the engine has of a region's file. Nobody else asks, so requests are numbered here.
#[derive(Debug)]
pub(super) struct Requests {
    file: Arc<BackedFile>,
    shared: Arc<Shared>,
    asked: u64,
}

impl Requests {
    pub(super) fn new(file: Arc<BackedFile>, shared: Arc<Shared>) -> Self {
        Requests { file, shared, asked: 0 }
    }
}

impl Backing for Requests {
    fn check(&self) -> Result<(), AccessError> {
        if self.file.is_broken() {
            return Err(AccessError::NotPersisted);
        }
        let requests = &self.file.requests;
        if requests.len() > requests.capacity() / 2 {
            return Err(AccessError::FlushesFull);
        }
        Ok(())
    }

    fn request(&mut self, offset: u64, length: u64) -> Result<u64, AccessError> {
        if self.file.is_broken() {
            return Err(AccessError::NotPersisted);
        }
        self.file.requests.push((offset, length)).map_err(|_| AccessError::FlushesFull)?;
        self.asked += 1;
        self.file.flushes.requests.fetch_add(1, Ordering::Relaxed);
        self.shared.wake();
        Ok(self.asked)
    }

    fn outcome(&self, number: u64) -> Option<Result<(), AccessError>> {
        if self.file.over.load(Ordering::Acquire) >= number {
            return Some(Ok(()));
        }
        self.file.is_broken().then_some(Err(AccessError::NotPersisted))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.shared.forget(&self.file);
    }
}
