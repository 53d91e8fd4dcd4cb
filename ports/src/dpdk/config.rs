//! What a DPDK device is opened with.

use std::net::{IpAddr, SocketAddr};

use super::DpdkError;
use crate::{MacAddress, PoolConfig};

/// What a DPDK device is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkConfig {
    /// A PCI address (`0000:03:00.0`), the name of a device that EAL's arguments made
    /// (`net_vhost0`), or a device to be made, with its arguments
    /// (`net_memif0,role=client,id=0`).
    pub device: String,
    /// The device's IP address, and the UDP port of its first queue; each further queue has the
    /// next one.
    pub address: SocketAddr,
    /// How many leading bits of the address are those of the link's network.
    pub prefix: u8,
    /// Who is asked to carry packets to other networks. Without one they cannot be reached.
    pub gateway: Option<IpAddr>,
    /// The VLAN whose tag all packets carry.
    pub vlan: Option<u16>,
    /// Neighbours that need not be asked for.
    pub neighbours: Vec<(IpAddr, MacAddress)>,
    /// The transmit frames of each queue.
    pub pool: PoolConfig,
    /// The longest IP packet in bytes; `None`: what the device is set to.
    pub mtu: Option<u16>,
    /// Entries of each receive queue.
    pub receive_descriptors: u16,
    /// Entries of each transmit queue.
    pub transmit_descriptors: u16,
}

impl DpdkConfig {
    /// The usual: 4096 frames and 512 entries a queue, no gateway, no VLAN, the device's own MTU.
    pub fn new(device: &str, address: SocketAddr, prefix: u8) -> Self {
        DpdkConfig {
            device: device.to_owned(),
            address,
            prefix,
            gateway: None,
            vlan: None,
            neighbours: Vec::new(),
            pool: PoolConfig::default(),
            mtu: None,
            receive_descriptors: 512,
            transmit_descriptors: 512,
        }
    }

    /// Everything about the addresses that can be wrong whatever the device.
    pub(super) fn check(&self, engines: u16) -> Result<(), DpdkError> {
        let address = self.address.ip();
        let last = u32::from(self.address.port()) + u32::from(engines.max(1)) - 1;
        let is_one = !address.is_unspecified() && !address.is_multicast();
        if engines == 0 || self.address.port() == 0 || last > u32::from(u16::MAX) || !is_one {
            return Err(DpdkError::Address { address: self.address, engines });
        }
        let expected_max = if address.is_ipv4() { 32 } else { 128 };
        if self.prefix > expected_max {
            return Err(DpdkError::Prefix { address, found: self.prefix, expected_max });
        }
        if let Some(found) = self.vlan.filter(|vlan| !(1..=4094).contains(vlan)) {
            return Err(DpdkError::Vlan { found });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |address: &str, prefix, engines, vlan| {
            let mut config = DpdkConfig::new("net_null0", address.parse().unwrap(), prefix);
            config.vlan = vlan;
            config.check(engines)
        };
        assert!(check("10.0.0.1:65534", 32, 2, Some(4094)).is_ok());
        assert!(check("[fd00::1]:1", 128, 1, None).is_ok());
        for (address, engines) in
            [("10.0.0.1:65534", 3), ("0.0.0.0:1", 1), ("[ff02::1]:1", 1), ("10.0.0.1:0", 1)]
        {
            let refused = check(address, 8, engines, None);
            assert!(matches!(refused, Err(DpdkError::Address { .. })), "{address}");
        }
        assert!(matches!(check("10.0.0.1:1", 33, 1, None), Err(DpdkError::Prefix { .. })));
        assert!(matches!(check("10.0.0.1:1", 8, 1, Some(0)), Err(DpdkError::Vlan { .. })));
    }
}
