//! Calls between two applications that drive their own engines, beside what their port costs by
//! itself; and long messages between them, beside kernel TCP.

mod bulk;
mod server;
mod tcp;

pub(super) use server::process;

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nic_figures::{
    Figure, Interleave, LatencyRecorder, PlacementProbe, Report, SliceResult, Subject, cores,
};
use nic_host::rpc::{Procedure, Rpc};
use nic_host::{InlineConfig, Nic, Op, Pending, RemoteRegion, Session, SubmitError, Wait};
use serde::{Deserialize, Serialize};

use self::bulk::Bulk;
use self::server::{Server, Work};
use super::Arguments;
use super::ports::{Kind, Raw, p50, timed};

/// The hidden command of the serving process, followed by the number of its core.
pub(super) const COMMAND: &str = "__rpc_server";

const SLICE: Duration = Duration::from_millis(200);
const WARM_UP: usize = 100;
const LATENCIES: usize = 2_000_000;
const WINDOW: usize = 256;
const DEPTH: u32 = 512;
/// Ops that are submitted, or taken, at a time.
const PART: usize = 16;

/// How many bytes a core's second moves from one application to the other.
const BULK: &str = "bulk_message_gbytes_per_core_second";
const TCP: &str = "kernel_tcp_gbytes_per_core_second";

/// A call with little more room than its request takes.
type Call = Rpc<Lookup, 16>;

/// Asks for what belongs to a number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Lookup {
    number: u64,
}

impl Procedure for Lookup {
    const SERVICE: u16 = 1;
    const ANSWER_BYTES_MAX: u32 = 64;
    type Answer = [[u8; 32]; 2];
}

fn answer(number: u64) -> [[u8; 32]; 2] {
    [[number as u8; 32], [(number >> 8) as u8; 32]]
}

pub(super) fn run(arguments: &Arguments) -> Result<Report> {
    let pair = cores::pick_pair().context("both sides want a core of their own")?;
    let mut probe = PlacementProbe::choose();
    let server = Server::start(pair.target, Work::Calls)?;
    let nic = Nic::inline(InlineConfig::default())?;
    let session = nic.session().depth(DEPTH).wait(Wait::Spin).open()?;
    server.resume()?;
    let remote = session.connect(&server.ticket)?;
    let caller = Caller { session: &session, remote, number: Cell::new(0), errors: Cell::new(0) };
    server.stop()?;
    let receiving = Server::start(pair.target, Work::Messages)?;
    let bulk_session = nic.session().wait(Wait::Spin).open()?;
    let bulk = RefCell::new(Bulk::open(&bulk_session, &receiving)?);
    let tcp = tcp::Tcp::find(pair.initiator, pair.target);
    let raw = RefCell::new(Raw::open(Kind::Udp, pair.target)?);
    cores::pin_current_thread(pair.initiator)?;
    let latencies = RefCell::new(LatencyRecorder::with_capacity(LATENCIES));
    let (one, many) = ("rpc_polled_p50_us", format!("rpc_polled_mops_window_{WINDOW}_udp"));
    let measured = Interleave::new(&mut probe, SLICE)
        .add(Subject::new("raw_p50_us", "us", |time| {
            let (mut raw, mut latencies) = (raw.borrow_mut(), latencies.borrow_mut());
            latencies.clear();
            let outcome = raw.begin().and_then(|()| {
                (0..WARM_UP).try_for_each(|_| raw.round_trip())?;
                timed(time, &mut latencies, || raw.round_trip())?;
                raw.end()
            });
            p50(outcome, &mut latencies)
        }))
        .add(Subject::new(one, "us", |time| {
            let mut latencies = latencies.borrow_mut();
            latencies.clear();
            let outcome = server.at_work(|| {
                (0..WARM_UP).try_for_each(|_| caller.one())?;
                timed(time, &mut latencies, || caller.one())
            });
            p50(outcome, &mut latencies)
        }))
        .add(Subject::new(many.as_str(), "M/s", |time| {
            match server.at_work(|| caller.windowed(time)) {
                Ok(rate) => SliceResult::single(rate),
                Err(error) => SliceResult::failed(format!("{error:#}")),
            }
        }))
        .add(Subject::new(BULK, "GB/s", |time| {
            match receiving.at_work(|| bulk.borrow_mut().slice(time, receiving.pid())) {
                Ok(rates) => rates.slice(),
                Err(error) => SliceResult::failed(format!("{error:#}")),
            }
        }));
    let measured = match &tcp {
        Ok(tcp) => measured.add(Subject::new(TCP, "GB/s", |_| match tcp.slice() {
            Ok(rates) => rates.slice(),
            Err(error) => SliceResult::failed(format!("{error:#}")),
        })),
        Err(missing) => {
            eprintln!("rpc: {missing}");
            measured
        }
    }
    .run(arguments.rounds);
    let over =
        measured.difference(one, "raw_p50_us").map(|over| over.named("rpc_polled_over_port_us"));
    Ok(Report::new("nic-benches rpc")
        .setup("window", WINDOW as u64)
        .setup("request_and_answer", "postcard: a number; 64 bytes")
        .setup("port", nic.port())
        .setup("slice_ms", SLICE.as_millis() as u64)
        .setup("message_bytes", bulk::MESSAGE_BYTES as u64)
        .setup("kernel_tcp", tcp.as_ref().map_or_else(Clone::clone, |tcp| tcp.version.clone()))
        .setup("pids", vec![server.pid(), receiving.pid()])
        .measured(&measured)
        .results(measured.figures())
        .results(over)
        .results(measured.ratio(BULK, TCP).map(|over| over.named("bulk_message_over_tcp")))
        .result(Figure::count("errors", "calls", caller.errors.get())))
}

