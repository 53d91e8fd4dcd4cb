//! Whether a kind of port could be had on this machine, found out without taking anything.

use super::PortKind;

/// Why a kind of port cannot be had, and what would change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Why not.
    pub reason: String,
    /// The command that mends it.
    pub mend: String,
}

impl Unusable {
    fn new(reason: impl Into<String>, mend: impl Into<String>) -> Self {
        Unusable { reason: reason.into(), mend: mend.into() }
    }
}

/// Whether a port of this kind could be opened here. What is said of one that could: how.
///
/// # Errors
/// See [`Unusable`].
pub fn probe(kind: PortKind) -> Result<String, Unusable> {
    match kind {
        PortKind::Udp => Ok("kernel UDP is always there".to_owned()),
        #[cfg(feature = "uring")]
        PortKind::Uring => uring(),
        #[cfg(feature = "xdp")]
        PortKind::Xdp => xdp(),
        #[cfg(feature = "dpdk")]
        PortKind::Dpdk => dpdk(),
        #[allow(unreachable_patterns, reason = "unless a kind is left out of the build")]
        PortKind::Dpdk => Err(Unusable::new(
            "this build has no DPDK",
            "sudo apt-get install libdpdk-dev pkg-config && cargo build --release --features dpdk",
        )),
        #[allow(unreachable_patterns, reason = "unless a kind is left out of the build")]
        _ => Err(Unusable::new(
            format!("this build has no port {kind}"),
            format!("cargo build --release --features {kind}"),
        )),
    }
}

#[cfg(feature = "uring")]
fn uring() -> Result<String, Unusable> {
    use nic_ports::uring::{UringError, probe};
    let Err(error) = probe() else {
        return Ok("io_uring has all that the port is made of".to_owned());
    };
    let mend = match &error {
        UringError::SwitchedOff { .. } => "sudo sysctl -w kernel.io_uring_disabled=0",
        UringError::Denied => {
            "docker run --security-opt seccomp=PROFILE.json   (one that allows io_uring_setup, \
             io_uring_enter and io_uring_register)"
        }
        UringError::NoMemory => "ulimit -l unlimited",
        UringError::Absent | UringError::TooOld { .. } => {
            "sudo apt-get install linux-image-$(dpkg --print-architecture) && sudo reboot   \
             (or another Linux 6.1 or newer)"
        }
        UringError::Udp(_) | UringError::Step { .. } => "nic serve   (with port.kind = \"udp\")",
    };
    Err(Unusable::new(error.to_string(), mend))
}

#[cfg(feature = "xdp")]
fn xdp() -> Result<String, Unusable> {
    use nic_ports::xdp::{XdpConfig, XdpError, XdpPort};
    let Some(device) = ethernet_device() else {
        return Err(Unusable::new(
            "there is no Ethernet device here that is up",
            "sudo ip link set dev DEVICE up",
        ));
    };
    // An address that no device has: all else is looked at before.
    let config = XdpConfig::new(&device, ([192, 0, 2, 1], 4791).into());
    let error = match XdpPort::probe(&config) {
        Ok(()) | Err(XdpError::NotOnDevice { .. }) => {
            return Ok(format!("can be opened, for instance on {device}"));
        }
        Err(error) => error,
    };
    let mend = match &error {
        XdpError::Privilege { .. } => {
            "sudo setcap cap_net_raw,cap_net_admin,cap_bpf,cap_ipc_lock+ep \"$(command -v nic)\""
        }
        XdpError::LockedMemory { .. } => "ulimit -l unlimited",
        XdpError::NoKernelSupport => {
            "sudo apt-get install linux-image-$(dpkg --print-architecture) && sudo reboot"
        }
        _ => "ip -details link   (and give port.device one that fits)",
    };
    Err(Unusable::new(error.to_string(), mend))
}

/// The first device of the kernel's that carries Ethernet frames and is up.
#[cfg(feature = "xdp")]
fn ethernet_device() -> Option<String> {
    /// What the kernel calls Ethernet, in the numbers of ARP.
    const ETHERNET: &str = "1";
    let of = |device: &str, what: &str| {
        let path = format!("/sys/class/net/{device}/{what}");
        std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let mut devices: Vec<String> = std::fs::read_dir("/sys/class/net")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|device| of(device, "type") == ETHERNET && of(device, "operstate") == "up")
        .collect();
    devices.sort();
    devices.into_iter().next()
}

#[cfg(feature = "dpdk")]
fn dpdk() -> Result<String, Unusable> {
    match nic_ports::dpdk::probe() {
        Ok(found) => {
            let pages = found.huge_pages_free;
            let mut said = format!("{}, {pages} huge pages of 2 MiB free", found.version);
            for note in &found.notes {
                said.push_str("; ");
                said.push_str(note);
            }
            Ok(said)
        }
        Err(error) => Err(Unusable::new(
            error.to_string(),
            "sudo apt-get install libdpdk-dev pkg-config && cargo build --release --features dpdk",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_usable_or_says_how() {
        for kind in PortKind::ALL {
            match probe(kind) {
                Ok(said) => assert!(!said.is_empty()),
                Err(unusable) => {
                    assert!(!unusable.reason.is_empty() && !unusable.mend.is_empty(), "{kind}");
                }
            }
        }
        assert!(probe(PortKind::Udp).is_ok());
    }
}
