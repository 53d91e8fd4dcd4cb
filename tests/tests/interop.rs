//! The interop matrix: engines on every kind of port work on each other's memory, over links of
//! every kind, and each byte is checked where it comes from and where it goes to.

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nic_host::{
    Access, BucketTable, Geometry, Identity, Lookup, Nic, Region, RemoteRegion, RemoteTable,
    Session,
};
use nic_tests::children::{self, Child, EngineOptions, PortKind, Role, Waiting};
use nic_tests::namespaces::{Host, Hosts, LinkOptions};
use nic_tests::sample;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nic-tests");
/// Where every engine receives, each on its own host.
const PORT: u16 = 4791;
/// Longer than any op takes, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);

/// Every kind of port, one line each, and its name in an engine's status.
const KINDS: [(PortKind, &str); 2] = [(PortKind::Udp, "udp"), (PortKind::Uring, "uring")];
/// Every kind of link, by its MTU.
const MTUS: [u32; 2] = [1500, 9000];

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
    for mtu in MTUS {
        let hosts = Hosts::pair(LinkOptions { mtu, ..LinkOptions::default() });
        for is_ipv6 in [false, true] {
            for initiator in KINDS {
                for target in KINDS {
                    eprintln!("{} to {}, ipv6 {is_ipv6}, mtu {mtu}", initiator.1, target.1);
                    work_together(&hosts, is_ipv6, initiator, target);
                }
            }
        }
    }
}

/// Applications on the left work on memory on the right.
fn work_together(
    hosts: &Hosts,
    is_ipv6: bool,
    initiator: (PortKind, &str),
    target: (PortKind, &str),
) {
    let folder = tempfile::tempdir().unwrap();
    let socket = |name: &str| folder.path().join(name);
    let (_left, initiator) =
        engine(&hosts.left, is_ipv6, initiator, &socket("left"), Waiting::Adaptive);
    let (_right, target) = engine(&hosts.right, is_ipv6, target, &socket("right"), Waiting::Block);

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

/// An engine on a host that answers, by the port that was asked for.
fn engine(
    host: &Host,
    is_ipv6: bool,
    (port, name): (PortKind, &str),
    socket: &Path,
    waiting: Waiting,
) -> (Child, Nic) {
    let options = EngineOptions {
        socket: socket.to_owned(),
        port,
        address: Some(SocketAddr::new(host.address(is_ipv6), PORT)),
        waiting,
        ..EngineOptions::default()
    };
    let mut engine = Child::start_by(host.command(PROGRAM), &Role::Engine(options));
    let nic = children::connect(&mut engine, socket);
    let status: serde_json::Value = serde_json::from_str(&nic.status().unwrap()).unwrap();
    let found = status["engines"][0]["port"].as_str().unwrap();
    assert!(found.contains(&format!("port {name} (")), "asked for {name}, found {found}");
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
