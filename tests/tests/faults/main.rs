//! Real processes under faults: kill -9, stops, restarts, forks and holes at random points of load.
//!
//! Whatever dies, every op of a survivor ends by its deadline with a typed status, survivors go on,
//! who was restarted serves again, and in the end nothing is left of all of it.
//!
//! The engines' port is udp unless `NIC_TEST_PORT` says `xdp` (as root) or `vhost` (with the feature
//! `dpdk` and huge pages): see `nic_tests::wire`.
//!
//! A run is repeated with `NIC_SEED=n`; each prints its seed and its counts
//! (`cargo test -p nic-tests --test faults -- --nocapture`).

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

mod engines;
mod forks;
mod holes;
mod kills;
mod limits;
mod residue;
mod scene;
mod tally;

use std::sync::{Mutex, MutexGuard, PoisonError};

const PROGRAM: &str = env!("CARGO_BIN_EXE_nic-tests");

/// One scene at a time: its processes need the machine's cores.
fn machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}
