//! The interop matrix: engines on every kind of port work on each other's memory, over links of
//! every kind, and each byte is checked where it comes from and where it goes to.

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nic_engine::daemon::WaitMode;
use nic_engine::ports::{PortKind, PortSettings, XdpModeSetting};
use nic_host::{
    Access, BucketTable, Geometry, Identity, Lookup, Nic, Region, RemoteRegion, RemoteTable,
    Session,
};
use nic_tests::children::{self, Child};
use nic_tests::namespaces::{Host, Hosts, LinkOptions};
use nic_tests::sample;
use nic_tests::wire::{daemon_config, start_daemon};

const PROGRAM: &str = env!("CARGO_BIN_EXE_nic-tests");
/// Where every engine receives, each on its own host.
const PORT: u16 = 4791;
/// Longer than any op takes, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);

/// A kind of port, and what is to be done for it.
#[derive(Clone, Copy)]
struct Kind {
    port: PortKind,
    /// How it calls itself in an engine's status.
    status: &'static str,
    xdp_mode: XdpModeSetting,
    /// What DPDK is to drive of the host's device, and how EAL is started.
    dpdk: (&'static str, &'static [&'static str]),
    /// The longest network packet of the links that it can be on.
    mtu_max: u32,
    /// It cannot use runs of segments that a peer's kernel did not cut.
    wants_cut_runs: bool,
}

const UDP: Kind = Kind {
    port: PortKind::Udp,
    status: "port udp (",
    xdp_mode: XdpModeSetting::Auto,
    dpdk: ("", &[]),
    mtu_max: u32::MAX,
    wants_cut_runs: false,
};

/// Every kind of port. All work over both IPv4 and IPv6.
const KINDS: &[Kind] = &[
    UDP,
    Kind { port: PortKind::Uring, status: "port uring (", ..UDP },
    Kind {
        port: PortKind::Xdp,
        status: "port xdp (generic",
        xdp_mode: XdpModeSetting::Generic,
        wants_cut_runs: true,
        ..UDP
    },
    // With a program in the driver, a frame has to fit a page.
    Kind {
        port: PortKind::Xdp,
        status: "port xdp (native",
        xdp_mode: XdpModeSetting::Native,
        mtu_max: 3498,
        ..UDP
    },
    // Its rings have places of 2 KiB for frames.
    #[cfg(feature = "dpdk")]
    Kind {
        port: PortKind::Dpdk,
        status: "port dpdk (net_af_packet",
        dpdk: ("net_af_packet0,iface=", &["--no-shconf", "--no-huge", "-m", "256", "--no-pci"]),
        mtu_max: 1500,
        wants_cut_runs: true,
        ..UDP
    },
    // A program in the driver as well, and DPDK is not asked for more.
    #[cfg(feature = "dpdk")]
    Kind {
        port: PortKind::Dpdk,
        status: "port dpdk (net_af_xdp",
        dpdk: ("net_af_xdp0,busy_budget=0,iface=", &["--in-memory", "--no-pci"]),
        mtu_max: 1500,
        ..UDP
    },
];
const USUAL_MTU: u32 = 1500;
const JUMBO_MTU: u32 = 9000;

/// Bytes of the target's plain region.
const REGION_BYTES: u64 = 4 << 20;
/// Where the part begins that is read.
const READ_AT: u64 = 0;
/// Where the part begins that is written.
const WRITTEN_AT: u64 = 2 << 20;
/// Where the word is that is added to.
const WORD_AT: u64 = REGION_BYTES - 8;
/// How long single ops are: around the ends of a packet, a segmented run, and the longest.
const LENGTHS: [u64; 9] = [1, 8, 64, 1399, 1400, 4096, 65_537, 300_001, 1 << 20];
/// Keys in the table; each value has another length.
const KEYS: u64 = 300;

#[test]
#[ignore = "needs root: sudo -E cargo test -p nic-tests --test interop -- --include-ignored"]
fn every_port_works_with_every_other() {
    for is_ipv6 in [false, true] {
        for initiator in KINDS {
            for target in KINDS {
                for mtu in mtus(initiator, target) {
                    let [from, to] = [initiator.status, target.status];
                    eprintln!("{from}) to {to}), ipv6 {is_ipv6}, mtu {mtu}");
                    work_together(mtu, is_ipv6, initiator, target);
                }
            }
        }
    }
}

/// The usual link, and one for the longest packets that both can have.
fn mtus(initiator: &Kind, target: &Kind) -> impl Iterator<Item = u32> {
    let longest = JUMBO_MTU.min(initiator.mtu_max).min(target.mtu_max);
    [USUAL_MTU, longest].into_iter().take(if longest > USUAL_MTU { 2 } else { 1 })
}

/// Applications on the left work on memory on the right.
fn work_together(mtu: u32, is_ipv6: bool, initiator: &Kind, target: &Kind) {
    let hosts = Hosts::pair(LinkOptions { mtu, ..LinkOptions::default() });
    prepare(&hosts.left, initiator, target);
    prepare(&hosts.right, target, initiator);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (_left, initiator) =
        engine(&hosts.left, is_ipv6, initiator, &path("left"), WaitMode::Adaptive);
    let (_right, target) = engine(&hosts.right, is_ipv6, target, &path("right"), WaitMode::Block);

    let region = target.region(REGION_BYTES).create().unwrap();
    let access = Access::READ.and(Access::WRITE).and(Access::ATOMIC);
    let data = region.export(access).unwrap();
    let session = initiator.session().depth(64).arena(8 << 20).open().unwrap();
    let remote = session.connect(&data.ticket().to_string().parse().unwrap()).unwrap();
    reads(&session, &remote, &region);
    writes(&session, &remote, &region);
    adds(&session, &remote, &region);
    lookups(&session, &target);
}

/// Makes a host ready for its own kind of port and for its peer's.
fn prepare(host: &Host, own: &Kind, peers: &Kind) {
    if own.port == PortKind::Dpdk {
        // The port answers for the address itself.
        host.forget_addresses();
    }
    if peers.wants_cut_runs {
        host.cut_runs();
    }
}

fn settings(host: &Host, is_ipv6: bool, kind: &Kind) -> PortSettings {
    let device = match kind.port {
        PortKind::Udp | PortKind::Uring => None,
        PortKind::Xdp => Some(host.device().to_owned()),
        PortKind::Dpdk => Some(format!("{}{}", kind.dpdk.0, host.device())),
    };
    PortSettings {
        kind: kind.port,
        address: SocketAddr::new(host.address(is_ipv6), PORT),
        device,
        xdp_mode: kind.xdp_mode,
        eal: kind.dpdk.1.iter().map(ToString::to_string).collect(),
        ..PortSettings::default()
    }
}

/// A daemon on a host that answers, by the port that was asked for.
fn engine(host: &Host, is_ipv6: bool, kind: &Kind, path: &Path, wait: WaitMode) -> (Child, Nic) {
    let socket = path.with_extension("sock");
    let config = daemon_config(settings(host, is_ipv6, kind), &socket, wait);
    let mut engine = start_daemon(host.command(PROGRAM), &path.with_extension("toml"), &config);
    let nic = children::connect(&mut engine, &socket);
    let status: serde_json::Value = serde_json::from_str(&nic.status().unwrap()).unwrap();
    let found = status["engines"][0]["port"].as_str().unwrap();
    assert!(found.contains(kind.status), "asked for {}, found {found}", kind.status);
    (engine, nic)
}

/// Bytes that follow from a number.
fn bytes(seed: u64, length: u64) -> Vec<u8> {
    let words = (0..length.div_ceil(8)).map(|place| sample::pattern(seed << 32 | place));
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.truncate(length as usize);
    bytes
}

fn reads(session: &Session, remote: &RemoteRegion, region: &Region) {
    for (number, length) in LENGTHS.into_iter().enumerate() {
        // Places that are no multiples of anything.
        let at = READ_AT + 13 * number as u64;
        let expected = bytes(number as u64, length);
        region.memory().write(at, &expected).unwrap();
        let found = session.run(remote.read(at..at + length).deadline(LONG)).unwrap();
        assert!(*found == expected, "a READ of {length} B brought other bytes");
    }
}

fn writes(session: &Session, remote: &RemoteRegion, region: &Region) {
    for (number, length) in LENGTHS.into_iter().enumerate() {
        let at = WRITTEN_AT + 29 + 13 * number as u64;
        // What stands around it must stay.
        let mut expected = bytes(100 + number as u64, length + 16);
        region.memory().write(at - 8, &expected).unwrap();
        let payload = bytes(200 + number as u64, length);
        session.run(remote.write(at, &payload).deadline(LONG)).unwrap();
        expected[8..][..payload.len()].copy_from_slice(&payload);
        let mut found = vec![0; expected.len()];
        region.memory().read(at - 8, &mut found).unwrap();
        assert!(found == expected, "a WRITE of {length} B left other bytes");
    }
}

fn adds(session: &Session, remote: &RemoteRegion, region: &Region) {
    let begin = u64::MAX - 50;
    region.memory().write(WORD_AT, &begin.to_le_bytes()).unwrap();
    for number in 0..100u64 {
        let found = session.run(remote.fetch_add(WORD_AT, 1).deadline(LONG)).unwrap();
        assert_eq!(found, begin.wrapping_add(number));
    }
    let mut word = [0; 8];
    region.memory().read(WORD_AT, &mut word).unwrap();
    assert_eq!(u64::from_le_bytes(word), begin.wrapping_add(100));
}

fn lookups(session: &Session, target: &Nic) {
    let geometry = Geometry::for_entries(4 * KEYS);
    let index = target.region(geometry.index_bytes()).create().unwrap();
    let entries_bytes = Geometry::entries_bytes(KEYS, 16, value(KEYS).len() as u64);
    let entries = target.region(entries_bytes).create().unwrap();
    let identity = Identity { entries_region: entries.number(), ..Identity::default() };
    let mut table =
        BucketTable::format(index.memory(), entries.memory(), geometry, identity).unwrap();
    for number in 0..KEYS {
        table.insert(&sample::key(number), &value(number)).unwrap();
    }
    let export = index.export(Access::READ.follow(&entries)).unwrap();
    let ticket = export.ticket().to_string().parse().unwrap();
    let longest = value(KEYS).len() as u32;
    let table = RemoteTable::open(session, &ticket).unwrap().with_values_up_to(longest);
    for number in 0..KEYS {
        let key = sample::key(number);
        match session.run(table.scan_and_read(&key).deadline(LONG)).unwrap() {
            Lookup::Hit(entry) => assert!(entry.value() == value(number), "key {number}"),
            other => panic!("key {number}: {other:?}"),
        }
        let missing = sample::key(KEYS + number);
        let found = session.run(table.scan_and_read(&missing).deadline(LONG)).unwrap();
        assert!(matches!(found, Lookup::Miss), "key {}: {found:?}", KEYS + number);
    }
}

/// A key's value, up to some packets long.
fn value(number: u64) -> Vec<u8> {
    bytes(300 + number, 1 + number * 14)
}
