//! Which engines answer that senders name. A sender says where its memory is, and may name an engine
//! that never answers: whoever asks such a one again and again waits longer each time, and few that
//! have not answered yet are asked at a time. Those that have answered are not held up by the others.

use std::net::SocketAddr;

use nic_wire::{Span, Status, Time};

/// Engines that are remembered.
const ENGINES_MAX: usize = 64;
/// Engines that are asked at a time.
const ASKED_MAX: usize = 8;
/// Longer than an engine tries to open a flow: one that has brought nothing by then is not there.
const ASKED_SPAN: Span = Span::from_ms(5_000);
/// How long one that was asked in vain is left alone; twice as long each time.
const PAUSE: Span = Span::from_ms(1_000);
/// How often that doubles: to about a minute.
const DOUBLINGS_MAX: u32 = 6;

/// What is known of the engines that senders have named.
#[derive(Default)]
pub(super) struct Reach {
    /// In the order in which they were named first.
    engines: Vec<Known>,
}

struct Known {
    engine: SocketAddr,
    state: State,
    /// How often in a row it was asked in vain.
    in_vain: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has answered.
    Reached,
    /// It is being asked.
    Asked { since: Time },
    /// It did not answer.
    Silent { until: Time },
}

/// Whether an engine that may be asked has answered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    /// It has: as much may be asked for as one likes.
    Read,
    /// It has not: one op is enough to find out.
    Try,
}

impl Reach {
    /// Whether ops may be sent to an engine now; or how one ends that is not sent.
    pub(super) fn ask(&mut self, engine: SocketAddr, now: Time) -> Result<May, Status> {
        self.give_up_late(now);
        let found = self.engines.iter().position(|known| known.engine == engine);
        match found.map(|place| self.engines[place].state) {
            Some(State::Reached) => return Ok(May::Read),
            Some(State::Asked { .. }) => return Ok(May::Try),
            Some(State::Silent { until }) if now < until => return Err(Status::Unreachable),
            Some(State::Silent { .. }) | None => {}
        }
        let is_asked = |known: &&Known| matches!(known.state, State::Asked { .. });
        if self.engines.iter().filter(is_asked).count() >= ASKED_MAX {
            return Err(Status::Busy);
        }
        let state = State::Asked { since: now };
        match found {
            Some(place) => self.engines[place].state = state,
            None => {
                self.make_room();
                self.engines.push(Known { engine, state, in_vain: 0 });
            }
        }
        Ok(May::Try)
    }

    /// How an op ended that was sent to an engine.
    pub(super) fn heard(&mut self, engine: SocketAddr, status: Status, now: Time) {
        let Some(known) = self.engines.iter_mut().find(|known| known.engine == engine) else {
            return;
        };
        match status {
            Status::Unreachable | Status::VersionMismatch => known.was_silent(now),
            // These tell nothing of it, or come from this side.
            Status::Expired
            | Status::Cancelled
            | Status::Busy
            | Status::BadCommand
            | Status::Draining
            | Status::PeerLost
            | Status::EngineLost => {}
            _ => (known.state, known.in_vain) = (State::Reached, 0),
        }
    }

    fn give_up_late(&mut self, now: Time) {
        for known in &mut self.engines {
            if matches!(known.state, State::Asked { since } if now.since(since) >= ASKED_SPAN) {
                known.was_silent(now);
            }
        }
    }

    /// Forgets one, if there are many: rather a silent one, the one that could be asked again first.
    fn make_room(&mut self) {
        if self.engines.len() < ENGINES_MAX {
            return;
        }
        let order = |known: &Known| match known.state {
            State::Silent { until } => (0, until),
            State::Reached => (1, Time::ZERO),
            State::Asked { since } => (2, since),
        };
        let first = (0..self.engines.len()).min_by_key(|place| order(&self.engines[*place]));
        self.engines.remove(first.unwrap_or(0));
    }
}

impl Known {
    fn was_silent(&mut self, now: Time) {
        let pause = PAUSE.as_ns() << self.in_vain.min(DOUBLINGS_MAX);
        self.in_vain = self.in_vain.saturating_add(1);
        self.state = State::Silent { until: now + Span::from_ns(pause) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(number: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], number))
    }

    fn at(ms: u64) -> Time {
        Time::ZERO + Span::from_ms(1_000 + ms)
    }

    #[test]
    fn a_silent_engine_is_left_alone_longer_each_time_and_forgiven_when_it_answers() {
        let mut reach = Reach::default();
        let mut now = 0;
        for pause in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 64_000] {
            assert_eq!(reach.ask(engine(1), at(now)), Ok(May::Try));
            assert_eq!(reach.ask(engine(1), at(now)), Ok(May::Try), "it is being asked");
            reach.heard(engine(1), Status::Unreachable, at(now));
            assert_eq!(reach.ask(engine(1), at(now + pause - 1)), Err(Status::Unreachable));
            now += pause;
        }
        assert_eq!(reach.ask(engine(1), at(now)), Ok(May::Try));
        // A wrong key was refused by somebody.
        reach.heard(engine(1), Status::BadRkey, at(now));
        assert_eq!(reach.ask(engine(1), at(now)), Ok(May::Read));
        reach.heard(engine(1), Status::PeerLost, at(now));
        reach.heard(engine(1), Status::Unreachable, at(now));
        assert_eq!(reach.ask(engine(1), at(now + 1_000)), Ok(May::Try), "as at the first time");
    }

    #[test]
    fn few_are_asked_at_a_time_and_those_that_answered_do_not_wait_for_them() {
        let mut reach = Reach::default();
        assert_eq!(reach.ask(engine(0), at(0)), Ok(May::Try));
        reach.heard(engine(0), Status::Ok, at(0));
        // Many more than are remembered, of which none answers.
        for number in 1..1_000 {
            let now = at(u64::from(number));
            let expected =
                if number <= ASKED_MAX as u16 { Ok(May::Try) } else { Err(Status::Busy) };
            assert_eq!(reach.ask(engine(number), now), expected);
            assert_eq!(reach.ask(engine(0), now), Ok(May::Read));
        }
        // Nothing is heard of them, be it that those who asked did not wait.
        reach.heard(engine(1), Status::Expired, at(1_000));
        let mut asked = 0;
        for round in 1..100 {
            let now = at(round * 6_000);
            for number in 0..20 {
                let named = 2_000 + round as u16 * 20 + number;
                asked += usize::from(reach.ask(engine(named), now).is_ok());
            }
            assert_eq!(reach.ask(engine(0), now), Ok(May::Read), "it is not forgotten");
            assert!(reach.engines.len() <= ENGINES_MAX);
        }
        assert_eq!(asked, 99 * ASKED_MAX);
    }
}
