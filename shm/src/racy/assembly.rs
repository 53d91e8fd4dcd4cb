//! Copies of any length, made of the architecture's fixed moves.

#[cfg(target_arch = "aarch64")]
use super::aarch64::{move1, move2, move4, move8, move16, move32, move64};
#[cfg(target_arch = "aarch64")]
pub(crate) use super::aarch64::{prefetch_line, prefetch_line_for_write, read8};
#[cfg(target_arch = "x86_64")]
use super::x86_64::{move1, move2, move4, move8, move16, move32, move64};
#[cfg(target_arch = "x86_64")]
pub(crate) use super::x86_64::{prefetch_line, prefetch_line_for_write, read8};

/// Copies ascending, touching every byte of either side exactly once.
///
/// The length is taken apart into powers of two rather than covered by overlapping moves: a byte
/// that is loaded twice could differ between the loads, and a word put together from both would be
/// torn although it is aligned. With a constant length the branches fold away.
///
/// # Safety
/// `from` must be readable and `to` writable for `len` bytes. Either may be changed by others
/// meanwhile.
#[inline(always)]
pub(crate) unsafe fn copy(mut from: *const u8, mut to: *mut u8, len: usize) {
    /// Moves one piece if the length has that bit and steps past it.
    macro_rules! piece {
        ($bytes:literal, $mover:ident) => {
            if len & $bytes != 0 {
                $mover(from, to);
                from = from.add($bytes);
                to = to.add($bytes);
            }
        };
    }
    // SAFETY: the pieces add up to `len`, for which the caller vouches.
    unsafe {
        for _ in 0..len / 64 {
            move64(from, to);
            from = from.add(64);
            to = to.add(64);
        }
        // Most copies are of whole cache lines.
        if len & 63 != 0 {
            piece!(32, move32);
            piece!(16, move16);
            piece!(8, move8);
            if len & 7 != 0 {
                piece!(4, move4);
                piece!(2, move2);
                if len & 1 != 0 {
                    move1(from, to);
                }
            }
        }
    }
}

/// From this length on it pays to align the stores first: each that crosses a cache line costs two.
const ALIGN_FROM: usize = 1024;

/// Copies from private into racy memory; as [`copy`].
///
/// # Safety
/// As for [`copy`].
#[inline(always)]
pub(crate) unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    if len >= ALIGN_FROM && !to.addr().is_multiple_of(16) {
        // Pieces of 1, 2, 4 and 8 bytes up to a multiple of 16, so that aligned words stay whole.
        let ahead = to.addr().wrapping_neg() % 16;
        // SAFETY: the caller vouches for both ranges; what is ahead is less than the length.
        return unsafe { copy_to_boundary(from, to, ahead, len) };
    }
    // SAFETY: the caller vouches for both ranges.
    unsafe { copy(from, to, len) }
}

/// Copies with `ahead` bytes first, which brings `to` to a multiple of 16.
///
/// # Safety
/// As for [`copy`]; `ahead` must be less than 16 and than `len`.
#[inline(never)]
unsafe fn copy_to_boundary(from: *const u8, to: *mut u8, ahead: usize, len: usize) {
    let mut done = 0;
    // SAFETY: the pieces add up to `len`, for which the caller vouches.
    unsafe {
        if ahead & 1 != 0 {
            move1(from, to);
            done += 1;
        }
        if ahead & 2 != 0 {
            move2(from.add(done), to.add(done));
            done += 2;
        }
        if ahead & 4 != 0 {
            move4(from.add(done), to.add(done));
            done += 4;
        }
        if ahead & 8 != 0 {
            move8(from.add(done), to.add(done));
            done += 8;
        }
        copy(from.add(done), to.add(done), len - done);
    }
}

// Loads from an odd address are cheap, so it is the private side that had better be aligned, which
// is the caller's choice. Aligning it here would tear the words of the racy side.
pub(crate) use copy as copy_across;
pub(crate) use copy as copy_in;
