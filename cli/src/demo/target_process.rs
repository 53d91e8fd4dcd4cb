//! The application that owns the table: fills it, exports it, goes to sleep.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nic_figures::cores;
use nic_host::{
    Access, Answer, BucketTable, Endpoint, Identity, Nic, Pages, ServeError, Session, Wait,
    answer_for_owner,
};
use nic_shm::wait_any;

use super::message::{TargetOrder, TargetReady, TargetReply, TargetRequest};
use super::pairs::Pairs;
use crate::pair::{End, Link};

/// The service that answers for keys.
const SERVICE: u16 = 1;
/// Room for one request or answer, in bytes.
const CALL_BYTES: u32 = 2048;
/// Polls between two looks at the lifeline.
const POLLS_PER_LOOK: u32 = 4096;
/// How long a polling application goes on after it was told to rest, so that the last
/// acknowledgements leave.
const LAST_TURNS: Duration = Duration::from_micros(300);

/// The whole life of the process.
pub fn run() -> Result<()> {
    let link = Link::of_child()?;
    let Some((order, descriptors)) = link.receive::<TargetOrder>(None)? else { return Ok(()) };
    let outcome = live(&link, &order, descriptors);
    if let Err(error) = outcome {
        // If nobody is there to be told, this process ends like one that was told to.
        let _ = link.send(&TargetReply::Failed { reason: format!("{error:#}") }, &[]);
    }
    Ok(())
}

fn live(link: &Link, order: &TargetOrder, descriptors: Vec<OwnedFd>) -> Result<()> {
    let mut descriptors = descriptors.into_iter();
    let pairs = Pairs::from_file(descriptors.next().context("the pairs are missing")?)?;
    let nic = open(order, descriptors.next())?;
    let [index, entries] = [pairs.geometry().index_bytes(), pairs.entries_bytes()]
        .map(|bytes| nic.region(bytes).pages(Pages::TryHuge).create());
    let (index, entries) = (index?, entries?);
    let identity = Identity {
        entries_region: entries.number(),
        service: Some(SERVICE),
        ..Identity::default()
    };
    let mut table =
        BucketTable::format(index.memory(), entries.memory(), pairs.geometry(), identity)?;
    load(link, &mut table, &pairs)?;
    drop(pairs);

    let session = nic.session().receive_buffers(64, CALL_BYTES).wait(Wait::Block).open()?;
    session.serve(SERVICE)?;
    let export = index.export(Access::READ.and(Access::CALL).follow(&entries))?;
    // Only now: loading may use any core.
    if let Some(core) = order.core {
        cores::pin_current_thread(core)?;
    }
    let ready = TargetReady {
        ticket: export.ticket().to_string(),
        pages: [&index, &entries].map(|region| region.page_kind().to_string()),
        bytes: [index.memory().len(), entries.memory().len()],
        overflowed: table.overflowed(),
    };
    link.send(&TargetReply::Ready(ready), &[])?;
    serve(link, order, &session, &table)
}

fn open(order: &TargetOrder, socket: Option<OwnedFd>) -> Result<Nic> {
    Ok(match order.inline {
        None => Nic::connect(Endpoint::Socket(socket.context("the engine's socket is missing")?))?,
        Some(order) => End { order, ring: socket }.inline()?,
    })
}

fn load(link: &Link, table: &mut BucketTable, pairs: &Pairs) -> Result<()> {
    let step = (pairs.len() / 100).max(1000);
    for place in 0..pairs.len() {
        let (key, value) = pairs.get(place);
        table.insert(key, value).with_context(|| {
            format!("the key {:?} cannot be stored", String::from_utf8_lossy(key))
        })?;
        if place % step == step - 1 {
            link.send(&TargetReply::Loaded { pairs: place as u64 + 1 }, &[])?;
        }
    }
    Ok(())
}

/// Sleeps until a call or a message comes; ends with the lifeline.
fn serve(link: &Link, order: &TargetOrder, session: &Session, table: &BucketTable) -> Result<()> {
    let mut entry = Vec::new();
    let mut handler = |_: u16, key: &[u8], answer: &mut Answer<'_>| -> Result<(), ServeError> {
        answer_for_owner(table.get_with(key, &mut entry), answer)
    };
    loop {
        let may_sleep = match order.inline {
            None => {
                session.answer_calls(&mut handler)?;
                session.arm()?
            }
            // Its engine runs only while it polls.
            Some(_) => true,
        };
        if may_sleep {
            match order.inline {
                None => wait_any(&[session.as_fd(), link.as_fd()], None)?,
                Some(_) => wait_any(&[link.as_fd()], None)?,
            };
        }
        if link.has_something()
            && message(link, order, session, &mut handler)? == ControlFlow::Break(())
        {
            return Ok(());
        }
    }
}

/// Obeys one message. Break: the demo is over.
fn message(
    link: &Link,
    order: &TargetOrder,
    session: &Session,
    handler: &mut impl FnMut(u16, &[u8], &mut Answer<'_>) -> Result<(), ServeError>,
) -> Result<ControlFlow<()>> {
    match link.receive::<TargetRequest>(None)? {
        None => return Ok(ControlFlow::Break(())),
        Some((TargetRequest::Rest, _)) => link.send(&TargetReply::Resting, &[])?,
        Some((TargetRequest::Poll, _)) => {
            link.send(&TargetReply::Polling, &[])?;
            let mut polls = 0;
            while polls % POLLS_PER_LOOK != 0 || !link.has_something() {
                let answered = session.answer_calls(&mut *handler)?;
                polls = polls.wrapping_add(1);
                if answered == 0 && order.yielding {
                    std::thread::yield_now();
                }
            }
            let begin = Instant::now();
            while begin.elapsed() < LAST_TURNS {
                session.answer_calls(&mut *handler)?;
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}
