//! What the demo found, as a table, as JSON and as a picture.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use nic_engine::ports::PortKind;
use nic_figures::plot::BarChart;
use nic_figures::table::number;
use nic_figures::{Figure, Measured, Report};
use nic_shm::PageKind;
use serde_json::json;

use super::counts::Per;
use super::measure::Tallies;
use super::pairs::Sizes;
use super::plain::Lengths;
use super::plan::Plan;
use super::world::World;
use crate::pair::PairPort;

/// Under what circumstances.
pub struct Setup<'s> {
    pub plan: &'s Plan,
    pub world: &'s World,
    pub sizes: Sizes,
    pub pairs: u64,
    pub seed: u64,
    pub rounds: u32,
    pub slice: Duration,
    pub lengths: Lengths,
    pub chase_pages: PageKind,
    pub input: Option<&'s Path>,
}

/// What came out.
pub struct Outcome {
    pub measured: Measured,
    pub tallies: Tallies,
    pub verified: u64,
    pub answers_while_stopped: bool,
    pub errors: u64,
    pub first_error: Option<String>,
    pub overflow_calls: u64,
}

/// The latencies: name of the result, of the measured value, and what it is for people.
const LATENCIES: [(&str, &str, &str); 6] = [
    ("read_p50_us", "read.p50", "READ of 64 B"),
    ("two_reads_p50_us", "two_reads.p50", "2xR: bucket, then entry"),
    ("scar_p50_us", "scar.p50", "SCAR: Scan-and-Read"),
    ("call_threaded_p50_us", "call_threaded.p50", "CALL, owner sleeps"),
    ("call_polled_p50_us", "call_polled.p50", "CALL, owner polls"),
    ("port_rtt_p50_us", "port_rtt.p50", "port alone, no engines"),
];

/// Prints everything and says how the demo ends.
pub fn tell(
    setup: &Setup<'_>,
    outcome: &Outcome,
    json: bool,
    plot: Option<&Path>,
) -> Result<ExitCode> {
    let report = Report::new("demo").measured(&outcome.measured).results(results(outcome));
    let report = circumstances(report, setup);
    if let Some(path) = plot {
        draw(&report, setup, path)?;
    }
    if json {
        println!("{}", report.to_json());
        for note in notes(setup, outcome) {
            eprintln!("{note}");
        }
    } else {
        print!("{}", text(&report, setup, outcome));
    }
    if let Some(first) = &outcome.first_error {
        eprintln!("nic: {} lookups went wrong; the first: {first}", outcome.errors);
        return Ok(ExitCode::FAILURE);
    }
    if !outcome.answers_while_stopped {
        eprintln!("nic: Scan-and-Read did not answer while the target application was stopped");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::from(report.exit_code(json)))
}

/// All results, by their final names.
fn results(outcome: &Outcome) -> Vec<Figure> {
    let measured = &outcome.measured;
    let mut results = Vec::new();
    for (name, value, _) in LATENCIES {
        results.extend(measured.figure(value).map(|figure| figure.named(name)));
    }
    results.extend(measured.figure("dependent_load").map(|f| f.named("dependent_load_ns")));
    results.extend(scar_over_port(measured));
    let ratio = measured.ratio("two_reads.p50", "scar.p50");
    results.extend(ratio.map(|figure| figure.named("two_reads_over_scar")));
    for (name, value) in [("scar_mops_window_64", "scar_64"), ("scar_mops_window_256", "scar_256")]
    {
        results.extend(measured.figure(value).map(|figure| figure.named(name)));
    }
    results.extend(counts(&outcome.tallies));
    results.push(Figure::count("errors", "lookups", outcome.errors));
    results.push(Figure::count("overflow_calls", "calls", outcome.overflow_calls));
    results.push(Figure::count("pairs_verified", "pairs", outcome.verified));
    let stopped = u64::from(outcome.answers_while_stopped);
    results.push(Figure::count("scar_while_target_stopped", "1 if it answered", stopped));
    results
}

