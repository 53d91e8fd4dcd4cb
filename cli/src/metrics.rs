//! `nic metrics`: what is counted, and what it came to, read from the counters file: no engine
//! needs to run, nor is one disturbed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use nic_engine::daemon::{CountersFile, default_socket};
use nic_engine::engine::{Counters, Metric, MetricKind};
use nic_figures::table::number;
use serde_json::json;

/// Options of `nic metrics`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print each metric with its kind, its unit and its meaning, and no values.
    #[arg(long, conflicts_with_all = ["socket", "file"])]
    list: bool,
    /// The socket beside which the counters file lies [default: as for `nic serve`].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The counters file itself; it may be a copy from elsewhere.
    #[arg(long, value_name = "PATH", conflicts_with = "socket")]
    file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the metrics.
///
/// # Errors
/// There is no counters file, or it cannot be read.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        match arguments.json {
            true => println!("{}", serde_json::to_string(Counters::LIST)?),
            false => print!("{}", list(Counters::LIST)),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let file = CountersFile::open(&arguments.path())?;
    match arguments.json {
        true => println!("{}", json(&file)?),
        false => print!("{}", text(&file)?),
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn path(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| {
            CountersFile::path(&self.socket.clone().unwrap_or_else(default_socket))
        })
    }
}

/// How a metric is to be read, for people.
fn kind(metric: &Metric) -> &'static str {
    match metric.kind {
        MetricKind::Total => "total",
        MetricKind::Longest => "longest",
        MetricKind::Gauge => "now",
    }
}

fn list(metrics: &[Metric]) -> String {
    let width = metrics.iter().map(|metric| metric.name.len()).max().unwrap_or(0);
    let line = |metric: &Metric| {
        let Metric { name, unit, meaning, .. } = metric;
        format!("{name:width$}  {:7}  {unit:8}  {meaning}\n", kind(metric))
    };
    metrics.iter().map(line).collect()
}

fn values(file: &CountersFile) -> Result<Vec<Vec<u64>>> {
    let of_engine = |engine| file.values(engine).context("the counters file has changed");
    (0..file.engines()).map(of_engine).collect()
}

/// Whether the process that writes the file runs.
pub fn writer_runs(file: &CountersFile) -> bool {
    i32::try_from(file.pid()).ok().and_then(rustix::process::Pid::from_raw).is_some_and(|pid| {
        match rustix::process::test_kill_process(pid) {
            Ok(()) => true,
            Err(error) => error == rustix::io::Errno::PERM,
        }
    })
}

fn text(file: &CountersFile) -> Result<String> {
    let state = if writer_runs(file) { "which runs" } else { "which has ended" };
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    let engines = (0..file.engines()).map(|engine| format!("engine {engine}"));
    table.set_header(["metric", "unit"].map(str::to_owned).into_iter().chain(engines));
    let values = values(file)?;
    for (index, metric) in file.metrics().iter().enumerate() {
        let of_engines = values.iter().map(|engine| number(engine[index] as f64));
        let named = [&*metric.name, &*metric.unit].map(str::to_owned);
        table.add_row(named.into_iter().chain(of_engines));
    }
    for column in 2..2 + file.engines() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let (pid, version) = (file.pid(), file.version());
    Ok(format!("counters of engine process {pid}, {state}, version {version}\n{table}\n"))
}

fn json(file: &CountersFile) -> Result<serde_json::Value> {
    let engine = |values: Vec<u64>| {
        let named = file.metrics().iter().zip(values);
        let counters = named.map(|(metric, value)| (metric.name.to_string(), value.into()));
        serde_json::Value::Object(counters.collect())
    };
    Ok(json!({
        "pid": file.pid(),
        "runs": writer_runs(file),
        "version": file.version(),
        "started": file.started().as_secs(),
        "engines": values(file)?.into_iter().map(engine).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_listed_with_its_meaning() {
        let text = list(Counters::LIST);
        assert_eq!(text.lines().count(), Counters::COUNT);
        let line = text.lines().find(|line| line.starts_with("longest_turn_ns")).unwrap();
        assert!(line.contains("longest") && line.contains("ns"), "{line}");
        assert!(line.ends_with("The longest turn."), "{line}");
    }

    #[test]
    fn a_file_is_shown_with_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters");
        CountersFile::create(&path, 2).unwrap();
        let file = CountersFile::open(&path).unwrap();
        let text = text(&file).unwrap();
        let pid = std::process::id();
        assert!(text.contains(&format!("process {pid}, which runs")), "{text}");
        assert!(text.contains("engine 1") && text.contains("packets_sent"), "{text}");
        assert_eq!(json(&file).unwrap()["engines"][1]["turns"], 0);
    }
}
