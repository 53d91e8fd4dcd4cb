//! Threads of a process of engines.

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};

/// Starts a thread, and returns when it has done what comes `first`: what threads need of the system
/// only as they begin is over then, and the filter of system calls need not have it.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn start(
    name: String,
    first: impl FnOnce() + Send + 'static,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (begun, wait) = sync_channel(0);
    let thread = Builder::new().name(name).spawn(move || {
        first();
        let _ = begun.send(());
        body();
    })?;
    // A thread that panicked before is noticed when it is joined.
    let _ = wait.recv();
    Ok(thread)
}
