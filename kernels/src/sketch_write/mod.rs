//! SKETCH_WRITE: stores a stream of 8-byte values and counts, in passing, how many different ones
//! there are: StRoM's HyperLogLog (StRoM §7). The sketch may be read at any time.
//!
//! Every part of the payload passes through the kernel on its way to memory, in any order, and
//! raises registers of the op's own. When the payload is whole they are merged into the sketch in
//! the region: each word that grows is replaced by compare-and-swap, so streams that end at once
//! lose nothing, and the order of merges does not matter. An op that ends before its payload is
//! whole leaves the sketch as it was.
//!
//! With 2^p registers the estimate's standard error is 1.04 / sqrt(2^p): 1.6 % at p = 12. The
//! estimate is Ertl's ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, §4),
//! which needs no corrections for small numbers.
//!
//! | bytes | arguments |
//! |---|---|
//! | 0..8 | address at which the values are stored |
//! | 8..16 | address of the sketch, a multiple of 64 |
//! | 16..18 | region of both: its number within the domain, or 0xffff for that of the rkey |
//! | 18..20 | precision p, 4 to 12: that of the sketch |
//! | 20..24 | zero |
//!
//! | bytes | reply |
//! |---|---|
//! | 0..4 | how many registers of the sketch were raised |
//! | 4..8 | zero |
//!
//! | bytes | sketch |
//! |---|---|
//! | 0..8 | [`MAGIC`] |
//! | 8..12 | precision |
//! | 12..64 | zero |
//! | 64.. | 2^p registers of a byte |

mod kernel;
mod layout;
mod validate;
mod writer;

pub use kernel::SketchWrite;
pub use layout::{
    Arguments, HEADER_BYTES, MAGIC, PRECISION_MAX, PRECISION_MIN, decode_reply, sketch_bytes,
};
pub use validate::{BadSketch, estimate};
pub use writer::{FormatError, Sketch};

#[cfg(test)]
mod tests;
