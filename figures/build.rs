//! Tells the crate which commit and which profile it was built from (`NIC_COMMIT`, `NIC_PROFILE`).
//!
//! The script runs again when HEAD moves (HEAD, the branches, packed refs) and when a source file
//! or manifest that git tracks changes, since that may make the tree dirty. A build in which
//! nothing has changed runs nothing: only files that exist are watched, for cargo takes a missing
//! one as changed each time. Documents are not watched and do not make a build dirty: they are no
//! part of it. Without git, or outside a checkout, the commit is `unknown`.

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "src/build_profile.rs"]
mod build_profile;

/// What the programs are made of, as git path patterns from the root of the checkout.
const BUILD_INPUTS: [&str; 7] =
    [":/*.rs", ":/*.toml", ":/Cargo.lock", ":/*.c", ":/*.h", ":/*.S", ":/.cargo"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/build_profile.rs");
    for path in watched_paths() {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    println!("cargo:rustc-env=NIC_COMMIT={}", commit());
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let profile = build_profile::profile_name(
        Path::new(&variable("OUT_DIR")),
        &variable("PROFILE"),
        &variable("OPT_LEVEL"),
    );
    println!("cargo:rustc-env=NIC_PROFILE={profile}");
}

fn commit() -> String {
    let Some(head) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".to_owned();
    };
    // --no-optional-locks: git must not rewrite its index, which others may be using.
    let mut status = vec!["--no-optional-locks", "status", "--porcelain", "--"];
    status.extend(BUILD_INPUTS);
    // A status that cannot be had counts as dirty: a clean commit is a promise.
    let clean = git(&status).is_some_and(|changes| changes.is_empty());
    format!("{}{}", head.trim(), if clean { "" } else { "-dirty" })
}

fn watched_paths() -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for name in ["HEAD", "refs/heads", "packed-refs"] {
        // --git-path finds the right file in linked worktrees too.
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            paths.push(PathBuf::from(path.trim_end()));
        }
    }
    let mut list = vec!["ls-files", "-z", "--"];
    list.extend(BUILD_INPUTS);
    if let Some(tracked) = git(&list) {
        paths.extend(tracked.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from));
    }
    paths.retain(|path| path.exists());
    paths
}

/// What git says, run in this crate's folder; nothing if it is absent or fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
