//! Links `nic-wire`, `nic-transport` and `nic-kernels` without an operating system.
//!
//! Nothing here is ever run. The library is built and its undefined symbols are looked at: a crate
//! that opened a socket, read a clock or started a thread would want a symbol from outside. The
//! entry points see to it that generic code is made too, which otherwise no object would hold.

#![no_std]

extern crate alloc;

mod flows;
mod formats;
mod ops;

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

/// An allocator that never has memory: `alloc` wants one to be named, and an own one brings no
/// symbols along.
struct NoMemory;

// SAFETY: null is the documented answer of an allocator that cannot serve a request, so no block
// is ever handed out; none can come back.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static NO_MEMORY: NoMemory = NoMemory;

#[panic_handler]
fn on_panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
