//! What is kept, what is paired, and what is said of it.

use super::*;

/// A slice of subject `subject` with one value, between two probes; 0 ns stands for a busy probe.
fn slice(round: u32, subject: usize, probes: (f64, f64), value: f64) -> SliceRecord {
    let answer = |round_trip_ns| match round_trip_ns {
        0.0 => Err(NoPlacement::Busy { cores: (0, 1), chunks: 0 }),
        _ => Ok(Placement { round_trip_ns }),
    };
    let value = SliceValue { name: String::new(), value, unit: None };
    let (before, after) = (answer(probes.0), answer(probes.1));
    SliceRecord { subject, round, before, after, outcome: Ok(vec![value]) }
}

fn outlines(names: &[&str]) -> Vec<Outline> {
    let outline = |name: &&str| Outline { name: (*name).to_owned(), unit: "ns".to_owned() };
    names.iter().map(outline).collect()
}

fn judge(names: &[&str], rounds: u32, records: Vec<SliceRecord>) -> Measured {
    Measured::judge(outlines(names), rounds, records)
}

const NEAR: (f64, f64) = (90.0, 92.0);
const FAR: (f64, f64) = (300.0, 310.0);

#[test]
fn only_slices_of_the_majority_placement_are_kept() {
    let records = vec![
        slice(0, 0, FAR, 1.0),
        slice(1, 0, NEAR, 2.0),
        slice(2, 0, NEAR, 3.0),
        slice(3, 0, (90.0, 300.0), 4.0),
        slice(4, 0, (0.0, 90.0), 5.0),
        slice(5, 0, (100.0, 100.0), 6.0),
    ];
    let measured = judge(&["x"], 6, records);
    assert_eq!(measured.values("x"), [2.0, 3.0, 6.0]);
    let expected = SliceCounts { kept: 3, moved: 1, elsewhere: 1, unprobed: 1, failed: 0 };
    assert_eq!(measured.slices(), expected);
    assert_eq!(measured.slices().dropped(), 3);
    assert_eq!(measured.placement(), Some(Placement { round_trip_ns: 91.0 }));
    assert!(!measured.enough());
    assert_eq!(
        measured.summary(),
        "kept 3 of 6 slices; 1 saw the machine move; 1 ran in another placement; \
         1 could not be probed; cache line 91 ns; \
         too few: 3 good rounds and 5 are needed, run again"
    );
}

#[test]
fn the_majority_is_of_slices_and_not_of_the_first_or_fastest() {
    let far = (1..4).map(|round| slice(round, 0, FAR, 10.0));
    let records = std::iter::once(slice(0, 0, NEAR, 1.0)).chain(far).collect();
    let measured = judge(&["x"], 4, records);
    assert_eq!(measured.values("x"), [10.0, 10.0, 10.0]);
    // With equal following the earlier one is chosen, so that equal input gives equal output.
    let tie = judge(&["x"], 2, vec![slice(0, 0, FAR, 1.0), slice(1, 0, NEAR, 2.0)]);
    assert_eq!(tie.values("x"), [1.0]);
}

#[test]
fn ratios_and_differences_pair_slices_of_one_round() {
    let records = vec![
        slice(0, 0, NEAR, 10.0),
        slice(0, 1, NEAR, 2.0),
        // In round 1 one side is dropped: its partner must not meet a value of another round.
        slice(1, 0, FAR, 1000.0),
        slice(1, 1, NEAR, 5.0),
        slice(2, 0, NEAR, 30.0),
        slice(2, 1, NEAR, 10.0),
        slice(3, 0, NEAR, 40.0),
        slice(3, 1, NEAR, 10.0),
    ];
    let measured = judge(&["a", "b"], 4, records);
    let ratio = measured.ratio("a", "b").unwrap();
    assert_eq!((ratio.name.as_str(), ratio.unit.as_str()), ("a / b", "x"));
    // 5, 3 and 4: the ratio of the medians would be 30 / 7.5 instead.
    assert_eq!((ratio.value, ratio.runs, ratio.min, ratio.max), (4.0, 3, 3.0, 5.0));
    let difference = measured.difference("a", "b").unwrap();
    assert_eq!((difference.name.as_str(), difference.unit.as_str()), ("a - b", "ns"));
    assert_eq!((difference.value, difference.min, difference.max), (20.0, 8.0, 30.0));
    assert_eq!(measured.good_rounds(), 3);
    assert_eq!(measured.ratio("a", "absent"), None);
}

