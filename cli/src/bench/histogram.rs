//! A latency histogram as text and as a picture.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use nic_figures::plot::LineChart;

use crate::plain_table::duration;

/// Rows of the text, at most, up to the latency that 99 ops in 100 stay within.
const ROWS_MAX: usize = 16;
/// Percent of the ops that are shown finely; the others are shown by doublings.
const FINE_PERCENT: f64 = 99.0;
/// Length of the longest bar in characters.
const BAR_LENGTH: f64 = 50.0;
/// Ranges to a doubling, finest first.
const STEPS: [u32; 5] = [16, 8, 4, 2, 1];
/// Points of the picture.
const POINTS: u32 = 200;

/// Latencies from one to another, in nanoseconds, and how many ops had such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    from_ns: u64,
    to_ns: u64,
    count: u64,
}

/// The boundary of a range: `steps` to a doubling.
fn boundary(index: u32, steps: u32) -> u64 {
    (f64::from(index) / f64::from(steps)).exp2().round() as u64
}

/// Where the rows begin and end: in equal ratios up to the end of the many, then by doublings.
fn boundaries(latencies: &Histogram<u64>, steps: u32) -> Vec<u64> {
    let index = |ns: u64| ((ns.max(1) as f64).log2() * f64::from(steps)).floor() as u32;
    let many_ns = latencies.value_at_percentile(FINE_PERCENT);
    let fine = index(latencies.min()).saturating_sub(1)..=index(many_ns) + 1;
    let mut boundaries: Vec<u64> = fine.map(|index| boundary(index, steps)).collect();
    boundaries.dedup();
    while let Some(last) = boundaries.last().copied().filter(|last| *last <= latencies.max()) {
        boundaries.push(last * 2);
    }
    boundaries
}

/// The rows from the first that has ops to the last. There is at least one op.
fn rows(latencies: &Histogram<u64>, boundaries: &[u64]) -> Vec<Row> {
    let row = |ends: &[u64]| Row { from_ns: ends[0], to_ns: ends[1], count: 0 };
    let mut rows: Vec<Row> = boundaries.windows(2).map(row).collect();
    for value in latencies.iter_recorded() {
        let ns = value.value_iterated_to();
        let place = rows.partition_point(|row| row.to_ns <= ns);
        // What the histogram rounds up may lie at the last boundary.
        let last = rows.len().saturating_sub(1);
        if let Some(row) = rows.get_mut(place.min(last)) {
            row.count += value.count_since_last_iteration();
        }
    }
    let is_empty = |row: &Row| row.count == 0;
    let end = rows.len() - rows.iter().rev().take_while(|row| is_empty(row)).count();
    let start = rows[..end].iter().take_while(|row| is_empty(row)).count();
    rows[start..end].to_vec()
}

/// The histogram as lines; empty without ops.
pub fn text(latencies: &Histogram<u64>) -> String {
    if latencies.is_empty() {
        return String::new();
    }
    let is_short = |boundaries: &Vec<u64>| {
        let many_ns = latencies.value_at_percentile(FINE_PERCENT);
        boundaries.partition_point(|ns| *ns <= many_ns) <= ROWS_MAX
    };
    let finest = STEPS.into_iter().map(|steps| boundaries(latencies, steps)).find(is_short);
    let rows = rows(latencies, &finest.unwrap_or_else(|| boundaries(latencies, 1)));
    let most = rows.iter().map(|row| row.count).max().unwrap_or(1).max(1) as f64;
    let all = latencies.len() as f64;
    let mut text = String::new();
    for Row { from_ns, count, .. } in rows {
        let bar = match count {
            0 => String::new(),
            count => "#".repeat(((count as f64 / most * BAR_LENGTH).round() as usize).max(1)),
        };
        let percent = 100.0 * count as f64 / all;
        text.push_str(&format!("{:>9}  {percent:>7.3} %  {bar}\n", duration(from_ns)));
    }
    text
}

/// The distribution as an SVG picture: how many percent of the ops took at most so long.
pub fn svg(latencies: &Histogram<u64>, title: &str) -> Result<String> {
    let points = (0..=POINTS).map(|point| {
        // Closer together towards the end, where the tail is.
        let left = (1.0 - f64::from(point) / f64::from(POINTS)).powi(3);
        let quantile = 1.0 - left;
        (latencies.value_at_quantile(quantile).max(1) as f64 / 1e3, 100.0 * quantile)
    });
    let points = if latencies.is_empty() { Vec::new() } else { points.collect() };
    LineChart::new(title, ("latency", "us"), ("ops that took at most so long", "%"))
        .log2_x()
        .series("ops", points)
        .to_svg()
        .context("the picture cannot be drawn")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 1 << 40, 3).unwrap();
        values.iter().for_each(|value| histogram.saturating_record(*value));
        histogram
    }

    #[test]
    fn every_op_is_in_one_row() {
        for values in [&[1][..], &[4_000, 4_100, 9_000], &[1, 1_000_000_000], &[5; 1000]] {
            for steps in STEPS {
                let latencies = latencies(values);
                let rows = rows(&latencies, &boundaries(&latencies, steps));
                let count: u64 = rows.iter().map(|row| row.count).sum();
                assert_eq!(count, values.len() as u64, "{values:?}");
                assert!(rows[0].count > 0 && rows[rows.len() - 1].count > 0);
            }
        }
    }

    #[test]
    fn rows_are_few_and_their_bars_as_long_as_their_counts() {
        let mut values = vec![4_500; 900];
        values.extend([4_900; 90]);
        values.extend([1_000_000; 10]);
        let text = text(&latencies(&values));
        assert!(text.lines().count() <= ROWS_MAX + 8, "{text}");
        assert!(text.contains(" 90.000 %") && text.contains(&"#".repeat(50)), "{text}");
        assert!(text.lines().last().unwrap().ends_with("1.000 %  #"), "{text}");
        assert_eq!(super::text(&latencies(&[])), "");
    }

    #[test]
    fn a_picture_needs_ops() {
        assert!(svg(&latencies(&[4_000, 5_000]), "t").unwrap().starts_with("<svg"));
        assert!(svg(&latencies(&[]), "t").is_err());
    }
}
