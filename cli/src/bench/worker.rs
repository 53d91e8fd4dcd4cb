//! One thread's connections, and how it goes round them.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nic_host::{Nic, Session, Wait};
use nic_shm::wait_any;

use super::lane::Lane;
use super::load::{Load, WATCHED_MAX};
use super::ops::{Ground, Prepared};
use super::pace::{Pace, Share};
use super::site::{Site, Stock, Tickets};
use super::tally::Tally;
use crate::random::Random;

/// How long to sleep at most while nothing comes.
const NAP: Duration = Duration::from_millis(10);
/// How long an adaptive thread with several connections looks before it sleeps.
const LOOK: Duration = Duration::from_micros(50);
/// How long after its deadline an op may still be out: then it was lost, which must not be.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// How long, beside the deadline, nothing but failures may come.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a thread is to do.
#[derive(Clone, Debug)]
pub struct Task {
    /// The whole load.
    pub load: Load,
    /// Where.
    pub tickets: Tickets,
    /// Which of the load's threads.
    pub thread: u32,
    /// What it does while it waits.
    pub wait: Wait,
    /// Whether its engine is driven by the thread itself.
    pub is_inline: bool,
    /// The core to run on.
    pub core: Option<usize>,
}

/// A thread's connections.
pub struct Worker<'w> {
    task: &'w Task,
    lanes: Vec<Box<dyn Lane + 'w>>,
    size: u32,
    /// When something last happened, in nanoseconds since the beginning.
    moved_ns: u64,
}

impl Task {
    /// Opens the connections, and has something done with them.
    pub fn carry_out<T>(
        &self,
        nic: &Nic,
        body: impl FnOnce(&mut Worker<'_>) -> Result<T>,
    ) -> Result<T> {
        let load = &self.load;
        let connections: Vec<u32> = load.of_thread(self.thread).collect();
        let (mut sessions, mut sites) = (Vec::new(), Vec::new());
        for _ in &connections {
            let (session, site) = self.open(nic)?;
            sessions.push(session);
            sites.push(site);
        }
        let mut random = Random::new(load.seed ^ (u64::from(self.thread) << 32));
        let Some(first) = sites.first() else { bail!("a thread has no connections") };
        let size = first.size(load)?;
        let stock = Stock::new(load, first, size, random.next());
        let (mut grounds, nothing) = (Vec::new(), Prepared::default());
        for (session, site) in sessions.iter().zip(&sites) {
            let own = site.claim(session, load, size)?;
            let (stock, seed) = (&stock, random.next());
            let prepared = &nothing;
            grounds.push(Ground { session, site, stock, prepared, load, size, own, seed });
        }
        let prepared: Result<Vec<_>> = grounds.iter().map(load.op.prepare).collect();
        let prepared = prepared?;
        let mut lanes = Vec::new();
        for (ground, prepared) in grounds.iter().zip(&prepared) {
            lanes.push((load.op.open)(Ground { prepared, ..*ground })?);
        }
        body(&mut Worker { task: self, lanes, size, moved_ns: 0 })
    }

    /// A session and its way to the memory. How large its ops are may be known only by looking
    /// there, so a small session looks first.
    fn open(&self, nic: &Nic) -> Result<(Session, Site)> {
        let load = &self.load;
        let open = |size| -> Result<(Session, Site)> {
            let arena = load.arena_bytes(size)?;
            let session = nic.session().depth(load.depth()).arena(arena).wait(self.wait).open()?;
            let site = Site::open(&session, &self.tickets, load)?;
            Ok((session, site))
        };
        let guess = load.size.unwrap_or(load.op.sizes.usual);
        let (session, site) = open(guess)?;
        match site.size(load)? {
            size if size <= guess => Ok((session, site)),
            size => {
                drop((site, session));
                open(size)
            }
        }
    }
}

impl Worker<'_> {
    /// Bytes that each op moves.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Drives ops for so long, and waits until all are over.
    pub fn run(&mut self, time: Duration) -> Result<Tally> {
        let mut tally = Tally::new(time)?;
        let retries = self.retries();
        let load = &self.task.load;
        let time_ns = time.as_nanos() as u64;
        for (lane, connection) in self.lanes.iter_mut().zip(load.of_thread(self.task.thread)) {
            let share = load.rate.map(|rate| {
                let connections = load.connections;
                Share { rate, connection, connections }
            });
            lane.begin(Pace::new(share, time_ns));
        }
        let lost_after_ns = (load.deadline + LOST_AFTER).as_nanos() as u64;
        self.moved_ns = 0;
        let begin = Instant::now();
        loop {
            let now_ns = begin.elapsed().as_nanos() as u64;
            let is_over = now_ns >= time_ns || tally.given_up;
            if is_over && self.lanes.iter().all(|lane| lane.out() == 0) {
                break;
            }
            if self.go_round(now_ns, is_over, begin, &mut tally)? {
                self.moved_ns = now_ns;
            } else {
                self.wait(now_ns, time_ns)?;
            }
            if tally.is_failing() && !tally.given_up {
                tally.given_up = tally.is_hopeless(now_ns, load.deadline + PATIENCE)
                    || self.lanes.iter().any(|lane| lane.session().is_lost());
            }
            if now_ns > time_ns.saturating_add(lost_after_ns) {
                bail!("ops are out long after their deadline: please report it");
            }
        }
        tally.elapsed = begin.elapsed();
        let now_ns = tally.elapsed.as_nanos() as u64;
        tally.overdue = self.lanes.iter().map(|lane| lane.pace().overdue(now_ns)).sum();
        tally.retries = self.retries() - retries;
        Ok(tally)
    }

