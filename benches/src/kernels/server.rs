//! The target: an application that drives its own engine beside what it has in memory, and answers
//! calls.

use anyhow::Result;
use nic_figures::cores;
use nic_host::{Access, Nic, Pages, Ticket, Wait};
use serde::{Deserialize, Serialize};

use super::application;
use super::procedures::services;
use super::store::Store;
use super::streams::Places;

/// Calls that may wait, and the longest request or answer in bytes.
const CALLS: u32 = 256;
const MESSAGE_BYTES: u32 = 1280;

/// What the target says when it is ready.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) store: String,
    pub(super) chains: String,
    pub(super) streams: String,
    /// Which pages the store lies on.
    pub(super) pages: String,
}

impl Ready {
    pub(super) fn tickets(&self) -> Result<[Ticket; 3]> {
        Ok([self.store.parse()?, self.chains.parse()?, self.streams.parse()?])
    }
}

/// Fills the memory, says that it is ready, and serves for ever.
pub(crate) fn serve(
    nic: &Nic,
    core: usize,
    is_small: bool,
    ready: impl FnOnce(String) -> Result<()>,
) -> Result<()> {
    cores::pin_current_thread(core)?;
    let store = Store::new(is_small);
    let region = |bytes| nic.region(bytes).pages(Pages::TryHuge).create();
    let (memory, chains) = (region(store.bytes())?, region(store.chains_bytes())?);
    store.write(&memory.memory(), (chains.number(), chains.memory()))?;
    let places = Places::new(is_small)?;
    let streams = region(places.bytes())?;
    let rights = Access::READ.and(Access::WRITE).and(Access::ATOMIC).and(Access::CALL);
    let exports =
        [memory.export(rights.clone())?, chains.export(Access::READ)?, streams.export(rights)?];
    let session = nic.session().receive_buffers(CALLS, MESSAGE_BYTES).wait(Wait::Spin).open()?;
    let (own, own_chains, own_streams) = (memory.memory(), chains.memory(), streams.memory());
    let mut services = services(store, &own, &own_chains)?;
    application::add(&mut services, places, &own_streams)?;
    services.open(&session)?;
    let [store, chains, streams] = exports.each_ref().map(|export| export.ticket().to_string());
    ready(serde_json::to_string(&Ready {
        store,
        chains,
        streams,
        pages: memory.page_kind().to_string(),
    })?)?;
    loop {
        services.answer(&session)?;
    }
}
