//! How much is driven: what the command line asks for, and whether it can be.

use std::path::PathBuf;
use std::time::Duration;

use nic_host::Wait;

use super::fault::Fault;
use super::ops::{self, OpKind};

/// Ops that a session may have out.
const WINDOW_MAX: i64 = 4096;
/// Sessions that an engine process has, unless it is told otherwise.
const CONNECTIONS_MAX: i64 = 128;
/// The most session memory of a connection, in bytes.
const ARENA_BYTES_MAX: u64 = 1 << 30;
const ARENA_BYTES_MIN: u64 = 64 << 10;
/// What an op takes of the session's memory besides what it moves, in bytes.
const OP_EXTRA_BYTES: u64 = 512;
/// The smallest piece of a session's memory, in bytes.
const PIECE_BYTES_MIN: u64 = 256;
/// Sessions that a thread can sleep on.
pub const WATCHED_MAX: usize = nic_shm::WAIT_DESCRIPTORS_MAX;

/// What a waiting thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Waiting {
    /// Look again and again: the lowest latency, a whole core.
    Spin,
    /// Look for a moment, then sleep.
    Adaptive,
    /// Sleep at once.
    Block,
}

impl From<Waiting> for Wait {
    fn from(waiting: Waiting) -> Wait {
        match waiting {
            Waiting::Spin => Wait::Spin,
            Waiting::Adaptive => Wait::Adaptive,
            Waiting::Block => Wait::Block,
        }
    }
}

/// The load as the command line has it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load")]
#[group(skip)]
pub struct Arguments {
    /// What to do; the ops are listed below.
    #[arg(long, value_parser = ops::parser(), default_value = "read", hide_possible_values = true)]
    pub op: &'static OpKind,
    /// Bytes that each op moves (64, 4KiB, 1MiB).
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    size: Option<u64>,
    /// Ops that each connection has out at once.
    #[arg(long, value_name = "OPS", default_value_t = 1, value_parser = range(WINDOW_MAX))]
    window: u32,
    /// Ops that are submitted together, at one turn [default: a quarter of the window].
    #[arg(long, value_name = "OPS", value_parser = range(WINDOW_MAX))]
    batch: Option<u32>,
    /// Sessions, each with a window of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = range(CONNECTIONS_MAX))]
    connections: u32,
    /// Threads that drive them [default: as many as connections, up to half of the cores; one if the
    /// engine is inline].
    #[arg(long, value_name = "COUNT", value_parser = range(CONNECTIONS_MAX))]
    pub threads: Option<u32>,
    /// How long to measure (500ms, 10s, 1min).
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    duration: Duration,
    /// How long to run before that, unmeasured.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = time_or_none)]
    warmup: Duration,
    /// Open loop: so many ops a second are due, of all connections together, and each one's latency
    /// counts from when it was due, so that the time for which a slow system keeps ops waiting is
    /// in it. Without it the loop is closed: each connection keeps its window full, and latency
    /// counts from the submission, which hides that waiting (coordinated omission) but finds the
    /// highest rate.
    #[arg(long, value_name = "OPS_PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    rate: Option<u64>,
    /// How long each op may take; then it ends as expired.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    deadline: Duration,
    /// What the threads do while they wait [default: spin where they have a core of their own].
    #[arg(long, value_enum)]
    pub wait: Option<Waiting>,
    /// Makes addresses and keys; equal seeds repeat.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Draw the distribution of latencies as an SVG picture.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

/// A load that can be.
#[derive(Clone, Debug)]
pub struct Load {
    /// What is done.
    pub op: &'static OpKind,
    /// Bytes that each op moves, if it is said.
    pub size: Option<u32>,
    /// Ops that each connection has out.
    pub window: u32,
    /// Ops submitted together.
    pub batch: u32,
    /// Sessions.
    pub connections: u32,
    /// Threads that drive them.
    pub threads: u32,
    /// How long is measured.
    pub duration: Duration,
    /// How long is not, before.
    pub warmup: Duration,
    /// Ops a second; none: a closed loop.
    pub rate: Option<u64>,
    /// How long an op may take.
    pub deadline: Duration,
    /// Of random numbers.
    pub seed: u64,
}

impl Arguments {
    /// The load, if it can be; with so many threads unless it is said.
    pub fn check(&self, threads: u32) -> Result<Load, Fault> {
        let Arguments { op, window, connections, .. } = *self;
        let size = self.size.map(|found| match u32::try_from(found) {
            Ok(size) if (op.sizes.least..=op.sizes.most).contains(&size) => Ok(size),
            _ => Err(Fault::Size { found, op }),
        });
        let batch = self.batch.unwrap_or((window / 4).max(1));
        if batch > window {
            return Err(Fault::Batch { batch, window });
        }
        if let Some(threads) = self.threads.filter(|threads| *threads > connections) {
            return Err(Fault::Threads { threads, connections });
        }
        let load = Load {
            op,
            size: size.transpose()?,
            window,
            batch,
            connections,
            threads: self.threads.unwrap_or(threads.clamp(1, connections)),
            duration: self.duration,
            warmup: self.warmup,
            rate: self.rate,
            deadline: self.deadline,
            seed: self.seed,
        };
        load.arena_bytes(load.size.unwrap_or(op.sizes.usual))?;
        Ok(load)
    }
}

impl Load {
    /// Places of a session.
    pub fn depth(&self) -> u32 {
        self.window.max(2).next_power_of_two()
    }

