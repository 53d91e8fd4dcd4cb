//! A sender's credit: how many messages it may announce.

use nic_engine::clock;
use nic_wire::{Span, Status, Time};

use crate::messages::form::{Code, Verdict};
use crate::messages::heard::{Heard, heard};
use crate::session::{Session, Token};

/// How long a busy receiver is left alone.
const BUSY_PAUSE: Span = Span::from_ms(1);

/// How many messages were announced, all in all, and how many may be.
pub(super) struct Credit {
    announced: u64,
    limit: u64,
    /// A call that the receiver answers when there is more.
    call: Option<Token>,
    /// There was none when some was wanted: from when on to ask for it.
    wanted: Option<Time>,
}

impl Credit {
    pub(super) fn new(limit: u64) -> Credit {
        Credit { announced: 0, limit, call: None, wanted: None }
    }

    /// Spends it on a message, whose number is returned.
    pub(super) fn spend(&mut self) -> u64 {
        self.announced += 1;
        self.announced - 1
    }

    /// Takes in what a verdict says.
    pub(super) fn grant(&mut self, verdict: &Verdict) {
        self.limit = self.limit.max(verdict.limit.get());
    }

    /// Notes that some is wanted. Whether that is news.
    pub(super) fn want(&mut self) -> bool {
        let is_news = self.wanted.is_none();
        self.wanted.get_or_insert(Time::ZERO);
        is_news
    }

    /// The limit that the receiver is to be told, if it has to be asked for more now.
    pub(super) fn request_due(&mut self) -> Option<u64> {
        if self.left() > 0 {
            self.wanted = None;
        }
        let from = self.wanted?;
        let is_due = from == Time::ZERO || clock::now() >= from;
        (self.call.is_none() && is_due).then_some(self.limit)
    }

    /// The receiver is asked for more by a call; `None`: the session had no place for it.
    pub(super) fn asked(&mut self, call: Option<Token>) {
        self.call = call;
    }

    /// Takes in what the receiver said to that call; yields it if it ends the channel.
    pub(super) fn hear(&mut self, session: &Session) -> Option<Heard> {
        let result = heard(session, self.call?)?;
        self.call = None;
        match result {
            Ok((Code::Done, verdict)) => self.grant(&verdict),
            // Nothing was posted in a second, or the receiver has much to do: it is asked again.
            Err((Status::Expired, _)) => {}
            Err((Status::Busy, _)) => {
                self.wanted = self.wanted.map(|_| clock::now() + BUSY_PAUSE);
            }
            other => return Some(other),
        }
        None
    }

    /// How many messages may be announced now.
    pub(super) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.announced)
    }

    /// The number of the next message that may be announced.
    pub(super) fn next(&self) -> u64 {
        self.announced
    }

    /// The number of the first message that may not be announced.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// The call that asks for more, if it is out.
    pub(super) fn call(&self) -> Option<Token> {
        self.call
    }
}
