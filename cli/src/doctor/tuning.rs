//! What the kernel does to cores and sockets beside an engine's work.

use std::path::Path;

use nic_figures::cores;
use nic_ports::udp::UdpConfig;

use super::{Finding, read};

/// Cores from which on some can be kept for engines.
const CORES_TO_SPARE: usize = 4;
/// What the send buffer is to hold at least, in bytes: the largest burst that the kernel segments.
const SEND_LEAST: u64 = 256 << 10;

/// Whether the scheduler keeps others off some cores.
pub(super) fn isolated(root: &Path) -> Finding {
    let what = "isolated cores";
    let count = cores::available().map_or(0, |cores| cores.len());
    let list = read(root.join("sys/devices/system/cpu/isolated")).unwrap_or_default();
    if !list.is_empty() {
        return Finding::good(what, format!("{list}: name them in engine.cores"));
    }
    if count < CORES_TO_SPARE {
        return Finding::good(what, format!("none, and none to spare of {count}"));
    }
    let last = count - 1;
    Finding::slow(
        what,
        "none: whatever else runs may take a spinning engine's core for a while",
        format!(
            "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX isolcpus={last} nohz_full={last}\"' | sudo \
             tee /etc/default/grub.d/nic.cfg && sudo update-grub && sudo reboot   (and engine.cores \
             = [{last}])"
        ),
    )
}

/// Whether cores change their speed.
pub(super) fn governor(root: &Path) -> Finding {
    let what = "core speed";
    let folder = root.join("sys/devices/system/cpu");
    let governors: Vec<String> = (0..1024)
        .map_while(|core| folder.join(format!("cpu{core}")).is_dir().then_some(core))
        .filter_map(|core| read(folder.join(format!("cpu{core}/cpufreq/scaling_governor"))))
        .collect();
    let slow = governors.iter().filter(|governor| *governor != "performance").count();
    match governors.first() {
        None => Finding::good(what, "not the kernel's to change"),
        Some(_) if slow == 0 => Finding::good(what, "performance"),
        Some(_) => Finding::slow(
            what,
            format!("{slow} of {} cores slow down when they seem idle", governors.len()),
            "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        ),
    }
}

/// Whether a whole burst fits between an engine and the network.
pub(super) fn send_buffer(root: &Path) -> Finding {
    let what = "send buffer";
    let wanted = UdpConfig::new(([127, 0, 0, 1], 0).into()).socket_buffer_bytes;
    match read(root.join("proc/sys/net/core/wmem_max")).and_then(|text| text.parse::<u64>().ok()) {
        Some(limit) if limit < SEND_LEAST => Finding::slow(
            what,
            format!("at most {} KiB (net.core.wmem_max = {limit})", limit >> 10),
            format!("sudo sysctl -w net.core.wmem_max={wanted}"),
        ),
        Some(limit) => Finding::good(what, format!("up to {} KiB", limit >> 10)),
        None => Finding::good(what, "of the kernel's choice"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Grade;
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn isolated_cores_are_named() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "sys/devices/system/cpu/isolated", "\n");
        let none = isolated(root.path());
        let has_spare = cores::available().unwrap().len() >= CORES_TO_SPARE;
        assert_eq!(none.mend.is_some_and(|mend| mend.contains("isolcpus=")), has_spare);
        write(root.path(), "sys/devices/system/cpu/isolated", "2-3\n");
        assert_eq!(isolated(root.path()).found, "2-3: name them in engine.cores");
    }

    #[test]
    fn cores_that_slow_down_are_counted() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sys/devices/system/cpu/cpu0")).unwrap();
        assert_eq!(governor(root.path()).found, "not the kernel's to change");
        let set = |core: u32, text: &str| {
            let path = format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
            write(root.path(), &path, text);
        };
        set(0, "performance\n");
        set(1, "powersave\n");
        let found = governor(root.path());
        assert_eq!(
            (found.grade, &*found.found),
            (Grade::Slow, "1 of 2 cores slow down when they seem idle")
        );
        assert!(found.mend.is_some_and(|mend| mend.contains("tee /sys")));
        set(1, "performance\n");
        assert_eq!(governor(root.path()).grade, Grade::Good);
    }

    #[test]
    fn a_small_send_buffer_is_told_with_its_limit() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(send_buffer(root.path()).grade, Grade::Good);
        write(root.path(), "proc/sys/net/core/wmem_max", "212992\n");
        let found = send_buffer(root.path());
        assert_eq!(found.grade, Grade::Slow);
        assert!(found.found.contains("212992") && found.mend.is_some_and(|m| m.contains("sysctl")));
        write(root.path(), "proc/sys/net/core/wmem_max", "8388608\n");
        assert_eq!(send_buffer(root.path()).found, "up to 8192 KiB");
    }
}
