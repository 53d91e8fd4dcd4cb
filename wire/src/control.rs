//! Messages between an application and its engine's control plane, one per datagram of the Unix
//! socket, descriptors beside them.
//!
//! A message is {magic u32, version u16, zero u16} and then a postcard-encoded [`ControlRequest`]
//! or [`ControlReply`].

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::session::Geometry;
#[cfg(doc)]
use crate::session::REMOTES_MAX;

const MAGIC: [u8; 4] = *b"nicC";

/// The control protocol that this build speaks.
pub const CONTROL_VERSION: u16 = 1;
/// The longest control message in bytes.
pub const MAX_CONTROL_BYTES: usize = 16 * 1024;

/// What an application asks of its engine process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ControlRequest {
    /// First message of every connection.
    Hello {
        /// Session layout that the application speaks.
        layout_version: u32,
        /// What to call the application in logs.
        name: String,
        /// Which engine of the process is to be the application's home; `None`: the one with the
        /// fewest applications.
        engine: Option<u8>,
    },
    /// Open a session; answered by [`ControlReply::Session`] with three descriptors: session
    /// memory, the eventfd by which the application wakes the engine, the socket by which the engine
    /// wakes the application.
    OpenSession {
        /// Its sizes.
        geometry: Geometry,
    },
    /// Close a session; its ops end as cancelled.
    CloseSession {
        /// From [`ControlReply::Session`].
        session: u32,
    },
    /// Register a memory; its descriptor comes with the message.
    Register {
        /// Length in bytes.
        length: u64,
        /// Address of its first byte.
        base: u64,
    },
    /// Give a region up. Its exports are revoked.
    Deregister {
        /// From [`ControlReply::Region`].
        region: u8,
    },
    /// Let others use a region.
    Export {
        /// From [`ControlReply::Region`].
        region: u8,
        /// Bits of the kernels' `Access`.
        access: u32,
        /// Other regions into which ops may follow pointers.
        follow: Vec<u8>,
    },
    /// End an export. Answered when no engine touches the region under it any more.
    Revoke {
        /// From the ticket's rkey.
        export: u16,
        /// From the ticket's rkey.
        generation: u16,
    },
    /// Make the calls to a service of this application arrive at a session.
    Serve {
        /// The session that receives.
        session: u32,
        /// The service's number within the application.
        service: u16,
    },
    /// Open a way to a region of another host for a session. Answered when the flow is up.
    Connect {
        /// The session that will use it.
        session: u32,
        /// The target engine.
        engine: SocketAddr,
        /// The right to the region: the rkey's export, generation and secret.
        rkey: (u16, u16, u64),
    },
    /// What the engine process is doing, as JSON.
    Status,
    /// Give ways to regions of other hosts back; commands that still name them are refused.
    Disconnect {
        /// The session that used them.
        session: u32,
        /// From [`ControlReply::Connected`], at most [`REMOTES_MAX`].
        remotes: Vec<u16>,
    },
    /// What is live in the engine process (flows, sessions, the oldest ops), as JSON; answered by
    /// [`ControlReply::Status`].
    Ops {
        /// Ops younger than this are left out.
        older_than_us: u64,
    },
    /// Register a memory that is kept in a file; two descriptors come with the message, the memory's
    /// and the file's. Answered by [`ControlReply::Region`].
    RegisterBacked {
        /// Length in bytes.
        length: u64,
        /// Address of its first byte.
        base: u64,
    },
    /// The same as [`ControlRequest::Connect`], answered at once: ops wait until the flow is up, and
    /// end as unreachable if it does not come up.
    Way {
        /// The session that will use it.
        session: u32,
        /// The target engine.
        engine: SocketAddr,
        /// The right to the region: the rkey's export, generation and secret.
        rkey: (u16, u16, u64),
    },
}

/// What the engine process answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ControlReply {
    /// To [`ControlRequest::Hello`].
    Welcome {
        /// Session layout that both will use.
        layout_version: u32,
        /// The engine process.
        pid: u32,
        /// Where the application's home engine receives packets.
        engine: SocketAddr,
        /// The port's name and mode.
        port: String,
    },
    /// To [`ControlRequest::OpenSession`].
    Session {
        /// Names the session from now on.
        session: u32,
    },
    /// To [`ControlRequest::Register`] and [`ControlRequest::RegisterBacked`].
    Region {
        /// Names the region within the application.
        region: u8,
    },
    /// To [`ControlRequest::Export`].
    Exported {
        /// Where remote engines send their ops.
        engine: SocketAddr,
        /// The rkey's export, generation and secret.
        rkey: (u16, u16, u64),
    },
    /// To [`ControlRequest::Connect`].
    Connected {
        /// Names the way in the session's commands.
        remote: u16,
    },
    /// To [`ControlRequest::Status`] and [`ControlRequest::Ops`]: JSON of any length, in a memfd that comes with the message.
    Status {
        /// Its length in bytes.
        bytes: u64,
    },
    /// The request was carried out; there is nothing to say about it.
    Done,
    /// The request was not carried out.
    Refused {
        /// The code of a `Status`, where one fits.
        status: u16,
        /// What was found, what was expected, what to do.
        reason: String,
    },
}

