//! A port that writes down the packets that pass, for tshark and the like.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use nic_transport::{FrameId, Frames};
use nic_wire::Time;

use crate::forward::{forward_frames, forward_port};
use crate::{Burst, Port, Received, Share};

/// Says that times are in nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Records begin with an IP header of either version.
const LINKTYPE_RAW: u32 = 101;
/// The longest record, in bytes; ours are far shorter.
const SNAPSHOT_BYTES: u32 = 65_535;
/// Bytes of a record's own header.
const RECORD_BYTES: usize = 16;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
/// The protocol number of UDP.
const UDP: u8 = 17;
/// Time to live, or hop limit, of the headers that are made up.
const HOPS: u8 = 64;

/// Why a capture ended. The port goes on without it.
#[derive(Debug, thiserror::Error)]
#[error("writing the capture failed ({0}); free some space and start a new one")]
pub struct CaptureError(#[from] io::Error);

/// A port around a port that writes every packet to a capture file: on submission and on
/// reception, in IP and UDP headers made up from the addresses. For looking at things: each
/// packet is written out.
pub struct Pcap<P, W, C> {
    inner: P,
    /// `None` after an error.
    writer: Option<W>,
    error: Option<CaptureError>,
    clock: C,
}

impl<P: Port, W: Write, C: FnMut() -> Time> Pcap<P, W, C> {
    /// Captures the packets of `inner` to `writer` (best a buffered one), with times by `clock`.
    ///
    /// # Errors
    /// The file's header could not be written.
    pub fn new(inner: P, mut writer: W, clock: C) -> Result<Self, CaptureError> {
        let mut header = [0; 24];
        header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..6].copy_from_slice(&2u16.to_le_bytes());
        header[6..8].copy_from_slice(&4u16.to_le_bytes());
        header[16..20].copy_from_slice(&SNAPSHOT_BYTES.to_le_bytes());
        header[20..24].copy_from_slice(&LINKTYPE_RAW.to_le_bytes());
        writer.write_all(&header)?;
        Ok(Pcap { inner, writer: Some(writer), error: None, clock })
    }

    /// Why the capture ended, if it did.
    pub fn error(&self) -> Option<&CaptureError> {
        self.error.as_ref()
    }

    /// Ends the capture and gives the port back.
    ///
    /// # Errors
    /// The capture ended early, or its rest could not be written.
    pub fn finish(mut self) -> Result<P, CaptureError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if let Some(writer) = &mut self.writer {
            writer.flush()?;
        }
        Ok(self.inner)
    }
}

/// Writes one record; on an error the capture ends.
fn record<W: Write>(
    writer: &mut Option<W>,
    error: &mut Option<CaptureError>,
    now: Time,
    (from, to): (SocketAddr, SocketAddr),
    payload: &[u8],
) {
    let Some(open) = writer else { return };
    let mut headers = [0; RECORD_BYTES + IPV6_BYTES + UDP_BYTES];
    let length = describe(&mut headers, now, from, to, payload);
    let written = open.write_all(&headers[..length]).and_then(|()| open.write_all(payload));
    if let Err(failure) = written {
        *error = Some(failure.into());
        *writer = None;
    }
}

/// Fills in the headers of a record and returns their length. Addresses of different families,
/// which no packet has, give a record with an empty IP header.
fn describe(
    headers: &mut [u8],
    now: Time,
    from: SocketAddr,
    to: SocketAddr,
    payload: &[u8],
) -> usize {
    let udp_length = UDP_BYTES + payload.len();
    let ip_bytes = if from.is_ipv4() { IPV4_BYTES } else { IPV6_BYTES };
    let (record, rest) = headers.split_at_mut(RECORD_BYTES);
    let captured = (ip_bytes + udp_length) as u32;
    let (seconds, rest_ns) = (now.as_ns() / 1_000_000_000, now.as_ns() % 1_000_000_000);
    record[0..4].copy_from_slice(&(seconds as u32).to_le_bytes());
    record[4..8].copy_from_slice(&(rest_ns as u32).to_le_bytes());
    record[8..12].copy_from_slice(&captured.to_le_bytes());
    record[12..16].copy_from_slice(&captured.to_le_bytes());

    let (ip, udp) = rest.split_at_mut(ip_bytes);
    // The pseudo header that the UDP checksum covers: addresses, length, protocol.
    let mut sum = Checksum::default();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&(captured as u16).to_be_bytes());
            ip[6] = 0x40; // do not fragment
            ip[8] = HOPS;
            ip[9] = UDP;
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..20].copy_from_slice(&destination.octets());
            sum.add(&ip[12..20]);
            let mut header_sum = Checksum::default();
            header_sum.add(ip);
            ip[10..12].copy_from_slice(&header_sum.finish().to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&(udp_length as u16).to_be_bytes());
            ip[6] = UDP;
            ip[7] = HOPS;
            ip[8..24].copy_from_slice(&source.octets());
            ip[24..40].copy_from_slice(&destination.octets());
            sum.add(&ip[8..40]);
        }
        _ => {}
    }
    udp[0..2].copy_from_slice(&from.port().to_be_bytes());
    udp[2..4].copy_from_slice(&to.port().to_be_bytes());
    udp[4..6].copy_from_slice(&(udp_length as u16).to_be_bytes());
    sum.add(&(udp_length as u16).to_be_bytes());
    sum.add(&[0, UDP]);
    sum.add(&udp[..6]);
    sum.add(payload);
    // Zero would mean that there is none (RFC 768).
    let check = match sum.finish() {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&check.to_be_bytes());
    RECORD_BYTES + ip_bytes + UDP_BYTES
}

/// The Internet checksum (RFC 1071), over pieces of even length but for the last.
#[derive(Default)]
struct Checksum {
    sum: u64,
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            self.sum += u64::from(u16::from_be_bytes([pair[0], low]));
        }
    }

    fn finish(self) -> u16 {
        let mut sum = self.sum;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

impl<P: Port, W: Write, C: FnMut() -> Time> Frames for Pcap<P, W, C> {
    forward_frames!(inner);
}

impl<P: Port, W: Write, C: FnMut() -> Time> Port for Pcap<P, W, C> {
    forward_port!();

    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        self.inner.allocate(share)
    }

    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        let refused_before = self.inner.counters().transmit_refused;
        self.inner.submit(frame, length, to);
        if self.inner.counters().transmit_refused == refused_before {
            let path = (self.inner.local_address(), to);
            let payload = &self.inner.bytes(frame)[..length];
            record(&mut self.writer, &mut self.error, (self.clock)(), path, payload);
        }
    }

    fn transmit(&mut self) {
        self.inner.transmit();
    }

    fn receive(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        let received = self.inner.receive(burst);
        for view in &burst.views()[before..] {
            let path = (view.from, self.inner.local_address());
            let payload = self.inner.view(view);
            record(&mut self.writer, &mut self.error, (self.clock)(), path, payload);
        }
        received
    }

    fn view<'a>(&'a self, received: &Received) -> &'a [u8] {
        self.inner.view(received)
    }

    fn release_burst(&mut self, burst: &mut Burst) {
        self.inner.release_burst(burst);
    }

    fn prepare_wait(&mut self) -> bool {
        self.inner.prepare_wait()
    }
}

#[cfg(test)]
mod tests;
