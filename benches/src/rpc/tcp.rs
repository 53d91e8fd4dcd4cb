//! Kernel TCP on loopback, as iperf3 measures it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bulk::Rates;

/// Bytes of one slice: some tenths of a second.
const SLICE_BYTES: &str = "1G";

/// iperf3, which is there.
pub(super) struct Tcp {
    pub(super) version: String,
    cores: [usize; 2],
}

impl Tcp {
    /// Looks for it. Where there is none, says what to do.
    pub(super) fn find(initiator: usize, target: usize) -> Result<Tcp, String> {
        let missing = "iperf3 is not installed, so nothing is compared with kernel TCP: \
                       apt-get install iperf3";
        let output = Command::new("iperf3").arg("--version").output();
        let output = output.map_err(|_| missing.to_owned())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().next().unwrap_or("iperf3").to_owned();
        Ok(Tcp { version, cores: [initiator, target] })
    }

    /// Moves some bytes over one connection, each end on a core of its own.
    pub(super) fn slice(&self) -> Result<Rates> {
        let [initiator, target] = self.cores;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let server = Command::new("iperf3")
            .args(["--server", "--one-off", "--forceflush", "--bind", "127.0.0.1"])
            .args(["--port", &port, "--affinity", &target.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut server = Server(server);
        let said = server.0.stdout.take().context("its output is a pipe")?;
        let mut lines = BufReader::new(said).lines();
        while !lines.next().context("iperf3 has ended at once")??.contains("listening") {}
        let output = Command::new("iperf3")
            .args(["--client", "127.0.0.1", "--json", "--bytes", SLICE_BYTES])
            .args(["--port", &port, "--affinity", &initiator.to_string()])
            .output()?;
        let told: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(output.status.success(), "iperf3: {}", told["error"]);
        let end = &told["end"];
        let number = |value: &Value, what| value.as_f64().context(what);
        let bits = number(&end["sum_received"]["bits_per_second"], "iperf3 tells no rate")?;
        let cpu = &end["cpu_utilization_percent"];
        let percent = number(&cpu["host_total"], "iperf3 tells no use of its core")?
            + number(&cpu["remote_total"], "iperf3 tells no use of the other core")?;
        let gbytes_per_second = bits / 8e9;
        let gbytes_per_core_second = gbytes_per_second / (percent / 100.0);
        Ok(Rates { gbytes_per_core_second, gbytes_per_second })
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
