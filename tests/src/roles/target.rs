//! A target application: a plain region and a table, and a service. Its one thread sleeps unless
//! there are calls.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use nic_host::{
    Access, BucketTable, Endpoint, Export, Geometry, Identity, Nic, ServeError, Session,
};
use nic_tests::children::TargetOptions;
use nic_tests::sample::{self, INVERT, PATTERN, REGION_BYTES, VALUE_BYTES};
use nic_tests::system_call_trap::Allowed;
use nic_tests::watched_port::Watch;
use serde_json::{Value, json};

use super::{obey, say, wait_of, watch_command};

/// So long that nobody wakes by it in a test.
const EVER: Duration = Duration::from_secs(3600);

pub(super) fn run(options: TargetOptions) -> Result<()> {
    let watch = Watch::default();
    let (tell, told) = mpsc::channel();
    let its_watch = watch.clone();
    let serving = move || {
        if let Err(error) = serve(&options, &its_watch, &tell) {
            // Whoever waits for the tickets hears of it; later, the process is of no use.
            let _ = tell.send(Err(error));
        }
    };
    std::thread::Builder::new().name("serving".to_owned()).spawn(serving)?;
    say(told.recv().context("the serving thread ended")?);
    std::thread::spawn(move || {
        if let Ok(Err(error)) = told.recv() {
            eprintln!("{error:#}");
            std::process::exit(1);
        }
    });
    obey(|command| watch_command(&watch, command))
}

fn serve(options: &TargetOptions, watch: &Watch, tell: &mpsc::Sender<Result<Value>>) -> Result<()> {
    let nic = Nic::connect(Endpoint::Path(options.socket.clone()))?;
    let session = nic
        .session()
        .depth(256)
        .receive_buffers(256, 1024)
        .wait(wait_of(options.waiting))
        .open()?;
    session.serve(INVERT)?;
    session.serve(PATTERN)?;
    let region = nic.region(REGION_BYTES).create()?;
    region.memory().write(0, &sample::pattern_bytes())?;
    let all = Access::READ.and(Access::WRITE).and(Access::ATOMIC).and(Access::CALL);
    let data = region.export(all)?;
    let table = table(&nic, options.keys)?;
    let tickets = [data.ticket().to_string(), table.export.ticket().to_string()];
    let _ = tell.send(Ok(json!({ "data": tickets[0], "table": tickets[1] })));
    answer_for_ever(&nic, &session, watch)
}

/// A table and what keeps it where it is.
struct Table {
    _regions: [nic_host::Region; 2],
    export: Export,
}

fn table(nic: &Nic, keys: u64) -> Result<Table> {
    // Much room, so that no bucket overflows: each lookup is answered by a single op.
    let geometry = Geometry::for_entries(4 * keys.max(1));
    let index = nic.region(geometry.index_bytes()).create()?;
    let entries_bytes = Geometry::entries_bytes(keys.max(1), 16, VALUE_BYTES as u64);
    let entries = nic.region(entries_bytes).create()?;
    let identity = Identity { entries_region: entries.number(), ..Identity::default() };
    let mut table = BucketTable::format(index.memory(), entries.memory(), geometry, identity)?;
    for number in 0..keys {
        table.insert(&sample::key(number), &sample::value(number))?;
    }
    anyhow::ensure!(table.overflowed() == 0, "a bucket overflowed: take another number of keys");
    let export = index.export(Access::READ.follow(&entries))?;
    Ok(Table { _regions: [index, entries], export })
}

fn answer_for_ever(nic: &Nic, session: &Session, watch: &Watch) -> Result<()> {
    let mut is_watched = false;
    loop {
        if !is_watched && watch.is_wanted() {
            watch.watch_this_thread(Allowed::nothing().ring()?.session_sleep()?)?;
            is_watched = true;
        }
        session.wait(EVER)?;
        let calls = session.answer_calls(|service, request, answer| match service {
            PATTERN => {
                let words = u64::from_le_bytes(request.try_into().map_err(|_| ServeError)?);
                let mut numbers = 0..words;
                numbers.try_for_each(|number| answer.append(&sample::pattern(number).to_le_bytes()))
            }
            _ => request.iter().try_for_each(|byte| answer.append(&[!byte])),
        })?;
        if calls == 0 {
            // Woken for nothing: the engine is gone, or is about to say why.
            nic.status()?;
        }
    }
}
