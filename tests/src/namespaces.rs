//! Several hosts on one machine: network namespaces joined by a virtual link.
//!
//! A pair of [`Hosts`] has a network of its own, so tests run side by side and traffic never
//! leaves the machine. It needs root and the `ip` command. The namespaces go when the pair is
//! dropped; what a test left that was killed is removed by the next that makes a pair.
//!
//! Processes are started by [`Host::command`]; sockets of the test's own are opened by
//! [`Host::run`] and stay in the namespace wherever they are used.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip` keeps its namespaces.
const FOLDER: &str = "/run/netns";
/// What the names of ours begin with; process, number and side follow.
const PREFIX: &str = "nic-test";
/// The name of each host's end of the link.
const DEVICE: &str = "link0";

/// Counts this process's pairs.
static PAIRS: AtomicU32 = AtomicU32::new(0);

/// What the link between two hosts is like.
#[derive(Clone, Copy, Debug)]
pub struct LinkOptions {
    /// The longest network packet in bytes, without its Ethernet header.
    pub mtu: u32,
    /// Queues of each end, in either direction.
    pub queues: u32,
}

impl Default for LinkOptions {
    fn default() -> Self {
        LinkOptions { mtu: 1500, queues: 1 }
    }
}

/// Two hosts joined by a link.
#[derive(Debug)]
pub struct Hosts {
    /// One.
    pub left: Host,
    /// And the other.
    pub right: Host,
}

/// A network namespace with its loopback and one end of a link.
#[derive(Debug)]
pub struct Host {
    name: String,
    /// The last part of its addresses.
    number: u8,
}

impl Hosts {
    /// Makes two hosts that reach each other at once: their links and loopbacks are up, and IPv6
    /// does not look for duplicates of their addresses first.
    ///
    /// # Panics
    /// If the system refuses: without root, or without `ip`.
    pub fn pair(link: LinkOptions) -> Hosts {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("{PREFIX}-{}-{number}-{side}", std::process::id());
        // Each is removed by its drop from here on, whatever fails next.
        let left = Host::add(name("left"), 1);
        let right = Host::add(name("right"), 2);
        let LinkOptions { mtu, queues } = link;
        let end = |host: &Host| {
            format!(
                "{DEVICE} mtu {mtu} numtxqueues {queues} numrxqueues {queues} netns {}",
                host.name
            )
        };
        ip(&format!("link add {} type veth peer name {}", end(&left), end(&right)));
        let hosts = Hosts { left, right };
        for host in [&hosts.left, &hosts.right] {
            let name = &host.name;
            ip(&format!("-n {name} address add {}/24 dev {DEVICE}", host.ipv4()));
            ip(&format!("-n {name} -6 address add {}/64 dev {DEVICE} nodad", host.ipv6()));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set {DEVICE} up"));
        }
        hosts
    }
}

impl Host {
    fn add(name: String, number: u8) -> Host {
        let host = Host { name, number };
        if host.path().exists() {
            // A test left it whose process had the number that this one has now.
            remove(&host.name);
        }
        ip(&format!("netns add {}", host.name));
        host
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// The namespace's name, as `ip netns` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its end of the link.
    pub fn device(&self) -> &'static str {
        DEVICE
    }

    /// Its IPv4 address on the link.
    pub fn ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Its IPv6 address on the link.
    pub fn ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// Its address of one or the other family.
    pub fn address(&self, is_ipv6: bool) -> IpAddr {
        if is_ipv6 { self.ipv6().into() } else { self.ipv4().into() }
    }

    /// Takes its addresses from the kernel, which then answers for none of them on the link: whoever
    /// drives the device without the kernel does.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn forget_addresses(&self) {
        ip(&format!("-n {} address flush dev {DEVICE}", self.name));
    }

    /// Has the kernel cut runs of segments (UDP GSO) before they leave. On a real link the device
    /// does; a virtual one hands them over whole, and who is no kernel cannot use them.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn cut_runs(&self) {
        let arguments = ["-K", DEVICE, "tx-udp-segmentation", "off"];
        let output = self.command("ethtool").args(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("ip cannot be run: {error}"));
        let refusal = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ethtool {arguments:?} (Debian: ethtool): {refusal}");
    }

    /// A command that will run this program here. The process that it starts is the program's own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a closure on a thread of its own that lives here.
    ///
    /// # Panics
    /// If the closure does, or the system refuses.
    pub fn run<T: Send>(&self, closure: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        let inside = || {
            let namespace = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|error| panic!("{} cannot be entered: {error}", path.display()));
            closure()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Removing one end of the link removes the other. A process that still runs here keeps the
        // namespace alive, without a name, until it ends.
        remove(&self.name);
    }
}

/// Removes what tests have left whose process is gone.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = owner(&name)
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            remove(&name);
        }
    }
}

/// The process that made a namespace of this name, if a test did.
fn owner(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?.strip_prefix('-')?;
    rest.split('-').next()?.parse().ok()
}

fn remove(name: &str) {
    // One that does not exist (any more) is as good as removed.
    let _ = Command::new("ip").args(["netns", "delete", name]).output();
}

/// Runs `ip` with these arguments.
fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("ip cannot be run (Debian: iproute2): {error}"));
    let refusal = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`ip {arguments}`: {refusal}(this needs root)");
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn namespaces_of_tests_name_their_process() {
        assert_eq!(owner("nic-test-712-0-left"), Some(712));
        assert_eq!(owner("nic-test-x-0-left"), None);
        assert_eq!(owner("nic-tester-712"), None);
        assert_eq!(owner("blue"), None);
    }

    #[test]
    #[ignore = "needs root: sudo -E cargo test -p nic-tests --lib -- --include-ignored"]
    fn hosts_reach_each_other_and_leave_nothing() {
        let link = LinkOptions { mtu: 9000, queues: 2 };
        let hosts = Hosts::pair(link);
        let names = [&hosts.left, &hosts.right].map(|host| host.name().to_owned());
        for is_ipv6 in [false, true] {
            let open = |host: &Host| {
                host.run(|| UdpSocket::bind((host.address(is_ipv6), 0)).expect("its address"))
            };
            let (left, right) = (open(&hosts.left), open(&hosts.right));
            // Longer than an ordinary link would carry.
            let sent = [7u8; 8000];
            left.send_to(&sent, right.local_addr().unwrap()).unwrap();
            let mut received = [0; 9000];
            let (length, from) = right.recv_from(&mut received).unwrap();
            assert_eq!((&received[..length], from), (&sent[..], left.local_addr().unwrap()));
        }
        let output = hosts.right.command("ip").args(["-o", "link"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(hosts.right.device()) && text.contains("mtu 9000"), "{text}");
        drop(hosts);
        for name in names {
            assert!(!Path::new(FOLDER).join(&name).exists(), "{name} is left");
        }
    }

    #[test]
    #[ignore = "needs root: sudo -E cargo test -p nic-tests --lib -- --include-ignored"]
    fn what_a_dead_test_left_is_swept_and_what_a_living_one_has_is_not() {
        // Process numbers end long before this one, and the first process never does.
        let dead = Host::add(format!("{PREFIX}-4294967295-0-left"), 1);
        let alive = Host::add(format!("{PREFIX}-1-0-left"), 1);
        sweep();
        assert!(!dead.path().exists() && alive.path().exists());
    }
}
