//! Huge pages and locked memory.

use rustix::process::{Resource, getrlimit};

use super::{Finding, read};

/// 2 MiB pages that the demo's tables and its yardstick take.
const DEMO_PAGES: u64 = 300;
/// Memory that AF_XDP, DPDK and verbs lock, at least, in bytes.
const LOCKED_LEAST: u64 = 64 << 20;

pub(super) fn huge_pages() -> Finding {
    let what = "huge pages";
    let sizes = "/sys/kernel/mm/hugepages/hugepages-2048kB";
    let count = |name: &str| read(format!("{sizes}/{name}"))?.parse::<u64>().ok();
    let mend = format!("sudo sysctl -w vm.nr_hugepages={DEMO_PAGES}   (for the demo)");
    match (count("nr_hugepages"), count("free_hugepages")) {
        (Some(all), Some(free)) if free >= DEMO_PAGES => {
            Finding::good(what, format!("{free} of {all} are free, 2 MiB each"))
        }
        (Some(all), Some(free)) => Finding::slow(
            what,
            format!("{free} of {all} are free, 2 MiB each; without them most loads miss the TLB"),
            mend,
        ),
        _ => Finding::slow(
            what,
            "this kernel has none of 2 MiB",
            "use a kernel with CONFIG_HUGETLBFS; everything works with small pages too",
        ),
    }
}

pub(super) fn transparent_pages() -> Finding {
    let what = "transparent huge pages for shared memory";
    let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let mend = format!("echo advise | sudo tee {path}");
    match read(path) {
        Some(text) => match chosen(&text) {
            Some(mode @ ("always" | "within_size" | "advise" | "force")) => {
                Finding::good(what, mode)
            }
            mode => Finding::slow(what, mode.unwrap_or("unknown"), mend),
        },
        None => Finding::slow(what, "not in this kernel", "reserve huge pages instead, see above"),
    }
}

/// The word in brackets.
fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_mode_stands_in_brackets() {
        assert_eq!(chosen("always within_size advise [never] deny force"), Some("never"));
        assert_eq!(chosen("[always] never"), Some("always"));
        assert_eq!(chosen("never"), None);
    }
}
