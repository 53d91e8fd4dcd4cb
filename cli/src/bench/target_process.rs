//! The target application of a bench that starts everything itself.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nic_figures::cores;
use nic_host::{Endpoint, Nic, Wait};
use serde::{Deserialize, Serialize};

use super::exposed::{Exposed, Shape};
use crate::pair::Link;

/// To the target application. Descriptor: its engine's control socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct TargetOrder {
    /// The core to run on.
    pub core: Option<usize>,
    /// What to offer.
    pub shape: Shape,
}

/// From the target application.
#[derive(Debug, Serialize, Deserialize)]
pub enum TargetReply {
    /// It goes on filling its memory.
    Filling,
    /// Its memory can be used; it goes to sleep.
    Ready {
        /// What initiators need.
        tickets: String,
        /// What pages memory, index and entries got.
        pages: [String; 3],
    },
    /// It cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The whole life of the process.
pub fn run() -> Result<()> {
    let link = Link::of_child()?;
    let Some((order, descriptors)) = link.receive::<TargetOrder>(None)? else { return Ok(()) };
    let socket = descriptors.into_iter().next().context("the engine's socket is missing")?;
    if let Err(error) = live(&link, &order, Endpoint::Socket(socket)) {
        // If nobody is there to be told, this process ends like one that was told to.
        let _ = link.send(&TargetReply::Failed { reason: format!("{error:#}") }, &[]);
    }
    Ok(())
}

fn live(link: &Link, order: &TargetOrder, endpoint: Endpoint) -> Result<()> {
    let nic = Nic::connect(endpoint)?;
    let filling = || link.send(&TargetReply::Filling, &[]);
    let exposed = Exposed::make(&nic, &order.shape, Wait::Block, filling)?;
    // Only now: filling may use any core.
    if let Some(core) = order.core {
        cores::pin_current_thread(core)?;
    }
    let (tickets, pages) = (exposed.tickets().to_string(), exposed.pages());
    link.send(&TargetReply::Ready { tickets, pages }, &[])?;
    // Nothing more is said to it: what can be read from the link is its end.
    exposed.serve(Wait::Block, &[link.as_fd()], || true)
}
