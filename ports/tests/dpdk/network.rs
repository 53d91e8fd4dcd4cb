//! Namespaces and links that a test makes and that vanish with it.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static MADE: AtomicU32 = AtomicU32::new(0);

/// A network namespace, removed when dropped, and everything in it.
pub struct Namespace {
    pub name: String,
}

/// Runs `ip` with these words.
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {said}");
}

/// A number that no other test of any process has.
pub fn unique() -> String {
    format!("{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed))
}

impl Namespace {
    pub fn new() -> Self {
        let name = format!("nic-dpdk-{}", unique());
        ip(&format!("netns add {name}"));
        let namespace = Namespace { name };
        // Nobody speaks unasked.
        for key in ["all", "default"] {
            let setting = format!("net.ipv6.conf.{key}.disable_ipv6=1");
            namespace.run(&["sysctl", "-q", "-w", &setting]);
        }
        namespace
    }

    /// Runs `ip` within.
    pub fn ip(&self, words: &str) {
        ip(&format!("-n {} {words}", self.name));
    }

    /// Runs a command within and returns what it said.
    pub fn run(&self, words: &[&str]) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.name])
            .args(words)
            .output()
            .expect("iproute2 is there");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said} {error}");
        said
    }

    /// Removes the link that begins within, if there is one.
    pub fn unjoin(&self) {
        let words = ["-n", &self.name, "link", "del", "va"];
        let _ = Command::new("ip").args(words).output().expect("iproute2 is there");
    }

    /// Does something in a thread that has moved within.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind).unwrap();
                act()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Joins two namespaces, or one with itself, by a link whose ends are `va` and `vb`.
pub fn join(left: &Namespace, right: &Namespace, mtu: u16) {
    left.ip(&format!("link add name va mtu {mtu} type veth peer name vb mtu {mtu}"));
    if left.name != right.name {
        left.ip(&format!("link set vb netns {}", right.name));
    }
    for (namespace, device, mac) in [(left, "va", MAC_A), (right, "vb", MAC_B)] {
        namespace.ip(&format!("link set {device} address {mac}"));
        namespace.ip(&format!("link set {device} up"));
    }
}

/// The Ethernet addresses of the two ends.
pub const MAC_A: &str = "02:00:00:00:00:0a";
pub const MAC_B: &str = "02:00:00:00:00:0b";
