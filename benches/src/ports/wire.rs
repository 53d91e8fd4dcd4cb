//! The kinds of ports, and settings for two ends that reach each other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};
use nic_engine::ports::{PortKind, PortSettings};
use nic_ports::uring::{UringConfig, UringPort};
use nic_ports::xdp::{XdpConfig, XdpPort};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::network;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Udp,
    Uring,
    Ring,
    Xdp,
    Vhost,
}

/// All of them.
pub(super) const KINDS: [Kind; 5] = [Kind::Udp, Kind::Uring, Kind::Ring, Kind::Xdp, Kind::Vhost];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Udp => "udp",
            Kind::Uring => "uring",
            Kind::Ring => "ring",
            Kind::Xdp => "xdp",
            Kind::Vhost => "vhost",
        }
    }
}

/// Settings of the near and the far end; a ring has none.
pub(super) struct Wire {
    pub(super) ends: [PortSettings; 2],
    /// Where sockets of the devices lie.
    _folder: Option<TempDir>,
}

/// DPDK's environment at both ends: memory that the other end can map, from the huge pages that the
/// machine has reserved (256 of 2 MiB do), taken at once.
const EAL: [&str; 5] = ["--in-memory", "--no-pci", "--single-file-segments", "-m", "192"];

/// Cables and addresses so far.
static CABLES: AtomicU8 = AtomicU8::new(1);

impl Wire {
    /// A new one of a kind that is chosen by settings.
    pub(super) fn new(kind: Kind) -> Result<Wire> {
        let number = CABLES.fetch_add(1, Ordering::Relaxed);
        let mut ends = [PortSettings::default(), PortSettings::default()];
        let mut kept = None;
        match kind {
            Kind::Udp | Kind::Ring => {}
            Kind::Uring => ends.iter_mut().for_each(|end| end.kind = PortKind::Uring),
            Kind::Xdp => {
                let cable = network::cable(number)?;
                for (end, (device, address)) in
                    ends.iter_mut().zip(cable.devices.into_iter().zip(cable.addresses))
                {
                    end.kind = PortKind::Xdp;
                    end.device = Some(device);
                    end.address = SocketAddr::from((address, 4791));
                }
            }
            Kind::Vhost => {
                let folder = tempfile::tempdir()?;
                let socket: PathBuf = folder.path().join("vhost");
                let devices = [
                    format!("net_virtio_user{number},path={},queues=1", socket.display()),
                    format!("net_vhost{number},iface={},queues=1", socket.display()),
                ];
                for (end, (host, device)) in ends.iter_mut().zip((1..).zip(devices)) {
                    end.kind = PortKind::Dpdk;
                    end.device = Some(device);
                    end.address = SocketAddr::from(([10, 98, number, host], 4791));
                    end.eal = EAL.map(str::to_owned).to_vec();
                }
                kept = Some(folder);
            }
        }
        Ok(Wire { ends, _folder: kept })
    }
}

/// A port over io_uring.
pub(super) fn uring(end: &PortSettings) -> Result<UringPort> {
    Ok(UringPort::bind(UringConfig::new(end.address))?)
}

/// A port over AF_XDP.
pub(super) fn xdp(end: &PortSettings) -> Result<XdpPort> {
    let device = end.device.as_deref().context("a cable has devices")?;
    Ok(XdpPort::open(&XdpConfig::new(device, end.address))?)
}

/// A port over DPDK, with a pool of so many frames. The side that listens comes first.
#[cfg(feature = "dpdk")]
pub(super) fn vhost(end: &PortSettings, frames: u32) -> Result<nic_ports::dpdk::DpdkPort> {
    use nic_ports::PoolConfig;
    use nic_ports::dpdk::{DpdkConfig, DpdkDevice};
    let eal = nic_engine::ports::eal(&end.eal)?;
    let device = end.device.as_deref().context("this kind has devices")?;
    let mut config = DpdkConfig::new(device, end.address, 24);
    config.pool = PoolConfig::with_frames(frames);
    DpdkDevice::open(&eal, &config, 1)?.pop().context("one queue was asked for")
}