/// Why a datagram is not a control message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadControl {
    /// It does not begin as control messages do.
    #[error("not a control message of nic-engine: is something else using this socket?")]
    Magic,
    /// Another version.
    #[error(
        "control protocol version {found}, this side speaks {CONTROL_VERSION}: \
         application and engine must be of neighbouring releases"
    )]
    Version {
        /// The version it says.
        found: u16,
    },
    /// The body cannot be read.
    #[error("control message of {length} bytes cannot be read")]
    Body {
        /// Its length.
        length: usize,
    },
    /// Too long to send.
    #[error("control message longer than {MAX_CONTROL_BYTES} bytes")]
    TooLong,
}

/// Encodes a message into the front of `into` and returns its length.
///
/// # Errors
/// If it does not fit.
pub fn encode<M: Serialize>(message: &M, into: &mut [u8]) -> Result<usize, BadControl> {
    let (head, body) = into.split_at_mut_checked(8).ok_or(BadControl::TooLong)?;
    head[..4].copy_from_slice(&MAGIC);
    head[4..6].copy_from_slice(&CONTROL_VERSION.to_le_bytes());
    head[6..].fill(0);
    let used = postcard::to_slice(message, body).map_err(|_| BadControl::TooLong)?.len();
    Ok(8 + used)
}

/// Decodes a received message.
///
/// # Errors
/// Foreign bytes, another version, or a body that cannot be read.
pub fn decode<'a, M: Deserialize<'a>>(bytes: &'a [u8]) -> Result<M, BadControl> {
    if bytes.len() < 8 || bytes[..4] != MAGIC {
        return Err(BadControl::Magic);
    }
    let found = u16::from_le_bytes([bytes[4], bytes[5]]);
    if found != CONTROL_VERSION {
        return Err(BadControl::Version { found });
    }
    postcard::from_bytes(&bytes[8..]).map_err(|_| BadControl::Body { length: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn messages_come_back() {
        let engine: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let geometry =
            Geometry { depth: 8, arena_bytes: 4096, receive_buffers: 2, receive_buffer_bytes: 64 };
        let requests = vec![
            ControlRequest::Hello { layout_version: 1, name: "demo".into(), engine: Some(1) },
            ControlRequest::OpenSession { geometry },
            ControlRequest::Register { length: 1 << 40, base: 7 },
            ControlRequest::Export { region: 1, access: 3, follow: vec![2, 3] },
            ControlRequest::Connect { session: 1, engine, rkey: (1, 2, u64::MAX) },
            ControlRequest::Way { session: 1, engine, rkey: (1, 2, u64::MAX) },
            ControlRequest::Status,
            ControlRequest::Disconnect { session: 1, remotes: vec![3, 1027] },
            ControlRequest::Ops { older_than_us: 1 << 40 },
            ControlRequest::RegisterBacked { length: 1 << 40, base: 7 },
        ];
        let mut bytes = [0u8; 512];
        for request in requests {
            let length = encode(&request, &mut bytes).unwrap();
            assert_eq!(decode::<ControlRequest>(&bytes[..length]), Ok(request));
        }
        let replies = vec![
            ControlReply::Welcome { layout_version: 1, pid: 1, engine, port: "udp".into() },
            ControlReply::Exported { engine, rkey: (9, 8, 7) },
            ControlReply::Status { bytes: 1 << 20 },
            ControlReply::Refused { status: 6, reason: "because".into() },
        ];
        for reply in replies {
            let length = encode(&reply, &mut bytes).unwrap();
            assert_eq!(decode::<ControlReply>(&bytes[..length]), Ok(reply));
        }
    }

    #[test]
    fn message_bytes_are_golden() {
        let mut bytes = [0u8; 64];
        let length = encode(&ControlRequest::Deregister { region: 5 }, &mut bytes).unwrap();
        assert_eq!(bytes[..length], [b'n', b'i', b'c', b'C', 1, 0, 0, 0, 4, 5]);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert_eq!(decode::<ControlRequest>(b"hello"), Err(BadControl::Magic));
        assert_eq!(
            decode::<ControlRequest>(b"nicC\x09\0\0\0"),
            Err(BadControl::Version { found: 9 })
        );
        assert_eq!(
            decode::<ControlRequest>(b"nicC\x01\0\0\0\xff\xff"),
            Err(BadControl::Body { length: 10 })
        );
    }
}
