//! Typed calls: requests and answers travel as [postcard](https://docs.rs/postcard).
//!
//! A [`Procedure`] names a service and what is asked and answered there. The target serves some of
//! them with [`Services`]; an initiator asks with [`RemoteRegion::rpc`](crate::RemoteRegion::rpc).
//! A call is an op like any other: it has a deadline, ends once, and says what is known of its
//! effect.
//!
//! ```
//! use nic_host::rpc::{Procedure, Services};
//! use nic_host::{Access, InlineConfig, Nic};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! struct Add { to: u32, amount: u64 }
//!
//! impl Procedure for Add {
//!     const SERVICE: u16 = 7;
//!     type Answer = Result<u64, String>;
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The target; here in the same process and on the same engine.
//! let nic = Nic::inline(InlineConfig::default())?;
//! let region = nic.region(4096).create()?;
//! let export = region.export(Access::CALL)?;
//! let serving = nic.session().receive_buffers(16, 512).open()?;
//! let mut accounts = [100, 0_u64];
//! let mut services = Services::new();
//! services.add(|asked: Add| {
//!     let account = accounts.get_mut(asked.to as usize).ok_or("there is no such account")?;
//!     *account += asked.amount;
//!     Ok(*account)
//! });
//! services.open(&serving)?;
//!
//! // The initiator. (Both ends in one thread have to take turns.)
//! let session = nic.session().open()?;
//! let remote = session.connect(&export.ticket())?;
//! for (to, expected) in [(1, Ok(5)), (2, Err("there is no such account".into()))] {
//!     let call = session.submit(remote.rpc(&Add { to, amount: 5 })?)?;
//!     let done = loop {
//!         services.answer(&serving)?;
//!         if let Some(done) = session.poll()?.next() {
//!             break done;
//!         }
//!     };
//!     assert_eq!(call.take(done)?, expected);
//! }
//! # Ok(())
//! # }
//! ```

use std::marker::PhantomData;

use nic_wire::KernelId;
use nic_wire::session::REQUEST_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

use crate::error::{NicError, OpError};
use crate::operation::{Ask, Facts, Op, Operation, Reply};
use crate::remote::RemoteRegion;
use crate::session::{Answer, Filled, ServeError, Session};

/// A request of a service, and what answers it.
pub trait Procedure: Serialize + DeserializeOwned {
    /// The service's number at the target.
    const SERVICE: u16;
    /// The longest answer in bytes, encoded; what it says of the application's own failures
    /// included. At most what an op's reply may have, 1 MiB and 4 KiB. Each call that is out takes so
    /// much of its session's arena.
    const ANSWER_BYTES_MAX: u32 = 1024;
    /// The answer. Where the application may say no, this is a [`Result`].
    type Answer: Serialize + DeserializeOwned;
}

/// A request could not be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It is too long.
    #[error(
        "the request has more than the {room} bytes that this call has room for; use rpc_sized with \
         more, at most {REQUEST_BYTES_MAX}"
    )]
    TooLong {
        /// The call's room in bytes.
        room: usize,
    },
    /// Its own serialisation failed.
    #[error("the request cannot be encoded: {0}")]
    Type(postcard::Error),
}

/// The room for an encoded request, in bytes, unless another is asked for.
pub const REQUEST_ROOM: usize = 256;

/// A typed call, with its request encoded.
#[derive(Clone, Copy, Debug)]
pub struct Rpc<P, const ROOM: usize = REQUEST_ROOM> {
    remote: u16,
    length: u16,
    request: [u8; ROOM],
    service: U16,
    procedure: PhantomData<fn() -> P>,
}

impl RemoteRegion {
    /// Asks the application that owns the region, with a request of at most [`REQUEST_ROOM`] bytes.
    ///
    /// # Errors
    /// The request is longer.
    #[inline]
    pub fn rpc<P: Procedure>(&self, request: &P) -> Result<Op<Rpc<P>>, EncodeError> {
        self.rpc_sized(request)
    }