/// What is left of a Scan-and-Read without the port and the two loads that depend on each other.
fn scar_over_port(measured: &Measured) -> Option<Figure> {
    let loads_us = 2.0 * measured.figure("dependent_load")?.value / 1e3;
    let over_port = measured.difference("scar.p50", "port_rtt.p50")?;
    Some(Figure {
        name: "scar_over_port_us".to_owned(),
        value: over_port.value - loads_us,
        min: over_port.min - loads_us,
        max: over_port.max - loads_us,
        ..over_port
    })
}

fn counts(tallies: &Tallies) -> Vec<Figure> {
    let (two_reads, scar) = (tallies.two_reads.borrow(), tallies.scar.borrow());
    let (many, most) = (tallies.scar_64.borrow(), tallies.scar_256.borrow());
    let call = tallies.call_threaded.borrow();
    [
        scar.figure("scar_round_trips", "op frames/GET", Per::RoundTrips),
        two_reads.figure("two_reads_round_trips", "op frames/GET", Per::RoundTrips),
        scar.figure("scar_retries", "retries/GET", Per::Retries),
        scar.figure("packets_per_op_window_1", "packets/GET", Per::Packets),
        many.figure("packets_per_op_window_64", "packets/GET", Per::AllPackets),
        most.figure("syscalls_per_op_window_256", "calls/GET", Per::SystemCalls),
        most.figure("initiator_turns_us_per_get_window_256", "us/GET", Per::InitiatorTurnsUs),
        most.figure("target_turns_us_per_get_window_256", "us/GET", Per::TargetTurnsUs),
        most.figure("retransmissions_per_op_window_256", "packets/GET", Per::Retransmissions),
        scar.figure("initiator_turns_us_per_get", "us/GET", Per::InitiatorTurnsUs),
        scar.figure("empty_polls_per_op", "calls/GET", Per::EmptyPolls),
        scar.figure("target_busy_us_per_get_scar", "us/GET", Per::TargetBusyUs),
        call.figure("target_busy_us_per_get_call_threaded", "us/GET", Per::TargetBusyUs),
        scar.figure("cpu_us_target_app_scar", "us/GET", Per::OwnerCpuUs),
        call.figure("cpu_us_target_app_call_threaded", "us/GET", Per::OwnerCpuUs),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn circumstances(report: Report, setup: &Setup<'_>) -> Report {
    let Setup { plan, world, .. } = setup;
    let pids: serde_json::Map<_, _> =
        world.pids().into_iter().map(|(who, pid)| (who.to_owned(), json!(pid))).collect();
    let cores = json!({
        "available": plan.cores.count,
        "initiator": plan.cores.initiator,
        "target": plan.cores.target,
        "target_application": plan.cores.owner,
        "siblings": plan.cores.siblings,
    });
    let input = setup.input.map(|path| path.display().to_string());
    report
        .setup("port", plan.port.name())
        .setup("port_description", world.main.nic.port())
        .setup("initiator", plan.initiator.name())
        .setup("target", "process")
        .setup("call_polled_target", plan.polled.name())
        .setup("cores", cores)
        .setup("pids", pids)
        .setup("pages", json!(world.main.ready.pages))
        .setup("chase_pages", setup.chase_pages.to_string())
        .setup("region_bytes", json!(world.main.ready.bytes))
        .setup("pairs", setup.pairs)
        .setup("overflowed_keys", world.main.ready.overflowed)
        .setup("input", json!(input))
        .setup("key_bytes_max", setup.sizes.key_max)
        .setup("value_bytes_max", setup.sizes.value_max)
        .setup("request_packet_bytes", setup.lengths.request)
        .setup("reply_packet_bytes", setup.lengths.reply)
        .setup("seed", setup.seed)
        .setup("rounds", setup.rounds)
        .setup("slice_ms", setup.slice.as_millis() as u64)
}

/// The whole output for a person.
fn text(report: &Report, setup: &Setup<'_>, outcome: &Outcome) -> String {
    let value = |name: &str| {
        let figure = report.figures().iter().find(|figure| figure.name == name);
        figure.map(|figure| figure.value)
    };
    let shown = |name: &str| value(name).map_or_else(|| "-".to_owned(), number);
    let mut lines = vec![introduction(setup)];
    lines.push(table(&shown));
    lines.push(format!(
        "Scan-and-Read, many at once: {} Mops with 64 out, {} Mops with 256 out.",
        shown("scar_mops_window_64"),
        shown("scar_mops_window_256"),
    ));
    lines.push(format!(
        "Two READs take {} times as long as one Scan-and-Read, which is {} us above the port \
         alone ({} us) and two dependent loads ({} ns each).",
        shown("two_reads_over_scar"),
        shown("scar_over_port_us"),
        shown("port_rtt_p50_us"),
        shown("dependent_load_ns"),
    ));
    lines.push(format!(
        "All {} pairs were read and compared, and every value read while timing: {} errors, {} \
         keys asked of the owner because their bucket had overflowed.",
        number(outcome.verified as f64),
        outcome.errors,
        outcome.overflow_calls,
    ));
    if outcome.answers_while_stopped {
        lines.push(
            "With the target application stopped (SIGSTOP) Scan-and-Read answered all the same."
                .to_owned(),
        );
    }
    lines.push(String::new());
    lines.extend(notes(setup, outcome));
    lines.push(String::new());
    lines.join("\n")
}

fn introduction(setup: &Setup<'_>) -> String {
    let pids = setup.world.pids();
    let pids: Vec<String> =
        pids.iter().map(|(who, pid)| format!("{} {pid}", who.replace('_', " "))).collect();
    format!(
        "{} pairs in the memory of another process; processes: {}.\n{}\n",
        number(setup.pairs as f64),
        pids.join(", "),
        setup.world.main.nic.port(),
    )
}

fn table(shown: &impl Fn(&str) -> String) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["one lookup at a time", "p50 us", "round trips", "target busy us"]);
    let row = |name: &str, latency: &str, trips: String, busy: &str| {
        [name.to_owned(), shown(latency), trips, shown(busy)]
    };
    for (latency, _, name) in LATENCIES {
        table.add_row(match latency {
            "two_reads_p50_us" => row(name, latency, shown("two_reads_round_trips"), "-"),
            "scar_p50_us" => {
                row(name, latency, shown("scar_round_trips"), "target_busy_us_per_get_scar")
            }
            "call_threaded_p50_us" => {
                row(name, latency, "1".to_owned(), "target_busy_us_per_get_call_threaded")
            }
            _ => row(name, latency, "1".to_owned(), "-"),
        });
    }
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}