#[test]
fn two_kept_slices_that_are_not_the_same_placement_make_no_pair() {
    // 80 and 120 are each within a quarter of 100, and not of each other.
    let steady = |round_trip_ns| (round_trip_ns, round_trip_ns);
    let records = vec![
        slice(0, 0, steady(100.0), 6.0),
        slice(0, 1, steady(100.0), 3.0),
        slice(1, 0, steady(80.0), 100.0),
        slice(1, 1, steady(120.0), 1.0),
    ];
    let measured = judge(&["a", "b"], 2, records);
    assert_eq!(measured.slices().kept, 4);
    let ratio = measured.ratio("a", "b").unwrap();
    assert_eq!((ratio.value, ratio.runs), (2.0, 1));
}

#[test]
fn zero_bases_and_differing_units_are_not_compared() {
    let mut records = vec![slice(0, 0, NEAR, 10.0), slice(0, 1, NEAR, 0.0)];
    let measured = judge(&["a", "b"], 1, records.clone());
    assert_eq!(measured.ratio("a", "b"), None);
    assert!(measured.difference("a", "b").is_some());
    let rate = SliceValue { name: "rate".to_owned(), value: 4.0, unit: Some("op/s".to_owned()) };
    records[1].outcome = Ok(vec![rate]);
    let measured = judge(&["a", "b"], 1, records);
    assert_eq!(measured.difference("a", "b.rate"), None);
    let ratio = measured.ratio("a", "b.rate").unwrap();
    assert_eq!((ratio.value, ratio.unit.as_str()), (2.5, "ns/(op/s)"));
}

#[test]
fn five_good_rounds_are_enough_and_four_are_not() {
    let rounds = |count: u32| {
        let both = (0..count).flat_map(|r| [slice(r, 0, NEAR, 1.0), slice(r, 1, NEAR, 1.0)]);
        let half = slice(count, 0, NEAR, 1.0);
        judge(&["a", "b"], count + 1, both.chain([half, slice(count, 1, FAR, 1.0)]).collect())
    };
    assert!(!rounds(4).enough());
    assert!(rounds(5).enough());
    assert!(!judge(&[], 9, Vec::new()).enough());
}

#[test]
fn failures_are_counted_and_the_first_is_told() {
    let mut records: Vec<_> = (0..3).map(|round| slice(round, 0, FAR, 1.0)).collect();
    records[0].outcome = Err("the engine is gone".to_owned());
    records[2].outcome = Err("still gone".to_owned());
    // A failed slice has no say in which placement is the majority's.
    records.push(slice(3, 0, NEAR, 2.0));
    records.push(slice(4, 0, NEAR, 2.0));
    let measured = judge(&["x"], 5, records);
    let expected = SliceCounts { kept: 2, elsewhere: 1, failed: 2, ..SliceCounts::default() };
    assert_eq!(measured.slices(), expected);
    assert_eq!(measured.first_failure(), Some("x in round 0: the engine is gone"));
}

#[test]
fn without_anything_to_probe_slices_are_kept_and_the_reason_told() {
    let mut records: Vec<_> = (0..5).map(|round| slice(round, 0, NEAR, 1.0)).collect();
    for record in &mut records {
        let reason = NoPlacement::Unavailable { reason: "one core".to_owned() };
        (record.before, record.after) = (Err(reason.clone()), Err(reason));
    }
    let measured = judge(&["x"], 5, records);
    assert!(measured.enough());
    assert_eq!(measured.placement(), None);
    assert_eq!(
        measured.summary(),
        "kept 5 of 5 slices; placement unknown: no cache line to time: one core"
    );
}
