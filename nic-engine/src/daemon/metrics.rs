//! The engines' counters for Prometheus: OpenMetrics text over HTTP, from one thread that reads the
//! counters page and never meets an engine.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::counters_page::CountersPage;
use super::threads;
use crate::engine::{Counters, Metric, MetricKind};

/// A longer request than any scraper sends is refused.
const REQUEST_BYTES_MAX: usize = 8192;
/// Header fields of a request that are looked at.
const FIELDS_MAX: usize = 64;
/// Who takes longer than this to ask or to listen is left: the next one waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where the counters are.
const PATH: &str = "/metrics";

/// Begins to serve the counters of these pages, one engine each. The thread lives as long as the
/// process. It serves one connection after another, so that whatever is sent there, it holds one
/// descriptor and 8 KiB.
///
/// # Errors
/// The system gives no thread.
pub(super) fn serve(listener: TcpListener, pages: Vec<CountersPage>) -> io::Result<()> {
    let registry = registry(pages);
    let body = move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = answer(stream, &registry) {
                        tracing::debug!(%error, "a scrape failed");
                    }
                }
                Err(error) => {
                    // No descriptor is free, most likely: the scraper waits until one is.
                    tracing::warn!(%error, "metrics cannot be served now");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    };
    threads::start("metrics".to_owned(), || (), body)?;
    Ok(())
}

/// Everything that is told.
fn registry(pages: Vec<CountersPage>) -> Registry {
    let mut registry = Registry::with_prefix("nic_engine");
    let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The release of the engine process", version);
    registry.register_collector(Box::new(Engines(pages)));
    registry
}

/// The engines' counters, read when they are asked for.
#[derive(Debug)]
struct Engines(Vec<CountersPage>);

impl Collector for Engines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let engines: Vec<_> = self.0.iter().map(|page| page.read().values()).collect();
        for (index, metric) in Counters::LIST.iter().enumerate() {
            // Times are in seconds here, as everywhere in Prometheus.
            let (name, unit) = match metric.name.strip_suffix("_ns") {
                Some(name) => (name, Some(&Unit::Seconds)),
                None => (&*metric.name, None),
            };
            let kind = match metric.kind {
                MetricKind::Total => MetricType::Counter,
                MetricKind::Longest | MetricKind::Gauge => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(name, &metric.meaning, unit, kind)?;
            for (engine, values) in engines.iter().enumerate() {
                let labels = [("engine", engine)];
                encode_value(metric, values[index], family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn encode_value(metric: &Metric, value: u64, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    let is_time = metric.unit == "ns";
    match (metric.kind, is_time) {
        (MetricKind::Total, true) => ConstCounter::new(value as f64 / 1e9).encode(encoder),
        (MetricKind::Total, false) => ConstCounter::new(value).encode(encoder),
        (_, true) => ConstGauge::new(value as f64 / 1e9).encode(encoder),
        (_, false) => ConstGauge::new(value).encode(encoder),
    }
}

/// Reads one request and answers it.
fn answer(mut stream: TcpStream, registry: &Registry) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut buffer = [0; REQUEST_BYTES_MAX];
    let (status, body) = match read_request(&mut stream, &mut buffer)? {
        Asked::Metrics => {
            let mut body = String::new();
            match text::encode(&mut body, registry) {
                Ok(()) => ("200 OK", body),
                Err(error) => ("500 Internal Server Error", format!("{error}\n")),
            }
        }
        Asked::Elsewhere => ("404 Not Found", format!("the metrics are at {PATH}\n")),
        Asked::Otherwise => ("405 Method Not Allowed", "only GET is answered\n".to_owned()),
        Asked::Nonsense => ("400 Bad Request", "this is no HTTP request\n".to_owned()),
    };
    let kind = match status {
        "200 OK" => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// What a request asks for.
enum Asked {
    Metrics,
    Elsewhere,
    Otherwise,
    Nonsense,
}

fn read_request(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Asked> {
    let begin = Instant::now();
    let mut length = 0;
    while length < buffer.len() {
        let left = PATIENCE.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = stream.read(&mut buffer[length..])?;
        if read == 0 {
            return Ok(Asked::Nonsense);
        }
        length += read;
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&buffer[..length]) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => {
                let path = request.path.unwrap_or_default();
                let path = path.split_once('?').map_or(path, |(path, _)| path);
                return Ok(match (request.method, path) {
                    (Some("GET"), PATH) => Asked::Metrics,
                    (Some("GET"), _) => Asked::Elsewhere,
                    (_, _) => Asked::Otherwise,
                });
            }
            Err(_) => return Ok(Asked::Nonsense),
        }
    }
    Ok(Asked::Nonsense)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nic_shm::RacyMem;
    use std::net::SocketAddr;

    fn started() -> (SocketAddr, Vec<CountersPage>) {
        let page = || CountersPage::new(RacyMem::allocate(CountersPage::BYTES));
        let pages = vec![page(), page()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, pages.clone()).unwrap();
        (address, pages)
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn every_counter_of_every_engine_is_told_with_its_meaning() {
        let (address, pages) = started();
        let counters =
            Counters { packets_sent: 7, longest_turn_ns: 1500, flows: 3, ..Counters::default() };
        pages[1].publish(&counters);
        let said = ask(address, b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
        for line in [
            "HTTP/1.1 200 OK",
            "nic_engine_packets_sent_total{engine=\"0\"} 0",
            "nic_engine_packets_sent_total{engine=\"1\"} 7",
            "nic_engine_longest_turn_seconds{engine=\"1\"} 0.0000015",
            "nic_engine_flows{engine=\"1\"} 3",
            "# HELP nic_engine_flows Flows that are open.",
            "# TYPE nic_engine_packets_sent counter",
            "# EOF",
        ] {
            assert!(said.lines().any(|found| found == line), "{line} is missing in {said}");
        }
        let helps = said.lines().filter(|line| line.starts_with("# HELP")).count();
        assert_eq!(helps, Counters::COUNT + 1, "all counters, and the release");
    }

    #[test]
    fn nonsense_is_answered_and_the_next_is_served() {
        let (address, _pages) = started();
        let starts = |request: &[u8], status: &str| {
            let said = ask(address, request);
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
        };
        starts(b"GET / HTTP/1.1\r\n\r\n", "404");
        starts(b"POST /metrics HTTP/1.1\r\n\r\n", "405");
        starts(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400");
        starts(&[b'a'; REQUEST_BYTES_MAX], "400");
        drop(TcpStream::connect(address).unwrap());
        starts(b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200");
    }
}
