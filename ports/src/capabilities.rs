//! What a port can do, printed at start so that nobody measures a mode unknowingly.

use std::borrow::Cow;
use std::fmt;

/// What a port can do, in which mode it runs, and why not in a faster one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The port's name in configuration and logs.
    pub name: &'static str,
    /// The mode in a few words, for logs.
    pub mode: Cow<'static, str>,
    /// The longest packet that the port carries, in bytes. The path may allow less.
    pub packet_bytes_max: usize,
    /// Whether runs of equal length leave in one piece (GSO).
    pub segmentation: bool,
    /// Whether runs of equal length arrive in one piece (GRO).
    pub coalescing: bool,
    /// Whether packets are sent from the frame itself, without a copy by the port or the kernel.
    pub zero_copy: bool,
    /// Whether the peer takes packets straight from memory that both ends map, with nothing in
    /// between that could change or shorten them: they need no checksum, and may be as long as the
    /// port carries.
    pub in_memory: bool,
    /// How many transmit frames the pool has.
    pub frames: u32,
    /// How many bytes of full-sized packets may wait unreceived before the port loses any: what
    /// all peers' windows together should fit.
    pub window_bytes: u32,
    /// Why faster modes are off, each with what would switch it on.
    pub reasons: Vec<Cow<'static, str>>,
}

impl Capabilities {
    /// Notes why a mode is off. Room for a few notes is kept from the start, so that a mode lost
    /// while packets flow does not allocate; a note beyond that is left out.
    pub(crate) fn note(&mut self, reason: Cow<'static, str>) {
        if self.reasons.len() < self.reasons.capacity() {
            self.reasons.push(reason);
        }
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "port {} ({}): packets to {} B, {} frames, window {} KiB",
            self.name,
            self.mode,
            self.packet_bytes_max,
            self.frames,
            self.window_bytes / 1024
        )?;
        for reason in &self.reasons {
            write!(formatter, "; {reason}")?;
        }
        Ok(())
    }
}
