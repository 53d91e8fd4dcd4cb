//! `nic doctor`: what this machine has and lacks, with the command that mends each.

mod engine;
mod hardening;
mod machine;
mod memory;
mod network;
mod tuning;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use nic_engine::daemon::{CountersFile, default_socket};
use serde::Serialize;

/// Options of `nic doctor`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    /// As it should be.
    Good,
    /// It works, and could be faster or roomier.
    Slow,
    /// It does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    what: &'static str,
    grade: Grade,
    found: String,
    /// The command, or the step, that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Finding { what, grade: Grade::Good, found: found.into(), mend: None }
    }

    fn slow(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { what, grade: Grade::Slow, found: found.into(), mend: Some(mend.into()) }
    }

    fn bad(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { grade: Grade::Bad, ..Finding::slow(what, found, mend) }
    }
}

/// All findings, as `--json` prints them.
#[derive(Debug, Serialize)]
struct Findings {
    usable: bool,
    findings: Vec<Finding>,
}

/// Looks at everything. Ends 0 if the machine is usable.
///
/// # Errors
/// None: what cannot be looked at is a finding.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (root, socket) = (Path::new("/"), default_socket());
    let mut findings = vec![
        machine::kernel(),
        machine::cores(),
        tuning::isolated(root),
        tuning::governor(root),
        machine::quota(),
        machine::clock(),
        machine::container(),
        network::udp(),
        network::receive_buffer(),
        tuning::send_buffer(root),
        memory::huge_pages(),
        memory::locked(),
        hardening::seccomp(root),
        hardening::folder(&socket),
        network::socket(),
        engine::warnings(&socket),
        engine::last(&CountersFile::path(&socket)),
        engine::crowding(&CountersFile::path(&default_socket())),
    ];
    findings.extend(network::others());
    let usable = findings.iter().all(|finding| finding.grade != Grade::Bad);
    let findings = Findings { usable, findings };
    if arguments.json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        print!("{}", text(&findings));
    }
    Ok(if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(findings: &Findings) -> String {
    let mut lines = Vec::new();
    for Finding { what, grade, found, mend } in &findings.findings {
        let mark = match grade {
            Grade::Good => "good",
            Grade::Slow => "slow",
            Grade::Bad => "BAD ",
        };
        lines.push(format!("{mark}  {what}: {found}"));
        lines.extend(mend.iter().map(|mend| format!("        -> {mend}")));
    }
    lines.push(match findings.usable {
        true => "This machine is usable.".to_owned(),
        false => "This machine is not usable until what is BAD is mended.".to_owned(),
    });
    lines.push(String::new());
    lines.join("\n")
}

/// A file's text without white space around it, if it can be read.
fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_its_command_and_a_bad_one_decides() {
        let findings = Findings {
            usable: false,
            findings: vec![
                Finding::good("cores", "8"),
                Finding::bad("kernel", "Linux 4.19", "install Linux 5.14"),
            ],
        };
        let text = text(&findings);
        assert!(text.contains("BAD   kernel: Linux 4.19\n        -> install Linux 5.14"), "{text}");
        assert!(text.contains("not usable"));
    }
}
