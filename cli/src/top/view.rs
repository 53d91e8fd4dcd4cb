//! What `nic top` shows: two samples, and what happened between them.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Paragraph, Widget};

use nic_figures::table::number;

use super::sample::Sample;
use crate::ops;
use crate::plain_table::{Columns, duration};

/// Packets that did not come to what they were sent for, by whatever fault.
const DROPS: [&str; 10] = [
    "corrupted_packets",
    "malformed_packets",
    "foreign_versions",
    "dropped_packets",
    "unforwardable",
    "unplaced_packets",
    "receive_truncated",
    "receive_foreign",
    "send_errors",
    "send_refused",
];

/// An engine process now, and how it was before.
pub struct View {
    before: Option<Sample>,
    now: Sample,
}

impl View {
    /// With nothing to compare with yet.
    pub fn first(now: Sample) -> Self {
        View { before: None, now }
    }

    /// A sample later.
    #[must_use]
    pub fn next(self, now: Sample) -> Self {
        // What another process has counted is no base for rates.
        let before = Some(self.now).filter(|before| before.pid == now.pid);
        View { before, now }
    }

    /// How many rows show everything.
    pub fn rows(&self) -> u16 {
        let tables = self.sections().iter().map(|(_, lines)| lines.len() + 1).sum::<usize>();
        u16::try_from(tables + 2).unwrap_or(u16::MAX)
    }

    fn title(&self) -> String {
        let Sample { pid, runs, version, age, .. } = &self.now;
        let age = duration(age.as_nanos() as u64);
        let state = if *runs { format!("runs for {age}") } else { "HAS ENDED".to_owned() };
        format!("nic top: engine process {pid}, version {version}, {state}")
    }

    fn sections(&self) -> Vec<(String, Vec<String>)> {
        let mut sections = vec![("engines".to_owned(), self.engines().lines().collect())];
        let Some(ops) = &self.now.ops else {
            sections.push(("flows and sessions".to_owned(), vec!["no answer".to_owned()]));
            return sections;
        };
        for engine in &ops.engines {
            let Some(live) = &engine.live else { continue };
            let named = |what: &str| format!("{what} of engine {}", engine.engine);
            sections.push((named("flows"), ops::flows(&live.flows).lines().collect()));
            let application = |client| ops.application(engine.engine, client);
            let sessions = ops::sessions(&live.sessions, &application);
            sections.push((named("sessions"), sessions.lines().collect()));
            let (out, in_hand) = live.old();
            if out + in_hand > 0 {
                let line = format!(
                    "{out} out, {in_hand} in hand are older than 100 ms: `nic ops` shows them"
                );
                sections.push((named("old ops"), vec![line]));
            }
        }
        sections
    }

    fn engines(&self) -> Columns {
        let mut columns = Columns::new(&[
            "engine",
            "busy",
            "turns/s",
            "ops/s",
            "latency",
            "served/s",
            "out",
            "in hand",
            "sent/s",
            "received/s",
            "resent/s",
            "drops/s",
            "drops",
        ]);
        for engine in 0..self.now.engines.len() {
            let now = |name| self.now.counter(engine, name);
            let rate = |name| self.rate(engine, &[name]);
            let drops: u64 = DROPS.iter().map(|name| now(name)).sum();
            columns.push([
                engine.to_string(),
                shown(self.rate(engine, &["busy_ns"]).map(|ns| ns / 1e7), "%"),
                shown(rate("turns"), ""),
                shown(rate("completions"), ""),
                self.latency(engine).map_or("-".to_owned(), duration),
                shown(rate("executed"), ""),
                now("ops_out").to_string(),
                now("ops_in").to_string(),
                shown(rate("packets_sent"), ""),
                shown(rate("packets_received"), ""),
                shown(rate("retransmissions"), ""),
                shown(self.rate(engine, &DROPS), ""),
                drops.to_string(),
            ]);
        }
        columns
    }

