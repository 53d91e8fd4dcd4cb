//! Lines of the standard input, without waiting for them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(super) struct Input {
    lines: BufReader<File>,
}

impl Input {
    pub(super) fn new() -> Result<Self> {
        let input = std::io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Input { lines: BufReader::new(input.into()) })
    }

    /// The next line, if one has come. Ends the process at the end of the input.
    pub(super) fn next(&mut self) -> Result<Option<String>> {
        if self.lines.buffer().is_empty() {
            let mut input = [PollFd::new(self.lines.get_ref(), PollFlags::IN)];
            if poll(&mut input, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
                return Ok(None);
            }
        }
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            std::process::exit(0);
        }
        Ok(Some(line.trim_end().to_owned()))
    }
}
