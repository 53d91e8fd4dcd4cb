//! Surviving memory whose pages its owner has taken away.
//!
//! A mapped file that is cut short, or a hole in huge pages of which none are left, raises SIGBUS
//! in whoever touches the bytes next: by default the end of the process. Once
//! [`survive_faults`] has been called, a fault within a mapping of this crate puts a page of zeros
//! in the hole, notes that the mapping is lost ([`RacyMem::is_lost`](crate::RacyMem::is_lost)), and
//! lets the access go on. Whoever reads or writes such memory looks at [`faults`] afterwards:
//! what was read is not what the owner wrote, what was written reaches nobody.

use crate::racy::FAULTS;
#[cfg(doc)]
use crate::racy::faults;
use core::ptr::{addr_of_mut, null_mut};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::io;
use std::sync::Once;

/// Mappings that can be guarded at once; more are refused.
const MAPPINGS_MAX: usize = 1 << 14;
/// Stands where no mapping begins while a place is being filled: no page begins there either.
const RESERVED: usize = 1;

/// One guarded mapping. Its words are all that the signal handler looks at.
struct Place {
    /// Address of its first byte; 0: vacant. Written last.
    base: AtomicUsize,
    /// Length in bytes.
    len: AtomicUsize,
    /// Bytes of one of its pages.
    page: AtomicUsize,
    /// Whether a page of it was replaced.
    lost: AtomicBool,
}

static PLACES: [Place; MAPPINGS_MAX] = [const {
    Place {
        base: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        page: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
    }
}; MAPPINGS_MAX];
/// Places from here on have never been filled.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Keeps a mapping among the guarded ones; dropping it takes it out, which has to happen before the
/// pages are unmapped.
#[derive(Debug)]
pub(super) struct Guarded {
    place: usize,
}

impl Guarded {
    /// Guards `len` bytes of pages of `page` bytes from `base`. `None`: too many are guarded.
    pub(super) fn new(base: usize, len: usize, page: usize) -> Option<Self> {
        let free = |place: &Place| {
            let reserved =
                place.base.compare_exchange(0, RESERVED, Ordering::Acquire, Ordering::Relaxed);
            reserved.is_ok()
        };
        let place = PLACES.iter().position(free)?;
        let found = &PLACES[place];
        found.len.store(len, Ordering::Relaxed);
        found.page.store(page, Ordering::Relaxed);
        found.lost.store(false, Ordering::Relaxed);
        found.base.store(base, Ordering::Release);
        USED.fetch_max(place + 1, Ordering::Release);
        Some(Guarded { place })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        PLACES[self.place].base.store(0, Ordering::Release);
    }
}

/// The guarded mapping in which an address lies. Nothing but loads: signal handlers call it.
fn place_of(address: usize) -> Option<&'static Place> {
    let used = USED.load(Ordering::Acquire);
    PLACES[..used].iter().find(|place| {
        let base = place.base.load(Ordering::Acquire);
        base > RESERVED
            && address.checked_sub(base).is_some_and(|at| at < place.len.load(Ordering::Relaxed))
    })
}

/// Whether the mapping in which an address lies has lost pages.
pub(crate) fn is_lost(address: usize) -> bool {
    place_of(address).is_some_and(|place| place.lost.load(Ordering::Relaxed))
}

/// From now on this process survives SIGBUS within mappings of this crate; see the module. For a
/// process of engines: an application would rather hear of it.
///
/// # Errors
/// The system takes no signal handler.
pub fn survive_faults() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut outcome = Ok(());
    ONCE.call_once(|| outcome = install());
    outcome
}

/// What SIGBUS did before: other faults still do it.
static mut PREVIOUS: libc::sigaction = {
    // SAFETY: a C struct of numbers and a nullable function pointer: zeros are the default action.
    unsafe { core::mem::zeroed() }
};

fn install() -> io::Result<()> {
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
    action.sa_sigaction = handler as libc::sighandler_t;
    // On the thread's signal stack if it has one, as the runtime's own handler.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: both structs are valid; the handler does only what a handler may. `PREVIOUS` is
    // written here alone, once, before the handler can run: it is installed by the second call.
    let status = unsafe {
        match libc::sigaction(libc::SIGBUS, core::ptr::null(), addr_of_mut!(PREVIOUS)) {
            0 => libc::sigaction(libc::SIGBUS, &raw const action, null_mut()),
            failed => failed,
        }
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Repairs a fault in a guarded mapping; any other is left to whoever handled it before. Calls only
/// what signal handlers may: atomics, mmap, sigaction.
extern "C" fn on_fault(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel hands a valid description to a handler with SA_SIGINFO. A signal that
    // someone sent has other fields where the address stands, and is no fault of ours.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    let place = if code > 0 { place_of(address) } else { None };
    if !place.is_some_and(|place| replace_page(place, address)) {
        // SAFETY: the former action is valid. The access is repeated when this returns, and then
        // meets it; a signal that was sent is taken for lost, as it names no fault.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const PREVIOUS, null_mut()) };
    }
}

/// Puts zeros where a page is missing. False: the system refuses.
fn replace_page(place: &Place, address: usize) -> bool {
    let page = place.page.load(Ordering::Relaxed);
    let start = address & !(page - 1);
    // SAFETY: the range is a page of a mapping of this crate: a page's length, aligned to it, with
    // an address inside. Handles onto the mapping touch its bytes by copies and atomics only, so
    // that they may change at any moment, and the mapping is unmapped by its range, whatever
    // stands in it.
    let mapped = unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let mapped = libc::mmap(
            core::ptr::with_exposed_provenance_mut(start),
            page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        );
        *errno = before;
        mapped
    };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    place.lost.store(true, Ordering::Relaxed);
    FAULTS.fetch_add(1, Ordering::Release);
    true
}

#[cfg(test)]
mod tests;
