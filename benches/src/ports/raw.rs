//! What a port costs by itself: the bytes of a lookup there and back, without engines.
//!
//! A thread on the target's core answers; it is blocked unless its slice runs.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nic_figures::cores;
use nic_ports::ring::{RingConfig, RingPort};
use nic_ports::{Burst, Port, Share};

use super::wire::{self, Kind, Wire};

/// Bytes of the packet that asks for one lookup, and of the one that answers.
pub(super) const BYTES: [usize; 2] = [108, 236];
/// What packets are made of: the first of a slice, those that are timed, the last.
const BEGIN: u8 = 1;
const TIMED: u8 = 2;
const END: u8 = 0xff;
/// How long the answer to the first packet may take before there is another.
const FIRST_PATIENCE: Duration = Duration::from_millis(20);
/// And how many of them there are.
const FIRST_MAX: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(1);
/// Looks in vain after which the port has a turn and the clock is read.
const LOOKS: u32 = 1 << 12;

/// One end, as the plainest calls see it.
trait End: Send {
    /// Sends so many bytes, all of which are `byte`.
    fn send(&mut self, byte: u8, bytes: usize) -> Result<()>;
    /// The first byte of a packet, if one has come.
    fn receive(&mut self) -> Result<Option<u8>>;
    /// What has to be done while nothing comes: devices without a kernel answer who asks for their
    /// address.
    fn idle(&mut self);
}

/// Both ends of one kind.
pub(crate) struct Raw {
    near: Box<dyn End>,
    orders: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _wire: Wire,
}

impl Raw {
    pub(crate) fn open(kind: Kind, core: usize) -> Result<Raw> {
        let pair = Wire::new(kind)?;
        let [near, far]: [Box<dyn End>; 2] = match kind {
            Kind::Udp => sockets()?,
            Kind::Ring => {
                let addresses = [1, 2].map(|port| ([127, 0, 0, 1], port).into());
                let (near, far) = RingPort::pair(RingConfig::default(), addresses)?;
                ported(near, far)
            }
            Kind::Uring => {
                let [near, far] = &pair.ends;
                ported(wire::uring(near)?, wire::uring(far)?)
            }
            Kind::Xdp => {
                let [near, far] = &pair.ends;
                ported(wire::xdp(near)?, wire::xdp(far)?)
            }
            Kind::Vhost => vhost(&pair)?,
        };
        let (orders, ordered) = channel();
        let mut far = far;
        let thread = std::thread::Builder::new().name("raw-echo".to_owned()).spawn(move || {
            // Unpinned, the figure is another machine's; the spin itself still ends.
            let _ = cores::pin_current_thread(core);
            while ordered.recv().is_ok() {
                // The near end notices that no answer comes.
                let _ = answer(far.as_mut());
            }
        })?;
        Ok(Raw { near, orders: Some(orders), thread: Some(thread), _wire: pair })
    }

    /// Wakes the other end. Packets that come before it is awake, or before the port knows its
    /// address, are lost: there are several, and answers that are late are passed over.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.orders
            .as_ref()
            .and_then(|orders| orders.send(()).ok())
            .context("the echo has ended")?;
        for _ in 0..FIRST_MAX {
            self.near.send(BEGIN, BYTES[0])?;
            if await_packet(self.near.as_mut(), FIRST_PATIENCE).is_ok() {
                return Ok(());
            }
        }
        bail!("none of {FIRST_MAX} packets was answered");
    }

    /// There and back.
    #[inline]
    pub(crate) fn round_trip(&mut self) -> Result<()> {
        self.near.send(TIMED, BYTES[0])?;
        // Answers to what began the slice may be late.
        while await_packet(self.near.as_mut(), PATIENCE)? != TIMED {}
        Ok(())
    }

    /// Lets the other end block.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.near.send(END, BYTES[0])?;
        await_packet(self.near.as_mut(), PATIENCE).map(drop)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was reported by its hook.
            let _ = thread.join();
        }
    }
}

