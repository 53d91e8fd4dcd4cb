//! Whether DPDK could be used, found out without starting it.

use std::ffi::CStr;
use std::fs;

use dpdk_sys as sys;

use super::DpdkError;

/// What there is of DPDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkProbe {
    /// The library's name and version.
    pub version: String,
    /// Free huge pages of 2 MiB. Without any, EAL wants `--no-shconf --no-huge -m 256`; `sysctl
    /// vm.nr_hugepages=512` makes some.
    pub huge_pages_free: u64,
    /// Free huge pages of 1 GiB.
    pub giant_pages_free: u64,
    /// What an operator should know, each with the command that mends it.
    pub notes: Vec<String>,
}

/// Looks whether DPDK could be used here. Starts nothing.
///
/// # Errors
/// [`DpdkError::NoLibrary`] if this build has none; its message names the commands that mend it.
pub fn probe() -> Result<DpdkProbe, DpdkError> {
    if !sys::AVAILABLE {
        return Err(DpdkError::NoLibrary);
    }
    // SAFETY: the library's own text, which stays for ever and ends with a zero.
    let version = unsafe { CStr::from_ptr(sys::version()) }.to_string_lossy().into_owned();
    let (huge_pages_free, giant_pages_free) = (free_pages(2048), free_pages(1 << 20));
    let mut notes = Vec::new();
    if huge_pages_free == 0 && giant_pages_free == 0 {
        notes.push(
            "no huge page is free: `sysctl vm.nr_hugepages=512`, or EAL's --no-shconf \
             --no-huge -m 256 (virtual devices only)"
                .to_owned(),
        );
    }
    if !rustix::process::geteuid().is_root() {
        notes.push(
            "not root: physical devices, net_af_packet, net_af_xdp and net_tap need CAP_NET_RAW, \
             CAP_NET_ADMIN and CAP_IPC_LOCK; net_memif, net_vhost and net_virtio_user need none \
             with --no-shconf --no-huge"
                .to_owned(),
        );
    }
    Ok(DpdkProbe { version, huge_pages_free, giant_pages_free, notes })
}

/// How many huge pages of this size are free.
fn free_pages(kib: u64) -> u64 {
    let path = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/free_hugepages");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_there_is_or_how_to_get_it() {
        match probe() {
            Ok(found) => assert!(found.version.contains("DPDK"), "{found:?}"),
            Err(error) => assert!(error.to_string().contains("libdpdk-dev"), "{error}"),
        }
    }
}
