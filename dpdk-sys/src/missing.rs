//! The same functions where there is no libdpdk: they do nothing and say so.

use core::ffi::{c_char, c_int, c_uint};

use crate::{Frame, Information, LogLine, Pool, View};

/// What every call answers that can fail: no such function (`-ENOSYS`).
const MISSING: c_int = -38;

/// The library's name and version, ended by a zero.
///
/// # Safety
/// None is needed.
pub unsafe fn version() -> *const c_char {
    c"".as_ptr()
}

/// Starts EAL. The arguments must stay for ever; once per process. Log lines go to `line`.
///
/// # Safety
/// None is needed.
pub unsafe fn start(_count: c_int, _arguments: *mut *mut c_char, _line: LogLine) -> c_int {
    MISSING
}

/// Whether EAL was started with huge pages.
///
/// # Safety
/// None is needed.
pub unsafe fn has_hugepages() -> c_int {
    MISSING
}

/// Numbers the calling thread. Zero: it is new and has to be unregistered by itself; one: it had
/// a number.
///
/// # Safety
/// None is needed.
pub unsafe fn register_thread() -> c_int {
    MISSING
}

/// Takes the calling thread's number back.
///
/// # Safety
/// None is needed.
pub unsafe fn unregister_thread() {}

/// The port that has this name.
///
/// # Safety
/// None is needed.
pub unsafe fn find_device(_name: *const c_char) -> c_int {
    MISSING
}

/// Makes a device and returns its port.
///
/// # Safety
/// None is needed.
pub unsafe fn add_device(_arguments: *const c_char) -> c_int {
    MISSING
}

/// Tells what a device is.
///
/// # Safety
/// None is needed.
pub unsafe fn information(_port: u16, _information: *mut Information) -> c_int {
    MISSING
}

/// Configures a device that is stopped. MTU zero: as it is.
///
/// # Safety
/// None is needed.
pub unsafe fn configure(
    _port: u16,
    _queues: u16,
    _mtu: u16,
    _hash: c_int,
    _scatter: c_int,
    _checksum: c_int,
) -> c_int {
    MISSING
}

/// Rounds numbers of entries to what the device has.
///
/// # Safety
/// None is needed.
pub unsafe fn adjust_descriptors(_port: u16, _rx: *mut u16, _tx: *mut u16) -> c_int {
    MISSING
}

/// Sets both directions of a queue up. Threshold zero: the driver's own.
///
/// # Safety
/// None is needed.
pub unsafe fn setup_queue(
    _port: u16,
    _queue: u16,
    _rx: u16,
    _tx: u16,
    _tx_free_threshold: u16,
    _pool: *mut Pool,
) -> c_int {
    MISSING
}

/// Starts a device that is configured.
///
/// # Safety
/// None is needed.
pub unsafe fn start_device(_port: u16) -> c_int {
    MISSING
}

/// Changes the MTU of a device that is configured.
///
/// # Safety
/// None is needed.
pub unsafe fn set_mtu(_port: u16, _mtu: u16) -> c_int {
    MISSING
}

/// The MTU of a device, in bytes.
///
/// # Safety
/// None is needed.
pub unsafe fn mtu(_port: u16) -> u16 {
    0
}

/// One if the link is up, zero if not.
///
/// # Safety
/// None is needed.
pub unsafe fn link_is_up(_port: u16) -> c_int {
    MISSING
}

/// Has the driver's thread write into `up` whether the link is up, when that changes.
///
/// # Safety
/// None is needed.
pub unsafe fn watch_link(_port: u16, _up: *mut u32) -> c_int {
    MISSING
}

/// Ends that.
///
/// # Safety
/// None is needed.
pub unsafe fn unwatch_link(_port: u16, _up: *mut u32) -> c_int {
    MISSING
}

/// Stops and closes a device, and forgets it.
///
/// # Safety
/// None is needed.
pub unsafe fn remove_device(_port: u16) {}

/// Has datagrams to a UDP port arrive at a queue.
///
/// # Safety
/// None is needed.
pub unsafe fn steer(_port: u16, _queue: u16, _is_ipv4: c_int, _udp_port: u16) -> c_int {
    MISSING
}

/// Makes a pool; null, and the error, if it cannot.
///
/// # Safety
/// None is needed.
pub unsafe fn make_pool(
    _name: *const c_char,
    _frames: c_uint,
    _cache: c_uint,
    _bytes: u16,
    _error: *mut c_int,
) -> *mut Pool {
    core::ptr::null_mut()
}

/// Gives a pool's memory back. No frame of it may be in use.
///
/// # Safety
/// None is needed.
pub unsafe fn free_pool(_pool: *mut Pool) {}

/// A frame with one reference, or null.
///
/// # Safety
/// None is needed.
pub unsafe fn allocate(_pool: *mut Pool) -> *mut Frame {
    core::ptr::null_mut()
}

/// Gives one reference back.
///
/// # Safety
/// None is needed.
pub unsafe fn release(_frame: *mut Frame) {}

/// Where a frame's bytes begin, after the headroom.
///
/// # Safety
/// None is needed.
pub unsafe fn bytes(_frame: *mut Frame) -> *mut u8 {
    core::ptr::null_mut()
}

/// How often a frame is referred to.
///
/// # Safety
/// None is needed.
pub unsafe fn references(_frame: *const Frame) -> u16 {
    0
}

/// Prepares a frame to leave with so many bytes before and after where its bytes begin.
/// `ip_bytes` other than zero: the device computes UDP's checksum over an IPv6 header of that
/// length.
///
/// # Safety
/// None is needed.
pub unsafe fn stage(
    _frame: *mut Frame,
    _headers: u16,
    _length: u16,
    _ip_bytes: u16,
    _add_reference: c_int,
) {
}

/// Hands frames, with one reference each, to the device; how many it took.
///
/// # Safety
/// None is needed.
pub unsafe fn transmit(
    _port: u16,
    _queue: u16,
    _frames: *mut *mut Frame,
    _count: u16,
    _prepare: c_int,
) -> u16 {
    0
}

/// Asks a driver for frames that have left; negative if it cannot.
///
/// # Safety
/// None is needed.
pub unsafe fn clean(_port: u16, _queue: u16) -> c_int {
    MISSING
}

/// Takes up to `count` frames from a queue, at most [`BURST_MAX`](crate::BURST_MAX).
///
/// # Safety
/// None is needed.
pub unsafe fn receive(_port: u16, _queue: u16, _views: *mut View, _count: u16) -> u16 {
    0
}

/// Gives the frames of views back.
///
/// # Safety
/// None is needed.
pub unsafe fn release_views(_views: *const View, _count: c_uint) {}
