//! Threads that drive ports are known to DPDK: pools then keep some mbufs at hand for each, and
//! none costs an atomic operation on what all share.

use std::cell::OnceCell;

use dpdk_sys as sys;

/// A thread's membership, until it ends.
struct Member {
    is_new: bool,
}

thread_local! {
    static MEMBER: OnceCell<Member> = const { OnceCell::new() };
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.is_new {
            // SAFETY: it was registered by the same thread.
            unsafe { sys::unregister_thread() };
        }
    }
}

/// Makes the calling thread known, once. Without it all works, a little slower: DPDK has numbers
/// for 128 threads.
#[cold]
pub(super) fn join() {
    let _ = MEMBER.try_with(|member| {
        // SAFETY: EAL runs: who calls has a port.
        member.get_or_init(|| Member { is_new: unsafe { sys::register_thread() } == 0 });
    });
}
