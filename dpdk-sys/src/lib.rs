//! What `nic-ports` calls of DPDK: hand-written declarations of a small C shim over libdpdk.
//!
//! DPDK's data path is inline C on structures that change from version to version; the shim
//! (`shim/shim.c`) makes functions with plain arguments of it. Where `pkg-config` found no libdpdk
//! at build time, [`AVAILABLE`] is false and no function here may be called: those that exist
//! then only say that nothing is there.
//!
//! Errors are negative errno values, as in DPDK itself. The types are opaque; who calls keeps
//! DPDK's rules, which the `# Safety` sections name.

// Foreign functions, all of them.
#![allow(unsafe_code)]

#[cfg(have_dpdk)]
mod linked;
#[cfg(not(have_dpdk))]
mod missing;

#[cfg(have_dpdk)]
pub use self::linked::*;
#[cfg(not(have_dpdk))]
pub use self::missing::*;

/// Whether this build has a libdpdk.
pub const AVAILABLE: bool = cfg!(have_dpdk);

/// Packets that one call moves at most.
pub const BURST_MAX: usize = 64;

/// What [`transmit`] answers when the first frame can never leave.
pub const UNFIT: u16 = u16::MAX;

/// Room before the bytes of a frame, in bytes (`RTE_PKTMBUF_HEADROOM`).
pub const HEADROOM_BYTES: usize = 128;

/// A pool of frames (`rte_mempool`).
#[repr(C)]
pub struct Pool {
    opaque: [u8; 0],
}

/// A frame (`rte_mbuf`).
#[repr(C)]
pub struct Frame {
    opaque: [u8; 0],
}

/// What a device is and can do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Information {
    /// The driver's name, ended by a zero.
    pub driver: [u8; 32],
    /// Its Ethernet address; zeros if it has none.
    pub mac: [u8; 6],
    /// In bytes.
    pub mtu: u16,
    /// In bytes; zero if the driver does not say.
    pub mtu_max: u16,
    /// Receive queues that it has.
    pub rx_queues_max: u16,
    /// Transmit queues that it has.
    pub tx_queues_max: u16,
    /// Entries of a receive queue.
    pub rx_descriptors_max: u16,
    /// Entries of a transmit queue.
    pub tx_descriptors_max: u16,
    /// Whether packets longer than a frame arrive in pieces.
    pub can_scatter: u8,
    /// Whether it computes UDP's checksum.
    pub can_checksum_udp: u8,
    /// Whether it spreads UDP over its queues (RSS).
    pub can_hash_udp: u8,
    /// Whether it tells when its link changes.
    pub reports_link: u8,
}

/// A frame that arrived.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// To be given back.
    pub frame: *mut Frame,
    /// Its bytes, or those of its first piece.
    pub bytes: *const u8,
    /// How many they are.
    pub length: u16,
    /// In how many pieces it came.
    pub pieces: u16,
    /// The VLAN whose tag the device took off, or -1.
    pub vlan: i32,
}

/// Takes lines that DPDK logs.
pub type LogLine = extern "C" fn(text: *const core::ffi::c_char, length: usize);
