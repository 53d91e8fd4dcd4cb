//! What is left of processes: open files, mappings, files, processes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use nic_host::Nic;
use nic_tests::children::{self, Child};
use nic_tests::wire::Wire;

/// How long an engine may take to forget applications that are gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a process has open, by kind, and how much memory it shares with others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Residue {
    open: BTreeMap<String, usize>,
    shared_mappings: usize,
}

impl Residue {
    pub fn of(child: &Child) -> Residue {
        let mut open = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{}/fd", child.pid())).unwrap() {
            let Ok(link) = std::fs::read_link(entry.unwrap().path()) else { continue };
            // Numbers of sockets and the like differ from process to process.
            let kind = link.to_string_lossy().split(":[").next().unwrap().to_owned();
            let kind = if kind.starts_with('/') { "file".to_owned() } else { kind };
            *open.entry(kind).or_default() += 1;
        }
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.pid())).unwrap();
        let shared_mappings = maps.lines().filter(|line| line.contains("/memfd:nic-")).count();
        Residue { open, shared_mappings }
    }

    /// Waits until an engine has no more than this open, and nothing to do.
    pub fn wait_for(&self, engine: &Child, nic: &Nic) {
        let begin = Instant::now();
        loop {
            let counters = children::engine_counters(nic);
            let busy = ["sessions", "ops_out", "ops_in"].map(|name| counters[name].clone());
            let found = Residue::of(engine);
            if busy.iter().all(|count| count.as_u64() == Some(0)) && found == *self {
                return;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "an engine without applications has {found:?} open, at first {self:?}; sessions, \
                 ops out and ops in: {busy:?}"
            );
            std::thread::yield_now();
        }
    }
}

/// Processes that were told of this folder.
pub fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let command = entry.unwrap().path().join("cmdline");
        let Ok(command) = std::fs::read(command) else { continue };
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.contains(&*folder) {
            found.push(command);
        }
    }
    found
}

/// Names of a folder's files, in order.
pub fn files_of(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let names = std::fs::read_dir(folder).unwrap().map(name);
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Files of shared memory that anyone of this project might have left.
pub fn shared_files() -> Vec<String> {
    let mut names = files_of(Path::new("/dev/shm"));
    names.retain(|name| name.contains("nic"));
    names
}

/// Huge pages that nobody has.
pub fn free_huge_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
    line.unwrap().trim().parse().unwrap()
}

/// Looks again and again until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// Looks at the devices of a wire whose engines are gone, and removes it.
pub fn assert_nothing_is_left_of(wire: Wire) {
    let mut names = Vec::new();
    if let Some(hosts) = wire.hosts() {
        for host in [&hosts.left, &hosts.right] {
            names.push(host.name().to_owned());
            // The kernel lets go of a dead process's sockets a little later.
            until("no XDP program is left", || {
                let arguments = ["-details", "link", "show", "dev", host.device()];
                let output = host.command("ip").args(arguments).output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(text.contains(host.device()), "{text}");
                !text.contains("xdp")
            });
        }
    }
    drop(wire);
    for name in names {
        assert!(!Path::new("/run/netns").join(&name).exists(), "{name} is left");
    }
}
