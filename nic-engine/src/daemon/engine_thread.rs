//! The thread that drives one engine of a daemon.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use nic_shm::{Doorbell, DoorbellSet, Mailbox, Ready, wait_any};
use nic_wire::Time;

use super::counters_page::CountersPage;
use crate::clock;
use crate::engine::{Answered, Counters, Work};
use crate::local::LocalEngine;
use crate::waiting::{Step, Waiting};

/// Busy turns between two publications of the counters.
const PUBLISH_TURNS: u32 = 64;
/// Or after so many without, some microseconds: not in the midst of one op after the other.
const PUBLISH_IDLE_TURNS: u32 = 16;
/// The longest sleep: whatever happens, the engine looks around this often.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// A piece of control work and its number.
#[derive(Debug)]
pub struct Post {
    /// The number.
    pub id: u64,
    /// The work, until the engine has taken it.
    pub work: Option<Work>,
}

/// What an engine thread shares with the control thread.
#[derive(Clone)]
pub struct EngineLink {
    /// Work for the engine, one piece at a time.
    pub mailbox: Arc<Mailbox<Post>>,
    /// Rung by the threads of this process to wake the engine.
    pub bell: Arc<Doorbell>,
    /// Rung by applications; whatever they do to their doorbells, nothing here blocks.
    pub bells: Arc<DoorbellSet>,
    /// Answers, and the number of the engine that gives them.
    pub answers: Sender<(usize, Answered)>,
    /// Wakes the control thread.
    pub control_bell: Arc<Doorbell>,
    /// Tells the engine to end.
    pub stop: Arc<AtomicBool>,
    /// Where its counters are published.
    pub counters: CountersPage,
}

/// Drives an engine until it is told to stop.
pub fn drive(engine: &mut dyn LocalEngine, number: usize, link: &EngineLink, mut waiting: Waiting) {
    let (mut unpublished, mut idle_turns) = (0, 0u32);
    waiting.worked(clock::now());
    while !link.stop.load(Ordering::Relaxed) {
        let now = clock::now();
        let had_control_work = take_control_work(engine, link, now);
        let turn = engine.poll(now);
        send_answers(engine, number, link);
        if turn.busy {
            unpublished += 1;
            idle_turns = 0;
        } else {
            idle_turns = idle_turns.saturating_add(1);
        }
        if unpublished >= PUBLISH_TURNS || unpublished > 0 && idle_turns >= PUBLISH_IDLE_TURNS {
            publish(engine, link, &waiting);
            unpublished = 0;
        }
        if turn.busy || had_control_work {
            waiting.worked(now);
            continue;
        }
        match waiting.idle(now) {
            Step::Look => {}
            Step::Yield => std::thread::yield_now(),
            Step::Sleep => {
                sleep(engine, link, &waiting);
                unpublished = 0;
            }
        }
    }
    publish(engine, link, &waiting);
}

fn take_control_work(engine: &mut dyn LocalEngine, link: &EngineLink, now: Time) -> bool {
    let Some(mut post) = link.mailbox.take() else { return false };
    if let Some(work) = post.work.take() {
        engine.control(now, post.id, work);
    }
    link.mailbox.answer(post);
    true
}

fn publish(engine: &dyn LocalEngine, link: &EngineLink, waiting: &Waiting) {
    let (crowded, yields) = (waiting.crowded(), waiting.yields());
    link.counters.publish(&Counters { crowded, yields, ..engine.counters() });
}

fn send_answers(engine: &mut dyn LocalEngine, number: usize, link: &EngineLink) {
    while let Some(answer) = engine.next_answer() {
        // A control thread that is gone needs no answers.
        let _ = link.answers.try_send((number, answer));
        let _ = link.control_bell.ring();
    }
}

/// Sleeps until a packet, a command, control work or a deadline comes.
fn sleep(engine: &mut dyn LocalEngine, link: &EngineLink, waiting: &Waiting) {
    if !engine.prepare_wait() {
        return;
    }
    publish(engine, link, waiting);
    let until = engine.next_timeout();
    // A port that is polled wakes nobody.
    let longest = engine.sleep_max().map_or(SLEEP_MAX, |most| most.min(SLEEP_MAX));
    let timeout = match until {
        Time::NEVER => longest,
        until => Duration::from_nanos(until.since(clock::now()).as_ns()).min(longest),
    };
    // Control work is announced on the bell after it is posted, so it cannot be missed here.
    let outcome = match engine.wait_descriptor() {
        Some(port) => wait_any(&[link.bell.as_fd(), link.bells.as_fd(), port], Some(timeout)),
        None => wait_any(&[link.bell.as_fd(), link.bells.as_fd()], Some(timeout)),
    };
    let ready = outcome.unwrap_or_else(|error| {
        tracing::error!(%error, "an engine cannot sleep; it spins instead");
        Ready::NONE
    });
    if ready.contains(0) {
        let _ = link.bell.drain();
    }
    if ready.contains(1) {
        link.bells.clear();
    }
    engine.end_wait();
}
