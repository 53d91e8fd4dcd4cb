//! The target: an application that drives its own engine beside what it has in memory, and answers
//! calls.

use anyhow::Result;
use nic_figures::cores;
use nic_host::{Access, Nic, Pages, Ticket, Wait};
use serde::{Deserialize, Serialize};

use super::procedures::services;
use super::store::Store;

/// Calls that may wait, and the longest request or answer in bytes.
const CALLS: u32 = 256;
const MESSAGE_BYTES: u32 = 1280;

/// What the target says when it is ready.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) store: String,
    pub(super) chains: String,
    /// Which pages the store lies on.
    pub(super) pages: String,
}

impl Ready {
    pub(super) fn tickets(&self) -> Result<[Ticket; 2]> {
        Ok([self.store.parse()?, self.chains.parse()?])
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
    let rights = Access::READ.and(Access::WRITE).and(Access::ATOMIC).and(Access::CALL);
    let exports = (memory.export(rights)?, chains.export(Access::READ)?);
    let session = nic.session().receive_buffers(CALLS, MESSAGE_BYTES).wait(Wait::Spin).open()?;
    let (own, own_chains) = (memory.memory(), chains.memory());
    let mut services = services(store, &own, &own_chains)?;
    services.open(&session)?;
    ready(serde_json::to_string(&Ready {
        store: exports.0.ticket().to_string(),
        chains: exports.1.ticket().to_string(),
        pages: memory.page_kind().to_string(),
    })?)?;
    loop {
        services.answer(&session)?;
    }
}