    /// How fast the sum of some counters grew, per second.
    fn rate(&self, engine: usize, names: &[&str]) -> Option<f64> {
        let seconds = self.now.at.duration_since(self.before.as_ref()?.at).as_secs_f64();
        let grown: u64 = names.iter().map(|name| self.grown(engine, name)).sum();
        (seconds > 0.0).then(|| grown as f64 / seconds)
    }

    fn grown(&self, engine: usize, name: &str) -> u64 {
        let before = self.before.as_ref().map_or(0, |before| before.counter(engine, name));
        self.now.counter(engine, name).saturating_sub(before)
    }

    /// The mean time from pickup to completion of the ops that were completed between the samples.
    fn latency(&self, engine: usize) -> Option<u64> {
        self.before.as_ref()?;
        self.grown(engine, "completion_ns").checked_div(self.grown(engine, "completions"))
    }
}

fn shown(value: Option<f64>, unit: &str) -> String {
    value.map_or("-".to_owned(), |value| format!("{}{unit}", number(value.round())))
}

impl Widget for &View {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let sections = self.sections();
        let heights = sections.iter().map(|(_, lines)| Constraint::Length(lines.len() as u16 + 1));
        let rows = [Constraint::Length(1)]
            .into_iter()
            .chain(heights)
            .chain([Constraint::Fill(1), Constraint::Length(1)]);
        let places = Layout::vertical(rows).split(area);
        let style = if self.now.runs { Style::new().bold() } else { Style::new().bold().red() };
        Line::styled(self.title(), style).render(places[0], buffer);
        for ((title, lines), place) in sections.into_iter().zip(&places[1..]) {
            let block = Block::new().borders(Borders::TOP).title(format!(" {title} "));
            let mut lines: Vec<Line<'_>> = lines.into_iter().map(Line::raw).collect();
            if lines.len() > 1 {
                lines[0] = std::mem::take(&mut lines[0]).dim();
            }
            Paragraph::new(lines).block(block).render(*place, buffer);
        }
        Line::raw("q quits").dim().render(places[places.len() - 1], buffer);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn sample(at: Instant, pid: u32, counters: [u64; 4]) -> Sample {
        Sample {
            at,
            pid,
            runs: true,
            version: "1".to_owned(),
            age: Duration::from_secs(90),
            names: ["busy_ns", "completions", "completion_ns", "dropped_packets"]
                .map(str::to_owned)
                .into(),
            engines: vec![counters.into()],
            ops: None,
        }
    }

    #[test]
    fn rates_are_of_the_time_between_samples() {
        let at = Instant::now();
        let later = at + Duration::from_secs(2);
        let first = View::first(sample(at, 7, [0, 100, 1_000_000, 1]));
        assert_eq!(first.engines().lines().nth(1).unwrap().split_whitespace().nth(1), Some("-"));
        let busy = [1_000_000_000, 2100, 11_000_000, 5];
        let view = first.next(sample(later, 7, busy));
        let text = super::super::once(&view);
        let line = text.lines().find(|line| line.starts_with("0 ")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        // Half busy, a thousand ops a second of 5 us each, two drops a second, five in all.
        assert_eq!(
            (cells[1], cells[3..7].join(" ")),
            ("50%", "1 000 5.00 us".to_owned()),
            "{text}"
        );
        assert_eq!(&cells[cells.len() - 2..], ["2", "5"], "{text}");
        for part in ["engine process 7", "runs for 90.0 s", "no answer", "q quits"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let other = view.next(sample(later, 8, busy));
        assert_eq!(other.rate(0, &["completions"]), None, "another process began anew");
    }

    #[test]
    fn every_counter_that_is_shown_exists() {
        let known = |name: &str| {
            nic_engine::engine::Counters::LIST.iter().any(|metric| metric.name == name)
        };
        let others = [
            "busy_ns",
            "turns",
            "completions",
            "completion_ns",
            "executed",
            "ops_out",
            "ops_in",
            "packets_sent",
            "packets_received",
            "retransmissions",
        ];
        for name in others.iter().chain(&DROPS) {
            assert!(known(name), "{name}");
        }
    }
}
