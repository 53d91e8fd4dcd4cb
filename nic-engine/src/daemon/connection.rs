//! One application, as the control thread knows it.

use nic_shm::{ControlSocket, Pidfd};
use nic_wire::control::ControlRequest;

use super::quota::Usage;
use crate::engine::{Answer, ClientId, Live, Refusal};
use crate::plane::Context;

/// What of an application's name is kept, in characters: it shows in logs and in the status.
pub(super) const NAME_CHARS_MAX: usize = 128;

/// One application.
pub(super) struct Connection {
    pub(super) socket: ControlSocket,
    /// The application's process: it may die while a child of it keeps the socket open. None if it
    /// cannot be seen from here.
    pub(super) process: Option<Pidfd>,
    /// The user at the other end, or why he is not let in.
    pub(super) user: Result<u32, Refusal>,
    pub(super) name: String,
    /// Its home engine, once it has said hello.
    pub(super) engine: usize,
    pub(super) client: Option<ClientId>,
    /// What it waits for: one request at a time.
    pub(super) waiting: Option<Waiting>,
    pub(super) closing: bool,
    /// What it has, and what of the user's quota each takes.
    held: Vec<(Held, Usage)>,
}

/// A request that the engine works on.
pub(super) enum Waiting {
    Hello,
    Reply(Context, Change),
    /// For all engines to tell what is live.
    Look(Looking),
}

/// What the engines have told so far.
pub(super) struct Looking {
    /// How many have yet to answer.
    pub(super) left: usize,
    /// One for each engine, in order.
    pub(super) engines: Vec<Option<Box<Live>>>,
}

/// Something that an application has, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Region(u8),
    Session(u32),
}

/// What a request changes about what its application has, if it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing, or something more, which is booked already.
    Takes(Usage),
    /// It gives this up.
    Gives(Held),
}

impl Change {
    pub(super) fn of(request: &ControlRequest) -> Change {
        match request {
            ControlRequest::Deregister { region } => Change::Gives(Held::Region(*region)),
            ControlRequest::CloseSession { session } => Change::Gives(Held::Session(*session)),
            request => Change::Takes(Usage::asked_by(request)),
        }
    }

    /// What is booked for it.
    pub(super) fn booked(self) -> Usage {
        match self {
            Change::Takes(usage) => usage,
            Change::Gives(_) => Usage::default(),
        }
    }
}

impl Connection {
    pub(super) fn new(socket: ControlSocket, user: Result<u32, Refusal>) -> Self {
        Connection {
            process: socket.peer_process().ok(),
            socket,
            user,
            name: String::new(),
            engine: 0,
            client: None,
            waiting: None,
            closing: false,
            held: Vec::new(),
        }
    }

    /// Notes what became of a request. Returns what is no longer booked for the user.
    pub(super) fn settle(&mut self, change: Change, answer: &Answer) -> Usage {
        match (change, answer) {
            (Change::Takes(usage), Answer::Region(region)) => {
                self.held.push((Held::Region(*region), usage));
                Usage::default()
            }
            (Change::Takes(usage), Answer::Session(session)) => {
                self.held.push((Held::Session(*session), usage));
                Usage::default()
            }
            (Change::Takes(usage), _) => usage,
            (Change::Gives(_), Answer::Refused(_)) => Usage::default(),
            (Change::Gives(given), _) => {
                match self.held.iter().position(|(held, _)| *held == given) {
                    Some(place) => self.held.swap_remove(place).1,
                    None => Usage::default(),
                }
            }
        }
    }

    /// What it has.
    pub(super) fn usage(&self) -> Usage {
        self.held.iter().fold(Usage::default(), |sum, (_, usage)| sum.plus(*usage))
    }

    /// What is booked for it: what it has, and what it has asked for.
    pub(super) fn booked(&self) -> Usage {
        match self.waiting {
            Some(Waiting::Reply(_, change)) => self.usage().plus(change.booked()),
            _ => self.usage(),
        }
    }
}