/// The initiator.
struct Caller<'s> {
    session: &'s Session,
    remote: RemoteRegion,
    number: Cell<u64>,
    /// Answers that were wrong.
    errors: Cell<u64>,
}

impl Caller<'_> {
    fn next(&self) -> Lookup {
        let number = self.number.get();
        self.number.set(number.wrapping_add(1));
        Lookup { number }
    }

    fn call(&self, asked: &Lookup) -> Result<Op<Call>> {
        Ok(self.remote.rpc_sized(asked)?)
    }

    fn judge(&self, asked: u64, found: [[u8; 32]; 2]) {
        self.errors.set(self.errors.get() + u64::from(found != answer(asked)));
    }

    /// One call, there and back.
    fn one(&self) -> Result<()> {
        let asked = self.next();
        let found = self.session.run(self.call(&asked)?)?;
        self.judge(asked.number, found);
        Ok(())
    }

    /// Calls for a time, a window of them out. In millions a second.
    fn windowed(&self, time: Duration) -> Result<f64> {
        let mut pending: Vec<Option<(Pending<'_, Call>, u64)>> = Vec::new();
        pending.resize_with(DEPTH as usize, || None);
        let (begun, mut out, mut done) = (Instant::now(), 0, 0_u64);
        let mut is_over = false;
        while !is_over || out > 0 {
            is_over |= begun.elapsed() >= time;
            for _ in 0..PART.min(WINDOW - out) {
                if is_over {
                    break;
                }
                let asked = self.next();
                match self.session.submit(self.call(&asked)?) {
                    Ok(one) => {
                        let slot = one.slot();
                        pending[slot] = Some((one, asked.number));
                        out += 1;
                    }
                    Err(SubmitError::Full(_)) => break,
                    Err(SubmitError::Invalid(error)) => return Err(error.into()),
                }
            }
            for over in self.session.poll()?.take(PART) {
                let Some((one, asked)) = pending[over.slot()].take() else {
                    bail!("a call ended twice")
                };
                self.judge(asked, one.take(over)?);
                out -= 1;
                done += 1;
            }
        }
        Ok(done as f64 / begun.elapsed().as_secs_f64() / 1e6)
    }
}
