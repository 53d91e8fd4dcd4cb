//! The ports and the control socket.

use std::os::fd::AsFd;
use std::path::Path;

use nic_engine::daemon::default_socket;
use nic_engine::ports::{PortKind, probe};
use nic_host::{Endpoint, Nic, NicError};
use nic_ports::Port;
use nic_ports::udp::{UdpConfig, UdpPort};
use nic_shm::{ConnectError, ControlSocket};
use rustix::fs::{Access, access};

use super::{Finding, read};

/// What a receive window is to hold at least, in bytes: a batch of replies in full packets.
const WINDOW_LEAST: u32 = 512 << 10;

fn loopback() -> UdpConfig {
    UdpConfig::new(([127, 0, 0, 1], 0).into())
}

pub(super) fn udp() -> Finding {
    let what = "udp port";
    let port = match UdpPort::bind(loopback()) {
        Ok(port) => port,
        Err(error) => {
            let mend = "sudo ip link set lo up";
            return Finding::bad(what, error.to_string(), mend);
        }
    };
    let capabilities = port.capabilities();
    if capabilities.segmentation && capabilities.coalescing {
        return Finding::good(what, capabilities.to_string());
    }
    let mend = "sudo apt-get install linux-image-$(dpkg --print-architecture) && sudo reboot   \
                (or another Linux 5.14 or newer, for UDP GSO and GRO)";
    Finding::slow(what, capabilities.to_string(), mend)
}

/// The ports that are faster, or spare the processor, where they can be had.
pub(super) fn others() -> Vec<Finding> {
    let names = [
        (PortKind::Uring, "uring port"),
        (PortKind::Xdp, "xdp port"),
        (PortKind::Dpdk, "dpdk port"),
    ];
    let finding = |(kind, what)| match probe(kind) {
        Ok(said) => Finding::good(what, said),
        Err(unusable) => {
            Finding::slow(what, format!("not usable: {}", unusable.reason), unusable.mend)
        }
    };
    names.into_iter().map(finding).collect()
}

pub(super) fn receive_buffer() -> Finding {
    let what = "receive buffer";
    let wanted = loopback().socket_buffer_bytes;
    let limit = read("/proc/sys/net/core/rmem_max").unwrap_or_else(|| "unknown".to_owned());
    let window = match UdpPort::bind(loopback()) {
        Ok(port) => port.capabilities().window_bytes,
        Err(_) => return Finding::good(what, "not known without a port"),
    };
    let found = format!("holds {} KiB of packets (net.core.rmem_max = {limit})", window >> 10);
    if window >= WINDOW_LEAST {
        return Finding::good(what, found);
    }
    let mend = format!("sudo sysctl -w net.core.rmem_max={wanted} net.core.wmem_max={wanted}");
    Finding::slow(what, found, mend)
}

pub(super) fn socket() -> Finding {
    let what = "control socket";
    let path = default_socket();
    let shown = path.display().to_string();
    match ControlSocket::connect(&path) {
        Ok(socket) => answering(what, &path, &socket),
        Err(ConnectError::NotFound { .. }) => vacant(what, &path),
        Err(ConnectError::NotListening { .. }) => Finding::good(
            what,
            format!("{shown} is left from an engine that is gone; `nic serve` takes it over"),
        ),
        Err(error) => Finding::slow(
            what,
            error.to_string(),
            "export NIC_SOCKET=$HOME/nic.sock   (or ask the engine's owner for socket_mode)",
        ),
    }
}

fn answering(what: &'static str, path: &Path, socket: &ControlSocket) -> Finding {
    let shown = path.display();
    let descriptor = socket.as_fd().try_clone_to_owned().map_err(NicError::from);
    match descriptor.and_then(|descriptor| Nic::connect(Endpoint::Socket(descriptor))) {
        Ok(nic) => Finding::good(what, format!("an engine answers at {shown}: {}", nic.port())),
        Err(error) => Finding::slow(
            what,
            format!("who listens at {shown} is no engine that can be used: {error}"),
            "nic serve   (of this release, after the other has been ended)",
        ),
    }
}

/// A path at which nothing lies.
fn vacant(what: &'static str, path: &Path) -> Finding {
    let shown = path.display();
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mend = format!(
        "sudo install -d -o \"$USER\" {}   (or export NIC_SOCKET=$HOME/nic.sock, for engines and \
         applications alike)",
        folder.display()
    );
    match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::good(what, format!("{shown} is free: `nic serve` listens there")),
        Err(error) => {
            let found = format!("{shown} cannot be made: {} ({error})", folder.display());
            Finding::slow(what, found, mend)
        }
    }
}
