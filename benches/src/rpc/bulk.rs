//! Long messages, sent out of the memory that they lie in and received into posted buffers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nic_figures::SliceResult;
use nic_host::messages::{Draft, NotSent, Receiver, SendError, Sender};
use nic_host::{Export, Nic, Session, Wait};

use super::server::{Server, say_ticket};

/// The length of a message in bytes.
pub(super) const MESSAGE_BYTES: u32 = 4 << 20;
/// Buffers that are posted, and messages that are out.
const BUFFERS: usize = 4;
const SERVICE: u16 = 2;
const LONG: Duration = Duration::from_secs(20);

/// What moved, by the time and by the time of cores.
pub(super) struct Rates {
    pub(super) gbytes_per_core_second: f64,
    pub(super) gbytes_per_second: f64,
}

impl Rates {
    pub(super) fn slice(&self) -> SliceResult {
        SliceResult::single(self.gbytes_per_core_second)
            .value("gbytes_per_second", self.gbytes_per_second)
    }
}

/// The sending side.
pub(super) struct Bulk<'s> {
    sender: Sender<'s>,
    number: u64,
}

impl<'s> Bulk<'s> {
    /// Opens it; the receiving process stands still before and after.
    pub(super) fn open(session: &'s Session, receiving: &Server) -> Result<Self> {
        receiving.resume()?;
        let remote = session.connect(&receiving.ticket)?;
        let memory = u64::from(MESSAGE_BYTES) * BUFFERS as u64;
        let sender = Sender::open(session, &remote, SERVICE, 1, memory)?;
        receiving.stop()?;
        Ok(Bulk { sender, number: 0 })
    }

    /// Sends for a time, and waits until all is received.
    pub(super) fn slice(&mut self, time: Duration, receiver: u32) -> Result<Rates> {
        let own = std::process::id();
        // What comes first opens ways and touches pages.
        self.send_for(Duration::from_millis(5))?;
        let (begun, before) = (Instant::now(), cpu_ns(own)? + cpu_ns(receiver)?);
        let bytes = self.send_for(time)? as f64;
        let (elapsed, spent) = (begun.elapsed(), cpu_ns(own)? + cpu_ns(receiver)? - before);
        Ok(Rates {
            gbytes_per_core_second: bytes / spent as f64,
            gbytes_per_second: bytes / elapsed.as_nanos() as f64,
        })
    }

    /// Returns how many bytes were received.
    fn send_for(&mut self, time: Duration) -> Result<u64> {
        let begun = Instant::now();
        let mut bytes = 0;
        while begun.elapsed() < time || self.sender.out() > 0 {
            if begun.elapsed() < time
                && let Some(draft) = self.sender.draft(MESSAGE_BYTES)
            {
                self.send(draft)?;
            }
            for sent in self.sender.poll()? {
                sent.outcome?;
                bytes += u64::from(MESSAGE_BYTES);
            }
        }
        Ok(bytes)
    }

    fn send(&mut self, mut draft: Draft) -> Result<()> {
        draft.write(0, &self.number.to_le_bytes())?;
        draft.write(MESSAGE_BYTES - 8, &self.number.to_le_bytes())?;
        match self.sender.send_draft(0, draft, LONG) {
            Ok(_) => self.number += 1,
            Err(NotSent { error: SendError::Full, .. }) => {}
            Err(NotSent { error, .. }) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The receiving side: for ever.
pub(super) fn receive(nic: &Nic, export: &Export) -> Result<()> {
    let session = nic.session().receive_buffers(16, 2048).wait(Wait::Spin).open()?;
    let mut receiver = Receiver::open(&session, SERVICE)?;
    for _ in 0..BUFFERS {
        let posted = receiver.post(vec![0; MESSAGE_BYTES as usize]);
        ensure!(posted.is_ok(), "a receiver takes some buffers");
    }
    say_ticket(export)?;
    let mut number = 0_u64;
    loop {
        let arrived = receiver.poll()?.next();
        let Some(received) = arrived.transpose()? else { continue };
        let bytes = received.bytes();
        let expected = number.to_le_bytes();
        let is_it = bytes.starts_with(&expected) && bytes.ends_with(&expected);
        ensure!(is_it && bytes.len() == MESSAGE_BYTES as usize, "message {number} is another");
        number += 1;
        let posted = receiver.post(received.into_buffer());
        ensure!(posted.is_ok(), "its place is free again");
    }
}

/// How long the main thread of a process has run, in nanoseconds: both ends have no other.
fn cpu_ns(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/schedstat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let ran = text.split(' ').next().and_then(|field| field.parse().ok());
    ran.with_context(|| format!("{path} says {text:?}"))
}
