//! Packets of a flow leave: new ones, those sent again, and acks on their own.

use nic_wire::Time;
use nic_wire::packet::{HEADER_BYTES, PacketFlags, PacketHeader, PacketKind};

use super::Flow;
use crate::congestion::CongestionControl;
use crate::frames::{FrameId, Frames};
use crate::protection::Protection;

impl<C: CongestionControl> Flow<C> {
    /// Whether a packet of `bytes`, header included, may leave now: the flow is open, and the
    /// congestion window, the peer's window and the reach of its acks allow it. Lost packets
    /// should go first ([`Flow::retransmit`]).
    #[inline]
    pub fn may_send(&self, bytes: usize) -> bool {
        self.is_open()
            && bytes <= usize::from(self.packet_bytes)
            && self.sender.may_send(bytes as u32)
    }

    /// Sends a packet: `frame` holds op frames from byte 64 to `length`. Fills in the header,
    /// seals it and takes a reference on the frame until the peer has acknowledged it. The caller
    /// then submits the frame to the port, and gives up its own reference when it likes. Returns
    /// the packet's number.
    ///
    /// # Panics
    /// If [`Flow::may_send`] does not allow a packet at all, or `length` is no packet's.
    #[inline]
    pub fn send(
        &mut self,
        now: Time,
        frame: FrameId,
        length: usize,
        frames: &mut impl Frames,
        protection: &mut impl Protection,
    ) -> u64 {
        assert!(self.is_open(), "a packet can only be sent on an open flow");
        let allowed = HEADER_BYTES..=usize::from(self.packet_bytes);
        assert!(allowed.contains(&length), "a packet of {length} bytes; allowed are {allowed:?}");
        if self.quiet {
            // A new reply is given its own chance to arrive.
            self.quiet = false;
            self.sender.start_afresh(now);
        }
        let number = self.sender.next();
        self.sender.record(now, frame, length as u16);
        frames.retain(frame);
        self.counters.data_sent += 1;
        self.counters.data_bytes_sent += length as u64;
        let header = self.compose(now, PacketFlags::NUMBERED, number, 0);
        let packet = &mut frames.bytes_mut(frame)[..length];
        header.write(packet);
        protection.seal(packet);
        number
    }

    /// Whether [`Flow::retransmit`] may have something to send.
    #[inline]
    pub fn wants_to_repeat(&self) -> bool {
        self.sender.wants_to_repeat()
    }

    /// The next packet to be sent again, if any: lost ones as the congestion window allows, or a
    /// probe. Its header is written anew and sealed; the caller submits frame and length to the
    /// port. Frames that the port still holds are passed over.
    pub fn retransmit(
        &mut self,
        now: Time,
        frames: &mut impl Frames,
        protection: &mut impl Protection,
    ) -> Option<(FrameId, usize)> {
        if !self.is_open() || !self.sender.wants_to_repeat() {
            return None;
        }
        let again = self.sender.next_again(now, frames, &mut self.counters)?;
        let mut flags = PacketFlags::NUMBERED;
        flags.set(PacketFlags::ACK_NOW, again.wants_ack);
        let age = now.since(again.sent.first_sent).as_us();
        let age_us = u32::try_from(age).unwrap_or(u32::MAX);
        let header = self.compose(now, flags, again.number, age_us);
        let length = usize::from(again.sent.length);
        let packet = &mut frames.bytes_mut(again.sent.frame)[..length];
        header.write(packet);
        protection.seal(packet);
        Some((again.sent.frame, length))
    }

    /// Says that the op layer has no room now for a packet that
    /// [`Handled::Data`](crate::Handled::Data) brought: the peer will send it again. What did arrive
    /// is acknowledged at once, so that the peer does not take this end for dead.
    pub fn decline(&mut self, now: Time) {
        self.receiver.owe_by(now);
    }

    /// Writes an ack that travels on its own into `into` (at least 64 bytes) and returns its
    /// length. It takes no packet number and is not retained.
    ///
    /// # Panics
    /// If `into` is shorter than a packet header.
    pub fn write_ack(
        &mut self,
        now: Time,
        into: &mut [u8],
        protection: &mut impl Protection,
    ) -> usize {
        self.counters.lone_acks_sent += 1;
        self.write_lone(now, PacketFlags::empty(), into, protection)
    }

    /// Writes a packet that asks for an ack at once, and retains nothing: for an initiator whose
    /// ops have waited long for credits, since the ack that brought them may have been lost, or
    /// whose ops have waited long for replies. A peer that does not know the flow answers by
    /// RESET. Where to write and what comes back are as with [`Flow::write_ack`].
    ///
    /// # Panics
    /// If `into` is shorter than a packet header.
    pub fn write_probe(
        &mut self,
        now: Time,
        into: &mut [u8],
        protection: &mut impl Protection,
    ) -> usize {
        self.counters.lone_probes_sent += 1;
        self.write_lone(now, PacketFlags::ACK_NOW, into, protection)
    }

    fn write_lone(
        &mut self,
        now: Time,
        flags: PacketFlags,
        into: &mut [u8],
        protection: &mut impl Protection,
    ) -> usize {
        let header = self.compose(now, flags, 0, 0);
        let packet = &mut into[..HEADER_BYTES];
        header.write(packet);
        protection.seal(packet);
        HEADER_BYTES
    }

    /// A header for a packet to the peer. It carries the newest ack, so no ack is owed then.
    #[inline]
    fn compose(&mut self, now: Time, flags: PacketFlags, number: u64, age_us: u32) -> PacketHeader {
        let mut flags = flags | PacketFlags::ACKS;
        let mut header = PacketHeader::new(PacketKind::Data, self.remote_id);
        if let Some(echo) = self.receiver.echo() {
            flags |= PacketFlags::ECHOES;
            header.echo_time_ns = echo.send_time_ns().into();
            header.dwell_ns = echo.dwell_ns(now).into();
        }
        let later = self.receiver.later();
        header.flags = flags.bits().into();
        header.packet_number = (number as u32).into();
        header.acknowledged = (self.receiver.expected() as u32).into();
        header.selective = [(later as u64).into(), ((later >> 64) as u64).into()];
        header.window_bytes = self.limits.receive_window_bytes.into();
        header.send_time_ns = now.truncated().into();
        header.op_credits = self.granted.0.into();
        header.reply_credits_kib = self.granted.1.into();
        header.age_us = age_us.into();
        self.announced = self.granted;
        self.receiver.settle_debt();
        header
    }
}
