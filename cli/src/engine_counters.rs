//! An engine process's counters, as its status tells them.

use std::time::Duration;

use anyhow::{Context, Result};
use nic_engine::engine::Counters;

/// How long to wait between two looks at an engine process's counters, and how often to look: they
/// are published when the engine has nothing to do.
const LOOK_PAUSE: Duration = Duration::from_millis(2);
const LOOKS_MAX: u32 = 100;

/// Looks until two looks see the same.
pub fn settled(mut look: impl FnMut() -> Result<Counters>) -> Result<Counters> {
    let mut last = look()?;
    for _ in 0..LOOKS_MAX {
        std::thread::sleep(LOOK_PAUSE);
        let now = look()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// The counters in a status, of all its engines together.
pub fn in_status(status: &str) -> Result<Counters> {
    let status: serde_json::Value = serde_json::from_str(status)?;
    let engines = status["engines"].as_array().context("the engine's status names no engine")?;
    let mut values = [0; Counters::COUNT];
    for engine in engines {
        for (metric, value) in Counters::LIST.iter().zip(&mut values) {
            let found = engine["counters"][&*metric.name].as_u64();
            *value += found.with_context(|| {
                format!("the engine's status lacks the counter {}", metric.name)
            })?;
        }
    }
    Ok(Counters::from_values(values))
}

/// What was counted between two moments.
pub fn difference(after: &Counters, before: &Counters) -> Counters {
    let (after, before) = (after.values(), before.values());
    Counters::from_values(std::array::from_fn(|i| after[i].wrapping_sub(before[i])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_of_a_process_are_added_up() {
        let counters: serde_json::Map<_, _> =
            Counters::LIST.iter().map(|metric| (metric.name.to_string(), 3.into())).collect();
        let status = serde_json::json!({
            "engines": [{ "counters": counters }, { "counters": counters }],
        });
        let sum = in_status(&status.to_string()).unwrap();
        assert_eq!((sum.packets_sent, sum.ops_in), (6, 6));
        assert_eq!(difference(&sum, &sum), Counters::default());
        let error = in_status(r#"{"engines":[{"counters":{}}]}"#).unwrap_err();
        assert!(error.to_string().contains("lacks the counter turns"), "{error}");
    }
}
