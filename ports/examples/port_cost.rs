//! What the ports add to the calls below them: `cargo run --release -p nic-ports --example
//! port_cost`. Both sides of each comparison run in turns, in slices; the medians are shown.

use std::hint::black_box;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use nic_ports::ring::{RingConfig, RingPort};
use nic_ports::udp::{UdpConfig, UdpPort};
use nic_ports::uring::{UringConfig, UringPort};
use nic_ports::{Burst, Port, Share};

/// Slices are short, so that on a busy machine most of them run undisturbed.
const SLICES: usize = 401;
const ROUNDS: u32 = 50;
const PACKET_BYTES: usize = 64;

/// Nanoseconds per round of one slice.
fn slice(rounds: u32, mut round: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..rounds).for_each(|_| round());
    start.elapsed().as_nanos() as f64 / f64::from(rounds)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs both in turns and prints the medians and their difference.
fn compare(what: &str, mut plain: impl FnMut(), mut port: impl FnMut()) {
    let (mut below, mut above) = (Vec::new(), Vec::new());
    for _ in 0..SLICES {
        below.push(slice(ROUNDS, &mut plain));
        above.push(slice(ROUNDS, &mut port));
    }
    let (below, above) = (median(below), median(above));
    println!("{what:<34} plain {below:7.0} ns  port {above:7.0} ns  adds {:5.0}", above - below);
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback is up");
    socket.set_nonblocking(true).expect("a socket can be non-blocking");
    socket
}

fn udp() -> UdpPort {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    UdpPort::bind(UdpConfig::new(address)).expect("the loopback is up")
}

fn uring() -> UringPort {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    UringPort::bind(UringConfig::new(address)).expect("this process may use io_uring")
}

/// One turn that sends one packet, as an engine's would.
fn send<P: Port>(port: &mut P, to: SocketAddr, packets: usize, length: usize) {
    for number in 0..packets {
        let Some(frame) = port.allocate(Share::Request) else { break };
        port.bytes_mut(frame)[0] = number as u8;
        port.submit(frame, length, to);
        port.release(frame);
    }
    port.transmit();
}

/// Receives until `packets` have come.
fn receive<P: Port>(port: &mut P, burst: &mut Burst, packets: usize) {
    let mut received = 0;
    while received < packets {
        received += port.receive(burst);
        for view in burst.views() {
            black_box(port.view(view)[0]);
        }
        port.release_burst(burst);
    }
}

fn empty_polls() {
    let (plain, mut port) = (socket(), udp());
    let mut buffer = [0; 2048];
    let mut burst = Burst::new(128);
    compare(
        "udp, empty receive",
        || {
            black_box(plain.recv_from(&mut buffer).is_err());
        },
        || {
            black_box(port.receive(&mut burst));
        },
    );
}

/// One thread plays both sides, so that only instructions are measured and no distance.
fn round_trips() {
    let (one, other) = (socket(), socket());
    let (one_at, other_at) = (one.local_addr().expect("bound"), other.local_addr().expect("bound"));
    let (mut left, mut right) = (udp(), udp());
    let mut buffer = [0; 2048];
    let mut burst = Burst::new(128);
    let exchange = |from: &UdpSocket, to: &UdpSocket, at: SocketAddr, buffer: &mut [u8]| {
        from.send_to(&buffer[..PACKET_BYTES], at).expect("the loopback takes it");
        while to.recv_from(buffer).is_err() {}
    };
    compare(
        "udp, 64 B there and back",
        || {
            exchange(&one, &other, other_at, &mut buffer);
            exchange(&other, &one, one_at, &mut buffer);
        },
        || {
            send(&mut left, right.local_address(), 1, PACKET_BYTES);
            receive(&mut right, &mut burst, 1);
            send(&mut right, left.local_address(), 1, PACKET_BYTES);
            receive(&mut left, &mut burst, 1);
        },
    );
}

/// The two ports that pass through the same sockets, against each other.
fn two_ways() {
    let (mut plain, mut port) = (udp(), uring());
    let (mut burst, mut other_burst) = (Burst::new(128), Burst::new(128));
    compare(
        "udp and uring, empty receive",
        || {
            black_box(plain.receive(&mut burst));
        },
        || {
            black_box(port.receive(&mut other_burst));
        },
    );
    let (mut left, mut right) = (udp(), udp());
    let (mut other_left, mut other_right) = (uring(), uring());
    for (packets, length) in [(1, 64), (8, 1400), (43, 1400), (64, 64)] {
        compare(
            &format!("udp and uring, {packets} x {length} B"),
            || {
                send(&mut left, right.local_address(), packets, length);
                receive(&mut right, &mut burst, packets);
            },
            || {
                send(&mut other_left, other_right.local_address(), packets, length);
                receive(&mut other_right, &mut other_burst, packets);
            },
        );
    }
}

