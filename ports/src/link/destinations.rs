//! Headers of the destinations that a port sends to, kept until the link changes.

use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;

use super::{Endpoint, Header, MacAddress};

/// Destinations kept at most: far more than an engine has flows.
const DESTINATIONS_MAX: usize = 4096;

/// Who knows the next hop on a link.
pub(crate) trait Resolve {
    /// Changes whenever an answer may have changed.
    fn generation(&self) -> u64;

    /// The Ethernet address through which `to` is reached. `None`: not known yet; it is found out
    /// meanwhile, and the generation changes when it is.
    fn resolve(&mut self, to: IpAddr) -> Option<MacAddress>;
}

/// A destination's headers by its address. Whoever is not known is asked for again each time.
#[derive(Debug)]
pub(crate) struct Destinations {
    endpoint: Endpoint,
    known: HashMap<SocketAddr, Header>,
    /// The one that was asked for last: most runs of packets have one destination.
    last: Option<(SocketAddr, Header)>,
    generation: u64,
}

impl Destinations {
    /// Of an endpoint; memory for all is taken now.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let known = HashMap::with_capacity(DESTINATIONS_MAX);
        Destinations { endpoint, known, last: None, generation: 0 }
    }

    /// Sends from another Ethernet address from now on.
    pub(crate) fn move_to(&mut self, mac: MacAddress) {
        if self.endpoint.mac != mac {
            self.endpoint.mac = mac;
            self.forget(self.generation);
        }
    }

    /// The headers for a destination; `None` while its next hop is not known.
    #[inline]
    pub(crate) fn header(
        &mut self,
        to: SocketAddr,
        resolver: &mut impl Resolve,
    ) -> Option<&Header> {
        if resolver.generation() != self.generation {
            self.forget(resolver.generation());
        }
        if self.last.as_ref().is_none_or(|(last, _)| *last != to) {
            self.last = Some((to, self.look_up(to, resolver)?));
        }
        self.last.as_ref().map(|(_, header)| header)
    }

    #[inline(never)]
    fn look_up(&mut self, to: SocketAddr, resolver: &mut impl Resolve) -> Option<Header> {
        if let Some(header) = self.known.get(&to) {
            return Some(*header);
        }
        let header = Header::new(&self.endpoint, to, resolver.resolve(to.ip())?)?;
        if self.known.len() == DESTINATIONS_MAX {
            self.known.clear();
        }
        self.known.insert(to, header);
        Some(header)
    }

    #[cold]
    fn forget(&mut self, generation: u64) {
        self.generation = generation;
        self.known.clear();
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Book {
        generation: u64,
        answers: Vec<(IpAddr, MacAddress)>,
        asked: usize,
    }

    impl Resolve for Book {
        fn generation(&self) -> u64 {
            self.generation
        }

        fn resolve(&mut self, to: IpAddr) -> Option<MacAddress> {
            self.asked += 1;
            self.answers.iter().find(|(ip, _)| *ip == to).map(|(_, mac)| *mac)
        }
    }

    #[test]
    fn a_destination_is_asked_for_until_it_is_known_and_again_after_a_change() {
        let [one, two]: [SocketAddr; 2] =
            ["10.0.0.1:1", "10.0.0.2:1"].map(|text| text.parse().unwrap());
        let address = "10.0.0.9:9".parse().unwrap();
        let endpoint = Endpoint { mac: MacAddress([2; 6]), address, vlan: None };
        let mut destinations = Destinations::new(endpoint);
        let mut book = Book { generation: 1, answers: Vec::new(), asked: 0 };
        assert!(destinations.header(one, &mut book).is_none());
        assert!(destinations.header(one, &mut book).is_none());
        book.answers = vec![(one.ip(), MacAddress([4; 6])), (two.ip(), MacAddress([6; 6]))];
        for _ in 0..3 {
            assert!(destinations.header(one, &mut book).is_some());
            assert!(destinations.header(two, &mut book).is_some());
        }
        assert_eq!(book.asked, 4);
        book.generation = 2;
        assert!(destinations.header(one, &mut book).is_some());
        assert_eq!(book.asked, 5);
    }
}
