//! What the processes do.

mod application;
mod engine;
mod flood;
mod forker;
mod initiator;
mod load;
mod log_owner;
mod meddler;
mod messages;
mod racer;
mod target;
mod writer;

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use nic_engine::Builtin;
use nic_engine::daemon::{self, Config, DaemonError};
use nic_host::Wait;
use nic_tests::children::{Role, Waiting};
use nic_tests::watched_port::Watch;
use nic_tests::{counting_allocator, system_call_trap};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::{Value, json};

/// Runs the process until its input ends.
pub(crate) fn run(role: Role) -> Result<()> {
    // Even a process that its test has stopped goes when the test does.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match role {
        Role::Daemon(config) => {
            std::thread::spawn(|| obey(|_| Ok(Value::Null)));
            let config = Config::read(&config).map_err(DaemonError::from)?;
            Ok(daemon::run::<Builtin>(&config)?)
        }
        Role::Engine(options) => engine::run(&options),
        Role::Target(options) => target::run(options),
        Role::Initiator(options) => initiator::run(options),
        Role::Writer(options) => writer::run(&options),
        Role::Racer(options) => racer::run(&options),
        Role::Application(options) => application::run(&options),
        Role::Forker(options) => forker::run(&options),
        Role::Meddler(options) => meddler::run(&options),
        Role::Load(options) => load::run(options),
        Role::Messages(options) => messages::run(options),
        Role::LogOwner(options) => log_owner::run(&options),
    }
}

/// Carries out the commands of the test. Ends the process at the end of the input.
fn obey(mut command: impl FnMut(&str) -> Result<Value>) -> ! {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        say(command(&line));
    }
    std::process::exit(0);
}

/// Makes change after change, on a core if one is named, and says how many on `changes`; or what went
/// wrong, and ends.
fn change_without_pause(
    core: Option<usize>,
    mut change: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let changes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&changes);
    std::thread::spawn(move || {
        obey(|command| match command {
            "changes" => Ok(json!({ "changes": counted.load(Ordering::Relaxed) })),
            other => anyhow::bail!("found the command {other:?}, expected changes"),
        })
    });
    if let Some(id) = core {
        // Where it is put otherwise, the race takes longer to happen.
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    for count in 1.. {
        if let Err(error) = change(count) {
            // The next answer, whatever is asked.
            say(Err(error));
            std::process::exit(1);
        }
        changes.store(count, Ordering::Relaxed);
    }
    Ok(())
}

/// Says one line to the test.
fn say(answer: Result<Value>) {
    let answer = answer.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
    let mut output = std::io::stdout().lock();
    // A test that is gone hears nothing; the process ends with its input.
    let _ = writeln!(output, "{answer}").and_then(|()| output.flush());
}

/// Begins to watch, or says what was seen: the commands that all watched processes know.
fn watch_command(watch: &Watch, command: &str) -> Result<Value> {
    match command {
        "watch" => {
            system_call_trap::report_violations()?;
            watch.begin();
            Ok(json!({}))
        }
        "seen" => {
            let seen = counting_allocator::seen();
            Ok(json!({
                "watched": watch.watched(),
                "allocations": seen.allocations,
                "frees": seen.frees,
                "first_bytes": seen.first_bytes,
            }))
        }
        other => anyhow::bail!("found the command {other:?}, expected watch or seen"),
    }
}

fn wait_of(waiting: Waiting) -> Wait {
    match waiting {
        Waiting::Spin => Wait::Spin,
        Waiting::Adaptive => Wait::Adaptive,
        Waiting::Block => Wait::Block,
    }
}
