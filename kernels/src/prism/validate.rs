//! What the initiator makes of a reply.

use super::layout::PRIMITIVES_MAX;

/// Length of what precedes the bytes read, in bytes.
pub(super) const HEAD_BYTES: usize = 8 + 8 * PRIMITIVES_MAX;

/// Length of the reply to primitives that read so many bytes: what its landing place must have.
pub const fn reply_bytes(read_bytes: u32) -> u32 {
    read_bytes.saturating_add(HEAD_BYTES as u32)
}

/// What became of the primitives of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    ran: u8,
    succeeded: u8,
    words: [u64; PRIMITIVES_MAX],
    reads: &'a [u8],
}

impl<'a> Report<'a> {
    /// Reads a reply; `None` if no PRISM op answers so.
    pub fn decode(reply: &'a [u8]) -> Option<Self> {
        let (head, reads) = reply.split_first_chunk::<HEAD_BYTES>()?;
        let [ran, succeeded, ..] = *head;
        let mut words = [0; PRIMITIVES_MAX];
        for (word, bytes) in words.iter_mut().zip(head[8..].as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let is_possible = succeeded & !ran == 0 && ran < 1 << PRIMITIVES_MAX;
        is_possible.then_some(Report { ran, succeeded, words, reads })
    }

    /// Whether a primitive ran, counted from 0.
    pub const fn ran(&self, primitive: usize) -> bool {
        primitive < PRIMITIVES_MAX && self.ran & 1 << primitive != 0
    }

    /// Whether it succeeded.
    pub const fn succeeded(&self, primitive: usize) -> bool {
        primitive < PRIMITIVES_MAX && self.succeeded & 1 << primitive != 0
    }

    /// What it yielded: a number of bytes, a pointer or an old word.
    pub fn word(&self, primitive: usize) -> Option<u64> {
        self.ran(primitive).then(|| self.words.get(primitive).copied())?
    }

    /// What the READs read, one behind the other; each has as many bytes as its word says.
    pub const fn reads(&self) -> &'a [u8] {
        self.reads
    }
}
