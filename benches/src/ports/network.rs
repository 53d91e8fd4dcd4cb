//! A network of this process's own, for ports that want devices: it goes with the process.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Set in the environment once this process has a network of its own.
const MARK: &str = "NIC_BENCH_OWN_NETWORK";

/// Starts this program again in a network of its own, unless it has one. Without root it goes on
/// where it is: only ports that want devices miss it.
pub(super) fn own() -> Result<()> {
    if std::env::var_os(MARK).is_some() {
        return ip(&["link", "set", "lo", "up"]);
    }
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let error = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(error).context("unshare cannot be run: sudo apt-get install util-linux")
}

/// Two devices that are joined, with an address each.
pub(super) struct Cable {
    pub(super) devices: [String; 2],
    pub(super) addresses: [[u8; 4]; 2],
}

/// Makes a cable.
pub(super) fn cable(number: u8) -> Result<Cable> {
    ensure!(
        std::env::var_os(MARK).is_some(),
        "devices want a network of their own, which only root can make: run it as root"
    );
    let devices = ["a", "b"].map(|end| format!("nic{number}{end}"));
    let addresses = [1, 2].map(|host| [10, 99, number, host]);
    let macs = [1, 2].map(|host| format!("02:00:00:00:{number:02x}:{host:02x}"));
    let [one, other] = &devices;
    ip(&[
        "link", "add", one, "address", &macs[0], "type", "veth", "peer", "name", other, "address",
        &macs[1],
    ])?;
    for (device, address) in devices.iter().zip(addresses) {
        ip(&["address", "add", &format!("{}/24", dotted(address)), "dev", device])?;
        ip(&["link", "set", device, "up"])?;
    }
    // Both addresses are this host's: it would not ask itself who has them.
    for (at, other) in [(0, 1), (1, 0)] {
        let to = dotted(addresses[other]);
        ip(&["neighbour", "replace", &to, "lladdr", &macs[other], "dev", &devices[at]])?;
    }
    Ok(Cable { devices, addresses })
}

fn dotted([a, b, c, d]: [u8; 4]) -> String {
    format!("{a}.{b}.{c}.{d}")
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("ip cannot be run: sudo apt-get install iproute2")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
