//! Control sockets: whole messages with descriptors between an application and its engine.
//!
//! Unix sockets of type SEQPACKET: messages arrive whole or not at all, in order, and the end of
//! the peer is seen. An empty message cannot be told from the end, so none is ever sent.

mod control;
mod errors;
mod listener;
mod lock;

pub use control::{ControlSocket, DESCRIPTORS_MAX, Incoming, PeerCredentials};
pub use errors::{AcceptError, BindError, ConnectError, ReceiveError, SendError};
pub use listener::ControlListener;

#[cfg(test)]
mod tests;
