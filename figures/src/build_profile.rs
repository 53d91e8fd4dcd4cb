//! How a build script learns which cargo profile it builds for.
//!
//! Cargo tells a build script `PROFILE`, but only as `debug` or `release`: `dist`, which inherits
//! from `release`, is called `release` there. `OUT_DIR` holds the real name, as the folder above
//! `build`: `target/dist/build/nic-figures-0123/out`, with `--target` one folder deeper. This file
//! is compiled twice, into `build.rs` and into the crate's tests.

use std::path::Path;

/// The profile's name: `debug`, `release`, `dist`, or that of a profile a user has added.
///
/// An optimised profile whose optimisation was turned off is called `debug`: nobody should take
/// its figures for those of a release.
pub(crate) fn profile_name(out_dir: &Path, profile: &str, opt_level: &str) -> String {
    if profile != "debug" && matches!(opt_level, "0" | "1") {
        return "debug".to_owned();
    }
    let above_build = out_dir
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "build"))
        .and_then(Path::parent)
        .and_then(Path::file_name)
        .and_then(|name| name.to_str());
    above_build.unwrap_or(profile).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(out_dir: &str, profile: &str, opt_level: &str) -> String {
        profile_name(Path::new(out_dir), profile, opt_level)
    }

    #[test]
    fn dist_is_told_from_release() {
        assert_eq!(name("/t/dist/build/nic-figures-1/out", "release", "3"), "dist");
        assert_eq!(name("/t/release/build/nic-figures-1/out", "release", "3"), "release");
        assert_eq!(name("/t/debug/build/nic-figures-1/out", "debug", "1"), "debug");
    }

    #[test]
    fn a_target_triple_and_the_newer_layout_are_understood() {
        let triple = "/t/aarch64-unknown-linux-gnu/dist/build/nic-figures-1/out";
        assert_eq!(name(triple, "release", "3"), "dist");
        assert_eq!(name("/t/dist/build/nic-figures/1/out", "release", "3"), "dist");
        // A checkout that itself lies below a folder called build.
        let nested = "/home/u/build/nic/target/release/build/nic-figures-1/out";
        assert_eq!(name(nested, "release", "3"), "release");
    }

    #[test]
    fn unoptimised_builds_and_unknown_layouts_fall_back() {
        assert_eq!(name("/t/release/build/nic-figures-1/out", "release", "1"), "debug");
        assert_eq!(name("/elsewhere/out", "release", "3"), "release");
    }
}