/// What to know about the figures, one sentence each.
fn notes(setup: &Setup<'_>, outcome: &Outcome) -> Vec<String> {
    let mut notes = setup.plan.limits();
    let pages = &setup.world.main.ready.pages;
    if pages.iter().any(|pages| pages == "4 KiB") {
        let each: u64 = setup.world.main.ready.bytes.iter().map(|b| b.div_ceil(2 << 20)).sum();
        // Besides the tables there is the memory of the dependent loads.
        let all = each * (setup.plan.tables() + 1);
        notes.push(format!(
            "The table lies on pages of 4 KiB, so most loads miss the TLB as well; with huge pages \
             (`sudo sysctl -w vm.nr_hugepages={all}`, see `nic doctor`) everything is faster."
        ));
    }
    if !matches!(setup.plan.port, PairPort::Ring | PairPort::Kind(PortKind::Udp)) {
        notes.push("The figure of the port alone is that of kernel UDP.".to_owned());
    }
    if outcome.measured.figure("call_threaded.p50").is_none() && outcome.errors == 0 {
        let most = super::world::CALL_VALUE_MAX;
        notes.push(format!(
            "CALL was not measured: its answers are one packet here, and no value of this input is up \
             to {most} bytes long."
        ));
    }
    notes.push(format!(
        "Slices of {} ms: {}.",
        setup.slice.as_millis(),
        outcome.measured.summary()
    ));
    notes
}

fn draw(report: &Report, setup: &Setup<'_>, path: &Path) -> Result<()> {
    let title = format!("One lookup, p50, port {}", setup.plan.port.name());
    let mut chart = BarChart::new(title, "us");
    for (name, _, label) in LATENCIES {
        if let Some(figure) = report.figures().iter().find(|figure| figure.name == name) {
            chart = chart.bar(label, figure.value);
        }
    }
    let svg = chart.to_svg().context("the picture cannot be drawn")?;
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}