    /// The same, with a request of at most `ROOM` bytes: less is quicker, and more than a packet
    /// holds is refused by the engine.
    ///
    /// # Errors
    /// The request is longer.
    #[inline]
    pub fn rpc_sized<P: Procedure, const ROOM: usize>(
        &self,
        request: &P,
    ) -> Result<Op<Rpc<P, ROOM>>, EncodeError> {
        let mut room = [0; ROOM];
        let encoded = postcard::to_slice(request, &mut room).map_err(|error| match error {
            postcard::Error::SerializeBufferFull => EncodeError::TooLong { room: ROOM },
            error => EncodeError::Type(error),
        })?;
        let length =
            u16::try_from(encoded.len()).map_err(|_| EncodeError::TooLong { room: ROOM })?;
        let (remote, service) = (self.remote(), P::SERVICE.into());
        Ok(Op::new(Rpc { remote, length, request: room, service, procedure: PhantomData }))
    }
}

impl<P: Procedure, const ROOM: usize> Operation for Rpc<P, ROOM> {
    type Output = P::Answer;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::CALL, self.remote, self.service.as_bytes())
            .payload(&self.request[..usize::from(self.length)])
            .reply(P::ANSWER_BYTES_MAX)
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<P::Answer, OpError> {
        postcard::from_bytes(reply.bytes()).map_err(|_| OpError::BadReply)
    }
}

type Handler<'h> = Box<dyn FnMut(&[u8], &mut Answer<'_>) -> Result<(), ServeError> + 'h>;

/// What a target serves. A request that makes no sense ends its call with
/// [`Status::ServiceFailed`](crate::Status::ServiceFailed), an answer that is longer than its
/// procedure says with [`Status::ReplyTooLong`](crate::Status::ReplyTooLong).
#[derive(Default)]
pub struct Services<'h> {
    handlers: Vec<(u16, Handler<'h>)>,
    answered: u64,
}

impl std::fmt::Debug for Services<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers = self.handlers.iter().map(|(number, _)| number);
        formatter.debug_list().entries(numbers).finish()
    }
}

impl<'h> Services<'h> {
    /// None.
    pub fn new() -> Self {
        Services::default()
    }

    /// Adds a procedure, in place of one with the same number.
    pub fn add<P: Procedure>(&mut self, mut handler: impl FnMut(P) -> P::Answer + 'h) {
        self.handlers.retain(|(number, _)| *number != P::SERVICE);
        let handler = move |request: &[u8], answer: &mut Answer<'_>| {
            let request = postcard::from_bytes(request).map_err(|_| ServeError)?;
            let given = handler(request);
            answer.fill(|room| match postcard::to_slice(&given, room) {
                Ok(encoded) => Some(Filled::Bytes(encoded.len())),
                Err(postcard::Error::SerializeBufferFull) => Some(Filled::TooLong),
                Err(_) => None,
            })
        };
        self.handlers.push((P::SERVICE, Box::new(handler)));
    }

    /// Makes the calls to all of them arrive at a session of this application, which needs receive
    /// buffers.
    ///
    /// # Errors
    /// As [`Session::serve`].
    pub fn open(&self, session: &Session) -> Result<(), NicError> {
        self.handlers.iter().try_for_each(|(number, _)| session.serve(*number))
    }

    /// Answers the calls that have come to the session; returns how many there were.
    ///
    /// # Errors
    /// As [`Session::answer_calls`].
    pub fn answer(&mut self, session: &Session) -> Result<usize, OpError> {
        let Services { handlers, answered } = self;
        let count = session.answer_calls(|number, request, answer| {
            let found = handlers.iter_mut().find(|(service, _)| *service == number);
            let (_, handler) = found.ok_or(ServeError)?;
            handler(request, answer)
        })?;
        *answered += count as u64;
        Ok(count)
    }

    /// How many calls have been answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }
}
