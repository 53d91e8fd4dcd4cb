//! Tests under many seeds.

use std::ops::Range;

/// Prints itself when the test fails while it lives.
pub struct OnFailure(pub String);

impl Drop for OnFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {}", self.0);
        }
    }
}

/// Runs a test under each seed and says which one failed. With `NIC_SEEDS=n` in the environment so
/// many more are tried, for a search through the night.
pub fn under_seeds(seeds: Range<u64>, mut test: impl FnMut(u64)) {
    let wanted = std::env::var("NIC_SEEDS").ok();
    let more: u64 = wanted.map_or(0, |count| count.parse().expect("NIC_SEEDS is a number"));
    for seed in seeds.chain(1_000_000..1_000_000 + more) {
        let shown = OnFailure(format!("seed {seed}"));
        test(seed);
        drop(shown);
    }
}
