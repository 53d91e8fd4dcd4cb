//! What the messages of tests consist of, and how two processes come by a ring.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use nic_engine::Builtin;
use nic_engine::engine::EngineConfig;
use nic_host::Nic;
use nic_ports::ring::{RingConfig, RingPort};
use nic_shm::ControlSocket;

/// The service that receives them.
pub const MESSAGES: u16 = 77;
/// Streams of each sender.
pub const STREAMS: u16 = 4;

/// A message's number within its stream, then bytes that tell which stream and number it is of. At
/// least 8 bytes long.
///
/// # Panics
/// If it is shorter.
pub fn message(stream: u16, number: u64, length: usize) -> Vec<u8> {
    let seed = number.wrapping_mul(31).wrapping_add(u64::from(stream) * 7);
    let mut bytes: Vec<u8> = (0..length as u64).map(|at| (at + at / 253 + seed) as u8).collect();
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// An engine inside this process, on a ring that is joined over a socket with another process's.
/// One of them is the first.
///
/// # Errors
/// The system refuses, or the other process ends.
pub fn on_ring(socket: &ControlSocket, is_first: bool) -> anyhow::Result<Nic> {
    let end = |number| SocketAddr::from(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, number), 1));
    let (near, far) = if is_first { (end(1), end(2)) } else { (end(2), end(1)) };
    let port = RingPort::connect(socket, RingConfig::default(), near, far)?;
    Ok(Nic::inline_on::<_, Builtin>(port, EngineConfig::default())?)
}