    /// Looks at what the ops have left behind.
    pub fn check(&mut self) -> Result<Tally> {
        let mut tally = Tally::new(Duration::ZERO)?;
        for lane in &mut self.lanes {
            lane.check(&mut tally);
            if tally.is_failing() {
                break;
            }
        }
        Ok(tally)
    }

    /// Goes round the connections once. Whether anything happened.
    #[inline]
    fn go_round(
        &mut self,
        now_ns: u64,
        is_over: bool,
        begin: Instant,
        tally: &mut Tally,
    ) -> Result<bool> {
        let mut moved = 0;
        if !is_over {
            for lane in &mut self.lanes {
                moved += lane.submit(now_ns, tally)?;
            }
        }
        for lane in &mut self.lanes {
            moved += lane.collect(begin, tally)?;
        }
        Ok(moved > 0)
    }

    /// Waits until something may have happened or is due.
    fn wait(&self, now_ns: u64, time_ns: u64) -> Result<()> {
        let with_room = self.lanes.iter().filter(|lane| lane.has_room());
        let due_ns = with_room.filter_map(|lane| lane.pace().until_due(now_ns)).min();
        let end_ns = if now_ns < time_ns { time_ns - now_ns } else { u64::MAX };
        let nap = Duration::from_nanos(due_ns.unwrap_or(u64::MAX).min(end_ns)).min(NAP);
        match self.lanes.as_slice() {
            // A rate leaves pauses that are too short to sleep.
            _ if due_ns.is_some() && self.task.wait == Wait::Spin => {}
            [only] => {
                only.session().wait(nap)?;
            }
            // One engine turns for all of them.
            _ if self.task.wait == Wait::Spin => {}
            _ if self.task.is_inline => std::thread::yield_now(),
            lanes => self.sleep(lanes, now_ns, nap)?,
        }
        Ok(())
    }

    /// Sleeps until something comes for any of several connections.
    fn sleep(&self, lanes: &[Box<dyn Lane + '_>], now_ns: u64, nap: Duration) -> Result<()> {
        let looked_ns = now_ns.saturating_sub(self.moved_ns);
        if self.task.wait == Wait::Adaptive && u128::from(looked_ns) < LOOK.as_nanos() {
            return Ok(());
        }
        let Some(first) = lanes.first().map(|lane| lane.session()) else { return Ok(()) };
        let mut descriptors = [first.as_fd(); WATCHED_MAX];
        for (lane, descriptor) in lanes.iter().zip(&mut descriptors) {
            if !lane.session().arm()? {
                return Ok(());
            }
            *descriptor = lane.session().as_fd();
        }
        let watched = lanes.len().min(WATCHED_MAX);
        if wait_any(&descriptors[..watched], Some(nap))?.is_empty() {
            // This notices an engine that is gone.
            first.wait(Duration::from_micros(1))?;
        }
        Ok(())
    }

    fn retries(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.session().retries()).sum()
    }
}
