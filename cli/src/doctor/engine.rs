//! How the engine process fared that ran last.

use std::path::Path;

use nic_engine::daemon::{CountersFault, CountersFile};

use super::Finding;
use crate::metrics::writer_runs;

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

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

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
