//! Regions in files: a thread writes what ops have asked to be persisted.
//!
//! One thread serves all engines of a process. It takes all requests of a region that are there,
//! writes the ranges, each byte once, and syncs the file once: while it does so the next requests
//! gather, so that many ops in flight share a sync. Engines never wait for it: they leave requests in
//! a queue of the region's, and make no system call unless the thread sleeps. It tells them by a
//! count, and by their bell if they sleep.
//!
//! ```text
//! engine ── range ──▶ queue of the region ──▶ thread: write, sync ── count, bell ──▶ engine
//! ```

mod file;
mod ranges;

pub use file::BackingError;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use nic_kernels::mapped::{Backing, Flushes};
use nic_shm::{Doorbell, RacyMem, wait_any};

use self::file::{BackedFile, Requests};
use self::ranges::Ranges;
use crate::threads;

/// Whatever happens, the thread looks around this often.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What the thread shares with engines and with who registers regions.
#[derive(Debug)]
struct Shared {
    files: Mutex<Vec<Arc<BackedFile>>>,
    bell: Doorbell,
    is_asleep: AtomicBool,
    stop: AtomicBool,
}

/// The thread; it ends with this.
#[derive(Debug)]
pub struct Flusher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How regions of one engine come to their files.
#[derive(Clone, Debug)]
pub struct FlushLine {
    shared: Arc<Shared>,
    flushes: Arc<Flushes>,
    engine_bell: Arc<Doorbell>,
    ops: usize,
}

impl Flusher {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread or no descriptor.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            files: Mutex::default(),
            bell: Doorbell::new().map_err(io::Error::other)?,
            is_asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let body = {
            let shared = Arc::clone(&shared);
            move || shared.serve()
        };
        let thread = threads::start("nic-flusher".to_owned(), || {}, body)?;
        Ok(Flusher { shared, thread: Some(thread) })
    }

    /// For an engine that counts so and that this bell wakes, with so many ops at a time.
    pub fn line(&self, flushes: Arc<Flushes>, engine_bell: Arc<Doorbell>, ops: usize) -> FlushLine {
        FlushLine { shared: Arc::clone(&self.shared), flushes, engine_bell, ops }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.shared.bell.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the flusher ended by a panic");
        }
    }
}

impl FlushLine {
    /// Keeps a region in a file, which has at least its length. What the file holds is not looked
    /// at.
    ///
    /// # Errors
    /// A descriptor that is no such file.
    pub fn back(
        &self,
        memory: RacyMem,
        descriptor: OwnedFd,
    ) -> Result<Box<dyn Backing>, BackingError> {
        let (flushes, bell) = (Arc::clone(&self.flushes), Arc::clone(&self.engine_bell));
        let file = Arc::new(BackedFile::new(memory, descriptor, flushes, bell, self.ops)?);
        self.shared.files().push(Arc::clone(&file));
        Ok(Box::new(Requests::new(file, Arc::clone(&self.shared))))
    }
}

impl Shared {
    fn files(&self) -> MutexGuard<'_, Vec<Arc<BackedFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region is given up. What the thread is at with it, it ends.
    fn forget(&self, file: &Arc<BackedFile>) {
        self.files().retain(|other| !Arc::ptr_eq(other, file));
    }

    /// Called after a request was left: one load unless the thread sleeps.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::Relaxed) {
            // A bell that cannot be rung is heard late: the thread looks around by itself.
            let _ = self.bell.ring();
        }
    }

    fn serve(&self) {
        let (mut ranges, mut files) = (Ranges::new(), Vec::new());
        while !self.stop.load(Ordering::Relaxed) {
            files.clear();
            files.extend(self.files().iter().map(Arc::downgrade));
            let mut has_worked = false;
            // One that is given up meanwhile is closed at once.
            for file in files.iter().filter_map(Weak::upgrade) {
                has_worked |= file.flush(&mut ranges);
            }
            if !has_worked {
                self.sleep();
            }
        }
    }

    fn sleep(&self) {
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Also those that have come since the last look.
        let is_idle = self.files().iter().all(|file| file.is_idle());
        if is_idle {
            let _ = wait_any(&[self.bell.as_fd()], Some(SLEEP_MAX));
        }
        self.is_asleep.store(false, Ordering::Relaxed);
        let _ = self.bell.drain();
    }
}

#[cfg(test)]
mod tests;
