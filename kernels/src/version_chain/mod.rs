//! Clover's version chain: values that are never overwritten, each linked behind the one before.
//!
//! ```text
//! shortcut ─────────────────────────────────────┐
//! cursor ──▶ buffer          buffer             ▼ buffer
//!            {word, value} ─▶ {word, value} ──▶ {word, value}   the latest: nothing follows
//! ```
//!
//! A writer puts a value into a fresh buffer and links it by a compare-and-swap of the latest
//! entry's pointer word ([`crate::chain_append`]); a reader walks from an entry that it knows, its
//! cursor, to the latest ([`crate::chain_read`]). So readers see whole committed values only, and
//! of two writers each finds its place. A pointer word has the entry's own version and the next
//! entry's: if a link's version is not that of the buffer it leads to, the buffer was recycled.
//!
//! The owner lays chains out through [`Pool`]: it hands fresh buffers out, takes old ones back,
//! and recycles them two epochs later. [`layout`] has the bytes. pDPM, "Clover" (USENIX ATC 2020)
//! is the model; chains may cross the regions of a domain.
//!
//! ```
//! use nic_kernels::version_chain::{Image, Pool};
//! use nic_shm::RacyMem;
//!
//! let region = RacyMem::allocate(64 << 10);
//! let mut pool = Pool::format(&[(0, region)], 16, 128)?; // region 0, 16 shortcuts, 128-byte buffers
//! let chain = pool.create(b"first")?;
//! let second = pool.append(chain.first, b"second")?;
//! assert_eq!(pool.latest(chain.first), Some((second, b"second".to_vec())));
//!
//! // What a remote writer needs: a fresh buffer, and the value as it will stand there.
//! let fresh = pool.allocate().ok_or("no buffer is free")?;
//! let image = Image::compose(fresh, pool.buffer_bytes(), b"third")?;
//! # let _ = image;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod image;
pub mod layout;
pub(crate) mod walk;
mod writer;

pub use image::{EntryState, Image, VALUE_BYTES_MAX, ValueTooLong, check_entry};
pub use layout::{Link, PointerWord};
pub use writer::{AppendError, Chain, FormatError, Pool};

#[cfg(test)]
mod fates;
#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
