//! A poll-mode user-space software NIC: it executes one-sided operations, and programs, next to
//! memory, and wakes no thread of the application that owns the memory.
//!
//! | module | what |
//! |---|---|
//! | [`engine`] | the engine itself: one turn after another on a [`nic_ports::Port`] |
//! | [`daemon`] | a process of engines: pinned threads, the control socket, configuration |
//! | [`flusher`] | the thread that writes regions to their files |
//! | [`ports`] | which port an engine gets, as a configuration says it |
//! | [`plane`] | control messages into engine work and back |
//! | [`waiting`] | what a thread does that finds nothing to do |
//!
//! An engine knows flows, sessions, regions and kernels; it does not know sockets of applications,
//! files or clocks: those belong to whoever drives it, a [`daemon`] or an application.
#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("nic-engine needs Linux 5.14 or newer");

pub mod clock;
pub mod daemon;
pub mod engine;
pub mod flusher;
pub mod plane;
pub mod ports;
pub mod waiting;

mod local;
mod protection;
mod threads;

pub use local::LocalEngine;
/// The kernels that the daemon runs.
pub use nic_kernels::Builtin;
pub use protection::Crc32;