fn answer(far: &mut dyn End) -> Result<()> {
    loop {
        let byte = await_packet(far, PATIENCE)?;
        far.send(byte, BYTES[1])?;
        if byte == END {
            return Ok(());
        }
    }
}

#[inline]
fn await_packet(end: &mut dyn End, patience: Duration) -> Result<u8> {
    let (mut looks, mut begun) = (0_u32, None);
    loop {
        if let Some(byte) = end.receive()? {
            return Ok(byte);
        }
        looks += 1;
        if looks.is_multiple_of(LOOKS) {
            end.idle();
            if begun.get_or_insert_with(Instant::now).elapsed() > patience {
                bail!("no packet came for {patience:?}");
            }
        }
        std::hint::spin_loop();
    }
}

struct Datagrams {
    socket: UdpSocket,
    peer: SocketAddr,
    buffer: [u8; 2048],
}

fn sockets() -> Result<[Box<dyn End>; 2]> {
    let open = || -> Result<UdpSocket> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let (near, far) = (open()?, open()?);
    let addresses = [far.local_addr()?, near.local_addr()?];
    let end =
        |socket, peer| -> Box<dyn End> { Box::new(Datagrams { socket, peer, buffer: [0; 2048] }) };
    Ok([end(near, addresses[0]), end(far, addresses[1])])
}

impl End for Datagrams {
    #[inline]
    fn send(&mut self, byte: u8, bytes: usize) -> Result<()> {
        self.buffer[..bytes].fill(byte);
        self.socket.send_to(&self.buffer[..bytes], self.peer)?;
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Option<u8>> {
        match self.socket.recv_from(&mut self.buffer) {
            Ok(_) => Ok(Some(self.buffer[0])),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn idle(&mut self) {}
}

/// A port, by its own calls.
struct Ported<P> {
    port: P,
    peer: SocketAddr,
    burst: Burst,
}

fn ported<P: Port + Send + 'static>(near: P, far: P) -> [Box<dyn End>; 2] {
    let addresses = [far.local_address(), near.local_address()];
    let end =
        |port, peer| -> Box<dyn End> { Box::new(Ported { port, peer, burst: Burst::new(32) }) };
    [end(near, addresses[0]), end(far, addresses[1])]
}

impl<P: Port + Send> End for Ported<P> {
    #[inline]
    fn send(&mut self, byte: u8, bytes: usize) -> Result<()> {
        let frame = self.port.allocate(Share::Reply).context("the port has no frame")?;
        let packet = &mut self.port.bytes_mut(frame)[..bytes];
        packet.fill(byte);
        // A packet says how long it is.
        nic_wire::packet::PacketHeader::new(
            nic_wire::packet::PacketKind::Data,
            nic_wire::ConnectionId::from_raw(byte.into()),
        )
        .write(packet);
        self.port.submit(frame, bytes, self.peer);
        self.port.release(frame);
        self.port.transmit();
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Option<u8>> {
        if self.port.receive(&mut self.burst) == 0 {
            return Ok(None);
        }
        let last = self.burst.views().last().map(|view| self.port.view(view));
        let byte = last.and_then(|packet| packet.last().copied());
        self.port.release_burst(&mut self.burst);
        Ok(byte)
    }

    fn idle(&mut self) {
        self.port.transmit();
    }
}

#[cfg(feature = "dpdk")]
fn vhost(pair: &Wire) -> Result<[Box<dyn End>; 2]> {
    // One packet is on its way at a time, and the engines' devices want memory as well.
    const FRAMES: u32 = 256;
    let [near, far] = &pair.ends;
    let far = wire::vhost(far, FRAMES)?;
    Ok(ported(wire::vhost(near, FRAMES)?, far))
}

#[cfg(not(feature = "dpdk"))]
fn vhost(_: &Wire) -> Result<[Box<dyn End>; 2]> {
    bail!("this build has no DPDK: build it with `--features dpdk`")
}
