//! What the port costs by itself: the same bytes there and back, without engines, flows or ops.
//!
//! A thread pinned to the target's core answers; it is blocked unless its slice runs.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nic_figures::cores;
use nic_shm::RacyMem;

use crate::pair::PairPort;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Looks without a reply after which the clock is read.
const LOOKS_PER_CLOCK: u32 = 1 << 16;
/// The longest packet in bytes.
const BYTES_MAX: usize = 2048;

/// How many bytes go there and come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// There.
    pub request: usize,
    /// Back.
    pub reply: usize,
}

/// A plain round trip and its other side.
#[derive(Debug)]
pub struct Plain {
    near: Near,
    lengths: Lengths,
    /// Dropped to end the thread.
    orders: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Near {
    Udp { socket: UdpSocket, far: SocketAddr, yielding: bool },
    Slots { memory: RacyMem, sequence: u64, yielding: bool },
}

/// The thread's side.
enum Far {
    Udp { socket: UdpSocket, yielding: bool },
    Slots { memory: RacyMem, yielding: bool },
}

/// Where in the slots' memory the request's sequence number and bytes are, and the reply's.
const REQUEST: u64 = 0;
const REPLY: u64 = 4096;
const BYTES: u64 = 64;
/// A sequence number, and a datagram's length, that end a slice.
const END: u64 = u64::MAX;
const END_BYTES: usize = 1;

impl Plain {
    /// Starts the other side on `core`: memory that both sides share instead of a ring, kernel UDP
    /// instead of any other port. `yielding`: both sides share one core.
    pub fn start(
        port: PairPort,
        lengths: Lengths,
        core: Option<usize>,
        yielding: bool,
    ) -> Result<Self> {
        let lengths = Lengths {
            request: lengths.request.clamp(END_BYTES + 1, BYTES_MAX),
            reply: lengths.reply.clamp(END_BYTES + 1, BYTES_MAX),
        };
        let (near, far) = match port {
            PairPort::Kind(_) => udp(yielding)?,
            PairPort::Ring => {
                let memory = RacyMem::allocate(2 * REPLY);
                let near = Near::Slots { memory: memory.clone(), sequence: 0, yielding };
                (near, Far::Slots { memory, yielding })
            }
        };
        let (orders, ordered) = channel();
        let thread =
            std::thread::Builder::new().name("plain-echo".to_owned()).spawn(move || {
                // Unpinned, the figure is another machine's; the spin itself still ends.
                let _ = core.map(cores::pin_current_thread);
                while ordered.recv().is_ok() {
                    far.answer(lengths);
                }
            })?;
        Ok(Plain { near, lengths, orders: Some(orders), thread: Some(thread) })
    }

    /// Wakes the other side.
    pub fn begin(&mut self) -> Result<()> {
        let orders = self.orders.as_ref().context("the echo has ended")?;
        orders.send(()).context("the echo has ended")?;
        // The first round trip takes as long as waking the thread.
        self.round_trip()
    }

    /// There and back.
    #[inline]
    pub fn round_trip(&mut self) -> Result<()> {
        let Lengths { request, reply } = self.lengths;
        match &mut self.near {
            Near::Udp { socket, far, yielding } => {
                let mut buffer = [0x5a; BYTES_MAX];
                socket.send_to(&buffer[..request], *far)?;
                let found = await_datagram(socket, &mut buffer, *yielding)?;
                if found != reply {
                    bail!("{found} bytes came back and {reply} were expected");
                }
                Ok(())
            }
            Near::Slots { memory, sequence, yielding } => {
                *sequence += 1;
                let mut buffer = [0x5a; BYTES_MAX];
                memory.write(REQUEST + BYTES, &buffer[..request])?;
                memory.word64(REQUEST)?.store(*sequence, Ordering::Release);
                await_word(memory, REPLY, *yielding, |word| word == *sequence)?;
                Ok(memory.read(REPLY + BYTES, &mut buffer[..reply])?)
            }
        }
    }

