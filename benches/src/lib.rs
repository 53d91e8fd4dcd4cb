//! Benches: each figure beside its limit.
