//! The figures that have a bar, made of what was measured.

use nic_figures::{Figure, Measured};

use super::interleaved;

/// All of them; those that the run does not have are left out.
pub(super) fn figures(measured: &Measured, ports: &[&str]) -> Vec<Figure> {
    let mut all = Vec::new();
    for port in ports {
        // Over UDP, figures have their plain names.
        let suffix = if *port == "udp" { String::new() } else { format!("_{port}") };
        let of = |name: &str| format!("{name}_{port}");
        let excess = |name: &str, loads: f64| {
            excess_over_loads(measured, &of(name), &of("read"), &of("dependent_load"), loads)
        };
        let ratio = |name: &str, base: &str| measured.ratio(&of(name), &of(base));
        let figures = [
            ("traverse_10_excess_over_loads", excess("traverse_10", 10.0)),
            ("chain_16_excess_over_loads", excess("chain_read_16", 16.0)),
            ("client_walk_10_over_traverse_10", ratio("client_walk_10", "traverse_10")),
            ("rpc_walk_10_over_traverse_10", ratio("rpc_walk_10", "traverse_10")),
            ("consistent_read_over_read_4k", ratio("consistent_read_4096", "read_object_4096")),
            (
                "consistent_read_crc64_over_read_4k",
                ratio("consistent_read_4096_crc64", "read_object_4096_crc64"),
            ),
            ("read_p50_beside_long_walk_over_alone", ratio("read_beside_long_walk", "read")),
        ];
        let named = figures.into_iter().map(|(name, figure)| (format!("{name}{suffix}"), figure));
        all.extend(named.filter_map(|(name, figure)| Some(figure?.named(name))));
    }
    all.extend(interleaved::figures(measured));
    all.extend(lookups(measured));
    all
}

/// What a walk takes longer than a READ, by what so many dependent loads take.
fn excess_over_loads(
    measured: &Measured,
    walk: &str,
    read: &str,
    load: &str,
    loads: f64,
) -> Option<Figure> {
    let more = measured.difference(walk, read)?;
    let load_us = measured.figure(load)?.value;
    let by = |value: f64| value / (loads * load_us);
    let (value, min, max) = (by(more.value), by(more.min), by(more.max));
    Some(Figure { unit: "x".to_owned(), value, min, max, ..more })
}

/// The rate of lookups of a word, and its share of what loads allow: two each, one after the other.
fn lookups(measured: &Measured) -> Vec<Figure> {
    let (rate, limit) = ("indirect_lookups_of_8_ring", "interleaved_loads_ring");
    let mut figures = Vec::new();
    figures.extend(measured.figure(rate).map(|rate| rate.named("indirect_lookups_mops_ring")));
    figures.extend(measured.ratio(rate, limit).map(|share| {
        let (value, min, max) = (2.0 * share.value, 2.0 * share.min, 2.0 * share.max);
        Figure { value, min, max, ..share.named("indirect_lookups_over_limit_ring") }
    }));
    figures
}
