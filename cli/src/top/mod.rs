//! `nic top`: what an engine process does, how fast, and with whom, kept up to date.
//!
//! Rates come from the counters file, which costs the engines nothing; flows and sessions are asked
//! for once per refresh.

mod sample;
mod view;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nic_engine::daemon::default_socket;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

use self::sample::Source;
use self::view::View;

/// Columns of the frame that `--once` prints.
const ONCE_COLUMNS: u16 = 120;

/// Options of `nic top`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the engine listens [default: as for `nic serve`].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Time between two looks, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(10..=60_000))]
    interval: u64,
    /// Print one frame as text, with the rates of one interval, and end.
    #[arg(long)]
    once: bool,
}

/// Shows an engine process until the key q.
///
/// # Errors
/// There is neither an engine nor the counters of one, or no terminal to show it on.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let socket = arguments.socket.clone().unwrap_or_else(default_socket);
    let interval = Duration::from_millis(arguments.interval);
    let mut source = Source::new(socket);
    let first = View::first(source.look()?);
    if arguments.once {
        std::thread::sleep(interval);
        print!("{}", once(&first.next(source.look()?)));
        return Ok(ExitCode::SUCCESS);
    }
    if !std::io::stdout().is_terminal() {
        bail!("standard output is no terminal; --once prints one frame as text");
    }
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let outcome = watch(&mut terminal, &mut source, first, interval);
    ratatui::restore();
    outcome.map(|()| ExitCode::SUCCESS)
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    source: &mut Source,
    mut view: View,
    interval: Duration,
) -> Result<()> {
    let mut due = Instant::now() + interval;
    loop {
        terminal.draw(|frame| frame.render_widget(&view, frame.area()))?;
        let left = due.saturating_duration_since(Instant::now());
        if event::poll(left)? {
            if is_quit(&event::read()?) {
                return Ok(());
            }
            continue;
        }
        view = view.next(source.look()?);
        due = Instant::now() + interval;
    }
}

fn is_quit(event: &Event) -> bool {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else {
        return false;
    };
    let is_interrupt = *code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL);
    is_interrupt || matches!(code, KeyCode::Char('q') | KeyCode::Esc)
}

/// A whole frame as text.
fn once(view: &View) -> String {
    let area = Rect::new(0, 0, ONCE_COLUMNS, view.rows());
    let mut buffer = Buffer::empty(area);
    view.render(area, &mut buffer);
    let row = |y| {
        let cells = (0..area.width).map(|x| buffer[(x, y)].symbol());
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    (0..area.height).map(row).collect()
}