fn bursts() {
    let (mut left, mut right) = (udp(), udp());
    let mut burst = Burst::new(128);
    println!("{}", left.capabilities());
    for (packets, length) in [(1, 1400), (8, 1400), (43, 1400), (64, 64)] {
        let to = right.local_address();
        let cost: Vec<f64> = (0..SLICES)
            .map(|_| {
                slice(10, || {
                    send(&mut left, to, packets, length);
                    receive(&mut right, &mut burst, packets);
                })
            })
            .collect();
        let cost = median(cost) / packets as f64;
        println!("udp, {packets:>2} x {length:>4} B, one way        {cost:7.0} ns per packet");
    }
}

fn rings() {
    let addresses = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().expect("an address"));
    let (mut left, mut right) =
        RingPort::pair(RingConfig::default(), addresses).expect("memory for two rings");
    let [left_at, right_at] = addresses;
    let mut burst = Burst::new(128);
    let polls = median(
        (0..SLICES)
            .map(|_| {
                slice(1_000, || {
                    black_box(left.receive(&mut burst));
                    left.transmit();
                })
            })
            .collect(),
    );
    println!("ring, empty turn                   {polls:7.1} ns");
    for (packets, length) in [(1, 64), (32, 64), (32, 1400)] {
        let cost: Vec<f64> = (0..SLICES)
            .map(|_| {
                slice(ROUNDS, || {
                    send(&mut left, right_at, packets, length);
                    receive(&mut right, &mut burst, packets);
                })
            })
            .collect();
        let cost = median(cost) / packets as f64;
        println!("ring, one core, {packets:>2} x {length:>4} B      {cost:7.1} ns per packet");
    }

    println!(
        "ring, 64 B there and back, two cores {:5.0} ns",
        there_and_back(left, right, [left_at, right_at])
    );
}

fn there_and_back(
    mut left: RingPort,
    mut right: RingPort,
    [left_at, right_at]: [SocketAddr; 2],
) -> f64 {
    let rounds = 300_000u32;
    let far = std::thread::spawn(move || {
        let mut burst = Burst::new(128);
        for _ in 0..rounds {
            receive(&mut right, &mut burst, 1);
            send(&mut right, left_at, 1, PACKET_BYTES);
        }
    });
    let mut burst = Burst::new(128);
    let cost = (0..rounds / 100)
        .map(|_| {
            slice(100, || {
                send(&mut left, right_at, 1, PACKET_BYTES);
                receive(&mut left, &mut burst, 1);
            })
        })
        .collect();
    far.join().expect("the far side ran to its end");
    median(cost)
}

/// One core sends as fast as frames come back, the other receives.
fn stream(length: usize) {
    let addresses = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().expect("an address"));
    let (mut left, mut right) =
        RingPort::pair(RingConfig::default(), addresses).expect("memory for two rings");
    let packets = 2_000_000usize;
    let far = std::thread::spawn(move || {
        let mut sent = 0;
        while sent < packets {
            let batch = left.available(Share::Request).min(32).min(packets - sent);
            send(&mut left, addresses[1], batch, length);
            sent += batch;
        }
    });
    let mut burst = Burst::new(128);
    let (mut received, mut cost) = (0, Vec::with_capacity(packets / 1_000));
    while received < packets {
        let (start, before) = (Instant::now(), received);
        while received < packets.min(before + 1_000) {
            received += right.receive(&mut burst);
            for view in burst.views() {
                black_box(right.view(view)[0]);
            }
            right.release_burst(&mut burst);
            right.transmit();
        }
        cost.push(start.elapsed().as_nanos() as f64 / (received - before) as f64);
    }
    far.join().expect("the far side ran to its end");
    println!("ring, stream of {length:>4} B, two cores     {:5.0} ns per packet", median(cost));
}

fn main() {
    empty_polls();
    round_trips();
    two_ways();
    bursts();
    rings();
    [64, 1400].into_iter().for_each(stream);
}
