//! One thread's ops: submitted, polled, waited for.

mod builder;
mod future;
mod service;
mod slots;
mod state;
mod waiting;

pub use builder::{SessionBuilder, Wait};
pub use future::Issued;
pub(crate) use service::Filled;
pub use service::{Answer, Deferred, ServeError};
pub use slots::Token;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Instant;

use nic_engine::waiting::Waiting;
use nic_shm::{Doorbell, SharedMemory, WakeReceiver};
use nic_wire::control::{ControlReply, ControlRequest};
use nic_wire::ticket::Ticket;
use nic_wire::{Fate, Status};

use self::state::State;
use crate::error::{NicError, OpError, SubmitError};
use crate::nic::{Backend, Inner};
use crate::operation::{Op, Operation};
use crate::ops::Cancel;
use crate::process::Process;
use crate::remote::{GivenUp, RemoteRegion};

/// Polls without a completion after which a process-driven session looks whether its engine lives.
const POLLS_UNTIL_LOOK: u32 = 1 << 14;

/// One thread's command and completion queues and arena. Ops are submitted to it and come back
/// from it; it belongs to the thread that opened it.
pub struct Session {
    pub(crate) nic: Rc<Inner>,
    id: u32,
    state: RefCell<State>,
    waiting: RefCell<Waiting>,
    engine_bell: Doorbell,
    own_bell: WakeReceiver,
    idle_polls: std::cell::Cell<u32>,
    /// Ways to give back with the next connect.
    given_up: GivenUp,
    _memory: SharedMemory,
}

/// An op that was submitted. Dropping it gives the result up; the op still runs.
#[must_use = "dropping it gives the result up"]
pub struct Pending<'s, O: Operation> {
    session: &'s Session,
    token: Token,
    operation: PhantomData<fn() -> O>,
}

/// One op is over; [`Pending::take`] has the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which op.
    pub token: Token,
    /// How it ended.
    pub status: Status,
    /// What is known of its effect.
    pub fate: Fate,
    /// Length of the reply in bytes.
    pub length: u32,
    /// From the engine's pickup until the request left, in nanoseconds.
    pub issue_delay_ns: u32,
    /// From the engine's pickup until the reply was whole, in nanoseconds.
    pub total_delay_ns: u32,
    /// How long the target had the op in hand, in nanoseconds.
    pub service_ns: u32,
}

impl Done {
    /// The op's slot, below the session's depth: for tables of the application's own.
    #[inline]
    pub fn slot(&self) -> usize {
        self.token as u32 as usize
    }
}

