//! How the engine process fared that ran last.

use std::path::Path;

use nic_engine::daemon::{CountersFault, CountersFile};

use nic_host::{Endpoint, Nic};
use serde_json::Value;

use super::Finding;
use crate::metrics::writer_runs;

/// What the running engine process itself says that its operator should know.
pub(super) fn warnings(socket: &Path) -> Finding {
    let what = "engines";
    let asked = Nic::connect(Endpoint::Path(socket.into())).and_then(|nic| nic.status());
    let Ok(status) = asked else {
        return Finding::good(what, "none to be asked");
    };
    let status: Value = serde_json::from_str(&status).unwrap_or_default();
    of_status(&status)
}

fn of_status(status: &Value) -> Finding {
    let what = "engines";
    let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    let warnings = list("warnings");
    let texts: Vec<&str> = warnings.iter().filter_map(Value::as_str).collect();
    match texts.as_slice() {
        [] => Finding::good(what, format!("{} running, no complaints", list("engines").len())),
        texts => Finding::slow(
            what,
            texts.join("; "),
            "nic config --print > nic.toml   (change it as said, then nic serve --config nic.toml)",
        ),
    }
}

/// A clean end removes the counters file: one without its process tells of a death.
pub(super) fn last(path: &Path) -> Finding {
    let what = "last engine";
    match CountersFile::open(path) {
        Ok(file) if writer_runs(&file) => {
            Finding::good(what, format!("process {} runs", file.pid()))
        }
        Ok(file) => Finding::slow(
            what,
            format!("process {} was killed or has crashed; its counters are left", file.pid()),
            "nic metrics   (what it had counted until then; `nic serve` begins anew)",
        ),
        Err(CountersFault::Missing { .. }) => Finding::good(what, "none, or it ended well"),
        Err(error) => Finding::slow(what, error.to_string(), format!("rm {}", path.display())),
    }
}

/// Whether an engine that runs, or has crashed, met others on its core.
pub(super) fn crowding(path: &Path) -> Finding {
    let what = "engines' cores";
    let Ok(file) = CountersFile::open(path) else {
        return Finding::good(what, "no engine to ask");
    };
    let place = file.metrics().iter().position(|metric| metric.name == "crowded");
    let times = |engine: usize| Some(file.values(engine)?[place?]);
    let crowded: Vec<String> = (0..file.engines())
        .filter_map(|engine| Some((engine, times(engine).filter(|times| *times > 0)?)))
        .map(|(engine, times)| format!("engine {engine} {times} times"))
        .collect();
    if crowded.is_empty() {
        return Finding::good(what, "no engine has met others on its core");
    }
    Finding::slow(
        what,
        format!("others kept an engine's core from it: {}", crowded.join(", ")),
        "set engine.cores to cores that nothing else uses (others: `taskset --cpu-list`), or \
         engine.wait = \"adaptive\"",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn an_engine_that_met_others_on_its_core_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nic.sock.counters");
        assert_eq!(crowding(&path).grade, Grade::Good);
        CountersFile::create(&path, 2).unwrap();
        assert_eq!(crowding(&path).grade, Grade::Good);
        let metrics = nic_engine::engine::Counters::LIST;
        let place = metrics.iter().position(|metric| metric.name == "crowded").unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let page = u64::from_le_bytes(bytes[24..32].try_into().unwrap()) as usize;
        let at = 64 + page + place * 8;
        bytes[at] = 7;
        std::fs::write(&path, bytes).unwrap();
        let found = crowding(&path);
        assert_eq!(found.grade, Grade::Slow);
        assert!(found.found.ends_with("engine 1 7 times"), "{found:?}");
    }

    #[test]
    fn what_engines_complain_of_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(warnings(&folder.path().join("nic.sock")).found, "none to be asked");
        let content = serde_json::json!({ "engines": [{}, {}], "warnings": [] });
        assert_eq!(of_status(&content).found, "2 running, no complaints");
        let crowded = serde_json::json!({ "engines": [{}], "warnings": ["engine 0 has no core"] });
        let found = of_status(&crowded);
        assert_eq!((found.grade, &*found.found), (Grade::Slow, "engine 0 has no core"));
    }

    #[test]
    fn an_engine_that_died_is_found_and_a_living_one_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nic.sock.counters");
        assert_eq!(last(&path).grade, Grade::Good);
        CountersFile::create(&path, 1).unwrap();
        assert_eq!(last(&path).found, format!("process {} runs", std::process::id()));
        let mut bytes = std::fs::read(&path).unwrap();
        // The largest number that a process can never have.
        bytes[8..16].copy_from_slice(&u64::from(i32::MAX as u32).to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let dead = last(&path);
        assert_eq!(dead.grade, Grade::Slow);
        assert!(dead.mend.is_some_and(|mend| mend.starts_with("nic metrics")));
        std::fs::write(&path, [1; 128]).unwrap();
        assert!(last(&path).mend.is_some_and(|mend| mend.starts_with("rm ")));
    }
}
