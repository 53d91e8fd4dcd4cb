//! Results as one JSON object, the same for every program, and as text for people.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::measured::Measured;
use crate::placement::Placement;
use crate::sample::median;

/// The commit this was built from, `git rev-parse --short HEAD`: `-dirty` is appended if a source
/// file or manifest differed from it; `unknown` outside a checkout. See `build.rs`.
pub const COMMIT: &str = env!("NIC_COMMIT");
/// The cargo profile this was built with: `debug`, `release` or `dist`.
pub const PROFILE: &str = env!("NIC_PROFILE");
/// The exit code of [`Report::exit_code`] that asks for another run: EX_TEMPFAIL of sysexits.h.
pub const EXIT_TOO_FEW: u8 = 75;

/// One figure: a name, a number, a unit, and how sure it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured ("read.p50").
    pub name: String,
    /// The median of the runs, or a count.
    #[serde(serialize_with = "as_shortest_number")]
    pub value: f64,
    /// The unit of `value`, `min` and `max`: "us", "op/s", "x" for times, "packets".
    pub unit: String,
    /// Slices that the value is the median of; 1 for a count.
    pub runs: u32,
    /// The smallest of the runs.
    #[serde(serialize_with = "as_shortest_number")]
    pub min: f64,
    /// The largest of the runs.
    #[serde(serialize_with = "as_shortest_number")]
    pub max: f64,
}

impl Figure {
    /// The median and extremes of `values`; None if there are none, or one is not finite.
    pub fn of(name: impl Into<String>, unit: impl Into<String>, values: &[f64]) -> Option<Self> {
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mut sorted = values.to_vec();
        let value = median(&mut sorted)?;
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let runs = u32::try_from(values.len()).unwrap_or(u32::MAX);
        Some(Self { name: name.into(), value, unit: unit.into(), runs, min, max })
    }

    /// A count, which no noise can touch: one run. Exact up to 2^53.
    pub fn count(name: impl Into<String>, unit: impl Into<String>, count: u64) -> Self {
        let value = count as f64;
        let (name, unit) = (name.into(), unit.into());
        Self { name, value, unit, runs: 1, min: value, max: value }
    }

    /// The same figure under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

/// Whole numbers without a fraction: a count of 2 is `2` and not `2.0`.
fn as_shortest_number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
        return serializer.serialize_i64(*value as i64);
    }
    serializer.serialize_f64(*value)
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct PlacementSpan {
    cache_line_rtt_ns_before: Option<f64>,
    cache_line_rtt_ns_after: Option<f64>,
}

/// All that one run of a program found out.
///
/// ```
/// use nic_figures::{Figure, Report};
///
/// let report = Report::new("demo")
///     .setup("port", "udp")
///     .setup("seed", 7)
///     .result(Figure::count("packets per op", "packets", 2));
/// println!("{}", report.to_json());
/// std::process::ExitCode::from(report.exit_code(true));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    program: String,
    commit: String,
    profile: String,
    setup: BTreeMap<String, Value>,
    placement: PlacementSpan,
    results: Vec<Figure>,
    #[serde(skip)]
    too_few: bool,
    #[serde(skip)]
    summaries: Vec<String>,
}

