//! One port, ready to be measured: the target behind it, and the initiator before it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nic_figures::{LatencyRecorder, SliceResult, Subject};
use nic_host::Nic;

use super::beside::Walker;
use super::client::Client;
use super::server::Ready;
use super::streams::Streams;
use crate::ports::{Far, Kind, Started};

/// Ops of a slice before any is timed.
const WARM_UP: usize = 20;

pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) client: Client,
    pub(super) walker: Walker,
    pub(super) streams: Streams,
    pub(super) pages: String,
    pub(super) near: Nic,
    pub(super) far: Far,
}

/// Where latencies of one slice are kept.
pub(super) type Recorder = RefCell<LatencyRecorder>;

impl Drop for Way {
    fn drop(&mut self) {
        // What is dropped next asks the far side for its end.
        let _ = self.far.resume();
    }
}

impl Way {
    pub(super) fn open(kind: Kind, core: usize, is_small: bool) -> Result<Way> {
        let Started { far, near, beside } = Far::kernels(kind, core, is_small)?;
        let ready: Ready = serde_json::from_str(&beside)?;
        let client = Client::open(&near, &ready, is_small)?;
        let walker = Walker::open(&near, &ready)?;
        let [.., streams] = ready.tickets()?;
        let streams = Streams::open(&client, &streams, is_small)?;
        far.stop()?;
        Ok(Way { name: kind.name(), client, walker, streams, pages: ready.pages, near, far })
    }

    /// The name of a figure over this port.
    pub(super) fn named(&self, figure: &str) -> String {
        format!("{figure}_{}", self.name)
    }

    /// The median latency of an op, one after the other, in microseconds.
    pub(super) fn latency<'a>(
        &'a self,
        figure: &str,
        recorder: &'a Recorder,
        op: impl Fn(&Client) -> Result<Duration> + 'a,
    ) -> Subject<'a> {
        self.subject(figure, "us", move |way, time| p50_us(recorder, time, || op(&way.client)))
    }

    /// Whatever is measured with the target at work, which stands still otherwise.
    pub(super) fn subject<'a>(
        &'a self,
        figure: &str,
        unit: &str,
        measure: impl Fn(&Way, Duration) -> Result<f64> + 'a,
    ) -> Subject<'a> {
        Subject::new(self.named(figure), unit, move |time| {
            let outcome = self.far.resume().and_then(|()| measure(self, time));
            match outcome.and_then(|value| self.far.stop().map(|()| value)) {
                Ok(value) => SliceResult::single(value),
                Err(error) => SliceResult::failed(format!("{error:#}")),
            }
        })
    }
}

/// The median latency of an op, one after the other for some time, in microseconds.
pub(super) fn p50_us(
    recorder: &Recorder,
    time: Duration,
    mut op: impl FnMut() -> Result<Duration>,
) -> Result<f64> {
    let mut recorder = recorder.borrow_mut();
    recorder.clear();
    for _ in 0..WARM_UP {
        op()?;
    }
    let begun = Instant::now();
    while begun.elapsed() < time {
        recorder.record(op()?.as_nanos() as u64);
    }
    Ok(recorder.p50().context("no op ended within the slice")? as f64 / 1e3)
}
