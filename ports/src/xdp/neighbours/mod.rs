//! Who is next on the link: the kernel's routes and neighbours, watched by a thread of its own.
//!
//! The kernel goes on doing what it does best: ARP, neighbour discovery, routes, DHCP. A thread
//! listens to its news (rtnetlink) and publishes a table; the port looks at one word per turn to
//! see whether there is a newer one. A neighbour that the kernel does not know is made known to it
//! in the one way that needs no privilege: an empty datagram to it (port 9, "discard").

mod book;
mod facts;
mod netlink;
mod table;
mod watcher;

pub(super) use self::book::Book;
pub(super) use self::facts::{Link, addresses, links};
pub(super) use self::netlink::Asker;
pub(super) use self::watcher::{Watched, WatchedPort, Watcher};
