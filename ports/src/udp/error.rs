//! Why a UDP port cannot be opened.

use std::io;
use std::net::SocketAddr;

use crate::PoolError;

/// Why a UDP port cannot be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// Another socket has the address. Choose another port, or 0 for any free one.
    #[error(
        "UDP address {address} is in use by another socket; stop its owner (`ss -lunp` names it) \
         or choose another port (0 takes any free one)"
    )]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// No interface of this host has the address.
    #[error(
        "no interface of this host has the address {}; `ip address` lists those that exist",
        address.ip()
    )]
    NoSuchAddress {
        /// The address asked for.
        address: SocketAddr,
    },
    /// This process may not have the address.
    #[error(
        "this process may not bind {address}: ports below 1024 need CAP_NET_BIND_SERVICE; choose \
         a higher port"
    )]
    Permission {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The pool of transmit frames cannot be made.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The kernel refused a step that should always work.
    #[error("cannot open a UDP socket at {address}: {step} failed: {source}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What was tried.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}
