//! The thread that keeps tables true.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use nic_shm::{WakeReceiver, WakeSender, wait_any};
use rustix::net::SendFlags;
use rustix::net::sockopt::xdp_statistics;

use super::book::{Book, Exchange};
use super::facts::{self, Neighbours};
use super::netlink::{Asker, News, Question};
use super::table::Table;

/// How long a port's question may lie before the watcher sees it. Ports ask without a system call,
/// so somebody has to look; each look costs some microseconds of a control core.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// How often the kernel is bothered with one unknown neighbour. It sends requests of its own, a
/// second apart.
const PROBE_PERIOD: Duration = Duration::from_millis(200);
/// Neighbours remembered as in use, at most.
const IN_USE_MAX: usize = 4096;
/// "Discard": who receives a probe has nothing to do.
const DISCARD_PORT: u16 = 9;

/// What a watcher looks at.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Watched {
    /// The device that carries the frames.
    pub(in super::super) device: u32,
    /// The device that has the address: the same, or the VLAN's.
    pub(in super::super) network: u32,
    pub(in super::super) address: IpAddr,
}

/// What a watcher works with of one port.
#[derive(Debug)]
pub(in super::super) struct WatchedPort {
    /// A socket at the port's address, by which neighbours are probed.
    pub(in super::super) claim: OwnedFd,
    /// The AF_XDP socket, which counts what the kernel drops. It closes with the port.
    pub(in super::super) socket: Weak<OwnedFd>,
}

/// The thread, for as long as somebody holds it.
#[derive(Debug)]
pub(in super::super) struct Watcher {
    stop: Arc<AtomicBool>,
    bell: WakeSender,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts watching, and gives each of `ports` a book.
    pub(in super::super) fn start(
        watched: Watched,
        ports: Vec<WatchedPort>,
    ) -> io::Result<Vec<Book>> {
        // First the ears, then the questions: nothing is missed in between.
        let news = News::open()?;
        let mut rounds = Rounds::begin(watched)?;
        let (bell, awakened) = WakeSender::pair()?;
        let exchanges: Vec<Arc<Exchange>> = ports.iter().map(|_| Book::exchange()).collect();
        let first = rounds.table();
        rounds.published = Some(first.clone());
        rounds.ports = exchanges.iter().map(Arc::downgrade).zip(ports).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("nic-neighbours".to_owned())
            .spawn(move || rounds.run(news, &awakened, &stopped))?;
        let watcher = Arc::new(Watcher { stop, bell, thread: Some(thread) });
        let book = |exchange| Book::new(first.clone(), exchange, Arc::clone(&watcher));
        Ok(exchanges.into_iter().map(book).collect())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic there was printed; here it changes nothing any more.
            let _ = thread.join();
        }
    }
}

/// What the thread knows and does.
struct Rounds {
    watched: Watched,
    asker: Asker,
    ports: Vec<(Weak<Exchange>, WatchedPort)>,
    link: Option<facts::Link>,
    mtu: usize,
    routes: Vec<super::table::Route>,
    neighbours: Neighbours,
    /// Neighbours that ports send to, and when the kernel was last reminded of each.
    in_use: HashMap<IpAddr, Option<Instant>>,
    published: Option<Table>,
}

impl Rounds {
    fn begin(watched: Watched) -> io::Result<Self> {
        let mut rounds = Rounds {
            watched,
            asker: Asker::open()?,
            ports: Vec::new(),
            link: None,
            mtu: 0,
            routes: Vec::new(),
            neighbours: Neighbours::default(),
            in_use: HashMap::new(),
            published: None,
        };
        for question in [Question::Links, Question::Routes, Question::Neighbours] {
            rounds.ask(question)?;
        }
        Ok(rounds)
    }

    fn run(mut self, mut news: News, awakened: &WakeReceiver, stop: &AtomicBool) {
        let mut changed: Vec<Question> = Vec::new();
        while !stop.load(Ordering::Acquire) {
            // A failure to wait would make this loop spin; it has no cause that passes.
            if wait_any(&[news.as_fd(), awakened.as_fd()], Some(LOOK_PERIOD)).is_err() {
                return tracing::error!("neighbours are not watched any more: poll(2) fails");
            }
            news.hear(|question| {
                if !changed.contains(&question) {
                    changed.push(question);
                }
            });
            // What cannot be learnt now (no memory) is tried again with the next round.
            changed.retain(|question| self.ask(*question).is_err());
            self.publish();
            self.remind();
            self.count();
        }
    }

