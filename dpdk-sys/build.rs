//! Compiles the shim against libdpdk, if `pkg-config` finds one.

/// The oldest version whose calls the shim uses.
const VERSION_MIN: &str = "22.11";

/// What the shim calls. Drivers are plug-ins, which EAL loads by itself.
const LIBRARIES: [&str; 5] = ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal", "rte_net"];

fn main() {
    println!("cargo:rerun-if-changed=shim/shim.c");
    println!("cargo:rustc-check-cfg=cfg(have_dpdk)");
    let found = pkg_config::Config::new()
        .atleast_version(VERSION_MIN)
        // It names every driver and library there is; the few that are called are linked below.
        .cargo_metadata(false)
        .probe("libdpdk");
    let library = match found {
        Ok(library) => library,
        Err(_) => {
            println!(
                "cargo:warning=no libdpdk of version {VERSION_MIN} or later: the dpdk port is \
                 built without it and refuses to open (apt-get install libdpdk-dev)"
            );
            return;
        }
    };
    let mut build = cc::Build::new();
    build.file("shim/shim.c").opt_level(3).flag("-include").flag("rte_config.h");
    if cfg!(target_arch = "x86_64") {
        // What DPDK's own headers ask for at the least.
        build.flag("-march=corei7");
    }
    for path in &library.include_paths {
        build.flag("-isystem").flag(path);
    }
    build.compile("nic_dpdk_shim");
    for path in &library.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for name in LIBRARIES {
        println!("cargo:rustc-link-lib={name}");
    }
    println!("cargo:rustc-cfg=have_dpdk");
}
