//! The control plane's translation: an application's message and descriptors into engine work, and
//! the engine's answer back. The same for engines in a daemon and engines inside an application.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nic_kernels::Access;
use nic_kernels::mapped::check_base;
use nic_shm::{Doorbell, DoorbellSet, Pages, RacyMem, SharedMemory, WakeReceiver, WakeSender};
use nic_wire::control::{ControlReply, ControlRequest};
use nic_wire::{Rkey, Status};

use crate::engine::{Answer, Bells, ClientId, Refusal, Work};
use crate::flusher::FlushLine;

/// A message that became work.
#[derive(Debug)]
pub struct Translated {
    /// For the engine.
    pub work: Work,
    /// For [`reply`], when the answer comes.
    pub context: Context,
}

/// What the reply needs beside the engine's answer.
#[derive(Debug)]
pub struct Context {
    /// Where the engine receives packets.
    engine: SocketAddr,
    session: Option<SessionParts>,
}

/// What an application gets of its session.
#[derive(Debug)]
struct SessionParts {
    memory: SharedMemory,
    /// Rung by the application.
    engine_bell: Doorbell,
    /// Rung by the engine.
    wake: WakeReceiver,
}

/// What is sent back to the application.
#[derive(Debug)]
pub struct Outgoing {
    /// The message.
    pub reply: ControlReply,
    /// What goes with it.
    pub descriptors: Vec<OwnedFd>,
}

impl Outgoing {
    /// A message without descriptors.
    pub fn plain(reply: ControlReply) -> Self {
        Outgoing { reply, descriptors: Vec::new() }
    }

    /// A refusal.
    pub fn refused(refusal: &Refusal) -> Self {
        let status = refusal.status.code();
        Outgoing::plain(ControlReply::Refused { status, reason: refusal.reason.clone() })
    }
}

/// Why a region is not kept in a file.
const NO_BACKING: &str = "a region that is kept in a file was asked for, and this engine process \
                          writes no files of applications: set regions.backing = true in its \
                          configuration and start it anew, or make the region without a file";

fn refusal(error: impl std::error::Error) -> Refusal {
    Refusal::new(Status::BadCommand, error.to_string())
}

/// Turns a message into work. `Hello`, `Status` and `Ops` are the caller's to answer. Doorbells of sessions
/// are watched in `bells`; regions are kept in files by `line`, if the engine may do that.
///
/// # Errors
/// What cannot be done, with the reason for the application.
pub fn translate(
    client: ClientId,
    engine: SocketAddr,
    request: ControlRequest,
    descriptors: Vec<OwnedFd>,
    bells: &Arc<DoorbellSet>,
    line: Option<&FlushLine>,
) -> Result<Translated, Refusal> {
    let mut context = Context { engine, session: None };
    let work = match request {
        ControlRequest::Hello { .. } | ControlRequest::Status | ControlRequest::Ops { .. } => {
            return Err(Refusal::new(Status::BadCommand, "this was said already"));
        }
        ControlRequest::OpenSession { geometry } => {
            let places = geometry.places().map_err(refusal)?;
            let mut shared = SharedMemory::create("nic-session", places.total, Pages::Joined)
                .map_err(refusal)?;
            shared.populate().map_err(refusal)?;
            let memory = shared.memory();
            let (bells, parts) = session_parts(shared, bells).map_err(refusal)?;
            context.session = Some(parts);
            Work::OpenSession { client, memory, geometry, bells: Some(bells) }
        }
        ControlRequest::CloseSession { session } => Work::CloseSession { client, session },
        ControlRequest::Register { length, base } => {
            let [descriptor] = expected(descriptors, "its memory")?;
            let memory = region_memory(descriptor, length)?;
            // Here: what an engine refuses it has to unmap.
            check_base(&memory, base).map_err(refusal)?;
            Work::Register { client, memory, base }
        }
        ControlRequest::RegisterBacked { length, base } => {
            let line = line.ok_or_else(|| Refusal::new(Status::Unsupported, NO_BACKING))?;
            let [memory, file] = expected(descriptors, "its memory, and its file")?;
            let memory = region_memory(memory, length)?;
            check_base(&memory, base).map_err(refusal)?;
            let backing = line.back(memory.clone(), file).map_err(refusal)?;
            Work::RegisterBacked { client, memory, base, backing }
        }
        ControlRequest::Deregister { region } => Work::Deregister { client, region },
        ControlRequest::Export { region, access, follow } => {
            let access = Access::from_bits(access).ok_or_else(|| {
                let reason = format!("access {access:#x} has bits that this engine does not know");
                Refusal::new(Status::BadCommand, reason)
            })?;
            let secret = getrandom::u64().map_err(refusal)?;
            Work::Export { client, region, access, follow, secret }
        }
        ControlRequest::Revoke { export, generation } => {
            Work::Revoke { client, export, generation }
        }
        ControlRequest::Serve { session, service } => Work::Serve { client, session, service },
        ControlRequest::Connect { session, engine, rkey: (export, generation, secret) } => {
            let rkey = Rkey::new(export, generation, secret);
            Work::Connect { client, session, engine, rkey }
        }
        ControlRequest::Way { session, engine, rkey: (export, generation, secret) } => {
            let rkey = Rkey::new(export, generation, secret);
            Work::Way { client, session, engine, rkey }
        }
        ControlRequest::Disconnect { session, remotes } => {
            Work::Disconnect { client, session, remotes }
        }
    };
    Ok(Translated { work, context })
}

