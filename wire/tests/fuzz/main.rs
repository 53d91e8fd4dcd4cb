//! Arbitrary and mutated input for every parser of this crate: nothing panics, what is understood
//! is written again as it was, and what is written is understood.
//!
//! `cargo test` runs a bounded number of random inputs and the corpus in `__fuzz__`;
//! CONTRIBUTING.md says how to let a coverage-guided fuzzer search on.
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod control;
mod mutation;
mod packets;
mod session;
mod tickets;

/// Random inputs of each harness in `cargo test`: together a second or two without optimisation.
const ITERATIONS: usize = 16_000;
