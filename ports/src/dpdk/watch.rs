//! The device's control thread: it follows the link, and its ticks are the port's only clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dpdk_sys as sys;

use super::DpdkError;
use super::neighbours::Neighbours;

/// How long a tick is.
const TICK: Duration = Duration::from_millis(100);

/// What the control thread says.
pub(super) struct Watched {
    /// One while the link is up. Written by the driver's thread, too, if it tells of changes.
    up: AtomicU32,
    stop: AtomicBool,
}

impl Watched {
    #[inline]
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed) != 0
    }
}

/// The control thread of a device, until it is dropped.
pub(super) struct Watch {
    port: u16,
    watched: Arc<Watched>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches a device that was started.
    pub(super) fn start(port: u16, neighbours: Arc<Neighbours>) -> Result<Self, DpdkError> {
        let watched = Arc::new(Watched {
            up: AtomicU32::new(u32::from(is_up(port))),
            stop: AtomicBool::new(false),
        });
        // SAFETY: the word stays until `unwatch_link` in `drop`, as this owns a part of it.
        unsafe { sys::watch_link(port, watched.up.as_ptr()) };
        let mut watch = Watch { port, watched: Arc::clone(&watched), thread: None };
        let thread = std::thread::Builder::new().name("dpdk-watch".into());
        let watching = thread.spawn(move || follow(port, &watched, &neighbours));
        watch.thread = Some(watching.map_err(DpdkError::Thread)?);
        Ok(watch)
    }

    pub(super) fn watched(&self) -> Arc<Watched> {
        Arc::clone(&self.watched)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watched.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends at the next look, and nothing is to be learned from how.
            let _ = thread.join();
        }
        // SAFETY: the pair of the call in `start`.
        unsafe { sys::unwatch_link(self.port, self.watched.up.as_ptr()) };
    }
}

fn follow(port: u16, watched: &Watched, neighbours: &Neighbours) {
    let mut was_up = watched.is_up();
    while !watched.stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(TICK);
        neighbours.tick();
        let up = is_up(port);
        watched.up.store(u32::from(up), Ordering::Relaxed);
        if was_up && !up {
            neighbours.forget();
        }
        was_up = up;
    }
}

/// A device that cannot tell counts as up.
fn is_up(port: u16) -> bool {
    // SAFETY: the device is open as long as it is watched.
    unsafe { sys::link_is_up(port) != 0 }
}