impl Session {
    /// Submits an op. It is on its way at once if an engine process drives the session; with an
    /// inline engine it leaves at the next [`Session::poll`] or [`Session::wait`], together with
    /// what else was submitted.
    ///
    /// # Errors
    /// [`SubmitError::Full`] hands the op back: poll and submit again. Never blocks.
    #[inline]
    pub fn submit<O: Operation>(&self, op: Op<O>) -> Result<Pending<'_, O>, SubmitError<Op<O>>> {
        match self.start(&op, true)? {
            Some(token) => Ok(Pending { session: self, token, operation: PhantomData }),
            None => Err(SubmitError::Full(op)),
        }
    }

    /// Submits an op. `None`: there is no room for it now.
    #[inline]
    pub(crate) fn start<O: Operation>(
        &self,
        op: &Op<O>,
        reported: bool,
    ) -> Result<Option<Token>, OpError> {
        self.check_process()?;
        let mut state = self.state.borrow_mut();
        if state.is_lost {
            let (status, fate) = (Status::EngineLost, Fate::NotExecuted);
            return Err(OpError::failed(status, fate));
        }
        let token = state.submit(op, reported)?;
        if matches!(self.nic.backend, Backend::Process(_)) && state.publish() {
            self.wake_engine();
        }
        Ok(token)
    }

    /// Has the engine end an op that is out. It ends as [`Status::Cancelled`], with the fate that is
    /// known of it, unless it has ended in another way meanwhile; nothing of its reply is written any
    /// more. The target of one that has left is told and ends it there, so that its credit is free
    /// again; an append that has its place in the log goes on. Of a call, the application that serves
    /// it is told: [`Session::is_awaited`]. False: the op is over already, or the
    /// session is full (poll, then ask again); a cancel needs a place of its own.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use nic_host::{Access, InlineConfig, Nic, OpError, Status};
    ///
    /// let nic = Nic::inline(InlineConfig::default())?;
    /// let region = nic.region(4096).create()?;
    /// let export = region.export(Access::CALL)?;
    /// let serving = nic.session().receive_buffers(16, 512).open()?;
    /// serving.serve(7)?;
    /// let session = nic.session().open()?;
    /// let remote = session.connect(&export.ticket())?;
    ///
    /// // A call that is not answered at once.
    /// let call = session.submit(remote.call(7, b"slow", 8).deadline(Duration::from_secs(60)))?;
    /// session.poll()?.for_each(drop);
    /// let mut deferred = None;
    /// while deferred.is_none() {
    ///     serving.answer_calls(|_, _, answer| {
    ///         deferred = Some(answer.defer());
    ///         Ok(())
    ///     })?;
    /// }
    /// let deferred = deferred.ok_or("it has come")?;
    /// assert!(serving.is_awaited(&deferred));
    ///
    /// // The caller does not want it any more.
    /// assert!(session.cancel(&call)?);
    /// let done = loop {
    ///     if let Some(done) = session.poll()?.next() {
    ///         break done;
    ///     }
    /// };
    /// assert!(matches!(call.take(done), Err(OpError::Failed { status: Status::Cancelled, .. })));
    /// while serving.is_awaited(&deferred) {
    ///     serving.answer_calls(|_, _, _| Ok(()))?;
    /// }
    /// serving.answer_later(deferred, Ok(b"too late"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OpError::Forked`] in a child of the process that opened the session.
    pub fn cancel<O: Operation>(&self, pending: &Pending<'_, O>) -> Result<bool, OpError> {
        self.cancel_op(pending.token)
    }

    /// [`Session::cancel`] of the op of this name.
    pub(crate) fn cancel_op(&self, op: Token) -> Result<bool, OpError> {
        let remote = self.state.borrow_mut().remote_of(op);
        let Some(remote) = remote else { return Ok(false) };
        let cancel = Cancel { remote, token: op.into() };
        let Some(token) = self.start(&Op::new(cancel), false)? else { return Ok(false) };
        let mut state = self.state.borrow_mut();
        state.abandon(token);
        state.cancelled(op);
        Ok(true)
    }

    /// The result of an unreported op, if it is over.
    #[inline]
    pub(crate) fn take_over<O: Operation>(
        &self,
        token: Token,
    ) -> Option<Result<O::Output, OpError>> {
        self.state.borrow_mut().take::<O>(token)
    }

    /// Nobody wants an op's result any more.
    pub(crate) fn give_up(&self, token: Token) {
        self.state.borrow_mut().abandon(token);
    }

    /// A length in bytes of which several replies fit the arena side by side.
    pub(crate) fn piece_bytes_max(&self) -> u32 {
        self.state.borrow().lease_bytes_max() / 4
    }

    /// How many ops with replies of so many bytes leave room for a small one.
    pub(crate) fn pieces_beside_an_op(&self, bytes: u32) -> usize {
        let state = self.state.borrow();
        let in_arena = state.arena.memory().len() / u64::from(bytes.max(1));
        state.slots.depth().min(in_arena as usize).saturating_sub(1)
    }

    fn wake_engine(&self) {
        // An engine that cannot be woken is gone; that is noticed when it is waited for.
        let _ = self.engine_bell.ring();
    }

    /// Reports the ops that are over. Torn reads are issued anew in here, within their deadline.
    ///
    /// # Errors
    /// [`OpError::Forked`] in a child of the process that opened the session.
    #[inline]
    pub fn poll(&self) -> Result<Completions<'_>, OpError> {
        self.progress()?;
        Ok(Completions { session: self })
    }

    /// In a child of the process that opened the session everything is refused: the rings are its
    /// parent's.
    #[inline]
    fn check_process(&self) -> Result<(), OpError> {
        if self.nic.is_forked() { Err(OpError::Forked) } else { Ok(()) }
    }

    /// Runs a turn of an inline engine and takes completions in. Returns whether there are any to
    /// be reported.
    #[inline]
    pub(crate) fn progress(&self) -> Result<bool, OpError> {
        self.check_process()?;
        let mut state = self.state.borrow_mut();
        match &self.nic.backend {
            Backend::Process(process) => {
                let is_idle = !state.drain();
                if state.publish() {
                    self.wake_engine();
                }
                self.notice_death(&mut state, process, is_idle);
            }
            Backend::Inline(inline) => {
                state.publish();
                inline.turn();
                state.drain();
            }
        }
        Ok(!state.ready.is_empty())
    }

    /// Looks now and then whether an engine process from which nothing comes is still there.
    #[inline]
    fn notice_death(&self, state: &mut State, process: &Process, is_idle: bool) {
        self.idle_polls.set(if is_idle { self.idle_polls.get() + 1 } else { 0 });
        if self.idle_polls.get() >= POLLS_UNTIL_LOOK {
            self.idle_polls.set(0);
            if process.is_gone() {
                state.engine_died();
            }
        }
    }

    /// Runs an op to its end and returns its result.
    ///
    /// # Errors
    /// How the op failed. A full session is waited for while ops that nobody wants any more are
    /// about to make room, at most for as long as the op may take; if only the caller can make room,
    /// it ends with [`OpError::NoRoom`] at once.
    pub fn run<O: Operation>(&self, op: Op<O>) -> Result<O::Output, OpError> {
        let mut full_since = None;
        let token = loop {
            if let Some(token) = self.start(&op, false)? {
                break token;
            }
            let state = self.state.borrow();
            let since = *full_since.get_or_insert_with(Instant::now);
            if !state.makes_room_by_itself() || since.elapsed() >= op.deadline {
                return Err(state.no_room(&op));
            }
            drop(state);
            self.progress()?;
        };
        loop {
            self.wait_for(token)?;
            if let Some(result) = self.state.borrow_mut().take::<O>(token) {
                return result;
            }
        }
    }

    /// Opens a way to an exported region of another host (or of this one). Ways whose
    /// [`RemoteRegion`]s were dropped are given back by the way.
    ///
    /// # Errors
    /// The target does not answer, speaks another version, or has no room.
    pub fn connect(&self, ticket: &Ticket) -> Result<RemoteRegion, NicError> {
        self.open_way(ticket, true)
    }

    /// The same, without waiting for the target: ops on the way wait until it has answered, and end as
    /// [`Status::Unreachable`] if it does not.
    pub(crate) fn way(&self, ticket: &Ticket) -> Result<RemoteRegion, NicError> {
        self.open_way(ticket, false)
    }

    fn open_way(&self, ticket: &Ticket, waits: bool) -> Result<RemoteRegion, NicError> {
        self.give_ways_back()?;
        let (session, engine, rkey) = (self.id, ticket.engine, ticket.rkey);
        let rkey = (rkey.export.get(), rkey.generation.get(), rkey.secret.get());
        let request = match waits {
            true => ControlRequest::Connect { session, engine, rkey },
            false => ControlRequest::Way { session, engine, rkey },
        };
        match self.nic.request(&request, &[])? {
            (ControlReply::Connected { remote }, _) => {
                Ok(RemoteRegion::new(remote, *ticket, &self.given_up))
            }
            _ => Err(NicError::OutOfTurn),
        }
    }

    /// Gives those ways back that nobody has any more and no op is out on.
    fn give_ways_back(&self) -> Result<(), NicError> {
        let given_up = self.given_up.take();
        if given_up.is_empty() || self.nic.is_forked() {
            return Ok(());
        }
        let used = self.state.borrow().slots.ways_in_use();
        let (used, remotes): (Vec<_>, Vec<_>) =
            given_up.into_iter().partition(|remote| used.contains(remote));
        self.given_up.replace(used);
        if !remotes.is_empty() {
            let request = ControlRequest::Disconnect { session: self.id, remotes };
            self.nic.request(&request, &[])?;
        }
        Ok(())
    }

    /// Whether the engine process is gone: nothing will arrive any more, and waiting returns at once.
    /// Open a new session with a new engine.
    pub fn is_lost(&self) -> bool {
        self.state.borrow().is_lost
    }

    /// How many replies were torn and asked for again.
    pub fn retries(&self) -> u64 {
        self.state.borrow().retries
    }

    /// How many ops are out, or over and not yet taken.
    pub fn in_use(&self) -> usize {
        self.state.borrow().slots.in_use()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.nic.let_go(&ControlRequest::CloseSession { session: self.id });
    }
}

