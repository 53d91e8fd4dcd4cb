//! Moves of fixed sizes on 64-bit Arm.
//!
//! The compiler knows nothing of what the assembly does with memory, so a concurrent change by
//! another process cannot break an assumption of its. The accesses are plain ones: the CPU may
//! reorder them among themselves, and the acquire and release operations around a copy order it.

use core::arch::asm;

/// Defines a function that moves one fixed number of bytes through registers of one class.
macro_rules! mover {
    ($(#[$doc:meta])* $name:ident, $class:ident, $($line:literal),+; $($temporary:ident),+) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `from` must be readable and `to` writable for that many bytes. Either may be changed by
        /// others meanwhile. Neither needs to be aligned.
        #[inline(always)]
        pub(super) unsafe fn $name(from: *const u8, to: *mut u8) {
            // SAFETY: the caller vouches for both ranges; flags and stack are left alone.
            unsafe {
                asm!(
                    $($line,)+
                    from = in(reg) from,
                    to = in(reg) to,
                    $($temporary = out($class) _,)+
                    options(nostack, preserves_flags)
                );
            }
        }
    };
}

mover!(
    /// Moves 64 bytes.
    move64, vreg,
    "ldp {a:q}, {b:q}, [{from}]", "ldp {c:q}, {d:q}, [{from}, #32]",
    "stp {a:q}, {b:q}, [{to}]", "stp {c:q}, {d:q}, [{to}, #32]";
    a, b, c, d
);
mover!(
    /// Moves 32 bytes.
    move32, vreg, "ldp {a:q}, {b:q}, [{from}]", "stp {a:q}, {b:q}, [{to}]"; a, b
);
mover!(
    /// Moves 16 bytes, as two whole words: an aligned word is never torn.
    move16, reg, "ldp {a:x}, {b:x}, [{from}]", "stp {a:x}, {b:x}, [{to}]"; a, b
);
mover!(
    /// Moves 8 bytes, in one load and one store.
    move8, reg, "ldr {a:x}, [{from}]", "str {a:x}, [{to}]"; a
);
mover!(
    /// Moves 4 bytes, in one load and one store.
    move4, reg, "ldr {a:w}, [{from}]", "str {a:w}, [{to}]"; a
);
mover!(
    /// Moves 2 bytes, in one load and one store.
    move2, reg, "ldrh {a:w}, [{from}]", "strh {a:w}, [{to}]"; a
);
mover!(
    /// Moves 1 byte.
    move1, reg, "ldrb {a:w}, [{from}]", "strb {a:w}, [{to}]"; a
);

/// Reads 8 bytes, so many behind an address, in one load.
///
/// # Safety
/// `from + at` must be readable for that many bytes. They may be changed by others meanwhile, and
/// need not be aligned.
#[inline(always)]
pub(crate) unsafe fn read8(from: *const u8, at: usize) -> u64 {
    let word: u64;
    // SAFETY: the caller vouches for the range; nothing else is touched.
    unsafe {
        asm!(
            "ldr {word:x}, [{from}, {at:x}]",
            from = in(reg) from,
            at = in(reg) at,
            word = lateout(reg) word,
            options(nostack, preserves_flags, readonly)
        );
    }
    word
}

/// Asks for the cache line at `address`, to be written; a wrong address is no fault.
#[inline(always)]
pub(crate) fn prefetch_line_for_write(address: *const u8) {
    // SAFETY: a prefetch neither faults nor changes anything that a program can see.
    unsafe {
        asm!(
            "prfm pstl1keep, [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
}

/// Asks for the cache line at `address`; a wrong address is no fault.
#[inline(always)]
pub(crate) fn prefetch_line(address: *const u8) {
    // SAFETY: a prefetch neither faults nor changes anything that a program can see.
    unsafe {
        asm!(
            "prfm pldl1keep, [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
}