    /// Memory of a session for ops of this size, in bytes.
    pub fn arena_bytes(&self, size: u32) -> Result<u32, Fault> {
        let moved = u64::from(size) * u64::from(self.op.values);
        let piece = (moved + OP_EXTRA_BYTES).next_power_of_two().max(PIECE_BYTES_MIN);
        let needed = (piece * u64::from(self.depth())).max(ARENA_BYTES_MIN);
        if needed > ARENA_BYTES_MAX {
            let (window, most) = (self.window, ARENA_BYTES_MAX);
            return Err(Fault::Arena { window, op_bytes: size.into(), needed, most });
        }
        Ok(needed as u32)
    }

    /// The connections of a thread.
    pub fn of_thread(&self, thread: u32) -> impl Iterator<Item = u32> + use<> {
        (thread..self.connections).step_by(self.threads as usize)
    }

    /// Whether each thread can sleep until something comes for one of its connections.
    pub fn check_watched(&self, wait: Wait) -> Result<(), Fault> {
        let found = self.connections.div_ceil(self.threads) as usize;
        match wait {
            Wait::Spin => Ok(()),
            _ if found <= WATCHED_MAX => Ok(()),
            _ => Err(Fault::Watched { found, most: WATCHED_MAX }),
        }
    }
}

fn range(most: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=most)
}

/// A number of bytes, with a unit or without.
pub fn bytes(text: &str) -> Result<u64, String> {
    parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; expected a number of bytes such as 64, 4KiB or 1MiB"))
}

fn time_or_none(text: &str) -> Result<Duration, String> {
    let hint = "expected a time such as 200ms, 10s or 1min";
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}; {hint}"))?;
    match time <= Duration::from_secs(3600) {
        true => Ok(time),
        false => Err("expected at most an hour".to_owned()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match time_or_none(text)? {
        none if none < Duration::from_micros(1) => Err("expected at least 1us".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        load: Arguments,
    }

    fn load(line: &str) -> Result<Load, String> {
        let line = Line::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        line.load.check(2).map_err(|error| error.to_string())
    }

    fn refused(line: &str) -> String {
        load(line).unwrap_err()
    }

    #[test]
    fn what_is_not_said_follows_from_what_is() {
        let load = load("x --op write --window 64 --connections 3 --size 4KiB").unwrap();
        assert_eq!(
            (load.op.name, load.size, load.batch, load.threads),
            ("write", Some(4096), 16, 2)
        );
        assert_eq!((load.depth(), load.duration), (64, Duration::from_secs(2)));
        assert_eq!(load.of_thread(0).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(load.of_thread(1).collect::<Vec<_>>(), [1]);
        assert_eq!(load.arena_bytes(4096).unwrap(), 64 * 8192);
    }

    #[test]
    fn what_cannot_be_is_told_with_what_can() {
        for (line, expected) in [
            ("x --window 0", "1..=4096"),
            ("x --op fly", "invalid value 'fly'"),
            ("x --op cas --size 16", "cas takes 8 to 8 bytes"),
            ("x --op read --size 2MiB", "read takes 1 to 1052672 bytes"),
            ("x --size 0", "--size 0: read takes 1 to"),
            ("x --size many", "such as 64, 4KiB or 1MiB"),
            ("x --window 4 --batch 5", "--batch 5: at most --window ops (4)"),
            ("x --threads 2", "--threads 2: there are 1 --connections"),
            ("x --window 4096 --size 1MiB", "use a smaller --window or --size"),
            ("x --duration 0s", "at least 1us"),
            ("x --duration soon", "such as 200ms"),
            ("x --rate 0", "0 is not in 1..="),
        ] {
            let said = refused(line);
            assert!(said.contains(expected), "{line}: {expected:?} is not in {said:?}");
        }
        let load = load("x --connections 9").unwrap();
        load.check_watched(Wait::Block).unwrap();
        let one = Load { threads: 1, ..load };
        assert!(one.check_watched(Wait::Block).unwrap_err().to_string().contains("--wait spin"));
        one.check_watched(Wait::Spin).unwrap();
    }
}
