//! The processes that the whole-system tests start: `nic-tests ROLE`, the role as JSON.
//!
//! Each is a thin shell around the real thing: an engine process, a target application, an
//! initiator. It talks to its test in lines: commands come on the standard input, answers of one
//! JSON object each leave on the standard output. At the end of its input it ends, so that no
//! process outlives its test.
#![forbid(unsafe_code)]

mod roles;

use std::process::ExitCode;

use nic_engine::daemon::{DaemonError, Exit};
use nic_tests::children::Role;
use nic_tests::counting_allocator::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    let Some(Ok(role)) = std::env::args().nth(1).map(|text| serde_json::from_str::<Role>(&text))
    else {
        eprintln!("found no role as first argument; the tests of this package give one as JSON");
        return ExitCode::from(2);
    };
    match roles::run(role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            error.downcast_ref().map_or(Exit::Failed, DaemonError::exit).into()
        }
    }
}
