//! PRISM: up to four primitives in one round trip, each able to depend on the one before. Read,
//! write and compare-and-swap through a pointer (which may have a bound beside it), allocate from a
//! list of free buffers that the owner has posted, compare with masks and by order, and chain:
//! "allocate a buffer, write the value there, swing the index entry to it if it is still older".
//! PRISM (SOSP 2021) §3 is the model. Atomics of memory are 8 bytes wide, so compare-and-swap works
//! on words of 8 bytes, where the paper's has up to 32.
//!
//! The arguments are the primitives, one behind the other, 128 bytes at most: 16 for a read, write
//! or allocation, 32 for a compare-and-swap, 48 for one with masks. All begin alike:
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | kind | 0 | 0 READ, 1 WRITE, 2 ALLOCATE, 3 COMPARE_SWAP, 4 the same with masks |
//! | flags | 1 | see below |
//! | region | 2-3 | the target's region, or [`HOME_REGION`](crate::HOME_REGION) |
//! | | 4-7 | READ: length u32. COMPARE_SWAP: 4 comparison (0 =, 1 <, 2 >: the word stands on the left), 5-7 zero. Others: zero |
//! | address | 8-15 | of the target; of the free list for ALLOCATE |
//! | compare | 16-23 | COMPARE_SWAP: what the word is compared with |
//! | swap | 24-31 | COMPARE_SWAP: what it is replaced by |
//! | compare_mask | 32-39 | with masks: which bits of word and `compare` are compared |
//! | swap_mask | 40-47 | with masks: which bits of the word are replaced |
//!
//! | flag | bit | meaning |
//! |---|---|---|
//! | conditional | 0 | it runs only if the primitive before it succeeded |
//! | indirect | 1 | at `address` stands a [pointer](pack) to the target |
//! | bounded | 2 | behind that pointer stands a word: how many bytes the target has at most |
//! | at output | 3 | `address` counts from where the output points; `region` is ignored |
//! | data is output | 4 | WRITE: the output is written, 8 bytes, instead of the payload. COMPARE_SWAP: it is the `swap` |
//! | compare is output | 5 | COMPARE_SWAP: the output is the `compare` |
//!
//! The *output* is what the primitive before it yielded: the old word of a compare-and-swap, the
//! pointer from an allocation, the first 8 bytes of a read (fewer are extended with zeros). A write
//! leaves it. A read is cut to its bound; a write or swap that does not fit its bound does nothing.
//! What succeeds: a read or write that is done, an allocation that got a buffer, a compare-and-swap
//! that took place. An access that is refused ends the whole op, its fate then says whether anything
//! was changed. The op's payload is what the one WRITE without "data is output" writes. Reads of up
//! to 256 bytes (472 together) are copied when their turn comes; a longer one must be the last.
//!
//! | reply | bytes | meaning |
//! |---|---|---|
//! | ran | 0 | bit n: primitive n ran |
//! | succeeded | 1 | bit n: it succeeded |
//! | zero | 2-7 | |
//! | words | 8-39 | of each primitive: READ, WRITE how many bytes; ALLOCATE the pointer; COMPARE_SWAP the old word; 0 if it did not run |
//! | reads | 40- | what the READs read, one behind the other |

mod kernel;
mod layout;
mod validate;
mod writer;

pub use kernel::Prism;
pub use layout::{
    Chain, ChainError, CompareSwap, Comparison, Operand, PRIMITIVES_MAX, Primitive, Target, pack,
    unpack,
};
pub use validate::{Report, reply_bytes};
pub use writer::{FreeList, ListError};

#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
