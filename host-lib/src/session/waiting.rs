//! How a session waits: it looks again and again for a while, then sleeps until woken.

use std::time::Duration;

use nic_engine::clock;
use nic_engine::waiting::{Step, Waiting};
use nic_wire::{Span, Time};

use super::{Session, Token, Wait};
use crate::error::OpError;
use crate::nic::Backend;

/// How long an adaptive session looks before it sleeps: longer than most ops take.
const SPIN: Duration = Duration::from_micros(50);
/// Looks between two readings of the clock.
const LOOKS: u32 = 64;
/// How long [`Session::block_on`] waits until it polls its future again, which may wait for something
/// else than this session.
const MOMENT: Span = Span::from_ms(100);
/// A sleep ends after this long in any case: whatever happens, the session looks around. Its engine's
/// death wakes it at once.
const SLEEP_MAX: Span = Span::from_ms(60_000);

impl Wait {
    pub(super) fn begin(self) -> Waiting {
        Waiting::new(match self {
            Wait::Spin => None,
            Wait::Adaptive => Some(SPIN),
            Wait::Block => Some(Duration::ZERO),
        })
    }
}

impl Session {
    /// Waits until an op is over or a call has come, at most `timeout`. Returns whether one has, or
    /// the engine process is gone ([`Session::is_lost`]).
    /// With nothing out and nothing served it waits all the same: for calls, or for the time.
    ///
    /// # Errors
    /// [`OpError::Forked`] in a child of the process that opened the session.
    pub fn wait(&self, timeout: Duration) -> Result<bool, OpError> {
        self.check_process()?;
        if self.has_news() {
            return Ok(true);
        }
        let timeout = Span::from_ns(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        self.look_until(clock::now() + timeout, |session| {
            session.progress()?;
            Ok(session.has_news())
        })
    }

    /// Waits until an op is over; ops of others that end meanwhile stay to be reported.
    pub(super) fn wait_for(&self, token: Token) -> Result<(), OpError> {
        let look = |session: &Self| {
            session.progress()?;
            Ok(session.state.borrow_mut().completion(token).is_some())
        };
        self.look_until(Time::NEVER, look).map(drop)
    }

    /// Waits until the rings have something, or a moment has passed. What has arrived stays there:
    /// futures take it when they are polled.
    pub(super) fn wait_for_arrival(&self) {
        let look = |session: &Self| {
            let mut state = session.state.borrow_mut();
            if state.is_lost || state.has_arrivals() {
                return Ok(true);
            }
            match &session.nic.backend {
                Backend::Process(process) => session.notice_death(&mut state, process, true),
                Backend::Inline(inline) => {
                    state.publish();
                    inline.turn();
                }
            }
            Ok(false)
        };
        // The look does not fail, and the futures find out themselves what has come.
        let _ = self.look_until(clock::now() + MOMENT, look);
    }

    /// Looks again and again, at most until `end`, and sleeps as the session does. Returns whether
    /// a look has found what it looks for.
    #[inline]
    pub(crate) fn look_until(
        &self,
        end: Time,
        mut look: impl FnMut(&Self) -> Result<bool, OpError>,
    ) -> Result<bool, OpError> {
        let looks = if self.waiting.borrow().is_block() { 1 } else { LOOKS };
        let mut has_begun = false;
        loop {
            for _ in 0..looks {
                if look(self)? {
                    return Ok(true);
                }
            }
            let now = clock::now();
            if now >= end {
                return Ok(false);
            }
            match self.step(now, &mut has_begun) {
                Step::Look => {}
                Step::Yield => std::thread::yield_now(),
                Step::Sleep => {
                    self.sleep(end.since(now).min(SLEEP_MAX));
                    self.waiting.borrow_mut().woke(clock::now());
                }
            }
        }
    }

    fn step(&self, now: Time, has_begun: &mut bool) -> Step {
        let mut waiting = self.waiting.borrow_mut();
        if !std::mem::replace(has_begun, true) {
            waiting.worked(now);
        }
        waiting.idle(now)
    }

    /// Whether something is there to be taken.
    #[inline]
    fn has_news(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.is_lost || !state.ready.is_empty() || state.has_arrivals()
    }

    fn sleep(&self, timeout: Span) {
        {
            let mut state = self.state.borrow_mut();
            if state.is_lost || !state.prepare_sleep() {
                return;
            }
        }
        let timeout = Duration::from_nanos(timeout.as_ns());
        match &self.nic.backend {
            Backend::Process(process) => {
                if process.sleep(&self.own_bell, timeout) {
                    self.state.borrow_mut().engine_died();
                }
            }
            Backend::Inline(inline) => inline.sleep(timeout),
        }
        self.state.borrow_mut().awake();
    }
}