    /// Learns anew what may have changed.
    fn ask(&mut self, question: Question) -> io::Result<()> {
        let Watched { device, network, address } = self.watched;
        match question {
            Question::Links => {
                let links = facts::links(&mut self.asker)?;
                let find = |index| links.iter().find(|link| link.index == index).cloned();
                let (link, network) = (find(device), find(network));
                self.mtu = network.map_or(0, |network| network.mtu);
                self.mtu = self.mtu.min(link.as_ref().map_or(0, |link| link.mtu));
                self.link = link;
            }
            // The kernel tells of routes and neighbours that go with an address.
            Question::Addresses => {}
            Question::Routes => {
                self.routes = facts::routes(&mut self.asker, network, address.is_ipv4())?;
            }
            Question::Neighbours => {
                self.neighbours = facts::neighbours(&mut self.asker, network)?;
            }
        }
        Ok(())
    }

    fn table(&self) -> Table {
        Table {
            source: self.link.as_ref().and_then(|link| link.mac),
            mtu: self.mtu,
            routes: self.routes.clone(),
            neighbours: self.neighbours.known.clone(),
        }
    }

    /// Hands a table to all ports if it differs from the last.
    fn publish(&mut self) {
        let is_same = self.published.as_ref().is_some_and(|last| {
            last.source == self.link.as_ref().and_then(|link| link.mac)
                && last.mtu == self.mtu
                && last.routes == self.routes
                && last.neighbours == self.neighbours.known
        });
        if is_same {
            return;
        }
        let table = self.table();
        for exchange in self.ports.iter().filter_map(|(exchange, _)| exchange.upgrade()) {
            exchange.publish(table.clone());
        }
        self.published = Some(table);
    }

    /// Has the kernel find out about neighbours that are unknown, and confirm those that are in
    /// use: it does not see the ports' packets and would forget them.
    fn remind(&mut self) {
        for (exchange, _) in &self.ports {
            let Some(exchange) = exchange.upgrade() else { continue };
            while let Some(hop) = exchange.asked() {
                if self.in_use.len() >= IN_USE_MAX {
                    self.in_use.clear();
                }
                let last = self.in_use.entry(hop).or_default();
                if is_due(*last) && !self.neighbours.known.contains_key(&hop) {
                    *last = Some(Instant::now());
                    probe(&self.ports, self.watched.network, hop);
                }
            }
        }
        for hop in &self.neighbours.stale {
            let Some(last) = self.in_use.get_mut(hop) else { continue };
            if is_due(*last) {
                *last = Some(Instant::now());
                probe(&self.ports, self.watched.network, *hop);
            }
        }
    }
}

impl Rounds {
    /// Reads for each port what only a system call tells.
    fn count(&self) {
        for (exchange, port) in &self.ports {
            let (Some(exchange), Some(socket)) = (exchange.upgrade(), port.socket.upgrade()) else {
                continue;
            };
            if let Ok(statistics) = xdp_statistics(&*socket) {
                let full = statistics.rx_ring_full.unwrap_or_default();
                exchange.set_overruns(statistics.rx_dropped + full);
            }
        }
    }
}

fn is_due(last: Option<Instant>) -> bool {
    last.is_none_or(|last| last.elapsed() >= PROBE_PERIOD)
}

/// Has the kernel send something to a neighbour, for which it must find it.
fn probe(ports: &[(Weak<Exchange>, WatchedPort)], network: u32, hop: IpAddr) {
    let Some((_, port)) = ports.first() else { return };
    let to = match hop {
        IpAddr::V4(hop) => SocketAddr::from((hop, DISCARD_PORT)),
        // Addresses of the link alone need to be told which link.
        IpAddr::V6(hop) => SocketAddrV6::new(hop, DISCARD_PORT, 0, network).into(),
    };
    // Whether it leaves does not matter, and if it cannot, the port asks again.
    let _ = rustix::net::sendto(&port.claim, &[], SendFlags::DONTWAIT, &to);
}
