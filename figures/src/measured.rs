//! What remains of an interleaved run: the slices that may be compared, and how many were not.

use crate::placement::{NoPlacement, Placement};
use crate::result::Figure;
use crate::slices::SliceValue;

/// Rounds in which every subject's slice was kept that make a run enough (start).
pub const GOOD_ROUNDS_MIN: u32 = 5;

/// A subject without its closure.
#[derive(Debug, Clone)]
pub(crate) struct Outline {
    pub(crate) name: String,
    pub(crate) unit: String,
}

/// A slice as it was run, before it is judged.
#[derive(Debug, Clone)]
pub(crate) struct SliceRecord {
    pub(crate) subject: usize,
    pub(crate) round: u32,
    pub(crate) before: Result<Placement, NoPlacement>,
    pub(crate) after: Result<Placement, NoPlacement>,
    pub(crate) outcome: Result<Vec<SliceValue>, String>,
}

/// How many slices were kept, and how many were dropped for which reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SliceCounts {
    /// Kept: their values are in the figures.
    pub kept: u32,
    /// The placement was another after the slice than before it.
    pub moved: u32,
    /// The placement was steady, but not the one in which most slices of the run were taken.
    pub elsewhere: u32,
    /// The placement before or after it could not be told, the cores being busy.
    pub unprobed: u32,
    /// The subject failed, or gave a value that is not a number.
    pub failed: u32,
}

impl SliceCounts {
    /// All that were not kept.
    pub fn dropped(&self) -> u32 {
        self.moved + self.elsewhere + self.unprobed + self.failed
    }

    fn count(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Kept(_) => &mut self.kept,
            Verdict::Moved => &mut self.moved,
            Verdict::Elsewhere => &mut self.elsewhere,
            Verdict::Unprobed => &mut self.unprobed,
            Verdict::Failed => &mut self.failed,
        } += 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    /// With its placement, unless the machine has none to tell.
    Kept(Option<Placement>),
    Moved,
    Elsewhere,
    Unprobed,
    Failed,
}

/// One named value over the kept slices, by ascending round.
#[derive(Debug, Clone)]
struct Series {
    name: String,
    unit: String,
    points: Vec<Point>,
    values: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    round: u32,
    placement: Option<Placement>,
    value: f64,
}

/// The outcome of [`crate::Interleave::run`].
#[derive(Debug, Clone)]
pub struct Measured {
    series: Vec<Series>,
    slices: SliceCounts,
    good_rounds: u32,
    placement: Option<Placement>,
    first: Result<Placement, NoPlacement>,
    last: Result<Placement, NoPlacement>,
    first_failure: Option<String>,
}

impl Measured {
    pub(crate) fn judge(outlines: Vec<Outline>, rounds: u32, records: Vec<SliceRecord>) -> Self {
        let majority = majority(&records);
        let nothing = || Err(NoPlacement::Unavailable { reason: "no slice was run".to_owned() });
        let mut measured = Self {
            series: Vec::new(),
            slices: SliceCounts::default(),
            good_rounds: 0,
            placement: majority,
            first: records.first().map_or_else(nothing, |record| record.before.clone()),
            last: records.last().map_or_else(nothing, |record| record.after.clone()),
            first_failure: None,
        };
        let mut kept_in_round = vec![0; rounds as usize];
        for record in records {
            let verdict = verdict(&record, majority);
            measured.slices.count(verdict);
            let outline = &outlines[record.subject];
            match (verdict, record.outcome) {
                (Verdict::Kept(placement), Ok(values)) => {
                    kept_in_round[record.round as usize] += 1;
                    for value in values {
                        measured.add(outline, value, record.round, placement);
                    }
                }
                (_, Err(reason)) if measured.first_failure.is_none() => {
                    let failure = format!("{} in round {}: {reason}", outline.name, record.round);
                    measured.first_failure = Some(failure);
                }
                _ => {}
            }
        }
        let subjects = outlines.len();
        let good = |kept: &&usize| subjects > 0 && **kept == subjects;
        measured.good_rounds = kept_in_round.iter().filter(good).count() as u32;
        measured
    }

    fn add(
        &mut self,
        outline: &Outline,
        value: SliceValue,
        round: u32,
        placement: Option<Placement>,
    ) {
        let name = match value.name.as_str() {
            "" => outline.name.clone(),
            part => format!("{}.{part}", outline.name),
        };
        let point = Point { round, placement, value: value.value };
        if let Some(series) = self.series.iter_mut().find(|series| series.name == name) {
            series.points.push(point);
            series.values.push(point.value);
            return;
        }
        let unit = value.unit.unwrap_or_else(|| outline.unit.clone());
        self.series.push(Series { name, unit, points: vec![point], values: vec![point.value] });
    }

    /// Whether there are at least [`GOOD_ROUNDS_MIN`] rounds of which every slice was kept. If
    /// not, run again: the figures say little.
    pub fn enough(&self) -> bool {
        self.good_rounds >= GOOD_ROUNDS_MIN
    }

    /// Rounds of which every slice was kept.
    pub fn good_rounds(&self) -> u32 {
        self.good_rounds
    }

    /// How many slices were kept and dropped.
    pub fn slices(&self) -> SliceCounts {
        self.slices
    }

    /// The placement in which most slices were taken; none if it is not known.
    pub fn placement(&self) -> Option<Placement> {
        self.placement
    }

    /// The placement before the first slice.
    pub fn placement_before(&self) -> Result<Placement, NoPlacement> {
        self.first.clone()
    }

    /// The placement after the last slice.
    pub fn placement_after(&self) -> Result<Placement, NoPlacement> {
        self.last.clone()
    }

