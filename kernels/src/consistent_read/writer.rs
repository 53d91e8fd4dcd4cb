//! Seals objects, as the application that owns them would.

use super::layout::Arguments;

/// Puts the checksum into an object, where the arguments look for it. Returns whether they make
/// sense of such an object.
///
/// An owner that writes the sealed object over the one before it needs no lock: a reader in
/// between finds the checksum wrong and reads again.
pub fn seal(arguments: &Arguments, object: &mut [u8]) -> bool {
    let Ok(checksum) = arguments.check() else { return false };
    if object.len() != usize::from(arguments.length.get()) {
        return false;
    }
    // Both lie in the object: the arguments were checked against its length.
    let covered = usize::from(arguments.from.get())..usize::from(arguments.to.get());
    let word = checksum.of(&object[covered]).to_le_bytes();
    let (at, length) = (usize::from(arguments.checksum_at.get()), usize::from(checksum.bytes()));
    object[at..at + length].copy_from_slice(&word[..length]);
    true
}
