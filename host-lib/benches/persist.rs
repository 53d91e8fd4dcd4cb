//! Appends that persist, by how many are in flight, against what their file takes for itself, the
//! same bytes written and synced in a plain loop, and against appends that do not persist; all in
//! the same run. All in one process, with an
//! inline engine. `cargo bench -p nic-host --bench persist [-- FOLDER]`; the folder, the current one
//! unless it is given, says which device is measured.

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nic_host::{Access, Appended, InlineConfig, Nic, Pending, RemoteRegion, Session, ops};

const PAYLOAD: &[u8] = &[7; 96];
/// What such a record takes of the log.
const RECORD_BYTES: u64 = 128;
const BYTES: u64 = 64 << 20;
/// How long each is measured.
const SLICE: Duration = Duration::from_secs(2);

/// What a slice did.
struct Slice {
    appends: u64,
    syncs: u64,
    seconds: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let path = PathBuf::from(folder.unwrap_or_else(|| ".".to_owned())).join("nic-bench-persist");
    let measured = measure(&path);
    std::fs::remove_file(&path)?;
    let slices = measured?;
    let plain = slices[0].1.appends as f64 / slices[0].1.seconds;
    println!("{:>12} {:>10} {:>14} {:>10}", "in flight", "appends/s", "syncs/append", "over plain");
    for (name, slice) in slices {
        let rate = slice.appends as f64 / slice.seconds;
        let syncs = slice.syncs as f64 / slice.appends as f64;
        println!("{name:>12} {rate:>10.0} {syncs:>14.3} {:>10.2}", rate / plain);
    }
    Ok(())
}

fn measure(path: &Path) -> Result<Vec<(String, Slice)>, Box<dyn Error>> {
    let nic = Nic::inline(InlineConfig::default())?;
    let region = nic.region(BYTES).backed_by(path).create()?;
    // Nothing of the log is in use yet: the plain loop writes where its records will be.
    let mut slices = vec![("plain".to_owned(), plain(path)?)];
    let (log, _) = region.durable_log(0, BYTES)?;
    let export = region.export(Access::READ.and(Access::WRITE).and(Access::ATOMIC))?;
    let session = nic.session().depth(256).open()?;
    let remote = session.connect(&export.ticket())?;
    for persists in [true, false] {
        for window in [1, 8, 64, 256] {
            let before = syncs(&nic)?;
            let trim = || Ok(log.trim(log.watermark())?);
            let mut slice = appends(&session, &remote, persists, window, trim)?;
            slice.syncs = syncs(&nic)? - before;
            let name = if persists { "" } else { "volatile " };
            slices.push((format!("{name}{window}"), slice));
        }
    }
    Ok(slices)
}

/// One record after the other, as a program without an engine would write it.
fn plain(path: &Path) -> Result<Slice, Box<dyn Error>> {
    let file = File::options().write(true).open(path)?;
    let record = [7; RECORD_BYTES as usize];
    let begin = Instant::now();
    let mut appends = 0;
    while begin.elapsed() < SLICE {
        file.write_all_at(&record, 4096 + appends * RECORD_BYTES)?;
        file.sync_data()?;
        appends += 1;
    }
    file.write_all_at(&vec![0; (appends * RECORD_BYTES) as usize], 4096)?;
    Ok(Slice { appends, syncs: appends, seconds: begin.elapsed().as_secs_f64() })
}

fn appends(
    session: &Session,
    remote: &RemoteRegion,
    persists: bool,
    window: usize,
    trim: impl Fn() -> Result<(), Box<dyn Error>>,
) -> Result<Slice, Box<dyn Error>> {
    let begin = Instant::now();
    let mut pending: Vec<Pending<ops::Append<'_>>> = Vec::with_capacity(window);
    let mut appends = 0;
    while begin.elapsed() < SLICE || !pending.is_empty() {
        while pending.len() < window && begin.elapsed() < SLICE {
            let op = remote.append(0, appends, PAYLOAD);
            pending.push(session.submit(if persists { op.persist() } else { op })?);
        }
        session.wait(Duration::from_secs(1))?;
        for done in session.poll()? {
            let place = pending.iter().position(|op| op.token() == done.token);
            let op = pending.swap_remove(place.ok_or("an op that was not submitted")?);
            let Appended::At { .. } = op.take(done)? else { return Err("the log is full".into()) };
            appends += 1;
            if appends % 4096 == 0 {
                trim()?;
            }
        }
    }
    Ok(Slice { appends, syncs: 0, seconds: begin.elapsed().as_secs_f64() })
}

fn syncs(nic: &Nic) -> Result<u64, Box<dyn Error>> {
    let status: serde_json::Value = serde_json::from_str(&nic.status()?)?;
    let count = status["engines"][0]["counters"]["flush_syncs"].as_u64();
    Ok(count.ok_or("no such counter")?)
}
