//! What a run counts and prints.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

#[derive(Default)]
pub struct Tally {
    /// What was done to processes, by kind.
    faults: BTreeMap<String, u64>,
    /// Ops of loads, by how they ended.
    ended: BTreeMap<String, u64>,
    dropped: u64,
    forgotten: u64,
    engines_lost: u64,
    beyond_us: u64,
}

impl Tally {
    pub fn fault(&mut self, kind: &str) {
        *self.faults.entry(kind.to_owned()).or_default() += 1;
    }

    /// How many processes were killed.
    pub fn kills(&self) -> u64 {
        let kills = self.faults.iter().filter(|(kind, _)| kind.starts_with("kill"));
        kills.map(|(_, count)| count).sum()
    }

    /// Adds a load's account.
    pub fn add(&mut self, account: &Value) {
        for (how, count) in account["ended"].as_object().unwrap() {
            *self.ended.entry(how.clone()).or_default() += count.as_u64().unwrap();
        }
        let number = |name: &str| account[name].as_u64().unwrap();
        self.dropped += number("dropped");
        self.forgotten += number("forgotten");
        self.engines_lost += number("engines_lost");
        self.beyond_us = self.beyond_us.max(number("beyond_us"));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in &self.faults {
            writeln!(formatter, "{count:>9}  {kind}")?;
        }
        for (how, count) in &self.ended {
            writeln!(formatter, "{count:>9}  ops: {how}")?;
        }
        writeln!(formatter, "{:>9}  ops dropped on the way", self.dropped)?;
        writeln!(formatter, "{:>9}  ops forgotten", self.forgotten)?;
        writeln!(formatter, "{:>9}  times an application lost its engine", self.engines_lost)?;
        write!(formatter, "{:>6} us  the most that an op ended after its deadline", self.beyond_us)
    }
}
