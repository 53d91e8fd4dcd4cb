//! The two threads of a placement probe: pinned, blocked between probes, ended by a drop.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::cores;
use crate::ping_pong::{CHUNKS_MIN, PingPong};
use crate::placement::{NoPlacement, Placement};
use crate::sample::median;

/// By when a probe ends even if other work keeps its cores busy. Some time slices of a fair
/// scheduler: enough to run beside one spinning thread per core.
const PROBE_LIMIT: Duration = Duration::from_millis(40);
/// How long to wait for a thread that gets no time on its core at all (real-time work there).
const STARVED_LIMIT: Duration = Duration::from_millis(500);

/// One probe, as a thread is told of it.
#[derive(Debug, Clone, Copy)]
struct Order {
    generation: u32,
    limit: Instant,
}

/// What a thread tells back.
#[derive(Debug)]
enum Report {
    /// Once per thread: whether it sits on its core.
    Pinned(Result<(), cores::CoreError>),
    /// Once per probe, from the initiating thread: round trips in nanoseconds.
    Timed { generation: u32, chunks: Vec<f64> },
}

#[derive(Debug)]
pub(crate) struct ProbeThreads {
    pub(crate) cores: (usize, usize),
    generation: u32,
    /// The same lines for every probe: where they lie in the CPU's distributed cache has a part
    /// in the round trip.
    lines: Arc<PingPong>,
    /// Dropped to end the threads.
    orders: Vec<Sender<Order>>,
    /// Both threads hold a sender: disconnected means that both are ending.
    reports: Receiver<Report>,
    handles: Vec<JoinHandle<()>>,
}

impl ProbeThreads {
    pub(crate) fn start(cores: (usize, usize)) -> Result<Self, NoPlacement> {
        let lines = Arc::new(PingPong::default());
        let (report, reports) = channel();
        let (orders, handles) = (Vec::new(), Vec::new());
        let mut threads = Self { cores, generation: 0, lines, orders, reports, handles };
        for (core, initiates) in [(cores.0, true), (cores.1, false)] {
            let (order, orders) = channel();
            let (lines, report) = (Arc::clone(&threads.lines), report.clone());
            let handle = Builder::new()
                .name(format!("placement-{core}"))
                .spawn(move || serve(core, initiates, &lines, &orders, &report))
                .map_err(|error| NoPlacement::NoThread { reason: error.to_string() })?;
            threads.orders.push(order);
            threads.handles.push(handle);
        }
        drop(report);
        for _ in 0..threads.handles.len() {
            if let Report::Pinned(pinned) = threads.next_report()? {
                pinned?;
            }
        }
        Ok(threads)
    }

    pub(crate) fn measure(&mut self) -> Result<Placement, NoPlacement> {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let order = Order { generation, limit: Instant::now() + PROBE_LIMIT };
        for orders in &self.orders {
            orders.send(order).map_err(|_| NoPlacement::Stopped)?;
        }
        loop {
            match self.next_report()? {
                Report::Timed { generation: of, mut chunks } if of == generation => {
                    let count = chunks.len();
                    return match median(&mut chunks) {
                        Some(round_trip_ns) if count >= CHUNKS_MIN => {
                            Ok(Placement { round_trip_ns })
                        }
                        _ => Err(NoPlacement::Busy { cores: self.cores, chunks: count }),
                    };
                }
                // From a thread that was starved beyond the end of an earlier probe.
                Report::Timed { .. } | Report::Pinned(_) => {}
            }
        }
    }

    fn next_report(&self) -> Result<Report, NoPlacement> {
        self.reports.recv_timeout(STARVED_LIMIT).map_err(|error| match error {
            RecvTimeoutError::Timeout => NoPlacement::Busy { cores: self.cores, chunks: 0 },
            RecvTimeoutError::Disconnected => NoPlacement::Stopped,
        })
    }
}

impl Drop for ProbeThreads {
    /// Ends the threads and waits for them; a thread that its core does not let run within half a
    /// second is left to end by itself once it is.
    fn drop(&mut self) {
        self.orders.clear();
        loop {
            match self.reports.recv_timeout(STARVED_LIMIT) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for handle in self.handles.drain(..) {
            // A panic in it was reported by its hook, and there is nobody to hand it to here.
            let _ = handle.join();
        }
    }
}

/// The life of a probe thread: blocked until it is ordered to probe, ended by the probe's drop.
fn serve(
    core: usize,
    initiates: bool,
    lines: &PingPong,
    orders: &Receiver<Order>,
    reports: &Sender<Report>,
) {
    let pinned = cores::pin_current_thread(core);
    let failed = pinned.is_err();
    // A failed send means that the probe is gone; then `orders` is closed too.
    let _ = reports.send(Report::Pinned(pinned));
    if failed {
        return;
    }
    while let Ok(Order { generation, limit }) = orders.recv() {
        if initiates {
            let chunks = lines.initiate(generation, limit);
            let _ = reports.send(Report::Timed { generation, chunks });
        } else {
            lines.respond(generation, limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn threads_block_between_probes_and_end_on_drop() {
        let Ok(pair) = cores::pick_pair() else { return };
        let mut threads = ProbeThreads::start(pair.cores()).unwrap();
        let _ = threads.measure();
        // The names are those of every probe of this process, so all of them must be asleep at
        // some moment: a spinning thread never would be. Other tests' probes end soon.
        let asleep = || {
            std::thread::yield_now();
            let states = probe_thread_states();
            states.len() >= 2 && states.iter().all(|state| state == "S")
        };
        assert!((0..100_000).any(|_| asleep()), "{:?}", probe_thread_states());
        // Both threads hold the lines: nobody does once they have ended.
        let lines = Arc::downgrade(&threads.lines);
        assert_eq!(lines.strong_count(), 3);
        drop(threads);
        assert_eq!(lines.strong_count(), 0);
    }

    fn probe_thread_states() -> Vec<String> {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let stats =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
        stats
            .filter(|stat| stat.contains("(placement-"))
            .filter_map(|stat| Some(stat.rsplit_once(") ")?.1.split(' ').next()?.to_owned()))
            .collect()
    }
}