impl Report {
    /// An empty report of the program of this name ("demo"), with this build's commit and profile.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            commit: COMMIT.to_owned(),
            profile: PROFILE.to_owned(),
            setup: BTreeMap::new(),
            placement: PlacementSpan::default(),
            results: Vec::new(),
            too_few: false,
            summaries: Vec::new(),
        }
    }

    /// Says under what circumstances the results hold: port, drives, cores, page kind, sizes,
    /// seed, pids. A key given twice keeps the later value. Keys are written in sorted order.
    #[must_use]
    pub fn setup(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.setup.insert(key.into(), value.into());
        self
    }

    /// The placement before and after, if the results do not come from a [`Measured`].
    #[must_use]
    pub fn placement(mut self, before: Option<Placement>, after: Option<Placement>) -> Self {
        let round_trip = |placement: Placement| placement.round_trip_ns;
        self.placement = PlacementSpan {
            cache_line_rtt_ns_before: before.map(round_trip),
            cache_line_rtt_ns_after: after.map(round_trip),
        };
        self
    }

    /// Adds one result.
    #[must_use]
    pub fn result(mut self, figure: Figure) -> Self {
        self.results.push(figure);
        self
    }

    /// Adds several results.
    #[must_use]
    pub fn results(mut self, figures: impl IntoIterator<Item = Figure>) -> Self {
        self.results.extend(figures);
        self
    }

    /// Takes from an interleaved run all that is not a result: its placement, its counts of
    /// slices (added up in setup as `slices_kept` and `slices_dropped`), whether they were enough.
    /// Results are added one by one or as [`Measured::figures`]. Of several runs in one report,
    /// the first's placement is before, the last's after.
    #[must_use]
    pub fn measured(mut self, measured: &Measured) -> Self {
        let before = measured.placement_before();
        if self.summaries.is_empty() {
            self.placement.cache_line_rtt_ns_before =
                before.as_ref().ok().map(|placement| placement.round_trip_ns);
        }
        let after = measured.placement_after().ok();
        self.placement.cache_line_rtt_ns_after = after.map(|placement| placement.round_trip_ns);
        if let Err(reason) = before {
            self = self.setup("placement_unknown", reason.to_string());
        }
        self.add_to_setup("slices_kept", measured.slices().kept);
        self.add_to_setup("slices_dropped", measured.slices().dropped());
        self.too_few |= !measured.enough();
        self.summaries.push(measured.summary());
        self
    }

    fn add_to_setup(&mut self, key: &str, count: u32) {
        let so_far = self.setup.get(key).and_then(Value::as_u64).unwrap_or(0);
        self.setup.insert(key.to_owned(), Value::from(so_far + u64::from(count)));
    }

    /// Whether a run in this report had too few good slices.
    pub fn too_few(&self) -> bool {
        self.too_few
    }

    /// The results so far.
    pub fn figures(&self) -> &[Figure] {
        &self.results
    }

    /// 75 ([`EXIT_TOO_FEW`]) if results are read by a program (`--json`) and there were too few
    /// good slices, so that the reader knows to try again; a person is told in words. Otherwise 0.
    pub fn exit_code(&self, json: bool) -> u8 {
        if json && self.too_few { EXIT_TOO_FEW } else { 0 }
    }

    /// The report as one line of JSON: program, commit, profile, setup, placement, results. A
    /// placement that is not known is null.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .expect("every key of a report is a string, and nothing else fails")
    }

    /// The report for a person: a table of the results, then what to know about them.
    pub fn to_text(&self) -> String {
        let mut text = crate::table::render(&self.results);
        for summary in &self.summaries {
            text.push('\n');
            text.push_str(summary);
        }
        text.push_str(&format!("\n{} {} ({})\n", self.program, self.commit, self.profile));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Interleave, NoPlacement, Probe, SliceResult, Subject};

    fn built_at(mut report: Report, commit: &str, profile: &str) -> Report {
        (report.commit, report.profile) = (commit.to_owned(), profile.to_owned());
        report
    }

    #[test]
    fn the_json_object_is_exactly_this() {
        let near = |round_trip_ns| Some(Placement { round_trip_ns });
        let report = Report::new("demo")
            .setup("port", "udp")
            .setup("cores", vec![0, 1])
            .setup("huge", true)
            .setup("port", "ring")
            .placement(near(91.5), near(92.0))
            .result(Figure::of("read.p50", "us", &[4.5, 4.0, 5.25]).unwrap())
            .result(Figure::count("packets", "packets/op", 2));
        let expected = concat!(
            r#"{"program":"demo","commit":"0123abc","profile":"release","#,
            r#""setup":{"cores":[0,1],"huge":true,"port":"ring"},"#,
            r#""placement":{"cache_line_rtt_ns_before":91.5,"cache_line_rtt_ns_after":92.0},"#,
            r#""results":["#,
            r#"{"name":"read.p50","value":4.5,"unit":"us","runs":3,"min":4,"max":5.25},"#,
            r#"{"name":"packets","value":2,"unit":"packets/op","runs":1,"min":2,"max":2}]}"#,
        );
        assert_eq!(built_at(report, "0123abc", "release").to_json(), expected);
    }

    #[test]
    fn an_empty_report_has_every_key() {
        let expected = concat!(
            r#"{"program":"bench","commit":"unknown","profile":"dist","setup":{},"#,
            r#""placement":{"cache_line_rtt_ns_before":null,"cache_line_rtt_ns_after":null},"#,
            r#""results":[]}"#,
        );
        assert_eq!(built_at(Report::new("bench"), "unknown", "dist").to_json(), expected);
    }

    #[test]
    fn the_build_is_named() {
        assert!(!COMMIT.is_empty() && !COMMIT.contains(char::is_whitespace), "{COMMIT:?}");
        assert!(!PROFILE.is_empty(), "{PROFILE:?}");
    }

    #[test]
    fn figures_need_finite_values() {
        assert_eq!(Figure::of("x", "us", &[]), None);
        assert_eq!(Figure::of("x", "us", &[1.0, f64::INFINITY]), None);
        let even = Figure::of("x", "us", &[4.0, 1.0]).unwrap().named("y");
        assert_eq!((even.name.as_str(), even.value, even.runs), ("y", 2.5, 2));
    }

    #[test]
    fn only_json_with_too_few_slices_asks_for_another_run() {
        let measured = |rounds| {
            Interleave::new(Fixed, Duration::ZERO)
                .add(Subject::new("x", "ns", |_| SliceResult::single(1.0)))
                .run(rounds)
        };
        let (few, enough) = (measured(4), measured(5));
        assert_eq!(Report::new("demo").exit_code(true), 0);
        assert_eq!(Report::new("demo").measured(&enough).exit_code(true), 0);
        let report = Report::new("demo").measured(&few).measured(&enough);
        assert_eq!((report.exit_code(true), report.exit_code(false)), (75, 0));
        assert_eq!(report.setup["slices_kept"], 9);
        assert_eq!(report.setup["slices_dropped"], 0);
        assert_eq!(report.placement.cache_line_rtt_ns_before, Some(90.0));
        assert!(report.to_text().contains("too few: 4 good rounds"), "{}", report.to_text());
    }

    struct Fixed;

    impl Probe for Fixed {
        fn measure(&mut self) -> Result<Placement, NoPlacement> {
            Ok(Placement { round_trip_ns: 90.0 })
        }
    }
}