    /// Lets the other side block.
    pub fn end(&mut self) -> Result<()> {
        match &mut self.near {
            Near::Udp { socket, far, yielding } => {
                let mut buffer = [0; BYTES_MAX];
                socket.send_to(&buffer[..END_BYTES], *far)?;
                await_datagram(socket, &mut buffer, *yielding)?;
            }
            Near::Slots { memory, yielding, .. } => {
                memory.word64(REQUEST)?.store(END, Ordering::Release);
                await_word(memory, REPLY, *yielding, |word| word == END)?;
            }
        }
        Ok(())
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was reported by its hook.
            let _ = thread.join();
        }
    }
}

fn udp(yielding: bool) -> Result<(Near, Far)> {
    let open = || -> Result<UdpSocket> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let (near, far) = (open()?, open()?);
    let address = far.local_addr()?;
    Ok((Near::Udp { socket: near, far: address, yielding }, Far::Udp { socket: far, yielding }))
}

impl Far {
    /// Answers until the end of a slice, or until nothing has come for a long time.
    fn answer(&self, lengths: Lengths) {
        // Nobody is there to be told; the near side notices that no reply comes.
        let _ = match self {
            Far::Udp { socket, yielding } => answer_datagrams(socket, lengths, *yielding),
            Far::Slots { memory, yielding } => answer_words(memory, lengths, *yielding),
        };
    }
}

fn answer_datagrams(socket: &UdpSocket, lengths: Lengths, yielding: bool) -> Result<()> {
    let mut buffer = [0xa5; BYTES_MAX];
    loop {
        let (found, from) = await_datagram_from(socket, &mut buffer, yielding)?;
        if found == END_BYTES {
            socket.send_to(&buffer[..END_BYTES], from)?;
            return Ok(());
        }
        socket.send_to(&buffer[..lengths.reply], from)?;
    }
}

fn answer_words(memory: &RacyMem, lengths: Lengths, yielding: bool) -> Result<()> {
    let mut buffer = [0xa5; BYTES_MAX];
    let mut last = memory.load64(REPLY)?;
    loop {
        last = await_word(memory, REQUEST, yielding, |word| word != last && word != 0)?;
        if last != END {
            memory.read(REQUEST + BYTES, &mut buffer[..lengths.request])?;
            memory.write(REPLY + BYTES, &buffer[..lengths.reply])?;
        }
        memory.word64(REPLY)?.store(last, Ordering::Release);
        if last == END {
            return Ok(());
        }
    }
}

fn await_datagram(socket: &UdpSocket, buffer: &mut [u8], yielding: bool) -> Result<usize> {
    Ok(await_datagram_from(socket, buffer, yielding)?.0)
}

#[inline]
fn await_datagram_from(
    socket: &UdpSocket,
    buffer: &mut [u8],
    yielding: bool,
) -> Result<(usize, SocketAddr)> {
    let mut looks = Looks::new(yielding);
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => looks.again()?,
            outcome => return Ok(outcome?),
        }
    }
}

#[inline]
fn await_word(
    memory: &RacyMem,
    at: u64,
    yielding: bool,
    is_it: impl Fn(u64) -> bool,
) -> Result<u64> {
    let mut looks = Looks::new(yielding);
    let word = memory.word64(at)?;
    loop {
        let found = word.load(Ordering::Acquire);
        if is_it(found) {
            return Ok(found);
        }
        looks.again()?;
    }
}

/// Looks in vain: the clock is read now and then only.
struct Looks {
    count: u32,
    yielding: bool,
    begin: Option<Instant>,
}

impl Looks {
    fn new(yielding: bool) -> Self {
        Looks { count: 0, yielding, begin: None }
    }

    #[inline]
    fn again(&mut self) -> Result<()> {
        self.count += 1;
        if self.yielding {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
        if self.count.is_multiple_of(LOOKS_PER_CLOCK) {
            let begin = *self.begin.get_or_insert_with(Instant::now);
            if begin.elapsed() > PATIENCE {
                bail!("no reply came for {PATIENCE:?}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nic_engine::ports::PortKind;

    use super::*;

    #[test]
    fn slices_follow_one_another_on_both_kinds() {
        for port in [PairPort::Kind(PortKind::Udp), PairPort::Ring] {
            let lengths = Lengths { request: 100, reply: 200 };
            let mut plain = Plain::start(port, lengths, None, true).unwrap();
            for _ in 0..3 {
                plain.begin().unwrap();
                for _ in 0..50 {
                    plain.round_trip().unwrap();
                }
                plain.end().unwrap();
            }
        }
    }
}
