//! What a load expects of its targets, and what it tells its test.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use nic_host::Fate;
use nic_tests::sample::WORDS;
use serde_json::{Value, json};

/// The most that an op may be seen to end after its deadline, turns and other processes' slices
/// included. Only lost completions come later.
///
/// The longest wait is for the end of an engine that was killed: its applications hear of it when
/// the kernel has taken it down, and with an XDP program, a socket on a device and namespaces of
/// its own the kernel waits several times until all processors have passed by (RCU). That takes
/// some hundred milliseconds where they are busy, and seconds where many others change the network.
pub(super) const SLACK: Duration = Duration::from_secs(10);

/// The word of a target's region to which only the load of this number adds.
pub(super) fn word(id: u64) -> u64 {
    WORDS.0 + id * 8
}

/// What was added to a word that nobody else adds to.
#[derive(Debug)]
pub(super) struct Sum {
    /// Which target of all that this process has known.
    pub(super) incarnation: u64,
    /// Additions of one that may have been done: those out, done or unknown.
    most: u64,
    /// Those that were done.
    done: u64,
    /// What those found; no two the same.
    found: HashSet<u64>,
}

impl Default for Sum {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let incarnation = NEXT.fetch_add(1, Ordering::Relaxed);
        Sum { incarnation, most: 0, done: 0, found: HashSet::new() }
    }
}

impl Sum {
    pub(super) fn started(&mut self) {
        self.most += 1;
    }

    pub(super) fn added(&mut self, found: u64) -> Result<()> {
        let most = self.most;
        ensure!(found < most, "an addition found {found}; there were {most}, itself included");
        ensure!(self.found.insert(found), "two additions found {found}");
        self.done += 1;
        Ok(())
    }

    pub(super) fn failed(&mut self, fate: Fate) {
        match fate {
            Fate::NotExecuted => self.most -= 1,
            Fate::Executed => self.done += 1,
            Fate::Unknown => {}
        }
    }

    /// Looks at what the word holds when nothing is out.
    pub(super) fn check(&self, held: u64) -> Result<()> {
        let (done, most) = (self.done, self.most);
        ensure!((done..=most).contains(&held), "the word holds {held}, expected {done} to {most}");
        Ok(())
    }
}

/// What has happened since the test last asked.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Ops by how they ended.
    pub(super) ended: BTreeMap<String, u64>,
    /// Ops whose handle was dropped or forgotten while they were out.
    pub(super) dropped: u64,
    pub(super) forgotten: u64,
    pub(super) engines_lost: u64,
    /// The most that an op ended after its deadline.
    pub(super) beyond: Duration,
}

impl Account {
    pub(super) fn ended(&mut self, how: impl Into<String>) {
        *self.ended.entry(how.into()).or_default() += 1;
    }

    /// Notes when an op was over that had to be by its deadline.
    pub(super) fn timed(&mut self, taken: Duration, deadline: Duration) -> Result<()> {
        let beyond = taken.saturating_sub(deadline);
        self.beyond = self.beyond.max(beyond);
        ensure!(beyond < SLACK, "an op ended {beyond:?} after its deadline of {deadline:?}");
        Ok(())
    }

    /// The account as an answer; it begins anew.
    pub(super) fn take(&mut self) -> Value {
        let account = std::mem::take(self);
        json!({
            "ended": account.ended,
            "dropped": account.dropped,
            "forgotten": account.forgotten,
            "engines_lost": account.engines_lost,
            "beyond_us": account.beyond.as_micros() as u64,
        })
    }
}
