//! The single-producer single-consumer ring that serves every queue between two parties.
//!
//! ```
//! # use nic_shm::{Consumer, Producer, RacyMem, RingLayout};
//! let layout = RingLayout::new(256, 64)?;
//! let memory = RacyMem::allocate(layout.bytes());
//! let mut producer: Producer<64> =
//!     Producer::new(layout.words(&memory)?, &layout.entries(&memory)?)?;
//! let mut consumer: Consumer<64> =
//!     Consumer::new(layout.words(&memory)?, &layout.entries(&memory)?)?;
//!
//! assert!(producer.stage(&[7; 64])?);
//! let wake = producer.publish();
//! assert!(!wake, "the consumer does not sleep");
//!
//! let mut entry = [0; 64];
//! while consumer.take(&mut entry)? {
//!     assert_eq!(entry, [7; 64]);
//! }
//! consumer.release();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod consumer;
mod cursor;
mod layout;
mod producer;
mod slots;
mod violation;

pub use consumer::Consumer;
pub use cursor::{ConsumerCursor, CursorWord, ProducerCursor, RingWords};
pub use layout::RingLayout;
pub use producer::Producer;
pub use violation::{RingError, RingViolation, RingWord};

use crate::racy::Word32;
use core::sync::atomic::{Ordering, fence};

impl CursorWord for Word32 {
    #[inline(always)]
    fn load_relaxed(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn load_acquire(&self) -> u32 {
        self.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn store_relaxed(&self, value: u32) {
        self.store(value, Ordering::Relaxed);
    }

    #[inline(always)]
    fn store_release(&self, value: u32) {
        self.store(value, Ordering::Release);
    }

    #[inline(always)]
    fn fence() {
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
