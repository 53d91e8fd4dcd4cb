//! Huge pages and locked memory.

use nic_shm::{PageKind, Pages, SharedMemory};
use rustix::process::{Resource, getrlimit};

use super::{Finding, read};

/// 2 MiB pages that the demo's tables and its yardstick take.
const DEMO_PAGES: u64 = 300;
/// Memory that AF_XDP, DPDK and verbs lock, at least, in bytes.
const LOCKED_LEAST: u64 = 64 << 20;

pub(super) fn huge_pages() -> Finding {
    let what = "huge pages";
    let counts = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let reserved = match read(counts).and_then(|text| text.parse::<u64>().ok()) {
        Some(free) if free > 0 => format!("; {free} reserved ones are free and are taken first"),
        _ => String::new(),
    };
    // The kernel's settings do not tell: what counts is whether it joins pages when asked.
    let tried =
        SharedMemory::create("nic-doctor", 2 << 20, Pages::Joined).and_then(|mut memory| {
            memory.populate()?;
            Ok(memory.page_kind())
        });
    match tried {
        Ok(PageKind::Joined) => {
            Finding::good(what, format!("the kernel joins small pages when asked{reserved}"))
        }
        Ok(_) => Finding::slow(
            what,
            format!(
                "the kernel joins no small pages{reserved}; on small ones most loads miss the TLB"
            ),
            format!(
                "use Linux 6.1 or newer, or: sudo sysctl -w vm.nr_hugepages={DEMO_PAGES}   (for the demo)"
            ),
        ),
        Err(error) => {
            Finding::slow(what, error.to_string(), "free some memory: `free -m` shows it")
        }
    }
}

pub(super) fn locked() -> Finding {
    let what = "locked memory";
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < LOCKED_LEAST => Finding::slow(
            what,
            format!("{} KiB; udp and ring need none, faster ports do", limit >> 10),
            "ulimit -l unlimited   (or LimitMEMLOCK=infinity in the systemd unit)",
        ),
        Some(limit) => Finding::good(what, format!("{} MiB", limit >> 20)),
        None => Finding::good(what, "no limit"),
    }
}
