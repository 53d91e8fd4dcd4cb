//! Hosts with devices of their own, on one machine: network namespaces, which need root.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The device of every host.
pub const DEVICE: &str = "nic0";
/// A VLAN for tagged packets; most kernels that tests run on have no devices for VLANs.
pub const VLAN: u16 = 5;

/// A network namespace, removed with all that is in it when it is dropped.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    /// A new one whose name is nobody else's.
    pub fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace { name: format!("nic-{}-{count}-{role}", std::process::id()) };
        run("ip", &format!("netns add {}", namespace.name));
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip` within.
    pub fn ip(&self, arguments: &str) -> String {
        run("ip", &format!("-n {} {arguments}", self.name))
    }

    /// Runs a program within, and gives what it prints. It must succeed.
    pub fn run(&self, program: &str, arguments: &str) -> String {
        run("ip", &format!("netns exec {} {program} {arguments}", self.name))
    }

    /// Whether an XDP program is attached to the device.
    pub fn has_program(&self) -> bool {
        self.ip(&format!("link show {DEVICE}")).contains("xdp")
    }

    /// Sees that none is. A process that another test starts has copies of all descriptors for a
    /// moment, those that hold a program among them.
    pub fn assert_no_program(&self) {
        assert!((0..100).any(|_| !self.has_program()), "an XDP program is left behind");
    }

    /// Calls a function on a thread that is within. Descriptors that it opens stay usable, and
    /// threads that it starts stay within.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Runs a program, and gives what it prints. It must succeed.
pub fn run(program: &str, arguments: &str) -> String {
    let output: Output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A host's number: the last part of its addresses.
pub fn ipv4(host: usize) -> String {
    format!("10.9.0.{host}")
}

pub fn ipv6(host: usize) -> String {
    format!("fd09::{host}")
}

pub fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn mac(host: usize) -> String {
    format!("02:00:00:00:09:{host:02x}")
}

/// Two hosts, 1 and 2, whose devices are the ends of one virtual link.
pub struct Linked {
    pub hosts: [Namespace; 2],
}

impl Linked {
    /// With a number of queues each, and IPv4 and IPv6 addresses.
    pub fn new(queues: u32) -> Self {
        let hosts = [Namespace::new("one"), Namespace::new("two")];
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        let [one, two] = [0, 1].map(|host: usize| {
            format!("name {DEVICE} netns {} address {}", hosts[host].name, mac(host + 1))
        });
        run("ip", &format!("link add {one} {queues} type veth peer {two} {queues}"));
        for (host, number) in hosts.iter().zip(1..) {
            set_up(host, number);
        }
        Linked { hosts }
    }
}

/// Three hosts, 1 to 3, at one switch.
pub struct Switched {
    pub hosts: Vec<Namespace>,
    _switch: Namespace,
}

impl Switched {
    /// All of them introduced.
    pub fn new(mtu: usize) -> Self {
        let switch = Namespace::new("switch");
        switch.ip(&format!("link add name bridge mtu {mtu} type bridge mcast_snooping 0"));
        switch.ip("link set bridge up");
        let hosts: Vec<Namespace> = (1..=3)
            .map(|number| {
                let host = Namespace::new("host");
                let far = format!("name port{number} netns {}", switch.name);
                let near = format!("name {DEVICE} netns {} address {}", host.name, mac(number));
                run("ip", &format!("link add {near} mtu {mtu} type veth peer {far} mtu {mtu}"));
                switch.ip(&format!("link set port{number} master bridge up"));
                // Tags that travel beside the packet are not seen by XDP programs.
                switch.run("ethtool", &format!("-K port{number} txvlan off"));
                host
            })
            .collect();
        for (host, number) in hosts.iter().zip(1..) {
            set_up(host, number);
        }
        introduce(&hosts);
        Switched { hosts, _switch: switch }
    }
}

fn set_up(host: &Namespace, number: usize) {
    host.ip(&format!("link set {DEVICE} up"));
    host.ip(&format!("address add {}/24 dev {DEVICE}", ipv4(number)));
    host.ip(&format!("address add {}/64 dev {DEVICE} nodad", ipv6(number)));
}

/// Makes the hosts' addresses known to each other, so that no packet waits for them.
fn introduce(hosts: &[Namespace]) {
    for (host, number) in hosts.iter().zip(1..) {
        for other in (1..=hosts.len()).filter(|other| *other != number) {
            for ip in [ipv4(other), ipv6(other)] {
                let mac = mac(other);
                host.ip(&format!("neighbour replace {ip} lladdr {mac} dev {DEVICE} nud permanent"));
            }
        }
    }
}