impl AsFd for Session {
    /// What becomes readable when something arrives, for event loops: arm it with
    /// [`Session::arm`] before waiting on it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own_bell.as_fd()
    }
}

impl Session {
    /// Asks the engine to make the session's descriptor readable when an op is over. False: there
    /// is something already. Only sessions of an engine process have such a descriptor; with an
    /// inline engine nobody but the application polls.
    ///
    /// # Errors
    /// [`OpError::Forked`] in a child of the process that opened the session.
    pub fn arm(&self) -> Result<bool, OpError> {
        self.check_process()?;
        let _ = self.own_bell.drain();
        let is_driven = matches!(self.nic.backend, Backend::Process(_));
        Ok(is_driven && self.state.borrow_mut().prepare_sleep())
    }
}

/// The ops that a poll found over.
#[must_use = "ops that are over are reported here"]
pub struct Completions<'s> {
    session: &'s Session,
}

impl Iterator for Completions<'_> {
    type Item = Done;

    #[inline]
    fn next(&mut self) -> Option<Done> {
        let mut state = self.session.state.borrow_mut();
        loop {
            let token = state.ready.pop_front()?;
            // One that was given up since is skipped.
            if let Some(completion) = state.completion(token) {
                return Some(Done {
                    token,
                    status: completion.status(),
                    fate: completion.fate(),
                    length: completion.length.get(),
                    issue_delay_ns: completion.issue_delay_ns.get(),
                    total_delay_ns: completion.total_delay_ns.get(),
                    service_ns: completion.service_ns.get(),
                });
            }
        }
    }
}

impl<O: Operation> Pending<'_, O> {
    /// The op's token, as its [`Done`] will carry it.
    #[inline]
    pub fn token(&self) -> Token {
        self.token
    }

    /// The op's slot, below the session's depth.
    #[inline]
    pub fn slot(&self) -> usize {
        self.token as u32 as usize
    }

    /// The result of the op that is over.
    ///
    /// # Errors
    /// How the op failed; [`OpError::OtherOp`] if `done` is of another op; [`OpError::Forked`].
    #[inline]
    pub fn take(self, done: Done) -> Result<O::Output, OpError> {
        self.session.check_process()?;
        if done.token != self.token {
            return Err(OpError::OtherOp);
        }
        let result = self.session.state.borrow_mut().take::<O>(self.token);
        // The token names nothing any more, so there is nothing to give up.
        std::mem::forget(self);
        result.unwrap_or(Err(OpError::OtherOp))
    }
}

impl<O: Operation> Drop for Pending<'_, O> {
    #[inline]
    fn drop(&mut self) {
        self.session.state.borrow_mut().abandon(self.token);
    }
}
