//! What a port costs by itself: the bytes of a lookup there and back, without engines.
//!
//! A thread on the target's core answers; it is blocked unless its slice runs.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nic_engine::ports::PortSettings;
use nic_figures::cores;
use nic_ports::ring::{RingConfig, RingPort};
use nic_ports::{Burst, Port, Share};

use super::wire::{Kind, Wire};

/// Bytes of the packet that asks for one lookup, and of the one that answers.
pub(super) const BYTES: [usize; 2] = [108, 236];
/// The first byte of a packet that ends a slice.
const END: u8 = 0xff;
const PATIENCE: Duration = Duration::from_secs(1);
/// Looks in vain after which the clock is read.
const LOOKS: u32 = 1 << 16;

/// One end, as the plainest calls see it.
trait End: Send {
    /// Sends so many bytes, all of which are `byte`.
    fn send(&mut self, byte: u8, bytes: usize) -> Result<()>;
    /// The first byte of a packet, if one has come.
    fn receive(&mut self) -> Result<Option<u8>>;
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
        let wire = Wire::new(kind)?;
        let [near, far]: [Box<dyn End>; 2] = match kind {
            Kind::Udp => sockets()?,
            Kind::Ring => {
                let addresses = [1, 2].map(|port| ([127, 0, 0, 1], port).into());
                let (near, far) = RingPort::pair(RingConfig::default(), addresses)?;
                ported(near, far)
            }
            Kind::Uring => {
                use nic_ports::uring::{UringConfig, UringPort};
                let port = |end: &PortSettings| UringPort::bind(UringConfig::new(end.address));
                let [near, far] = &wire.ends;
                ported(port(near)?, port(far)?)
            }
            Kind::Xdp => {
                use nic_ports::xdp::{XdpConfig, XdpPort};
                let port = |end: &PortSettings| {
                    XdpPort::open(&XdpConfig::new(
                        end.device.as_deref().unwrap_or_default(),
                        end.address,
                    ))
                };
                let [near, far] = &wire.ends;
                ported(port(near)?, port(far)?)
            }
            Kind::Vhost => vhost(&wire)?,
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
        Ok(Raw { near, orders: Some(orders), thread: Some(thread), _wire: wire })
    }

    /// Wakes the other end.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.orders
            .as_ref()
            .and_then(|orders| orders.send(()).ok())
            .context("the echo has ended")?;
        self.round_trip()
    }

    /// There and back.
    #[inline]
    pub(crate) fn round_trip(&mut self) -> Result<()> {
        self.near.send(1, BYTES[0])?;
        await_packet(self.near.as_mut()).map(drop)
    }

    /// Lets the other end block.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.near.send(END, BYTES[0])?;
        await_packet(self.near.as_mut()).map(drop)
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
        let byte = await_packet(far)?;
        far.send(byte, BYTES[1])?;
        if byte == END {
            return Ok(());
        }
    }
}

#[inline]
fn await_packet(end: &mut dyn End) -> Result<u8> {
    let (mut looks, mut begun) = (0_u32, None);
    loop {
        if let Some(byte) = end.receive()? {
            return Ok(byte);
        }
        looks += 1;
        if looks.is_multiple_of(LOOKS)
            && begun.get_or_insert_with(Instant::now).elapsed() > PATIENCE
        {
            bail!("no packet came for {PATIENCE:?}");
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
}

#[cfg(feature = "dpdk")]
fn vhost(wire: &Wire) -> Result<[Box<dyn End>; 2]> {
    use nic_ports::PoolConfig;
    use nic_ports::dpdk::{DpdkConfig, DpdkDevice};
    let eal = nic_engine::ports::eal(&wire.ends[0].eal)?;
    let port = |end: &PortSettings| -> Result<_> {
        let device = end.device.as_deref().unwrap_or_default();
        let mut config = DpdkConfig::new(device, end.address, 24);
        // One packet is on its way at a time, and the engines' devices want memory as well.
        config.pool = PoolConfig::with_frames(256);
        DpdkDevice::open(&eal, &config, 1)?.pop().context("one queue was asked for")
    };
    let [near, far] = &wire.ends;
    // The side that listens comes first.
    let far = port(far)?;
    Ok(ported(port(near)?, far))
}

#[cfg(not(feature = "dpdk"))]
fn vhost(_: &Wire) -> Result<[Box<dyn End>; 2]> {
    bail!("this build has no DPDK: build it with `--features dpdk`")
}