/// The memory of a region to be, populated.
fn region_memory(descriptor: OwnedFd, length: u64) -> Result<RacyMem, Refusal> {
    let mut shared = SharedMemory::open(descriptor, length).map_err(refusal)?;
    shared.populate().map_err(refusal)?;
    shared.memory().slice(0, length).map_err(refusal)
}

/// The descriptors that come with the message about a region.
fn expected<const COUNT: usize>(
    descriptors: Vec<OwnedFd>,
    what: &str,
) -> Result<[OwnedFd; COUNT], Refusal> {
    let found = descriptors.len();
    descriptors.try_into().map_err(|_| {
        let reason = format!(
            "{found} descriptors came with the message about a region; expected {COUNT}: {what}"
        );
        Refusal::new(Status::BadCommand, reason)
    })
}

/// Turns the engine's answer into the message for the application.
pub fn reply(context: Context, answer: Answer) -> Outgoing {
    let reply = match answer {
        Answer::Client(_) | Answer::Released(_) | Answer::Seen(_) => ControlReply::Done,
        Answer::Region(region) => ControlReply::Region { region },
        Answer::Connected(remote) => ControlReply::Connected { remote },
        Answer::Refused(refusal) => return Outgoing::refused(&refusal),
        Answer::Exported(rkey) => {
            let rkey = (rkey.export.get(), rkey.generation.get(), rkey.secret.get());
            ControlReply::Exported { engine: context.engine, rkey }
        }
        Answer::Session(session) => {
            let Some(parts) = context.session else {
                return Outgoing::plain(ControlReply::Done);
            };
            let shared = [parts.memory.fd(), parts.engine_bell.as_fd(), parts.wake.as_fd()];
            let descriptors: Result<Vec<_>, _> =
                shared.iter().map(|descriptor| descriptor.try_clone_to_owned()).collect();
            return match descriptors {
                Ok(descriptors) => {
                    Outgoing { reply: ControlReply::Session { session }, descriptors }
                }
                Err(error) => Outgoing::refused(&refusal(error)),
            };
        }
    };
    Outgoing::plain(reply)
}

/// The engine's ends of a session's bells, and what goes to the application.
fn session_parts(
    memory: SharedMemory,
    set: &Arc<DoorbellSet>,
) -> std::io::Result<(Bells, SessionParts)> {
    let engine_bell = Doorbell::new().map_err(std::io::Error::other)?;
    let watched = engine_bell.as_fd().try_clone_to_owned()?;
    let (application, wake) = WakeSender::pair()?;
    let bells = Bells { application, engine: set.watch(watched)? };
    Ok((bells, SessionParts { memory, engine_bell, wake }))
}
