//! With which code a command that failed ends.

use std::io;

use nic_engine::daemon::{CountersFault, DaemonError, Exit};
use nic_engine::ports::{PortFault, PortRefusal};
use nic_host::{NicError, OpError, Status};
use nic_shm::ConnectError;

use crate::bench::Fault;
use crate::demo::BadInput;

/// What the error says itself, or else the first of its causes that says something.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(of_cause).unwrap_or(Exit::Failed)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = cause.downcast_ref::<DaemonError>() {
        return Some(error.exit());
    }
    if let Some(error) = cause.downcast_ref::<NicError>() {
        return Some(of_engine(error));
    }
    if let Some(error) = cause.downcast_ref::<CountersFault>() {
        return Some(match error {
            CountersFault::Missing { .. } => Exit::Unavailable,
            CountersFault::System { error, .. } => Exit::of_io(error, Exit::System),
            CountersFault::Foreign { .. } => Exit::Data,
        });
    }
    if let Some(refusal) = cause.downcast_ref::<PortRefusal>() {
        return Some(match refusal.fault {
            PortFault::Taken => Exit::Unavailable,
            PortFault::Settings => Exit::Config,
            PortFault::Permission => Exit::NoPermission,
            PortFault::System => Exit::System,
        });
    }
    if let Some(fault) = cause.downcast_ref::<Fault>() {
        return Some(match fault {
            Fault::Unreadable(_) => Exit::Failed,
            Fault::NoTarget { .. } => Exit::Data,
            _ => Exit::Usage,
        });
    }
    if cause.is::<OpError>() {
        return Some(Exit::Failed);
    }
    if cause.is::<serde_json::Error>() || cause.is::<BadInput>() {
        return Some(Exit::Data);
    }
    cause.downcast_ref::<io::Error>().map(|error| Exit::of_io(error, Exit::System))
}

fn of_engine(error: &NicError) -> Exit {
    match error {
        NicError::NoEngine { error: ConnectError::Denied { .. }, .. }
        | NicError::Refused { status: Status::Denied, .. } => Exit::NoPermission,
        NicError::NoEngine { error: ConnectError::PathTooLong { .. }, .. } => Exit::Usage,
        NicError::NoEngine { .. } | NicError::EngineLost => Exit::Unavailable,
        NicError::EngineSilent { .. }
        | NicError::Refused { status: Status::Busy | Status::Draining, .. } => {
            Exit::TemporaryFailure
        }
        NicError::Memory(_) | NicError::System(_) => Exit::System,
        NicError::Protocol(_) | NicError::OutOfTurn | NicError::Refused { .. } => Exit::Unavailable,
        _ => Exit::Software,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_that_says_something_decides() {
        let refused = |status| NicError::Refused { status, reason: String::new() };
        let cases = [
            (anyhow::anyhow!("what is this?"), Exit::Failed),
            (refused(Status::Denied).into(), Exit::NoPermission),
            (refused(Status::Draining).into(), Exit::TemporaryFailure),
            (NicError::EngineLost.into(), Exit::Unavailable),
            (io::Error::from(io::ErrorKind::NotFound).into(), Exit::System),
            (io::Error::from(io::ErrorKind::PermissionDenied).into(), Exit::NoPermission),
        ];
        for (error, expected) in cases {
            let error: anyhow::Error = error;
            assert_eq!(of(&error.context("while it did something")), expected);
        }
    }
}
