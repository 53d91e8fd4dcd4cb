//! What a device can do, in the words that are printed at start.

use std::borrow::Cow;

use nic_wire::packet::{DEFAULT_PACKET_BYTES, MAX_PACKET_BYTES};

use super::device::{Device, Steering};
use super::{DpdkConfig, Eal};
use crate::Capabilities;
use crate::link::payload_bytes_max;

/// Drivers that copy what they are given.
const COPYING: [&str; 6] =
    ["net_vhost", "net_memif", "net_af_packet", "net_af_xdp", "net_tap", "net_pcap"];
/// Packets that the ring of a virtual device surely holds.
const VIRTUAL_ENTRIES: u16 = 128;

pub(super) fn of(
    eal: &Eal,
    config: &DpdkConfig,
    device: &Device,
    mtu: u16,
    steering: Steering,
) -> Capabilities {
    let driver = device.driver();
    let is_virtual = COPYING.contains(&driver) || driver.starts_with("net_virtio");
    let entries = config.receive_descriptors.min(if is_virtual { VIRTUAL_ENTRIES } else { 4096 });
    let link_bytes_max = payload_bytes_max(mtu.into(), config.address.is_ipv4());
    let pages = if eal.has_huge_pages() { "huge pages" } else { "no huge pages" };
    let mut capabilities = Capabilities {
        name: "dpdk",
        mode: Cow::Owned(format!("{driver}, mtu {mtu}, {}, {pages}", steering.words())),
        packet_bytes_max: link_bytes_max.min(MAX_PACKET_BYTES),
        segmentation: false,
        coalescing: false,
        zero_copy: !COPYING.contains(&driver),
        in_memory: false,
        frames: config.pool.frames,
        window_bytes: u32::from(entries) * DEFAULT_PACKET_BYTES as u32,
        reasons: Vec::with_capacity(4),
    };
    if !eal.has_huge_pages() {
        capabilities.note(Cow::Borrowed(
            "no huge pages: by EAL's arguments; `sysctl vm.nr_hugepages=512` and no --no-huge",
        ));
    }
    if let Some(reason) = steering.reason(driver) {
        capabilities.note(Cow::Owned(reason));
    }
    capabilities
}

impl Steering {
    fn words(&self) -> &'static str {
        match self {
            Steering::Single => "1 queue",
            Steering::Ports => "queues by UDP port",
            Steering::Hash(_) => "queues by hash",
            Steering::Nothing(_) => "queues as the device likes",
        }
    }

    fn reason(&self, driver: &str) -> Option<String> {
        let what = match self {
            Steering::Single | Steering::Ports => return None,
            Steering::Hash(reason) => format!("only a hash spreads them ({reason})"),
            Steering::Nothing(reason) => format!("nothing spreads them ({reason})"),
        };
        Some(format!(
            "no steering to queues: {driver} takes no flow rules, {what}; packets at another \
             engine's queue are forwarded; run one engine on this device, or use one that takes \
             rules"
        ))
    }
}
