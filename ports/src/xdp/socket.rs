//! One AF_XDP socket: made, given its memory and rings, and bound to a queue.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nic_shm::SharedMemory;
use rustix::io::Errno;
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags, XdpUmemReg, XdpUmemRegFlags};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::XdpError;
use super::umem::{CHUNK_BYTES, Shape};

/// How long to try again while the queue or the device seems taken: the kernel tidies up behind a
/// killed process for some milliseconds after it is gone; for seconds where many processes are busy
/// and others change the network, for it waits for them.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);
/// After so long the log says what is waited for.
const SILENCE: Duration = Duration::from_secs(1);

/// `XDP_MAX_TX_SKB_BUDGET` (linux/if_xdp.h, Linux 6.18).
const MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// What lets a socket hold as many packets on their way as it has frames, in bytes.
const SEND_BUFFER_BYTES: usize = 64 << 20;

/// Makes a socket over a memory of this shape. It receives nothing until it is bound.
pub(super) fn open(memory: &SharedMemory, shape: Shape) -> Result<OwnedFd, XdpError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let opened = net::socket_with(AddressFamily::XDP, SocketType::RAW, flags, None);
    let socket = opened.map_err(|error| match error {
        Errno::PERM | Errno::ACCESS => {
            XdpError::Privilege { step: "an AF_XDP socket", capabilities: "CAP_NET_RAW" }
        }
        Errno::AFNOSUPPORT => XdpError::NoKernelSupport,
        _ => XdpError::System { step: "socket(2)", source: error.into() },
    })?;
    let registration = XdpUmemReg {
        addr: memory.memory().as_ptr().expose_provenance() as u64,
        len: shape.bytes(),
        chunk_size: CHUNK_BYTES as u32,
        headroom: 0,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    sockopt::set_xdp_umem_reg(&socket, registration).map_err(|error| match error {
        Errno::NOBUFS => XdpError::LockedMemory { bytes: shape.bytes() },
        _ => XdpError::System { step: "XDP_UMEM_REG", source: error.into() },
    })?;
    // So many entries that no ring is ever full: each frame and each chunk stands in one place.
    let (transmit, receive) = (transmit_entries(shape), shape.chunks);
    let rings = |error: Errno| XdpError::System { step: "making rings", source: error.into() };
    sockopt::set_xdp_umem_fill_ring_size(&socket, receive).map_err(rings)?;
    sockopt::set_xdp_umem_completion_ring_size(&socket, transmit).map_err(rings)?;
    sockopt::set_xdp_rx_ring_size(&socket, receive).map_err(rings)?;
    sockopt::set_xdp_tx_ring_size(&socket, transmit).map_err(rings)?;
    enlarge(&socket, transmit);
    Ok(socket)
}

/// How many entries the transmit and the completion ring have.
pub(super) fn transmit_entries(shape: Shape) -> u32 {
    shape.frames.next_power_of_two()
}

/// Lets one call send everything, where copies are made: the kernel's own limits are 32 packets a
/// call and some hundred on their way. Without it a burst takes more calls.
fn enlarge(socket: &OwnedFd, transmit_entries: u32) {
    // Beyond the limit for all needs CAP_NET_ADMIN, which whoever opens such a socket mostly has.
    if sockopt::set_socket_send_buffer_size_force(socket, SEND_BUFFER_BYTES).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES);
    }
    let budget = transmit_entries;
    // SAFETY: the kernel reads one word from the address of a live one. Kernels that do not know
    // the option refuse it.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            MAX_TX_SKB_BUDGET,
            (&raw const budget).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
}

/// Binds a socket to a queue.
pub(super) fn bind(socket: &OwnedFd, device: u32, queue: u32, zero_copy: bool) -> io::Result<()> {
    let copies =
        if zero_copy { SocketAddrXdpFlags::XDP_ZEROCOPY } else { SocketAddrXdpFlags::XDP_COPY };
    let flags = copies | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
    let address = SocketAddrXdp::new(flags, device, queue);
    patiently("the queue", || Ok(net::bind(socket.as_fd(), &address)?))
}

/// Tries again for a while what finds something taken.
pub(super) fn patiently<T>(
    what: &str,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let began = Instant::now();
    let mut told = false;
    loop {
        match attempt() {
            Err(error) if is_taken(&error) && began.elapsed() < PATIENCE => {
                if !told && began.elapsed() >= SILENCE {
                    told = true;
                    tracing::warn!(
                        "xdp port: {what} is taken ({error}), perhaps still by a process that was \
                         killed: trying for {PATIENCE:?}"
                    );
                }
                thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Whether an error says that somebody else has it.
pub(super) fn is_taken(error: &io::Error) -> bool {
    // A program in the other kind of attachment is "there already".
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST | libc::EADDRINUSE))
}
