//! The network as tests hold it.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use nic_wire::Time;

use super::state::State;
use super::{LinkConfig, SimConfig, SimCounters, SimError, SimPacket, SimPort, Verdict};

/// A simulated network. Clones are the same network; all of it belongs to one thread.
#[derive(Clone)]
pub struct SimNetwork {
    state: Rc<RefCell<State>>,
}

impl SimNetwork {
    /// A network without ports, its clock at zero.
    pub fn new(seed: u64, config: SimConfig) -> Self {
        SimNetwork { state: Rc::new(RefCell::new(State::new(seed, config))) }
    }

    /// A port at this address, which is free again when the port is dropped.
    ///
    /// # Errors
    /// See [`SimError`].
    pub fn port(&self, address: SocketAddr) -> Result<SimPort, SimError> {
        SimPort::attach(&self.state, address)
    }

    /// The virtual clock.
    pub fn now(&self) -> Time {
        self.state.borrow().now
    }

    /// When the next packet arrives (or the next frame is given back), if any is under way.
    pub fn next_event(&self) -> Option<Time> {
        self.state.borrow().next_event()
    }

    /// Moves the clock to `time`, and packets that arrive until then to their ports. A time that
    /// is past does nothing.
    pub fn advance_to(&self, time: Time) {
        self.state.borrow_mut().advance_to(time);
    }

    /// Changes one direction of a link, for packets sent from now on.
    pub fn set_link(&self, from: IpAddr, to: IpAddr, config: LinkConfig) {
        self.state.borrow_mut().set_link(from, to, config);
    }

    /// Cuts one direction: what is on it or comes onto it is lost.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        self.state.borrow_mut().set_cut(from, to, true);
    }

    /// Cuts both directions between two hosts.
    pub fn partition(&self, left: IpAddr, right: IpAddr) {
        self.cut(left, right);
        self.cut(right, left);
    }

    /// Mends both directions between two hosts.
    pub fn heal(&self, left: IpAddr, right: IpAddr) {
        let mut state = self.state.borrow_mut();
        state.set_cut(left, right, false);
        state.set_cut(right, left, false);
    }

    /// Stops a host: its ports neither receive nor send, packets to it wait.
    pub fn pause(&self, host: IpAddr) {
        self.state.borrow_mut().set_paused(host, true);
    }

    /// Lets a host go on.
    pub fn resume(&self, host: IpAddr) {
        self.state.borrow_mut().set_paused(host, false);
    }

    /// Lets `script` judge every packet from now on. It must not call the network.
    pub fn set_script(&self, script: impl FnMut(&SimPacket<'_>) -> Verdict + 'static) {
        self.state.borrow_mut().script = Some(Box::new(script));
    }

    /// Leaves packets to chance again.
    pub fn clear_script(&self) {
        self.state.borrow_mut().script = None;
    }

    /// What became of the packets so far.
    pub fn counters(&self) -> SimCounters {
        self.state.borrow().counters
    }

    /// How many packets are under way or wait at a port.
    pub fn packets_inside(&self) -> usize {
        self.state.borrow().store.len()
    }
}
