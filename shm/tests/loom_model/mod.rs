//! What the models share: loom's stand-ins for what is shared memory in earnest.
#![allow(dead_code)]

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use nic_shm::{CursorWord, RingWords};

/// Loom's stand-in for a word in shared memory; without fences, to see that loom misses them.
#[derive(Clone)]
pub struct Word<const FENCED: bool>(Arc<AtomicU32>);

impl<const FENCED: bool> Word<FENCED> {
    pub fn new(value: u32) -> Self {
        Self(Arc::new(AtomicU32::new(value)))
    }
}

impl<const FENCED: bool> CursorWord for Word<FENCED> {
    fn load_relaxed(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
    fn load_acquire(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
    fn store_relaxed(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
    fn store_release(&self, value: u32) {
        self.0.store(value, Ordering::Release);
    }
    fn fence() {
        if FENCED {
            fence(Ordering::SeqCst);
        }
    }
}

/// Entries of a ring, or pieces of an arena: loom fails the test if one is read while it is
/// written.
pub struct Places([UnsafeCell<u32>; 2]);

impl Places {
    pub fn new() -> Arc<Self> {
        Arc::new(Self([UnsafeCell::new(0), UnsafeCell::new(0)]))
    }
    pub fn write(&self, index: u32, value: u32) {
        // SAFETY: loom checks that nobody else uses the place.
        self.0[index as usize % 2].with_mut(|place| unsafe { *place = value });
    }
    pub fn read(&self, index: u32) -> u32 {
        // SAFETY: loom checks that nobody writes the place.
        self.0[index as usize % 2].with(|place| unsafe { *place })
    }
}

/// An eventfd: stays rung until it is waited for.
pub struct Bell(Mutex<bool>, Condvar);

impl Bell {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(false), Condvar::new()))
    }
    pub fn ring(&self) {
        *self.0.lock().expect("nobody panics with the lock") = true;
        self.1.notify_one();
    }
    pub fn wait(&self) {
        let mut rung = self.0.lock().expect("nobody panics with the lock");
        while !*rung {
            rung = self.1.wait(rung).expect("nobody panics with the lock");
        }
        *rung = false;
    }
}

/// The words of a ring that stands at `position`.
pub fn words<const FENCED: bool>(position: u32) -> RingWords<Word<FENCED>> {
    RingWords {
        produced: Word::new(position),
        consumed: Word::new(position),
        sleeping: Word::new(0),
    }
}

/// Runs a model under every interleaving with so many preemptions.
pub fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}
