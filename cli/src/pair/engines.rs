//! Engine processes, seen from the process that starts them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nic_host::{Endpoint, Nic};
use nic_shm::{ControlSocket, DESCRIPTORS_MAX};

use super::child::Child;
use super::engine_process::{ENGINE_COMMAND, EngineOrder, EngineReply};
use super::port::End;

/// How an engine process is to be.
#[derive(Clone, Copy, Debug)]
pub struct EngineStart {
    /// What it is in messages.
    pub what: &'static str,
    /// The core to run on.
    pub core: Option<usize>,
    /// How long it spins without work before it sleeps, in microseconds.
    pub spin_us: u64,
    /// How many applications will connect.
    pub applications: usize,
}

/// Starts an engine process; it opens its port by itself ([`await_engine`]). The sockets are for
/// its applications ([`connect`]).
pub fn start_engine(start: EngineStart, end: End) -> Result<(Child, Vec<OwnedFd>)> {
    let EngineStart { what, core, spin_us, applications } = start;
    let engine = Child::start(ENGINE_COMMAND, what)?;
    let order = EngineOrder { core, port: end.order, spin_us, applications };
    let ring: Vec<BorrowedFd<'_>> = end.ring.iter().map(AsFd::as_fd).collect();
    engine.send(&order, &ring)?;
    let (mut own, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..applications {
        let (one, other) = ControlSocket::pair().context("the system gives no socket")?;
        own.push(one.as_fd().try_clone_to_owned()?);
        theirs.push(other);
    }
    for sockets in theirs.chunks(DESCRIPTORS_MAX) {
        let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        engine.send(&(), &descriptors)?;
    }
    Ok((engine, own))
}

/// Waits until an engine process has opened its port.
pub fn await_engine(engine: &Child) -> Result<()> {
    match engine.receive()? {
        EngineReply::Ready => Ok(()),
        EngineReply::Failed { reason } => bail!("an engine did not start: {reason}"),
    }
}

/// Connects by the next of an engine process's sockets.
pub fn connect(sockets: &mut Vec<OwnedFd>) -> Result<Nic> {
    let socket = sockets.pop().context("an engine has no socket left")?;
    Ok(Nic::connect(Endpoint::Socket(socket))?)
}
