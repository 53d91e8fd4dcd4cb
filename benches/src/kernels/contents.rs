//! Bytes that both sides know.

use nic_benches::mixed;

/// Fills bytes with what belongs to an origin.
pub(super) fn fill(origin: u64, into: &mut [u8]) {
    for (word, chunk) in (0..).zip(into.chunks_mut(8)) {
        chunk.copy_from_slice(&mixed(origin + word).to_le_bytes()[..chunk.len()]);
    }
}

/// Whether bytes are those that belong to an origin.
pub(super) fn belong_to(origin: u64, bytes: &[u8]) -> bool {
    (0..)
        .zip(bytes.chunks(8))
        .all(|(word, chunk)| chunk == &mixed(origin + word).to_le_bytes()[..chunk.len()])
}
