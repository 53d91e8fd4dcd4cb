//! The way in which a control thread hands an engine work: one item at a time.
//!
//! After Snap §2.3 (mailboxes of depth one through which modules run closures on an engine's
//! thread). The engine looks once per turn, for the price of one relaxed load; it never waits,
//! allocates or frees, for the box that it takes is the box that it answers with.

use crate::sync::{AtomicBool, AtomicPtr};
use alloc::boxed::Box;
use core::fmt;
use core::ptr;
use core::sync::atomic::Ordering;

/// A hand-over of depth one between control threads and one engine.
///
/// The life of an item: `post` → `take` → `answer` → `collect`. From a `post` that succeeded until
/// its answer is collected the mailbox is busy and every other `post` is refused; so the engine
/// answers each item that it takes, exactly once, and always finds the place for it.
///
/// ```
/// # use nic_shm::Mailbox;
/// let mailbox = Mailbox::new();
/// mailbox.post(Box::new(20)).expect("the mailbox is new");
/// assert!(mailbox.post(Box::new(30)).is_err());
///
/// let mut item = mailbox.take().expect("an item was posted"); // on the engine's thread
/// *item += 1;
/// mailbox.answer(item);
///
/// assert_eq!(mailbox.collect().as_deref(), Some(&21)); // on the control thread
/// ```
pub struct Mailbox<T: Send> {
    /// Set from a successful `post` until the answer is collected.
    busy: AtomicBool,
    /// Posted and not yet taken.
    request: AtomicPtr<T>,
    /// Answered and not yet collected.
    answer: AtomicPtr<T>,
}

impl<T: Send> Mailbox<T> {
    /// An empty mailbox.
    #[must_use]
    pub fn new() -> Self {
        Self {
            busy: AtomicBool::new(false),
            request: AtomicPtr::new(ptr::null_mut()),
            answer: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Hands an item over, or back if the mailbox is busy: collect the answer first. Any number of
    /// control threads may post; the answer goes to whoever collects it.
    pub fn post(&self, item: Box<T>) -> Result<(), Box<T>> {
        // Acquire pairs with the Release in `collect`: the answer's place is empty again.
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(item);
        }
        self.request.store(Box::into_raw(item), Ordering::Release);
        Ok(())
    }

    /// The posted item, if there is one. For the engine, which must [`answer`](Self::answer) it.
    #[inline]
    pub fn take(&self) -> Option<Box<T>> {
        if self.request.load(Ordering::Relaxed).is_null() {
            return None;
        }
        take_box(&self.request)
    }

    /// Answers the item that was taken, with itself or with another. For the engine. An answer
    /// that was not collected before is dropped: this happens only if nothing was taken.
    #[inline]
    pub fn answer(&self, item: Box<T>) {
        let before = self.answer.swap(Box::into_raw(item), Ordering::AcqRel);
        debug_assert!(before.is_null(), "a mailbox was answered twice");
        drop(own(before));
    }

    /// The answer, if there is one; then the mailbox is free again.
    pub fn collect(&self) -> Option<Box<T>> {
        if self.answer.load(Ordering::Relaxed).is_null() {
            return None;
        }
        let answer = take_box(&self.answer)?;
        self.busy.store(false, Ordering::Release);
        Some(answer)
    }
}

/// Takes what the slot holds; Acquire, so that the item's content is visible.
#[inline]
fn take_box<T>(slot: &AtomicPtr<T>) -> Option<Box<T>> {
    own(slot.swap(ptr::null_mut(), Ordering::Acquire))
}

/// The box behind a pointer that was just swapped out of a slot, if it is one.
#[inline]
fn own<T>(item: *mut T) -> Option<Box<T>> {
    // SAFETY: slots hold null or what `Box::into_raw` gave, and a pointer leaves its slot by a
    // swap, so that only one thread ever gets it.
    (!item.is_null()).then(|| unsafe { Box::from_raw(item) })
}

impl<T: Send> Default for Mailbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send> Drop for Mailbox<T> {
    fn drop(&mut self) {
        drop(take_box(&self.request));
        drop(take_box(&self.answer));
    }
}

impl<T: Send> fmt::Debug for Mailbox<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mailbox")
            .field("busy", &self.busy.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
