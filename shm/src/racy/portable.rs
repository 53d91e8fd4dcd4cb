//! Copies in relaxed atomic words and bytes: for Miri, loom and architectures without assembly.
//!
//! Aligned words of the racy side are moved whole, as the assembly does. The private side is
//! touched by plain accesses, for it is borrowed.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Reads 8 bytes, so many behind an address; in one load where they are aligned.
///
/// # Safety
/// `from + at` must be readable for 8 bytes and only ever be changed by atomic accesses.
pub(crate) unsafe fn read8(from: *const u8, at: usize) -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: the caller vouches for the range.
    unsafe { copy_in(from.add(at), bytes.as_mut_ptr(), 8) };
    u64::from_ne_bytes(bytes)
}

/// Copies from racy memory into private memory.
///
/// # Safety
/// `from` must be readable for `len` bytes and only ever be changed by atomic accesses; `to` must
/// be writable for `len` bytes and private to the caller.
pub(crate) unsafe fn copy_in(from: *const u8, to: *mut u8, len: usize) {
    let mut done = 0;
    while done < len {
        // SAFETY: each piece lies within `len`, and a word is taken only where it is aligned.
        unsafe {
            let source = from.add(done);
            if len - done >= 8 && source.addr().is_multiple_of(8) {
                let word = (*source.cast::<AtomicU64>()).load(Relaxed);
                to.add(done).cast::<u64>().write_unaligned(word);
                done += 8;
            } else {
                *to.add(done) = (*source.cast::<AtomicU8>()).load(Relaxed);
                done += 1;
            }
        }
    }
}

/// Copies from private memory into racy memory.
///
/// # Safety
/// `from` must be readable for `len` bytes and unchanging; `to` must be writable for `len` bytes
/// and only ever be touched by atomic accesses.
pub(crate) unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    let mut done = 0;
    while done < len {
        // SAFETY: each piece lies within `len`, and a word is placed only where it is aligned.
        unsafe {
            let target = to.add(done);
            if len - done >= 8 && target.addr().is_multiple_of(8) {
                let word = from.add(done).cast::<u64>().read_unaligned();
                (*target.cast::<AtomicU64>()).store(word, Relaxed);
                done += 8;
            } else {
                (*target.cast::<AtomicU8>()).store(*from.add(done), Relaxed);
                done += 1;
            }
        }
    }
}

/// Copies from racy memory into racy memory.
///
/// # Safety
/// As for [`copy_in`] and [`copy_out`], with both sides racy.
pub(crate) unsafe fn copy_across(from: *const u8, to: *mut u8, len: usize) {
    let mut done = 0;
    while done < len {
        let mut piece = [0_u8; 64];
        let bytes = piece.len().min(len - done);
        // SAFETY: the piece lies within `len`, for which the caller vouches.
        unsafe {
            copy_in(from.add(done), piece.as_mut_ptr(), bytes);
            copy_out(piece.as_ptr(), to.add(done), bytes);
        }
        done += bytes;
    }
}

/// There is no portable prefetch, and nothing depends on one.
pub(crate) fn prefetch_line(_address: *const u8) {}

/// See [`prefetch_line`].
pub(crate) fn prefetch_line_for_write(_address: *const u8) {}
