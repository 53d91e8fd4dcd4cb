//! How near kernels and executor come to what memory can give.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::Result;
use nic_benches::{LookupTarget, RegionWords, VALUE_BYTES, memory};
use nic_figures::{Chase, Interleave, PlacementProbe, Report, SliceResult, Subject};

use serde_json::Value;

use super::Arguments;

const SLICE: Duration = Duration::from_millis(100);
/// Lookups in flight, and the chains of loads to hold them against.
const WINDOWS: [(usize, usize); 4] = [(1, 1), (8, 8), (32, 32), (128, 64)];
/// Lookups or loads between two looks at the clock.
const STRETCH: usize = 4096;
const SEED: u64 = 1;

pub(super) fn run(arguments: &Arguments) -> Result<Report> {
    let target = LookupTarget::new(arguments.keys)?;
    let (words, page_kind) = memory(target.bytes())?;
    let setup: [(_, Value); 8] = [
        ("keys", arguments.keys.into()),
        ("value_bytes", VALUE_BYTES.into()),
        ("table_bytes", target.bytes().into()),
        ("table_pages", target.page_kind().to_string().into()),
        ("loads_pages", page_kind.to_string().into()),
        ("slice_ms", (SLICE.as_millis() as u64).into()),
        ("seed", SEED.into()),
        ("pids", vec![std::process::id()].into()),
    ];
    let target = RefCell::new(target);
    let chase = RefCell::new(Chase::prepare(RegionWords(words), SEED)?);
    let mut probe = PlacementProbe::choose();
    let mut interleave = Interleave::new(&mut probe, SLICE);
    for (window, chains) in WINDOWS {
        let (target, chase) = (&target, &chase);
        interleave = interleave
            .add(Subject::new(format!("scan_and_read_{window}"), "M/s", move |time| {
                lookups(&mut target.borrow_mut(), window, time)
            }))
            .add(Subject::new(format!("loads_{chains}"), "M/s", move |time| {
                loads(&mut chase.borrow_mut(), chains, time)
            }));
    }
    let measured = interleave.run(arguments.rounds);
    let mut report = Report::new("nic-benches executor").measured(&measured);
    for (key, value) in setup {
        report = report.setup(key, value);
    }
    report = report.results(measured.figures());
    for (window, chains) in WINDOWS {
        // A lookup is two loads at the least, one after the other: 0.5 is the most there can be.
        let (lookups, loads) = (format!("scan_and_read_{window}"), format!("loads_{chains}"));
        report = report.results(measured.ratio(&lookups, &loads));
    }
    Ok(report)
}

fn lookups(target: &mut LookupTarget, window: usize, time: Duration) -> SliceResult {
    let (begun, mut done) = (Instant::now(), 0);
    while begun.elapsed() < time {
        for _ in 0..STRETCH / window {
            if let Err(error) = target.batch(window) {
                return SliceResult::failed(error.to_string());
            }
            done += window;
        }
    }
    SliceResult::single(done as f64 / begun.elapsed().as_secs_f64() / 1e6)
}

fn loads(chase: &mut Chase<RegionWords>, chains: usize, time: Duration) -> SliceResult {
    let (begun, mut done) = (Instant::now(), 0);
    while begun.elapsed() < time {
        chase.run_interleaved(chains, STRETCH / chains);
        done += STRETCH / chains * chains;
    }
    SliceResult::single(done as f64 / begun.elapsed().as_secs_f64() / 1e6)
}
