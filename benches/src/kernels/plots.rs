//! Pictures of what was measured.

use std::path::Path;

use anyhow::{Context, Result};
use nic_figures::Measured;
use nic_figures::plot::{BarChart, LineChart, PlotError};

use super::subjects::{LENGTHS, SIZED_LENGTH, SIZES, STALENESS};
use super::{interleaved, streams};

/// StRoM's modes: what a name begins with, and what it means.
const WALKS: [(&str, &str); 3] = [
    ("traverse", "TRAVERSE: one op"),
    ("client_walk", "a READ per hop"),
    ("rpc_walk", "a call of the application"),
];

/// Draws all of them into a folder, which is made if it is not there. Of a run with too few good
/// slices, those are left out that have none.
pub(super) fn draw(folder: &Path, measured: &Measured, ports: &[&str]) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    let write = |name: &str, svg: Result<String, PlotError>| {
        let svg = match svg {
            Err(empty @ PlotError::Empty { .. }) if !measured.enough() => {
                eprintln!("{empty}: too few good slices, run again");
                return Ok(());
            }
            svg => svg?,
        };
        let path = folder.join(format!("{name}.svg"));
        std::fs::write(&path, svg).with_context(|| format!("{} cannot be written", path.display()))
    };
    for port in ports {
        for (name, chart) in charts(measured, port) {
            write(&format!("{name}-{port}"), chart.to_svg())?;
        }
        write(&format!("get-{port}"), gets(measured, port).to_svg())?;
    }
    write("interleaving", interleaving(measured).to_svg())
}

fn charts(measured: &Measured, port: &str) -> Vec<(&'static str, LineChart)> {
    let series = |chart: LineChart, of: &[(&str, &str)], at: &[u64], infix: &str| {
        of.iter().fold(chart, |chart, (name, meaning)| {
            let points = at.iter().filter_map(|x| {
                let figure = measured.figure(&format!("{name}{infix}_{x}_{port}"))?;
                Some((*x as f64, figure.value))
            });
            chart.series(meaning, points)
        })
    };
    let latency = ("p50", "us");
    let by_length = LineChart::new(
        format!("A value of 64 B at the end of a list, {port}"),
        ("elements", ""),
        latency,
    );
    let by_size = LineChart::new(
        format!("A value at the end of a list of {SIZED_LENGTH}, {port}"),
        ("value", "B"),
        latency,
    );
    let objects =
        LineChart::new(format!("An object and its XXH3, {port}"), ("object", "B"), latency);
    let chains = LineChart::new(
        format!("The latest version from a stale cursor, {port}"),
        ("versions behind", ""),
        latency,
    );
    let object_modes = [
        ("read_object", "READ, believed"),
        ("consistent_read", "CONSISTENT_READ"),
        ("read_and_check", "READ, checked by the client"),
        ("rpc_object", "a call of the application"),
    ];
    let chain_modes = [
        ("chain_read", "CHAIN_READ: one op"),
        ("client_chain", "a READ per hop"),
        ("rpc_chain", "a call of the application"),
    ];
    let partitions = LineChart::new(
        format!("A stream of 8-byte keys into 16 partitions, {port}"),
        ("stream", "B"),
        latency,
    );
    let sketches = LineChart::new(
        format!("A stream of 8-byte values into a HyperLogLog, {port}"),
        ("stream", "B"),
        latency,
    );
    let partition_modes = [
        ("partition_write", "PARTITION_WRITE: one op"),
        ("call_partition", "WRITE, then a call of the application"),
    ];
    let sketch_modes = [
        ("sketch_write", "SKETCH_WRITE: one op"),
        ("call_sketch", "WRITE, then a call of the application"),
    ];
    vec![
        ("partition", series(partitions.log2_x(), &partition_modes, &streams::SIZES, "")),
        ("sketch", series(sketches.log2_x(), &sketch_modes, &streams::SIZES, "")),
        ("list", series(by_length.log2_x(), &WALKS, &LENGTHS, "")),
        ("value", series(by_size.log2_x(), &WALKS, &SIZES, "_value")),
        ("consistent", series(objects.log2_x(), &object_modes, &SIZES, "")),
        ("chain", series(chains, &chain_modes, &STALENESS, "")),
    ]
}

fn gets(measured: &Measured, port: &str) -> BarChart {
    let chart = BarChart::new(format!("A value of 64 B from a hash table, {port}"), "us");
    let modes = [
        ("get", "TRAVERSE: one op"),
        ("client_get", "READs: bucket, value"),
        ("rpc_get", "a call of the application"),
    ];
    modes.into_iter().fold(chart, |chart, (name, meaning)| {
        match measured.figure(&format!("{name}_{port}")) {
            Some(figure) => chart.bar(meaning, figure.value),
            None => chart,
        }
    })
}

fn interleaving(measured: &Measured) -> LineChart {
    let points = |at: &[usize], name: fn(usize) -> String| -> Vec<(f64, f64)> {
        let point = |x: &usize| Some((*x as f64, measured.figure(&name(*x))?.value));
        at.iter().filter_map(point).collect()
    };
    LineChart::new("Hops along lists that no cache holds", ("in flight", ""), ("hops", "M/s"))
        .log2_x()
        .series("executor: walks of 8", points(&interleaved::WINDOWS, interleaved::walks_name))
        .series("plain loads", points(&interleaved::CHAINS, interleaved::loads_name))
}
