//! Stands for the inline engine where the feature `embedded` is off: there is none.

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use nic_wire::control::{ControlReply, ControlRequest};

use crate::error::NicError;

/// Nothing: no value of it exists.
pub(crate) enum InlineEngine {}

impl InlineEngine {
    pub(crate) fn turn(&self) {
        match *self {}
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match *self {}
    }

    pub(crate) fn port(&self) -> String {
        match *self {}
    }

    pub(crate) fn status(&self) -> String {
        match *self {}
    }

    pub(crate) fn ops(&self, _: u64) -> Result<String, NicError> {
        match *self {}
    }

    pub(crate) fn request(
        &self,
        _: &ControlRequest,
        _: &[BorrowedFd<'_>],
    ) -> Result<(ControlReply, Vec<OwnedFd>), NicError> {
        match *self {}
    }

    pub(crate) fn sleep(&self, _: Duration) {
        match *self {}
    }
}
