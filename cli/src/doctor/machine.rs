//! Kernel, cores, clock.

use std::path::Path;
use std::time::Instant;

use nic_figures::cores::{self, pick_pair};
use rustix::system::uname;

use super::{Finding, read};

/// The oldest kernel that everything works on.
const KERNEL_LEAST: (u32, u32) = (5, 14);
/// Cores from which on everyone who polls has one.
const CORES_FOR_ALL: usize = 4;
/// A clock reading that takes longer is a system call.
const READING_NS_MAX: u128 = 120;
/// Readings that are timed together, and how often: the fastest counts.
const READINGS: u32 = 1000;
const TIMES: u32 = 20;

pub(super) fn kernel() -> Finding {
    let name = uname();
    let release = name.release().to_string_lossy().into_owned();
    let mend = "sudo apt-get install linux-image-$(dpkg --print-architecture) && sudo reboot   \
                (or any Linux from 5.14 on: populating memory and passing descriptors need it)";
    match version(&release) {
        Some(version) if version >= KERNEL_LEAST => {
            Finding::good("kernel", format!("Linux {release}"))
        }
        Some(_) => Finding::bad("kernel", format!("Linux {release}"), mend),
        None => Finding::slow("kernel", format!("{release:?}, which is no version known"), mend),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

pub(super) fn cores() -> Finding {
    let available = match cores::available() {
        Ok(available) => available.len(),
        Err(error) => {
            let mend = "lscpu --extended   (and name the cores to use in engine.cores)";
            return Finding::slow("cores", error.to_string(), mend);
        }
    };
    let more = "taskset --cpu-list --pid 0-$(($(nproc --all) - 1)) $$   (if the machine has more \
                than may be used here; else a larger machine)";
    match available {
        0 | 1 => Finding::slow("cores", "one: initiator and target take turns on it", more),
        count if count < CORES_FOR_ALL => Finding::slow(
            "cores",
            format!("{count}: initiators drive their engines inline ({CORES_FOR_ALL} for all)"),
            more,
        ),
        count => match pick_pair() {
            Ok(pair) if pair.siblings => Finding::slow(
                "cores",
                format!("{count}, and the first two are hyperthreads of one"),
                "lscpu --extended=CPU,CORE   (and name one CPU of each core in engine.cores)",
            ),
            _ => Finding::good("cores", count.to_string()),
        },
    }
}

/// Whether a control group takes the cores away now and then.
pub(super) fn quota() -> Finding {
    let what = "CPU quota";
    // The limit of this group as its own processes see it, or as they do in a container.
    let own = read("/proc/self/cgroup")
        .and_then(|text| Some(text.lines().last()?.rsplit_once("::")?.1.to_owned()))
        .unwrap_or_default();
    let paths = [format!("/sys/fs/cgroup{own}/cpu.max"), "/sys/fs/cgroup/cpu.max".to_owned()];
    match paths.iter().find_map(read) {
        Some(limit) if !limit.starts_with("max") => Finding::slow(
            what,
            format!("{limit} (us of us): a spinning engine is stopped when it is used up"),
            "lift it: `systemctl set-property UNIT CPUQuota=`, or `docker run` without --cpus",
        ),
        _ => Finding::good(what, "none"),
    }
}

pub(super) fn clock() -> Finding {
    let what = "clock";
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        .unwrap_or_else(|| "unknown source".to_owned());
    let reading_ns = (0..TIMES).map(|_| reading_ns()).min().unwrap_or(0);
    let found = format!("{source}, {reading_ns} ns a reading");
    if reading_ns <= READING_NS_MAX {
        return Finding::good(what, found);
    }
    Finding::slow(
        what,
        format!("{found}: a system call each, and an engine reads it every turn"),
        "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource",
    )
}

fn reading_ns() -> u128 {
    let begin = Instant::now();
    for _ in 0..READINGS {
        std::hint::black_box(Instant::now());
    }
    begin.elapsed().as_nanos() / u128::from(READINGS)
}

pub(super) fn container() -> Finding {
    let what = "container";
    let marks = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
    let mark = marks.iter().find(|(path, _)| Path::new(path).exists()).map(|(_, name)| *name);
    let named = std::env::var("container").ok();
    match (mark.map(str::to_owned)).or(named) {
        None => Finding::good(what, "none"),
        Some(name) => Finding::good(
            what,
            format!(
                "{name}: udp and ring work; share the control socket's folder (-v) with others, \
                 and start with --cpuset-cpus for cores of its own"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_understood() {
        assert_eq!(version("6.12.8-amd64"), Some((6, 12)));
        assert_eq!(version("5.4"), Some((5, 4)));
        assert_eq!(version("next"), None);
    }
}
