//! Instructions that a target engine spends on an op, in user space: counts, which noise cannot
//! touch. Valgrind's callgrind counts them, between the toggles around the target's turns. And how
//! often the payload of a READ is copied: valgrind's lackey counts what is stored.

mod copies;
mod driven;
mod pair;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use nic_figures::{Figure, Report};
use serde::{Deserialize, Serialize};

use self::pair::Pair;
use super::Arguments;

/// The hidden command of the counted process, followed by its options.
pub(super) const COMMAND: &str = "__instructions";

/// What is counted: everything below this function.
const COUNTED: &str = "--toggle-collect=*target_turn*";

/// What a READ asks for whose instructions are counted, in bytes.
const READ_BYTES: u32 = 64;

/// Batches of the two runs whose difference is taken: start and end fall out of it.
const BATCHES: [u32; 2] = [40, 140];

/// What the pair is joined by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Join {
    Udp,
    Ring,
}

impl Join {
    const ALL: [Join; 2] = [Join::Udp, Join::Ring];

    fn name(self) -> &'static str {
        match self {
            Join::Udp => "udp",
            Join::Ring => "ring",
        }
    }
}

/// What the initiator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Asked {
    Read,
    Scar,
}

impl Asked {
    const ALL: [Asked; 2] = [Asked::Read, Asked::Scar];

    fn name(self) -> &'static str {
        match self {
            Asked::Read => "read",
            Asked::Scar => "scar",
        }
    }
}

/// One run of the counted process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Options {
    join: Join,
    asked: Asked,
    /// What a READ asks for, in bytes.
    read_bytes: u32,
    /// Ops out at once.
    window: u32,
    /// How often the window is filled and emptied.
    batches: u32,
}

pub(super) fn run(_: &Arguments) -> Result<Report> {
    let mut report = Report::new("nic-benches instructions")
        .setup("counter", "valgrind --tool=callgrind, the target engine's turns only")
        .setup("value_bytes", pair::VALUE_BYTES as u64)
        .setup("read_bytes", READ_BYTES)
        .setup("copied_read_bytes", serde_json::json!(copies::READ_BYTES))
        .setup("entries", pair::ENTRIES);
    for join in Join::ALL {
        for asked in Asked::ALL {
            for window in [256, 1] {
                let per_op = per_op(join, asked, window)?;
                let name = match window {
                    1 => {
                        format!("target_instructions_per_{}_window_1_{}", asked.name(), join.name())
                    }
                    _ => format!("target_instructions_per_{}_{}", asked.name(), join.name()),
                };
                report = report.result(Figure::count(name, "instructions/op", per_op));
            }
        }
        report = report.results(copies::figure(join)?);
    }
    Ok(report)
}

fn per_op(join: Join, asked: Asked, window: u32) -> Result<u64> {
    // As many ops whatever the window.
    let scale = 256 / window;
    let counts = BATCHES.map(|batches| {
        let batches = batches * scale;
        count(&Options { join, asked, read_bytes: READ_BYTES, window, batches })
    });
    let [few, many] = counts;
    let ops = u64::from((BATCHES[1] - BATCHES[0]) * 256);
    Ok((many? - few?) / ops)
}

/// Instructions of one run, below callgrind.
fn count(options: &Options) -> Result<u64> {
    let said = valgrind(
        &["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no", COUNTED],
        options,
    )?;
    let line = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = line.with_context(|| format!("valgrind told no count: {said}"))?;
    Ok(count.trim().parse()?)
}

/// Runs this program below one of valgrind's tools, and returns what that says.
fn valgrind(tool: &[&str], options: &Options) -> Result<String> {
    let output = Command::new("valgrind")
        .args(tool)
        .arg(std::env::current_exe()?)
        .args([COMMAND, &serde_json::to_string(options)?])
        .output()
        .context("valgrind cannot be run: sudo apt-get install valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind ended with {}: {said}", output.status);
    Ok(said.into_owned())
}

/// The whole life of the counted process.
pub(super) fn process(options: &str) -> Result<()> {
    let options: Options = serde_json::from_str(options)?;
    Pair::joined(options.join)?.run(&options)
}
