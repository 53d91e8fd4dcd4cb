//! Moves of fixed sizes on x86-64, with what every such CPU has (SSE2).
//!
//! The compiler knows nothing of what the assembly does with memory, so a concurrent change by
//! another process cannot break an assumption of its. On x86-64 loads are not reordered with
//! loads, nor stores with stores, whatever their width, so that the acquire and release operations
//! around a copy order it as they order plain accesses.

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
    move64, xmm_reg,
    "movdqu {a}, [{from}]", "movdqu {b}, [{from} + 16]",
    "movdqu {c}, [{from} + 32]", "movdqu {d}, [{from} + 48]",
    "movdqu [{to}], {a}", "movdqu [{to} + 16], {b}",
    "movdqu [{to} + 32], {c}", "movdqu [{to} + 48], {d}";
    a, b, c, d
);
mover!(
    /// Moves 32 bytes.
    move32, xmm_reg,
    "movdqu {a}, [{from}]", "movdqu {b}, [{from} + 16]",
    "movdqu [{to}], {a}", "movdqu [{to} + 16], {b}";
    a, b
);
mover!(
    /// Moves 16 bytes.
    move16, xmm_reg, "movdqu {a}, [{from}]", "movdqu [{to}], {a}"; a
);
mover!(
    /// Moves 8 bytes, in one load and one store.
    move8, reg, "mov {a}, [{from}]", "mov [{to}], {a}"; a
);
mover!(
    /// Moves 4 bytes, in one load and one store.
    move4, reg, "mov {a:e}, [{from}]", "mov [{to}], {a:e}"; a
);
mover!(
    /// Moves 2 bytes, in one load and one store.
    move2, reg, "movzx {a:e}, word ptr [{from}]", "mov [{to}], {a:x}"; a
);
mover!(
    /// Moves 1 byte.
    move1, reg_byte, "mov {a}, [{from}]", "mov [{to}], {a}"; a
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
            "mov {word}, [{from} + {at}]",
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
    // SAFETY: a prefetch neither faults nor changes anything that a program can see; a CPU that
    // does not know this one takes it for no operation.
    unsafe {
        asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}

/// Asks for the cache line at `address`; a wrong address is no fault.
#[inline(always)]
pub(crate) fn prefetch_line(address: *const u8) {
    // SAFETY: a prefetch neither faults nor changes anything that a program can see.
    unsafe {
        asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}
