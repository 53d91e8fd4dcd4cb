//! Figures that can be trusted on machines whose cores move.
//!
//! A virtual machine's cores wander between physical ones every few seconds, and everything that
//! crosses between two cores becomes up to five times faster or slower with them. This crate is
//! what the `nic` command (`nic demo`, `nic bench`) and the benches share to measure all the same:
//!
//! - [`PlacementProbe`] tells where the cores are, by timing one cache line between them;
//! - [`Interleave`] lets the sides of a comparison take turns in short slices, drops the slices
//!   during which the machine moved, and compares only what ran in the same round and placement;
//! - [`Report`] is the result, as one JSON object for programs or a table for people;
//! - [`LatencyRecorder`] and [`median`] sum up samples, [`Chase`] measures dependent loads,
//!   [`cores`] picks and pins cores, [`plot`] draws SVG.
//!
//! Quote medians and ratios; p50 can be trusted on such machines, p99.9 and maxima cannot.
//! Figures are reported and never asserted: what tests assert is counts, which no noise touches.
//!
//! The crate knows nothing of the rest of the project and holds no unsafe code.
//!
//! # Example
//!
//! Two ways to add up a list, and how much faster one is than the other:
//!
//! ```
//! use std::hint::black_box;
//! use std::time::{Duration, Instant};
//! use nic_figures::{Interleave, PlacementProbe, Report, SliceResult, Subject};
//! use nic_figures::LatencyRecorder;
//!
//! /// Runs one op again and again for `time`; its latencies and its rate.
//! fn measure(time: Duration, latencies: &mut LatencyRecorder, op: impl Fn()) -> SliceResult {
//!     latencies.clear();
//!     let start = Instant::now();
//!     while start.elapsed() < time {
//!         let before = Instant::now();
//!         op();
//!         latencies.record(before.elapsed().as_nanos() as u64);
//!     }
//!     let rate = latencies.recorded() as f64 / start.elapsed().as_secs_f64();
//!     match latencies.p50() {
//!         Some(p50) => SliceResult::new().value("p50", p50 as f64).value_in("rate", rate, "op/s"),
//!         None => SliceResult::failed("the slice was too short for one op"),
//!     }
//! }
//!
//! let list: Vec<u64> = (0..1000).collect();
//! let (mut of_add, mut of_fold) =
//!     (LatencyRecorder::with_capacity(100_000), LatencyRecorder::with_capacity(100_000));
//! let mut probe = PlacementProbe::choose();
//! let measured = Interleave::new(&mut probe, Duration::from_millis(5))
//!     .add(Subject::new("add", "ns", |time| {
//!         measure(time, &mut of_add, || { black_box(list.iter().sum::<u64>()); })
//!     }))
//!     .add(Subject::new("fold", "ns", |time| {
//!         measure(time, &mut of_fold, || { black_box(list.iter().fold(0, |a, b| a ^ b)); })
//!     }))
//!     .run(8);
//!
//! let report = Report::new("example")
//!     .setup("list", list.len())
//!     .measured(&measured)
//!     .results(measured.figures())
//!     .results(measured.ratio("add.p50", "fold.p50"));
//! let json = std::env::args().any(|argument| argument == "--json");
//! println!("{}", if json { report.to_json() } else { report.to_text() });
//! let exit_code = std::process::ExitCode::from(report.exit_code(json));
//! # let _ = exit_code;
//! ```

#![forbid(unsafe_code)]

#[cfg(test)]
mod build_profile;
pub mod chase;
pub mod cores;
mod measured;
mod ping_pong;
pub mod placement;
pub mod plot;
mod probe_threads;
mod random;
pub mod result;
pub mod sample;
pub mod slices;
pub mod table;

pub use chase::{Chase, Words};
pub use cores::CorePair;
pub use measured::{GOOD_ROUNDS_MIN, Measured, SliceCounts};
pub use placement::{NoPlacement, Placement, PlacementProbe, Probe};
pub use result::{Figure, Report};
pub use sample::{LatencyRecorder, median};
pub use slices::{Interleave, SliceResult, Subject};
