//! Packets arrive.

use core::net::SocketAddr;

use nic_wire::handshake::ResetReason;
use nic_wire::packet::{MalformedPacket, Packet, PacketFlags, PacketHeader, PacketKind};
use nic_wire::{ConnectionId, Time};
use zerocopy::FromBytes;

use super::{Endpoint, Handled};
use crate::congestion::CongestionControl;
use crate::counters::DropReason;
use crate::flow::{Received, Stage};
use crate::frames::Reclaim;
use crate::handshake::{Control, ResetOf};
use crate::protection::Protection;

impl<C: CongestionControl> Endpoint<C> {
    /// Takes in one packet that came from `from`. Frames whose packets it acknowledges are
    /// released.
    #[inline]
    pub fn handle(
        &mut self,
        now: Time,
        from: SocketAddr,
        bytes: &[u8],
        protection: &mut impl Protection,
        frames: &mut impl Reclaim,
    ) -> Handled {
        self.counters.packets_received += 1;
        let from = plain(from);
        match Packet::parse(bytes) {
            Ok(packet) if packet.kind == PacketKind::Data => {
                self.on_data(now, from, packet.header, bytes, protection, frames)
            }
            Ok(packet) => self.on_control(now, from, &packet, bytes, protection),
            Err(MalformedPacket::Version { .. }) => self.on_strange(from, bytes, protection),
            Err(_) => self.drop_packet(DropReason::Malformed),
        }
    }

    #[inline]
    fn on_data(
        &mut self,
        now: Time,
        from: SocketAddr,
        header: &PacketHeader,
        bytes: &[u8],
        protection: &mut impl Protection,
        frames: &mut impl Reclaim,
    ) -> Handled {
        let id = header.connection();
        if id.engine() != self.engine {
            return self.foreign(id.engine());
        }
        let Ok(body) = protection.open(bytes) else {
            return self.drop_packet(DropReason::NotAuthentic);
        };
        let Some((handle, flow)) = self.flows.find(id) else {
            return self.on_unknown(from, header);
        };
        if flow.peer != from {
            return self.drop_packet(DropReason::WrongAddress);
        }
        match flow.stage {
            Stage::Open => {}
            Stage::Connecting(_) => return self.drop_packet(DropReason::StaleHandshake),
            Stage::Ended => return self.on_unknown(from, header),
        }
        let received = flow.receive(now, header, bytes.len(), frames);
        self.touched.push(handle.slot());
        match received {
            Received::Fresh { number, age } => Handled::Data { flow: handle, number, body, age },
            Received::LoneAck | Received::Duplicate => Handled::Ack { flow: handle },
            Received::OutOfWindow => self.drop_packet(DropReason::OutOfWindow),
            Received::ImpossibleAck => self.drop_packet(DropReason::ImpossibleAck),
        }
    }

    /// A packet of a flow that is not, or is no more. Its sender is told, so that it need not
    /// wait for a time-out; one small packet for one packet. Lone acks ask for nothing and get no
    /// answer.
    #[cold]
    fn on_unknown(&mut self, from: SocketAddr, header: &PacketHeader) -> Handled {
        if header.flags().intersects(PacketFlags::NUMBERED | PacketFlags::ACK_NOW) {
            self.answer(Control::Reset(ResetOf {
                to: from,
                connection: ConnectionId::NONE,
                answered: header.connection(),
                reason: ResetReason::UnknownFlow,
            }));
        }
        self.drop_packet(DropReason::UnknownFlow)
    }

    #[cold]
    fn on_control(
        &mut self,
        now: Time,
        from: SocketAddr,
        packet: &Packet<'_>,
        bytes: &[u8],
        protection: &mut impl Protection,
    ) -> Handled {
        let id = packet.header.connection();
        if id != ConnectionId::NONE && id.engine() != self.engine {
            return self.foreign(id.engine());
        }
        let Ok(body) = protection.open(bytes) else {
            return self.drop_packet(DropReason::NotAuthentic);
        };
        let Some(body) = bytes.get(body) else {
            return self.drop_packet(DropReason::Malformed);
        };
        match packet.kind {
            PacketKind::Init => self.on_init(now, from, body),
            PacketKind::Retry => self.on_retry(now, from, id, body),
            PacketKind::Accept => self.on_accept(now, from, id, body),
            PacketKind::Versions => self.on_versions(from, id, body),
            PacketKind::Reset => self.on_reset(from, id, body),
            PacketKind::Data => self.drop_packet(DropReason::Malformed),
        }
    }

    /// A packet of another wire version. Of these only INIT and VERSIONS can be read, in parts.
    #[cold]
    fn on_strange(
        &mut self,
        from: SocketAddr,
        bytes: &[u8],
        protection: &mut impl Protection,
    ) -> Handled {
        let Ok((header, _)) = PacketHeader::ref_from_prefix(bytes) else {
            return self.drop_packet(DropReason::Malformed);
        };
        let id = header.connection();
        if header.kind == PacketKind::Init as u8 {
            self.on_strange_init(from, bytes, protection)
        } else if header.kind == PacketKind::Versions as u8 {
            if id.engine() != self.engine {
                return self.foreign(id.engine());
            }
            self.on_strange_versions(from, id, bytes, protection)
        } else {
            self.drop_packet(DropReason::Version)
        }
    }

    pub(crate) fn drop_packet(&mut self, reason: DropReason) -> Handled {
        self.drops.count(reason);
        Handled::Dropped(reason)
    }

    pub(crate) fn foreign(&mut self, engine: u8) -> Handled {
        self.counters.foreign += 1;
        Handled::Foreign { engine }
    }

    pub(crate) fn control(&mut self) -> Handled {
        self.counters.control_received += 1;
        Handled::Control
    }
}

/// The address without what is not part of a peer's identity (IPv6 flow labels).
#[inline]
pub(crate) fn plain(mut address: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_flowinfo(0);
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv6Addr, SocketAddrV6};

    #[test]
    fn flow_labels_are_no_part_of_an_address() {
        let address =
            |flow, scope| SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 5, flow, scope));
        assert_eq!(plain(address(77, 3)), address(0, 3));
        assert_ne!(plain(address(0, 3)), plain(address(0, 4)));
    }
}
