//! The control plane's translation: an application's message and descriptors into engine work, and
//! the engine's answer back. The same for engines in a daemon and engines inside an application.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nic_kernels::Access;
use nic_shm::{Doorbell, Pages, SharedMemory};
use nic_wire::control::{ControlReply, ControlRequest};
use nic_wire::{Rkey, Status};

use crate::engine::{Answer, ClientId, Refusal, Work};

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
    session: Option<(SharedMemory, Doorbell)>,
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

fn refusal(error: impl std::error::Error) -> Refusal {
    Refusal::new(Status::BadCommand, error.to_string())
}

/// Turns a message into work. `Hello` and `Status` are the caller's to answer.
///
/// # Errors
/// What cannot be done, with the reason for the application.
pub fn translate(
    client: ClientId,
    engine: SocketAddr,
    request: ControlRequest,
    descriptors: Vec<OwnedFd>,
) -> Result<Translated, Refusal> {
    let mut context = Context { engine, session: None };
    let work = match request {
        ControlRequest::Hello { .. } | ControlRequest::Status => {
            return Err(Refusal::new(Status::BadCommand, "this was said already"));
        }
        ControlRequest::OpenSession { geometry } => {
            let places = geometry.places().map_err(refusal)?;
            let shared =
                SharedMemory::create("nic-session", places.total, Pages::Small).map_err(refusal)?;
            shared.populate().map_err(refusal)?;
            let bell = Doorbell::new().map_err(refusal)?;
            let doorbell = Some(clone_bell(&bell)?);
            let memory = shared.memory();
            context.session = Some((shared, bell));
            Work::OpenSession { client, memory, geometry, doorbell }
        }
        ControlRequest::CloseSession { session } => Work::CloseSession { client, session },
        ControlRequest::Register { length, base } => {
            let descriptor = descriptors.into_iter().next().ok_or_else(|| {
                Refusal::new(Status::BadCommand, "a region's descriptor comes with its message")
            })?;
            let shared = SharedMemory::open(descriptor, length).map_err(refusal)?;
            shared.populate().map_err(refusal)?;
            let memory = shared.memory().slice(0, length).map_err(refusal)?;
            Work::Register { client, memory, base }
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
    };
    Ok(Translated { work, context })
}

/// Turns the engine's answer into the message for the application. `engine_bell` wakes the engine.
pub fn reply(context: Context, answer: Answer, engine_bell: BorrowedFd<'_>) -> Outgoing {
    let reply = match answer {
        Answer::Client(_) | Answer::Released(_) => ControlReply::Done,
        Answer::Region(region) => ControlReply::Region { region },
        Answer::Connected(remote) => ControlReply::Connected { remote },
        Answer::Refused(refusal) => return Outgoing::refused(&refusal),
        Answer::Exported(rkey) => {
            let rkey = (rkey.export.get(), rkey.generation.get(), rkey.secret.get());
            ControlReply::Exported { engine: context.engine, rkey }
        }
        Answer::Session(session) => {
            let Some((memory, bell)) = context.session else {
                return Outgoing::plain(ControlReply::Done);
            };
            let descriptors: Result<Vec<_>, _> = [memory.fd(), engine_bell, bell.as_fd()]
                .into_iter()
                .map(|descriptor| descriptor.try_clone_to_owned())
                .collect();
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

fn clone_bell(bell: &Doorbell) -> Result<Doorbell, Refusal> {
    let descriptor = bell.as_fd().try_clone_to_owned().map_err(refusal)?;
    Doorbell::from_fd(descriptor).map_err(refusal)
}
