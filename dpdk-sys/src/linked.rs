//! The shim's functions.

use core::ffi::{c_char, c_int, c_uint};

use crate::{Frame, Information, LogLine, Pool, View};

// Who calls keeps DPDK's rules: EAL runs (for all but `start` and `version`), pointers and numbers
// came from these functions and were not given back, a queue is used by one thread at a time.
unsafe extern "C" {
    /// The library's name and version, ended by a zero.
    #[link_name = "nic_dpdk_version"]
    pub fn version() -> *const c_char;
    /// Starts EAL. The arguments must stay for ever; once per process. Log lines go to `line`.
    #[link_name = "nic_dpdk_start"]
    pub fn start(count: c_int, arguments: *mut *mut c_char, line: LogLine) -> c_int;
    /// Whether EAL was started with huge pages.
    #[link_name = "nic_dpdk_has_hugepages"]
    pub fn has_hugepages() -> c_int;
    /// Numbers the calling thread. Zero: it is new and has to be unregistered by itself; one: it
    /// had a number.
    #[link_name = "nic_dpdk_register_thread"]
    pub fn register_thread() -> c_int;
    /// Takes the calling thread's number back.
    #[link_name = "nic_dpdk_unregister_thread"]
    pub fn unregister_thread();
    /// The port that has this name.
    #[link_name = "nic_dpdk_find_device"]
    pub fn find_device(name: *const c_char) -> c_int;
    /// Makes a device and returns its port.
    #[link_name = "nic_dpdk_add_device"]
    pub fn add_device(arguments: *const c_char) -> c_int;
    /// Tells what a device is.
    #[link_name = "nic_dpdk_information"]
    pub fn information(port: u16, information: *mut Information) -> c_int;
    /// Configures a device that is stopped. MTU zero: as it is.
    #[link_name = "nic_dpdk_configure"]
    pub fn configure(
        port: u16,
        queues: u16,
        mtu: u16,
        hash: c_int,
        scatter: c_int,
        checksum: c_int,
    ) -> c_int;
    /// Rounds numbers of entries to what the device has.
    #[link_name = "nic_dpdk_adjust_descriptors"]
    pub fn adjust_descriptors(port: u16, rx: *mut u16, tx: *mut u16) -> c_int;
    /// Sets both directions of a queue up. Threshold zero: the driver's own.
    #[link_name = "nic_dpdk_setup_queue"]
    pub fn setup_queue(
        port: u16,
        queue: u16,
        rx: u16,
        tx: u16,
        tx_free_threshold: u16,
        pool: *mut Pool,
    ) -> c_int;
    /// Starts a device that is configured.
    #[link_name = "nic_dpdk_start_device"]
    pub fn start_device(port: u16) -> c_int;
    /// Changes the MTU of a device that is configured.
    #[link_name = "nic_dpdk_set_mtu"]
    pub fn set_mtu(port: u16, mtu: u16) -> c_int;
    /// The MTU of a device, in bytes.
    #[link_name = "nic_dpdk_mtu"]
    pub fn mtu(port: u16) -> u16;
    /// One if the link is up, zero if not.
    #[link_name = "nic_dpdk_link_is_up"]
    pub fn link_is_up(port: u16) -> c_int;
    /// Has the driver's thread write into `up` whether the link is up, when that changes.
    #[link_name = "nic_dpdk_watch_link"]
    pub fn watch_link(port: u16, up: *mut u32) -> c_int;
    /// Ends that.
    #[link_name = "nic_dpdk_unwatch_link"]
    pub fn unwatch_link(port: u16, up: *mut u32) -> c_int;
    /// Stops and closes a device, and forgets it.
    #[link_name = "nic_dpdk_remove_device"]
    pub fn remove_device(port: u16);
    /// Has datagrams to a UDP port arrive at a queue.
    #[link_name = "nic_dpdk_steer"]
    pub fn steer(port: u16, queue: u16, is_ipv4: c_int, udp_port: u16) -> c_int;
    /// Makes a pool; null, and the error, if it cannot.
    #[link_name = "nic_dpdk_make_pool"]
    pub fn make_pool(
        name: *const c_char,
        frames: c_uint,
        cache: c_uint,
        bytes: u16,
        error: *mut c_int,
    ) -> *mut Pool;
    /// Gives a pool's memory back. No frame of it may be in use.
    #[link_name = "nic_dpdk_free_pool"]
    pub fn free_pool(pool: *mut Pool);
    /// A frame with one reference, or null.
    #[link_name = "nic_dpdk_allocate"]
    pub fn allocate(pool: *mut Pool) -> *mut Frame;
    /// Gives one reference back.
    #[link_name = "nic_dpdk_release"]
    pub fn release(frame: *mut Frame);
    /// Where a frame's bytes begin, after the headroom.
    #[link_name = "nic_dpdk_bytes"]
    pub fn bytes(frame: *mut Frame) -> *mut u8;
    /// How often a frame is referred to.
    #[link_name = "nic_dpdk_references"]
    pub fn references(frame: *const Frame) -> u16;
    /// Prepares a frame to leave with so many bytes before and after where its bytes begin.
    /// `ip_bytes` other than zero: the device computes UDP's checksum over an IPv6 header of that
    /// length.
    #[link_name = "nic_dpdk_stage"]
    pub fn stage(frame: *mut Frame, headers: u16, length: u16, ip_bytes: u16, add_reference: c_int);
    /// Hands frames, with one reference each, to the device; how many it took.
    #[link_name = "nic_dpdk_transmit"]
    pub fn transmit(
        port: u16,
        queue: u16,
        frames: *mut *mut Frame,
        count: u16,
        prepare: c_int,
    ) -> u16;
    /// Asks a driver for frames that have left; negative if it cannot.
    #[link_name = "nic_dpdk_clean"]
    pub fn clean(port: u16, queue: u16) -> c_int;
    /// Takes up to `count` frames from a queue, at most [`BURST_MAX`](crate::BURST_MAX).
    #[link_name = "nic_dpdk_receive"]
    pub fn receive(port: u16, queue: u16, views: *mut View, count: u16) -> u16;
    /// Gives the frames of views back.
    #[link_name = "nic_dpdk_release_views"]
    pub fn release_views(views: *const View, count: c_uint);
}
