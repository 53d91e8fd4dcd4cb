//! Pairs of devices that reach each other.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nic_ports::dpdk::{DpdkConfig, DpdkDevice, DpdkPort, Eal};
use nic_ports::{MacAddress, PoolConfig, Port};

use crate::harness::Pair;
use crate::network::{MAC_A, MAC_B, unique};

/// Set: EAL is started with huge pages.
pub const HUGE_PAGES_VARIABLE: &str = "NIC_TEST_DPDK_HUGE_PAGES";

static EAL: OnceLock<Eal> = OnceLock::new();
static ALONE: Mutex<()> = Mutex::new(());

/// Tests that poll take turns: there are fewer cores than tests.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn with_huge_pages() -> bool {
    std::env::var_os(HUGE_PAGES_VARIABLE).is_some()
}

/// The EAL of this process.
pub fn eal() -> &'static Eal {
    EAL.get_or_init(|| {
        let mut arguments = vec!["--no-pci"];
        match with_huge_pages() {
            // Taken at once: were it to grow, the two ends of a pair, which live in one process
            // only here, would wait for each other.
            true => arguments.extend(["--in-memory", "--single-file-segments", "-m", "192"]),
            false => arguments.extend(["--no-shconf", "--no-huge", "-m", "256"]),
        }
        Eal::start(arguments).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// The family of a pair's addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Address {
    V4,
    V6,
}

impl Address {
    /// Those of the two sides.
    pub fn pair(self) -> [SocketAddr; 2] {
        let texts = match self {
            Address::V4 => ["10.9.0.1:4000", "10.9.0.2:5000"],
            Address::V6 => ["[fd09::1]:4000", "[fd09::2]:5000"],
        };
        texts.map(|text| text.parse().unwrap())
    }
}

pub fn mac(text: &str) -> MacAddress {
    let mut bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
    MacAddress(std::array::from_fn(|_| bytes.next().unwrap()))
}

/// A device with few frames, so that the suite meets the end of them.
pub fn config(device: &str, address: SocketAddr, known: &[(IpAddr, &str)]) -> DpdkConfig {
    let mut config = DpdkConfig::new(device, address, if address.is_ipv4() { 24 } else { 64 });
    config.pool = PoolConfig::with_frames(64);
    config.neighbours = known.iter().map(|(ip, text)| (*ip, mac(text))).collect();
    config
}

pub fn open(config: &DpdkConfig) -> DpdkPort {
    let mut ports = DpdkDevice::open(eal(), config, 1).unwrap_or_else(|error| panic!("{error}"));
    ports.remove(0)
}

/// Waits until the link of a port is up, or down.
pub fn until_link(port: &DpdkPort, up: bool) {
    let begun = Instant::now();
    while port.link_is_up() != up {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the link is not {}",
            if up { "up" } else { "down" }
        );
        std::thread::yield_now();
    }
}

/// A pair of devices with these arguments, the first opened first.
fn pair(family: Address, devices: [&str; 2]) -> Pair<DpdkPort> {
    let [left, right] = family.pair();
    let mut left_port = open(&config(devices[0], left, &[(right.ip(), MAC_B)]));
    let mut right_port = open(&config(devices[1], right, &[(left.ip(), MAC_A)]));
    until_link(&left_port, true);
    until_link(&right_port, true);
    // A memif client hands its server buffers when it looks for the first time.
    assert!(left_port.prepare_wait() && right_port.prepare_wait());
    let mut pair = Pair::new(left_port, right_port, None);
    pair.pass_time = Box::new(std::thread::yield_now);
    pair
}

pub fn vhost_pair(family: Address, swapped: bool) -> Pair<DpdkPort> {
    let number = unique().replace('-', "");
    let path = std::env::temp_dir().join(format!("nic-dpdk-{number}.sock"));
    let path = path.to_str().unwrap();
    let vhost = format!("net_vhost{number},iface={path},queues=1");
    let virtio = format!("net_virtio_user{number},path={path},queues=1");
    let mut pair = pair(family, [&vhost, &virtio]);
    if swapped {
        pair.swap();
    }
    pair.peer_lost = |port| until_link(port, false);
    pair
}

pub fn memif_pair(family: Address) -> Pair<DpdkPort> {
    let number = unique().replace('-', "");
    let device = |role: &str, mac: &str| {
        format!("net_memif{role}{number},role={role},id=0,socket=nic-{number},mac={mac}")
    };
    let mut pair = pair(family, [&device("server", MAC_A), &device("client", MAC_B)]);
    pair.peer_lost = |port| until_link(port, false);
    pair
}

pub fn af_packet_pair(family: Address) -> Pair<DpdkPort> {
    let number = unique().replace('-', "");
    let device = |name: &str| format!("net_af_packet{number}{name},iface={name}");
    pair(family, [&device("va"), &device("vb")])
}

pub fn af_xdp_pair(family: Address) -> Pair<DpdkPort> {
    let number = unique().replace('-', "");
    let device = |name: &str| format!("net_af_xdp{number}{name},iface={name},busy_budget=0");
    let mut pair = pair(family, [&device("va"), &device("vb")]);
    // Idle turns, after which it looks for frames that the driver holds.
    pair.peer_lost = |port| (0..10_000).for_each(|_| port.transmit());
    pair
}
