//! The ways that a session has open to regions of other hosts, by the names that its commands use.

use std::collections::VecDeque;
use std::net::SocketAddr;

use nic_wire::Rkey;
use nic_wire::session::REMOTES_MAX;

/// What is added to a name when it is given back: its place stays, and the count of ways that have
/// stood there goes up.
const NEXT: u16 = REMOTES_MAX as u16;
/// The bits of a name that say which place.
const PLACE: u16 = NEXT - 1;

const _: () = assert!(REMOTES_MAX.is_power_of_two() && REMOTES_MAX < 1 << 16);

/// A way to a region of another host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    /// The target engine's address, to open the flow anew when it was lost.
    pub(super) engine: SocketAddr,
    /// The flow in use.
    pub(super) link: u16,
    /// Which of the flows that had that place.
    pub(super) epoch: u32,
    /// The right to the region.
    pub(super) rkey: Rkey,
}

struct Place {
    /// The name of the way that stands here, or of the next that will.
    name: u16,
    remote: Option<Remote>,
}

/// At most [`REMOTES_MAX`] ways.
pub(super) struct Remotes {
    places: Vec<Place>,
    /// Places given back; the one that has rested longest is taken first.
    free: VecDeque<u16>,
}

impl Remotes {
    pub(super) fn new() -> Self {
        Remotes { places: Vec::with_capacity(16), free: VecDeque::new() }
    }

    /// Keeps a way and names it; `None` if there are as many as can be.
    pub(super) fn open(&mut self, remote: Remote) -> Option<u16> {
        let index = match self.free.pop_front() {
            Some(index) => usize::from(index),
            None if self.places.len() == REMOTES_MAX => return None,
            None => {
                self.places.push(Place { name: self.places.len() as u16, remote: None });
                self.places.len() - 1
            }
        };
        let place = &mut self.places[index];
        place.remote = Some(remote);
        Some(place.name)
    }

    /// The way of a name; `None` if it was given back, or nobody was ever called so.
    #[inline]
    pub(super) fn get(&self, name: u16) -> Option<&Remote> {
        let place = self.places.get(usize::from(name & PLACE))?;
        place.remote.as_ref().filter(|_| place.name == name)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, name: u16) -> Option<&mut Remote> {
        let place = self.places.get_mut(usize::from(name & PLACE))?;
        place.remote.as_mut().filter(|_| place.name == name)
    }

    /// Gives a way back. False if there is none of that name.
    pub(super) fn close(&mut self, name: u16) -> bool {
        if self.get(name).is_none() {
            return false;
        }
        let place = &mut self.places[usize::from(name & PLACE)];
        place.remote = None;
        place.name = name.wrapping_add(NEXT);
        self.free.push_back(name & PLACE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(export: u16) -> Remote {
        let engine = SocketAddr::from(([10, 0, 0, 1], 4791));
        Remote { engine, link: 0, epoch: 0, rkey: Rkey::new(export, 0, 0) }
    }

    #[test]
    fn names_that_were_given_back_name_nothing() {
        let mut remotes = Remotes::new();
        let first = remotes.open(remote(1)).unwrap();
        let other = remotes.open(remote(2)).unwrap();
        assert!(remotes.close(first));
        assert!(remotes.get(first).is_none() && remotes.get_mut(first).is_none());
        assert!(!remotes.close(first), "it is given back once");
        let second = remotes.open(remote(3)).unwrap();
        assert_ne!(first, second);
        assert!(remotes.get(first).is_none() && !remotes.close(first));
        assert_eq!(remotes.get(second).unwrap().rkey, Rkey::new(3, 0, 0));
        assert_eq!(remotes.get(other).unwrap().rkey, Rkey::new(2, 0, 0));
        // The name that the place will have next is not yet anybody's.
        assert!(remotes.get(second.wrapping_add(NEXT)).is_none());
    }

    #[test]
    fn there_are_so_many_and_each_can_be_given_back() {
        let mut remotes = Remotes::new();
        for round in 0..3 * 64 {
            let names: Vec<u16> =
                (0..REMOTES_MAX).map(|_| remotes.open(remote(round)).unwrap()).collect();
            assert!(remotes.open(remote(round)).is_none());
            assert!(names.iter().all(|name| remotes.close(*name)));
        }
        assert_eq!(remotes.places.len(), REMOTES_MAX);
    }
}
