//! What a run has counted.

use std::collections::BTreeMap;
use std::fmt;

use nic_engine::engine::EngineConfig;

use crate::plan::NEAR_WRAP;

/// Counts by what they count; runs are added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<(&'static str, String), u64>,
    /// Follows from every completion in its order: the same seed gives the same.
    pub digest: u64,
}

impl Tally {
    /// Counts something of a group.
    pub fn add(&mut self, group: &'static str, what: impl Into<String>, count: u64) {
        if count > 0 {
            *self.counts.entry((group, what.into())).or_default() += count;
        }
    }

    /// Counts an engine that starts.
    pub fn add_start(&mut self, config: &EngineConfig) {
        let is_near = config.first_packet_number.is_some_and(|first| NEAR_WRAP.contains(&first));
        let what = if is_near { "packet numbers near their wrap" } else { "other packet numbers" };
        self.add("engines start with", what, 1);
    }

    /// Adds another run's counts.
    pub fn merge(&mut self, other: Tally) {
        for ((group, what), count) in other.counts {
            self.add(group, what, count);
        }
        self.digest ^= other.digest;
    }

    /// Takes note of something that a repetition must repeat.
    pub fn note(&mut self, value: u64) {
        self.digest = nic_tests::sample::pattern(self.digest ^ value);
    }

    /// How much of a group was counted.
    pub fn total(&self, group: &str) -> u64 {
        self.counts.iter().filter(|((of, _), _)| *of == group).map(|(_, count)| count).sum()
    }

    /// How much of one thing was counted.
    pub fn of(&self, group: &'static str, what: &str) -> u64 {
        self.counts.get(&(group, what.to_owned())).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for ((group, what), count) in &self.counts {
            if *group != last {
                writeln!(formatter, "{group}: {}", self.total(group))?;
                last = group;
            }
            if !what.is_empty() {
                writeln!(formatter, "  {count:>12}  {what}")?;
            }
        }
        Ok(())
    }
}
