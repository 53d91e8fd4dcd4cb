//! What a port needs to know to address its frames, as one value.

use std::net::IpAddr;

use hashbrown::HashMap;

use crate::MacAddress;

/// A way to a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) destination: IpAddr,
    pub(super) prefix_bits: u8,
    pub(super) metric: u32,
    /// `None`: those addresses are on the link.
    pub(super) gateway: Option<IpAddr>,
}

/// The state of the network as seen from one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Table {
    /// The device's own Ethernet address; `None` once there is no such device any more.
    pub(in super::super) source: Option<MacAddress>,
    /// The longest IP packet in bytes.
    pub(in super::super) mtu: usize,
    /// The longest prefix first, then the smallest metric.
    pub(super) routes: Vec<Route>,
    pub(super) neighbours: HashMap<IpAddr, MacAddress>,
}

impl Table {
    /// Whom to send to, so that it reaches `to`. `None`: no route leads there through the device.
    pub(super) fn next_hop(&self, to: IpAddr) -> Option<IpAddr> {
        let route = self.routes.iter().find(|route| route.contains(to))?;
        Some(route.gateway.unwrap_or(to))
    }

    /// A neighbour's Ethernet address.
    pub(super) fn mac(&self, neighbour: IpAddr) -> Option<MacAddress> {
        self.neighbours.get(&neighbour).copied()
    }
}

impl Route {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.destination, address) {
            (IpAddr::V4(destination), IpAddr::V4(address)) => {
                let differing = destination.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.prefix_bits.into()
            }
            (IpAddr::V6(destination), IpAddr::V6(address)) => {
                let differing = destination.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.prefix_bits.into()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, prefix_bits: u8, gateway: Option<&str>) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            prefix_bits,
            metric: 0,
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        }
    }

    #[test]
    fn the_first_route_that_contains_an_address_wins() {
        let table = Table {
            source: Some(MacAddress([2; 6])),
            mtu: 1500,
            routes: vec![
                route("10.1.0.0", 16, None),
                route("fd00:1::", 32, None),
                route("10.0.0.0", 8, Some("10.1.0.9")),
                route("0.0.0.0", 0, Some("10.1.0.1")),
            ],
            neighbours: HashMap::from([("10.1.0.1".parse().unwrap(), MacAddress([4; 6]))]),
        };
        for (to, hop) in [
            ("10.1.255.255", Some("10.1.255.255")),
            ("10.2.0.0", Some("10.1.0.9")),
            ("11.0.0.1", Some("10.1.0.1")),
            ("fd00:1:ffff::1", Some("fd00:1:ffff::1")),
            ("fd00:2::1", None),
        ] {
            let expected = hop.map(|hop| hop.parse().unwrap());
            assert_eq!(table.next_hop(to.parse().unwrap()), expected, "{to}");
        }
        assert_eq!(table.mac("10.1.0.1".parse().unwrap()), Some(MacAddress([4; 6])));
        assert_eq!(table.mac("10.1.0.2".parse().unwrap()), None);
    }
}
