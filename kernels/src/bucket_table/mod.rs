//! CliqueMap's table: a key-value table that remote readers look into by themselves.
//!
//! ```text
//! index region                              entries region
//!   header, 256 B: where everything is        data entries, each
//!   bucket 0: header | entry | entry ..        {checksum, hash, version, lengths, key, value}
//!   bucket 1: ...          │
//!                          └─ {hash, version, pointer} ──────▶
//! ```
//!
//! The owner writes through [`BucketTable`]. Readers hold nothing and lock nothing: they fetch a
//! bucket and the entry that it points to, in one op ([`crate::scan_and_read`]) or by two READs,
//! and [`validate`](mod@validate) tells from the bytes alone whether what they got is whole and
//! theirs. CliqueMap (SIGCOMM 2021) §3 is the model; [`layout`] has the bytes.
//!
//! ```
//! use nic_kernels::bucket_table::{BucketTable, Geometry, Identity};
//! use nic_shm::RacyMem;
//!
//! let geometry = Geometry::for_entries(1000);
//! let index = RacyMem::allocate(geometry.index_bytes());
//! let entries = RacyMem::allocate(Geometry::entries_bytes(1000, 16, 64));
//! let mut table = BucketTable::format(index, entries, geometry, Identity::default())?;
//! table.insert(b"apple", b"red")?;
//! table.upsert(b"apple", b"green")?;
//! assert_eq!(table.get(b"apple").map(|found| found.value), Some(b"green".to_vec()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod layout;
pub mod validate;

mod bucket;
mod entry;
mod errors;
mod geometry;
mod hash;
mod overflow;
mod slab;
mod table;
mod view;

pub use bucket::Bucket;
pub use errors::{BadTable, FormatError, InsertError, ReplaceError, Unfit};
pub use geometry::Geometry;
pub use hash::KeyHash;
pub use table::{BucketTable, Identity, Stored};
pub use validate::{Torn, Verdict, validate, validate_entry};
pub use view::TableView;

/// The longest key in bytes; the shortest has one.
pub const KEY_BYTES_MAX: usize = 512;
/// The longest value in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
