//! Publishes values behind an indirection table, as an application would.

use core::sync::atomic::Ordering;

use nic_shm::{RacyMem, WordError};

use crate::kernel::Pointer;
use crate::pointer_form::PointerForm;

/// The owner's side of an indirection table: where its entries lie, and how it writes pointers.
#[derive(Clone, Debug)]
pub struct Table {
    memory: RacyMem,
    /// Offset of entry 0.
    start: u64,
    entry_words: u8,
    form: PointerForm,
}

impl Table {
    /// A table of single pointers that begins at an offset of a memory, a multiple of 8.
    pub fn new(memory: RacyMem, start: u64, form: PointerForm) -> Self {
        Table { memory, start, entry_words: 1, form }
    }

    /// Entries lie so many words of 8 bytes apart.
    #[must_use]
    pub fn entries_of(self, words: u8) -> Self {
        Table { entry_words: words, ..self }
    }

    /// Lets an entry point to a value, which readers then find whole if it was written before;
    /// `None` empties it. Returns whether this form of pointers can name the place.
    ///
    /// # Errors
    /// The entry lies outside the memory, or that is not writable.
    pub fn publish(&self, index: u32, to: Option<Pointer>) -> Result<bool, WordError> {
        let word = to.and_then(|to| self.form.word(to));
        if to.is_some() && word.is_none() {
            return Ok(false);
        }
        let at = self.start + u64::from(index) * u64::from(self.entry_words) * 8;
        self.memory.word64(at)?.store(word.unwrap_or(0).to_le(), Ordering::Release);
        Ok(true)
    }
}
