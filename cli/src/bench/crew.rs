//! All threads of a bench, and what is looked at before and after they run.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use nic_engine::engine::Counters;
use nic_figures::{NoPlacement, Placement, PlacementProbe, cores};
use nic_host::{Endpoint, Nic, Wait};

use super::load::Load;
use super::site::Tickets;
use super::tally::Tally;
use super::worker::{Task, Worker};
use crate::engine_counters::{difference, in_status, settled};

/// Turns of an inline engine after its ops, so that the last acknowledgement leaves.
const LAST_TURNS: Duration = Duration::from_micros(300);

/// The local engine.
pub enum Engine {
    /// Inside this thread.
    Inline(Nic),
    /// A process of its own.
    Process {
        /// An eye on it.
        observer: Nic,
        /// Where each thread connects.
        endpoints: Vec<Endpoint>,
    },
}

/// What a thread is told.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Drive ops for so long.
    Run(Duration),
    /// Look at what they have left behind.
    Check,
}

/// What came out.
pub struct Outcome {
    /// Of all threads.
    pub tally: Tally,
    /// What the local engine has counted meanwhile; nothing if it is gone.
    pub counters: Option<Counters>,
    /// Bytes that each op moved.
    pub size: u32,
    /// Where the cores were.
    pub placement: [Result<Placement, NoPlacement>; 2],
}

/// What a bench is made of.
pub struct Crew<'c> {
    /// How much.
    pub load: &'c Load,
    /// Where.
    pub tickets: &'c Tickets,
    /// What the threads do while they wait.
    pub wait: Wait,
    /// The first thread's core.
    pub core: Option<usize>,
    /// Tells where the cores are.
    pub probe: &'c mut PlacementProbe,
}

impl Crew<'_> {
    /// Drives the load.
    ///
    /// # Errors
    /// It cannot be begun. Ops that fail are counted and no error.
    pub fn drive(&mut self, engine: Engine) -> Result<Outcome> {
        match engine {
            Engine::Inline(nic) => {
                let task = self.task(0, true);
                task.carry_out(&nic, |worker| {
                    let size = worker.size();
                    let look = || settle_inline(&nic);
                    self.measure(size, &look, &mut |order| worker.obey(order))
                })
            }
            Engine::Process { observer, endpoints } => self.drive_threads(&observer, endpoints),
        }
    }

    fn task(&self, thread: u32, is_inline: bool) -> Task {
        Task {
            load: self.load.clone(),
            tickets: self.tickets.clone(),
            thread,
            wait: self.wait,
            is_inline,
            core: self.core.filter(|_| thread == 0),
        }
    }

    fn drive_threads(&mut self, observer: &Nic, endpoints: Vec<Endpoint>) -> Result<Outcome> {
        let tasks: Vec<Task> = (0..self.load.threads).map(|t| self.task(t, false)).collect();
        std::thread::scope(|scope| {
            let mut hands = Vec::new();
            for (task, endpoint) in tasks.iter().zip(endpoints) {
                let (hand, post) = Hand::new();
                let name = format!("bench-{}", task.thread);
                std::thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, move || post.serve(task, endpoint))
                    .context("the system gives no thread")?;
                hands.push(hand);
            }
            let mut size = 0;
            for hand in &hands {
                size = hand.opened.recv().context("a thread of the bench has ended")??;
            }
            let look = || settled(|| in_status(&observer.status()?));
            let mut all = |order| all_obey(&hands, order);
            self.measure(size, &look, &mut all)
            // The threads end when nobody gives them orders any more.
        })
    }

    /// Warms up, measures, looks at what is left.
    fn measure(
        &mut self,
        size: u32,
        look: &dyn Fn() -> Result<Counters>,
        order: &mut dyn FnMut(Order) -> Result<Tally>,
    ) -> Result<Outcome> {
        let load = self.load;
        let mut warm = Tally::new(load.warmup)?;
        if !load.warmup.is_zero() {
            warm = order(Order::Run(load.warmup))?;
        }
        let before_placement = self.probe.measure();
        let before = look().ok();
        let mut tally = match warm.given_up {
            true => Tally::new(load.duration)?,
            false => order(Order::Run(load.duration))?,
        };
        let after = look().ok();
        let placement = [before_placement, self.probe.measure()];
        tally.join_errors(&warm);
        if tally.errors() == 0 {
            tally.join_errors(&order(Order::Check)?);
        }
        let counters = after.zip(before).map(|(after, before)| difference(&after, &before));
        Ok(Outcome { tally, counters, size, placement })
    }
}

impl Worker<'_> {
    fn obey(&mut self, order: Order) -> Result<Tally> {
        match order {
            Order::Run(time) => self.run(time),
            Order::Check => self.check(),
        }
    }
}

/// Runs the last turns of an inline engine; what it has counted then.
fn settle_inline(nic: &Nic) -> Result<Counters> {
    let begin = std::time::Instant::now();
    while begin.elapsed() < LAST_TURNS {
        nic.turn()?;
    }
    nic.counters().context("the engine is not inline")
}

/// A thread, seen from the one that gives orders.
struct Hand {
    opened: Receiver<Result<u32>>,
    orders: Sender<Order>,
    tallies: Receiver<Result<Tally>>,
}

/// A thread's side of it.
struct Post {
    opened: Sender<Result<u32>>,
    orders: Receiver<Order>,
    tallies: Sender<Result<Tally>>,
}

impl Hand {
    fn new() -> (Hand, Post) {
        let (to_opened, opened) = channel();
        let (orders, of_orders) = channel();
        let (to_tallies, tallies) = channel();
        let post = Post { opened: to_opened, orders: of_orders, tallies: to_tallies };
        (Hand { opened, orders, tallies }, post)
    }
}

impl Post {
    /// The whole life of a thread. Whoever gives orders may be gone before.
    fn serve(self, task: &Task, endpoint: Endpoint) {
        let outcome = self.try_serve(task, endpoint);
        if let Err(error) = outcome {
            let _ = self.opened.send(Err(error));
        }
    }

    fn try_serve(&self, task: &Task, endpoint: Endpoint) -> Result<()> {
        if let Some(core) = task.core {
            cores::pin_current_thread(core)?;
        }
        let nic = Nic::connect(endpoint)?;
        task.carry_out(&nic, |worker| {
            let _ = self.opened.send(Ok(worker.size()));
            while let Ok(order) = self.orders.recv() {
                let _ = self.tallies.send(worker.obey(order));
            }
            Ok(())
        })
    }
}

/// All threads do the same at the same time; what came of it together.
fn all_obey(hands: &[Hand], order: Order) -> Result<Tally> {
    let gone = "a thread of the bench has ended";
    for hand in hands {
        hand.orders.send(order).context(gone)?;
    }
    let mut all: Option<Tally> = None;
    for hand in hands {
        let tally = hand.tallies.recv().context(gone)??;
        match &mut all {
            None => all = Some(tally),
            Some(all) => all.join(&tally)?,
        }
    }
    all.context("there are no threads")
}
