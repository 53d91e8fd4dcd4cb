//! What is measured over each port.

use std::time::Duration;

use nic_figures::{Interleave, PlacementProbe, Subject};

use super::client::Client;
use super::procedures::ANSWER_BYTES_MAX;
use super::store::OBJECTS;
use super::streams::Streams;
use super::way::{Recorder, Way, p50_us};
use super::{indirect, streams};

/// Lengths of lists, in elements.
pub(super) const LENGTHS: [u64; 8] = [1, 2, 4, 8, 10, 16, 32, 64];
/// Elements of the lists whose values have different sizes.
pub(super) const SIZED_LENGTH: u64 = 4;
/// Sizes of values in bytes.
pub(super) const SIZES: [u64; 4] = [64, 256, 1024, 4096];
/// The size of values where it is not what is varied.
pub(super) const VALUE_BYTES: u64 = 64;
/// By how many entries cursors are behind.
pub(super) const STALENESS: [u64; 6] = [0, 1, 2, 4, 8, 16];
/// Chains of loads at once: as many as a core can wait for.
const CHAINS: u16 = 64;

type Interleaved<'a> = Interleave<'a, &'a mut PlacementProbe>;

/// An op in one of the modes.
type Mode = (&'static str, fn(&Client, u64) -> anyhow::Result<Duration>);

/// Adds everything over a port.
pub(super) fn add<'a>(
    interleave: Interleaved<'a>,
    way: &'a Way,
    recorder: &'a Recorder,
) -> Interleaved<'a> {
    let mut subjects = Vec::new();
    lists(&mut subjects, way, recorder);
    objects(&mut subjects, way, recorder);
    let chains: [Mode; 3] = [
        ("chain_read", Client::chain_read),
        ("client_chain", Client::client_chain),
        ("rpc_chain", Client::rpc_chain),
    ];
    for stale in STALENESS {
        for (name, op) in chains {
            subjects.push(
                way.latency(&format!("{name}_{stale}"), recorder, move |client| op(client, stale)),
            );
        }
    }
    written(&mut subjects, way, recorder);
    beside(&mut subjects, way, recorder);
    loads(&mut subjects, way);
    subjects.into_iter().fold(interleave, Interleave::add)
}

fn lists<'a>(subjects: &mut Vec<Subject<'a>>, way: &'a Way, recorder: &'a Recorder) {
    type Walk = (&'static str, fn(&Client, u64, u64) -> anyhow::Result<Duration>);
    let walks: [Walk; 3] = [
        ("traverse", Client::traverse),
        ("client_walk", Client::client_walk),
        ("rpc_walk", Client::rpc_walk),
    ];
    let read = |client: &Client| client.read(VALUE_BYTES);
    subjects.push(way.latency("read", recorder, read));
    for length in LENGTHS {
        for (name, op) in walks {
            subjects.push(way.latency(&format!("{name}_{length}"), recorder, move |client| {
                op(client, length, VALUE_BYTES)
            }));
        }
    }
    for size in SIZES {
        for (name, op) in walks {
            if name == "rpc_walk" && size > ANSWER_BYTES_MAX as u64 {
                continue;
            }
            subjects.push(way.latency(&format!("{name}_value_{size}"), recorder, move |client| {
                op(client, SIZED_LENGTH, size)
            }));
        }
    }
    let gets: [Mode; 3] =
        [("get", Client::get), ("client_get", Client::client_get), ("rpc_get", Client::rpc_get)];
    for (name, op) in gets {
        subjects.push(way.latency(name, recorder, move |client| op(client, VALUE_BYTES)));
    }
}

/// The part of a figure's name that tells a kind of object.
pub(super) fn object_name(kind: usize) -> String {
    let (length, checksum) = OBJECTS[kind];
    match checksum {
        nic_host::consistent_read::Checksum::Xxh3 => length.to_string(),
        other => format!("{length}_{other:?}").to_lowercase(),
    }
}

fn objects<'a>(subjects: &mut Vec<Subject<'a>>, way: &'a Way, recorder: &'a Recorder) {
    type Read = (&'static str, fn(&Client, usize) -> anyhow::Result<Duration>);
    let reads: [Read; 4] = [
        ("read_object", Client::read_object),
        ("consistent_read", Client::consistent_object),
        ("read_and_check", Client::checked_object),
        ("rpc_object", Client::rpc_object),
    ];
    for (kind, (length, _)) in OBJECTS.into_iter().enumerate() {
        for (name, op) in reads {
            if name == "rpc_object" && length > ANSWER_BYTES_MAX as u64 {
                continue;
            }
            let figure = format!("{name}_{}", object_name(kind));
            subjects.push(way.latency(&figure, recorder, move |client| op(client, kind)));
        }
    }
}

fn beside<'a>(subjects: &mut Vec<Subject<'a>>, way: &'a Way, recorder: &'a Recorder) {
    subjects.push(way.subject("read_beside_long_walk", "us", move |way, time| {
        let client = &way.client;
        way.walker.beside(client, |tend| {
            p50_us(recorder, time, || {
                tend()?;
                client.read(VALUE_BYTES)
            })
        })
    }));
    subjects.push(way.latency("long_walk", recorder, |client| way.walker.alone(client)));
}

fn written<'a>(subjects: &mut Vec<Subject<'a>>, way: &'a Way, recorder: &'a Recorder) {
    type Stream = (&'static str, fn(&Streams, &Client, u64) -> anyhow::Result<Duration>);
    let all: [Stream; 4] = [
        ("partition_write", Streams::partition_write),
        ("call_partition", Streams::call_partition),
        ("sketch_write", Streams::sketch_write),
        ("call_sketch", Streams::call_sketch),
    ];
    for size in streams::SIZES {
        for (name, op) in all {
            let figure = format!("{name}_{size}");
            subjects
                .push(way.latency(&figure, recorder, move |client| op(&way.streams, client, size)));
        }
    }
}

fn loads<'a>(subjects: &mut Vec<Subject<'a>>, way: &'a Way) {
    subjects
        .push(way.subject("dependent_load", "us", |way, _| Ok(way.client.loads(1, 50_000)? / 1e3)));
    subjects.push(
        way.subject("interleaved_loads", "M/s", |way, _| {
            Ok(1e3 / way.client.loads(CHAINS, 20_000)?)
        }),
    );
    if way.name != "ring" {
        return;
    }
    for length in [8, 64] {
        let figure = format!("indirect_lookups_of_{length}");
        subjects.push(
            way.subject(&figure, "M/s", move |way, time| indirect::rate(&way.client, length, time)),
        );
    }
}
