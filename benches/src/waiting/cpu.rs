//! What the threads of a process have used, as the kernel's scheduler has counted it.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// The threads of a process by number: how long each has run, in nanoseconds, and how often it has
/// gone to sleep.
pub(super) struct Usage(BTreeMap<u32, (u64, u64)>);

impl Usage {
    pub(super) fn of(pid: u32) -> Result<Usage> {
        let folder = format!("/proc/{pid}/task");
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("process {pid} is gone"))? {
            let path = entry?.path();
            let read = |name: &str| {
                let path = path.join(name);
                fs::read_to_string(&path).with_context(|| path.display().to_string())
            };
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let (schedule, status) = (read("schedstat")?, read("status")?);
            let ran_ns = schedule.split(' ').next().and_then(|field| field.parse().ok());
            let sleeps = status.lines().find_map(|line| {
                line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok()
            });
            let (Some(number), Some(ran_ns), Some(sleeps)) = (number, ran_ns, sleeps) else {
                anyhow::bail!("{} does not tell what its thread has used", path.display());
            };
            threads.insert(number, (ran_ns, sleeps));
        }
        Ok(Usage(threads))
    }

    /// Nanoseconds that all threads have run since, and how often the busiest sleeper was woken.
    pub(super) fn since(&self, before: &Usage) -> (u64, u64) {
        let spent = self.0.iter().map(|(number, after)| {
            let before = before.0.get(number).copied().unwrap_or_default();
            (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1))
        });
        spent.fold((0, 0), |all, one| (all.0 + one.0, all.1.max(one.1)))
    }
}
