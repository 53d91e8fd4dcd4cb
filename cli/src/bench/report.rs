//! What came of a bench, as a table, as JSON and as a picture.

use std::process::ExitCode;

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use nic_figures::table::number;
use nic_figures::{Figure, NoPlacement, Placement, Report};
use nic_host::Wait;
use serde_json::{Value, json};

use super::crew::Outcome;
use super::histogram;
use super::load::{Arguments, Load};
use super::tally::SLICE;

/// Under what circumstances it ran.
pub struct Circumstances {
    /// The port's name, if this program has chosen it.
    pub port: Option<&'static str>,
    /// As the local engine tells it.
    pub port_description: String,
    /// Who drives the local engine.
    pub initiator: &'static str,
    /// What else there is to be told.
    pub setup: Vec<(&'static str, Value)>,
    /// What the threads do while they wait.
    pub wait: Wait,
    /// What to know about the figures, one sentence each.
    pub notes: Vec<String>,
}

/// The share of its rate below which an open loop is said not to have kept it.
const KEPT: f64 = 0.99;
/// The latencies that are told, and how many percent of the ops took at most so long.
const PERCENTILES: [(&str, f64); 4] = [
    ("latency_p50_us", 50.0),
    ("latency_p90_us", 90.0),
    ("latency_p99_us", 99.0),
    ("latency_p99_9_us", 99.9),
];

/// Prints everything and says how the bench ends.
///
/// # Errors
/// The picture cannot be drawn or written.
pub fn tell(
    load: &Load,
    circumstances: &Circumstances,
    outcome: &Outcome,
    arguments: &Arguments,
) -> Result<ExitCode> {
    let report = report(load, circumstances, outcome);
    let notes = notes(load, circumstances, outcome);
    if arguments.json {
        println!("{}", report.to_json());
        notes.iter().for_each(|note| eprintln!("{note}"));
    } else {
        print!("{}", text(&report, load, circumstances, outcome, &notes));
    }
    let tally = &outcome.tally;
    if let Some(path) = arguments.plot.as_deref().filter(|_| tally.good > 0) {
        let svg = histogram::svg(&tally.latencies, &title(load, outcome))?;
        std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if tally.errors() == 0 && tally.good > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("nic: {}", what_went_wrong(outcome));
    Ok(ExitCode::FAILURE)
}

fn what_went_wrong(outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    let mut parts: Vec<String> = tally
        .failures()
        .map(|(status, count)| format!("{} failed: {status}", number(count as f64)))
        .collect();
    if let Some(first) = &tally.first_wrong {
        let count = number(tally.wrong as f64);
        parts.push(format!("{count} brought something else than expected, the first: {first}"));
    }
    if parts.is_empty() {
        parts.push("none has ended; give it more time with --duration".to_owned());
    }
    let early = match tally.given_up {
        true => " It was ended early, because nothing else came any more.",
        false => "",
    };
    let unknown = match tally.unknown {
        0 => String::new(),
        some => format!(" Of {} nobody knows whether they ran.", number(some as f64)),
    };
    format!("of {} ops {}.{unknown}{early}", number(tally.ended() as f64), parts.join("; "))
}

fn title(load: &Load, outcome: &Outcome) -> String {
    let (op, size, window) = (load.op.name, outcome.size, load.window);
    let connections = match load.connections {
        1 => String::new(),
        several => format!(", {several} connections"),
    };
    let pace =
        load.rate.map_or_else(String::new, |rate| format!(", {} ops/s due", number(rate as f64)));
    format!("{op} of {size} B, {window} out{connections}{pace}")
}

fn report(load: &Load, circumstances: &Circumstances, outcome: &Outcome) -> Report {
    let [before, after] = outcome.placement.clone();
    let micros = |time: std::time::Duration| time.as_micros() as u64;
    let mut report = Report::new("bench")
        .placement(before.clone().ok(), after.ok())
        .setup("op", load.op.name)
        .setup("size", outcome.size)
        .setup("window", load.window)
        .setup("batch", load.batch)
        .setup("connections", load.connections)
        .setup("threads", load.threads)
        .setup("loop", if load.rate.is_some() { "open" } else { "closed" })
        .setup("rate", json!(load.rate))
        .setup("wait", format!("{:?}", circumstances.wait).to_lowercase())
        .setup("duration_us", micros(load.duration))
        .setup("warmup_us", micros(load.warmup))
        .setup("deadline_us", micros(load.deadline))
        .setup("seed", load.seed)
        .setup("port", json!(circumstances.port))
        .setup("port_description", circumstances.port_description.as_str())
        .setup("initiator", circumstances.initiator);
    if let Err(reason) = before {
        report = report.setup("placement_unknown", reason.to_string());
    }
    for (key, value) in &circumstances.setup {
        report = report.setup(*key, value.clone());
    }
    report
        .results(rates(outcome))
        .results(latencies(outcome))
        .results(counts(outcome))
        .results(engine(outcome))
}

/// Rates over the whole time, with the extremes of its slices.
fn rates(outcome: &Outcome) -> Vec<Figure> {
    let tally = &outcome.tally;
    let seconds = SLICE.as_secs_f64();
    // The last slice may be shorter than the others.
    let whole = tally.slices.len().saturating_sub(usize::from(tally.slices.len() > 1));
    let each: Vec<f64> =
        tally.slices[..whole].iter().map(|count| *count as f64 / seconds).collect();
    let bytes_each = if tally.good == 0 { 0.0 } else { tally.bytes as f64 / tally.good as f64 };
    let figure = |name, unit, scale: f64| {
        let scaled: Vec<f64> = each.iter().map(|rate| rate * scale).collect();
        let figure = Figure::of(name, unit, &scaled)?;
        let value = tally.rate() * scale;
        let (min, max) = (figure.min.min(value), figure.max.max(value));
        Some(Figure { value, min, max, ..figure })
    };
    let rates = [figure("ops_per_s", "op/s", 1.0), figure("mb_per_s", "MB/s", bytes_each / 1e6)];
    rates.into_iter().flatten().collect()
}

fn latencies(outcome: &Outcome) -> Vec<Figure> {
    let latencies = &outcome.tally.latencies;
    if latencies.is_empty() {
        return Vec::new();
    }
    let figure = |name: &str, ns: f64| Figure::of(name, "us", &[ns / 1e3]);
    let percentile =
        |(name, percent): (&str, f64)| figure(name, latencies.value_at_percentile(percent) as f64);
    let mut figures: Vec<Figure> = PERCENTILES.into_iter().filter_map(percentile).collect();
    figures.extend(figure("latency_max_us", latencies.max() as f64));
    figures.extend(figure("latency_mean_us", latencies.mean()));
    figures
}

fn counts(outcome: &Outcome) -> Vec<Figure> {
    let tally = &outcome.tally;
    let mut figures = vec![
        Figure::count("ops", "ops", tally.good),
        Figure::count("errors", "ops", tally.errors()),
        Figure::count("wrong", "ops", tally.wrong),
        Figure::count("fate_unknown", "ops", tally.unknown),
        Figure::count("retries", "replies", tally.retries),
        Figure::count("overflowed", "ops", tally.overflowed),
        Figure::count("overdue", "ops", tally.overdue),
        Figure::count("given_up", "1 if it ended early", tally.given_up.into()),
    ];
    let failed = tally.failures();
    figures.extend(failed.map(|(status, n)| Figure::count(format!("failed.{status:?}"), "ops", n)));
    figures
}

/// What the local engine counted for each op.
fn engine(outcome: &Outcome) -> Vec<Figure> {
    let ended = outcome.tally.ended();
    let Some(counters) = outcome.counters.as_ref().filter(|_| ended > 0) else {
        return Vec::new();
    };
    let busy_us = counters.busy_ns as f64 / 1e3;
    let each = |name, unit, count: u64| Figure::of(name, unit, &[count as f64 / ended as f64]);
    [
        each("packets_per_op", "packets/op", counters.packets_sent + counters.packets_received),
        each("packets_sent_per_op", "packets/op", counters.packets_sent),
        each("packets_received_per_op", "packets/op", counters.packets_received),
        each("system_calls_per_op", "calls/op", counters.send_calls + counters.receive_calls),
        each("empty_polls_per_op", "calls/op", counters.empty_polls),
        Figure::of("engine_busy_us_per_op", "us/op", &[busy_us / ended as f64]),
        Some(Figure::count("retransmissions", "packets", counters.retransmissions)),
        Some(Figure::count("lone_acks", "packets", counters.lone_acks)),
        Some(Figure::count("asks", "times", counters.asks)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What to know about the figures, one sentence each.
fn notes(load: &Load, circumstances: &Circumstances, outcome: &Outcome) -> Vec<String> {
    let tally = &outcome.tally;
    let mut notes = circumstances.notes.clone();
    notes.push(match load.rate {
        None => {
            "Closed loop: latency counts from an op's submission; with --rate from when it was \
                 due."
                .to_owned()
        }
        Some(rate) if tally.overdue > 0 || tally.rate() < KEPT * rate as f64 => format!(
            "Open loop: the rate of {} ops/s was NOT kept ({} ops/s were, {} ops were due and not \
             sent at the end), so latency grew with time: give a lower --rate.",
            number(rate as f64),
            number(tally.rate()),
            number(tally.overdue as f64),
        ),
        Some(_) => "Open loop: latency counts from when an op was due.".to_owned(),
    });
    if tally.overflowed > 0 {
        notes.push(format!(
            "{} lookups found a bucket that had overflowed, whose owner would have to be asked; \
             they count as ops of no bytes.",
            number(tally.overflowed as f64)
        ));
    }
    notes.push(placement(&outcome.placement));
    if nic_figures::result::PROFILE == "debug" {
        notes.push("This build is not optimised: use --release for figures.".to_owned());
    }
    notes
}

fn placement(placement: &[Result<Placement, NoPlacement>; 2]) -> String {
    match placement {
        [Ok(before), Ok(after)] if before.same_as(after) => format!(
            "The cores stayed where they were: a cache line took {:.0} ns there and back before, \
             {:.0} ns after.",
            before.round_trip_ns, after.round_trip_ns
        ),
        [Ok(before), Ok(after)] => format!(
            "The cores MOVED meanwhile: a cache line took {:.0} ns there and back before, {:.0} ns \
             after; run again, and compare only runs with equal times.",
            before.round_trip_ns, after.round_trip_ns
        ),
        [Err(reason), _] | [_, Err(reason)] => {
            format!("Whether the cores stayed where they were is not known: {reason}.")
        }
    }
}

/// The whole output for a person.
fn text(
    report: &Report,
    load: &Load,
    circumstances: &Circumstances,
    outcome: &Outcome,
    notes: &[String],
) -> String {
    let mut text = format!("{}; {}\n", title(load, outcome), circumstances.port_description);
    text.push_str(&table(report));
    let histogram = histogram::text(&outcome.tally.latencies);
    if !histogram.is_empty() {
        text.push_str(&format!("latency of {} ops\n{histogram}\n", outcome.tally.latencies.len()));
    }
    notes.iter().for_each(|note| text.push_str(&format!("{note}\n")));
    text
}

/// The figures, without the counts that are nothing.
fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["figure", "value", "unit"]);
    for figure in report.figures() {
        let is_dull = figure.value == 0.0 && figure.name != "errors";
        if !is_dull {
            table.add_row([figure.name.clone(), number(figure.value), figure.unit.clone()]);
        }
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}