    /// Why the first of the failed slices failed.
    pub fn first_failure(&self) -> Option<&str> {
        self.first_failure.as_deref()
    }

    /// The kept values of one name ("read.p50"), by round; empty for an unknown name.
    pub fn values(&self, name: &str) -> &[f64] {
        self.find(name).map_or(&[], |series| series.values.as_slice())
    }

    /// The figure of one name: the median of its kept slices, and their extremes.
    pub fn figure(&self, name: &str) -> Option<Figure> {
        let series = self.find(name)?;
        Figure::of(&series.name, &series.unit, &series.values)
    }

    /// The figures of all names, in the order in which they first appeared.
    pub fn figures(&self) -> Vec<Figure> {
        let figure = |series: &Series| Figure::of(&series.name, &series.unit, &series.values);
        self.series.iter().filter_map(figure).collect()
    }

    /// The median, over the rounds, of `name` less `base`, both from the same round and
    /// placement. None if no round has both, or if their units differ.
    pub fn difference(&self, name: &str, base: &str) -> Option<Figure> {
        let (left, right) = (self.find(name)?, self.find(base)?);
        if left.unit != right.unit {
            return None;
        }
        let values = pairs(left, right).map(|(value, base)| value - base);
        Figure::of(format!("{name} - {base}"), &left.unit, &values.collect::<Vec<_>>())
    }

    /// The median, over the rounds, of `name` divided by `base`, both from the same round and
    /// placement. None if no round has both. The unit is "x" (times), or a quotient of units if
    /// theirs differ. Rounds in which `base` is 0 are left out.
    pub fn ratio(&self, name: &str, base: &str) -> Option<Figure> {
        let (left, right) = (self.find(name)?, self.find(base)?);
        let unit = if left.unit == right.unit {
            "x".to_owned()
        } else {
            format!("{}/({})", left.unit, right.unit)
        };
        let values = pairs(left, right).map(|(value, base)| value / base);
        let finite: Vec<f64> = values.filter(|ratio| ratio.is_finite()).collect();
        Figure::of(format!("{name} / {base}"), unit, &finite)
    }

    /// One sentence for a person: how many slices were kept, and why others were not.
    pub fn summary(&self) -> String {
        let SliceCounts { kept, moved, elsewhere, unprobed, failed } = self.slices;
        let mut text = format!("kept {kept} of {} slices", kept + self.slices.dropped());
        let reasons = [
            (moved, "saw the machine move"),
            (elsewhere, "ran in another placement"),
            (unprobed, "could not be probed"),
            (failed, "failed"),
        ];
        for (count, reason) in reasons {
            if count > 0 {
                text.push_str(&format!("; {count} {reason}"));
            }
        }
        if let Some(failure) = &self.first_failure {
            text.push_str(&format!(" (the first: {failure})"));
        }
        match (&self.placement, &self.first) {
            (Some(placement), _) => {
                text.push_str(&format!("; cache line {:.0} ns", placement.round_trip_ns));
            }
            (None, Err(reason)) => text.push_str(&format!("; placement unknown: {reason}")),
            (None, Ok(_)) => {}
        }
        if !self.enough() {
            let good = self.good_rounds;
            text.push_str(&format!(
                "; too few: {good} good rounds and {GOOD_ROUNDS_MIN} are needed, run again"
            ));
        }
        text
    }

    fn find(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }
}

/// The placement of a slice that did not move, and of which there is one to tell.
fn steady(record: &SliceRecord) -> Option<Placement> {
    let (Ok(before), Ok(after)) = (&record.before, &record.after) else {
        return None;
    };
    let round_trip_ns = (before.round_trip_ns + after.round_trip_ns) / 2.0;
    before.same_as(after).then_some(Placement { round_trip_ns })
}

/// The placement that most good slices are the same as; the earlier of two with equal following.
fn majority(records: &[SliceRecord]) -> Option<Placement> {
    let good = records.iter().filter(|record| record.outcome.is_ok());
    let placements: Vec<Placement> = good.filter_map(steady).collect();
    let following =
        |center: &Placement| placements.iter().filter(|other| center.same_as(other)).count();
    let mut best: Option<(usize, Placement)> = None;
    for center in &placements {
        let count = following(center);
        if best.is_none_or(|(most, _)| count > most) {
            best = Some((count, *center));
        }
    }
    best.map(|(_, center)| center)
}

fn verdict(record: &SliceRecord, majority: Option<Placement>) -> Verdict {
    if record.outcome.is_err() {
        return Verdict::Failed;
    }
    match (&record.before, &record.after) {
        (Ok(_), Ok(_)) => match (steady(record), majority) {
            (None, _) => Verdict::Moved,
            (Some(here), Some(most)) if here.same_as(&most) => Verdict::Kept(Some(here)),
            (Some(_), _) => Verdict::Elsewhere,
        },
        // One core, say: nothing can move, and there is nothing to wait for.
        (Err(before), Err(after)) if before.is_lasting() && after.is_lasting() => {
            Verdict::Kept(None)
        }
        _ => Verdict::Unprobed,
    }
}

/// Values of the same round and placement. Both series ascend by round.
fn pairs<'s>(left: &'s Series, right: &'s Series) -> impl Iterator<Item = (f64, f64)> + 's {
    left.points.iter().filter_map(|point| {
        let index = right.points.binary_search_by_key(&point.round, |other| other.round).ok()?;
        let other = &right.points[index];
        let same = match (point.placement, other.placement) {
            (Some(here), Some(there)) => here.same_as(&there),
            (here, there) => here.is_none() && there.is_none(),
        };
        same.then_some((point.value, other.value))
    })
}

#[cfg(test)]
mod tests;
