//! The suite of promises and what is DPDK's own, on virtual devices.
//!
//! EAL starts once in a process: all tests share one, without huge pages. One test runs the others
//! again, in a process of their own, with huge pages.

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(feature = "dpdk")]

#[path = "../conformance/harness.rs"]
mod harness;
#[path = "../conformance/suite.rs"]
mod suite;

mod devices;
mod kernel_peer;
mod network;
mod pairs;
mod peer_death;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use devices::{Address, af_packet_pair, af_xdp_pair, alone, memif_pair, vhost_pair};

#[test]
#[ignore = "needs libdpdk (apt-get install libdpdk-dev) and 300 MB of memory"]
fn vhost_and_virtio_user() {
    let _alone = alone();
    suite::run(|| vhost_pair(Address::V4, false));
}

#[test]
#[ignore = "needs libdpdk (apt-get install libdpdk-dev) and 300 MB of memory"]
fn virtio_user_and_vhost_over_ipv6() {
    let _alone = alone();
    suite::run(|| vhost_pair(Address::V6, true));
}

#[test]
#[ignore = "needs libdpdk (apt-get install libdpdk-dev) and 300 MB of memory"]
fn memif() {
    let _alone = alone();
    suite::run(|| memif_pair(Address::V4));
}

#[test]
#[ignore = "needs root and libdpdk: makes network namespaces; run the tests with sudo"]
fn af_packet() {
    let _alone = alone();
    let namespace = network::Namespace::new();
    network::join(&namespace, &namespace, 1500);
    namespace.within(|| suite::run(|| af_packet_pair(Address::V4)));
    namespace.within(|| suite::run(|| af_packet_pair(Address::V6)));
}

#[test]
#[ignore = "needs root and libdpdk: makes network namespaces; run the tests with sudo"]
fn af_xdp() {
    let _alone = alone();
    let namespace = network::Namespace::new();
    namespace.within(|| {
        suite::run(|| {
            // net_af_xdp does not open a device a second time in one process.
            namespace.unjoin();
            network::join(&namespace, &namespace, 1500);
            af_xdp_pair(Address::V4)
        });
    });
}

/// Pages of 2 MiB that the test with huge pages asks for.
const HUGE_PAGES: u32 = 256;

/// Huge pages that are asked for, and given back.
struct HugePages {
    before: u32,
}

const HUGE_PAGES_PATH: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    fn new() -> Self {
        let read = || std::fs::read_to_string(HUGE_PAGES_PATH).unwrap().trim().parse().unwrap();
        let before: u32 = read();
        std::fs::write(HUGE_PAGES_PATH, (before + HUGE_PAGES).to_string()).unwrap();
        let pages = HugePages { before };
        assert!(read() >= HUGE_PAGES, "the machine has no {HUGE_PAGES} huge pages to give");
        pages
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(HUGE_PAGES_PATH, self.before.to_string());
    }
}

#[test]
#[ignore = "needs root and libdpdk: asks for 256 huge pages; run the tests with sudo"]
fn the_suite_with_huge_pages() {
    if devices::with_huge_pages() {
        return;
    }
    let _alone = alone();
    let _pages = HugePages::new();
    for test in ON_HUGE_PAGES {
        let mut status = alone_on_huge_pages(test);
        // Debian's DPDK 22.11: a memif server that polls while its peer goes away may crash.
        if test == "memif" && status.signal().is_some() {
            status = alone_on_huge_pages(test);
        }
        assert!(status.success(), "{test} on huge pages: {status}");
    }
}

/// What is run once more on huge pages, each in a process of its own.
const ON_HUGE_PAGES: [&str; 7] = [
    "vhost_and_virtio_user",
    "virtio_user_and_vhost_over_ipv6",
    "memif",
    "af_packet",
    "af_xdp",
    "peer_death::vhost_survives_its_virtio_user",
    "peer_death::virtio_user_survives_its_vhost",
];

fn alone_on_huge_pages(test: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .env(devices::HUGE_PAGES_VARIABLE, "1")
        .args(["--include-ignored", "--exact", test])
        .status()
        .unwrap()
}
