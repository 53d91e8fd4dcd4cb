//! Tests that decide the fate of single packets.

use std::net::SocketAddr;

use nic_wire::{Span, Time};

/// A packet that is about to enter a link.
#[derive(Clone, Copy, Debug)]
pub struct SimPacket<'a> {
    /// How many packets were sent in this network before it.
    pub number: u64,
    /// When.
    pub now: Time,
    /// Who sends it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The link's own chances decide.
    #[default]
    Chance,
    /// It arrives unharmed.
    Deliver,
    /// It is lost.
    Drop,
    /// It arrives twice.
    Duplicate,
    /// It arrives so much later; others overtake it.
    Delay(Span),
    /// It arrives with one bit changed.
    Corrupt,
}

/// A test's own judge of packets.
pub(super) type Script = Box<dyn FnMut(&SimPacket<'_>) -> Verdict>;
