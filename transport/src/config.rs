//! What an endpoint is told at its start. Everything that costs memory is sized from here.

use nic_wire::handshake::MAX_VERSIONS;
use nic_wire::packet::{DEFAULT_PACKET_BYTES, MAX_PACKET_BYTES};
use nic_wire::{Span, WIRE_VERSION};

/// The smallest packet that a flow may be limited to, in bytes. A peer that asks for less is
/// not served: op frames would not fit.
pub const PACKET_BYTES_MIN: u16 = 512;

/// Settings of one [`Endpoint`](crate::Endpoint). The defaults suit a data centre and loopback.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many flows, of both roles together, may exist at once. Each takes about 5 KB.
    pub flows_max: u16,
    /// The engine's own UDP port, told to initiators in ACCEPT; 0 where they shall use the port
    /// that ACCEPT came from.
    pub port: u16,
    /// The largest packet that this side takes or makes, in bytes, header included.
    pub packet_bytes: u16,
    /// How much a peer may have unacknowledged towards this side, in bytes. It has to fit the
    /// port's receive buffer together with the windows of the other flows.
    pub receive_window_bytes: u32,
    /// The window of [`FixedWindow`](crate::FixedWindow), in bytes.
    pub congestion_window_bytes: u32,
    /// Versions offered and accepted, highest first, zero-filled.
    pub versions: [u8; MAX_VERSIONS],
    /// The number of each flow's first packet; `None`: drawn from the seed.
    pub first_packet_number: Option<u64>,
    /// Ops that a new initiator may have out, until [`Flow::grant`](crate::Flow::grant) says else.
    pub op_credits: u16,
    /// KiB of replies that those ops may ask for together.
    pub reply_credits_kib: u16,
    /// How long an ack is held back at least, in the hope of a packet to ride on; a quarter of
    /// the round trip where that is longer.
    pub ack_delay: Span,
    /// The round trip assumed until one was measured.
    pub round_trip_initial: Span,
    /// The shortest wait before a tail-loss probe.
    pub probe_min: Span,
    /// The shortest retransmission time-out.
    pub timeout_min: Span,
    /// How far back-off may stretch the retransmission time-out.
    pub timeout_max: Span,
    /// How many probes an initiator sends at least before it gives its peer up.
    pub probes_max: u32,
    /// After this much silence, with requests unanswered, an initiator gives its peer up.
    pub peer_timeout: Span,
    /// After so many unanswered probes a target falls quiet.
    pub quiet_after: u32,
    /// A quiet target keeps its frames this long.
    pub idle_timeout: Span,
    /// The wait before the first repetition of an INIT; it doubles each time.
    pub connect_retry: Span,
    /// An initiator gives up connecting after this long.
    pub connect_timeout: Span,
    /// A cookie is good for one to two of these.
    pub cookie_epoch: Span,
    /// How many handshake answers and resets may wait to be sent; more are dropped and counted.
    pub control_max: u16,
}

impl Default for Config {
    fn default() -> Self {
        let mut versions = [0; MAX_VERSIONS];
        versions[0] = WIRE_VERSION;
        Config {
            flows_max: 1024,
            port: 0,
            packet_bytes: DEFAULT_PACKET_BYTES as u16,
            receive_window_bytes: 64 << 10,
            congestion_window_bytes: 128 << 10,
            versions,
            first_packet_number: None,
            op_credits: 64,
            reply_credits_kib: 64,
            ack_delay: Span::from_us(50),
            round_trip_initial: Span::from_ms(1),
            probe_min: Span::from_us(500),
            timeout_min: Span::from_ms(4),
            timeout_max: Span::from_ms(250),
            probes_max: 5,
            peer_timeout: Span::from_ms(2_000),
            quiet_after: 3,
            idle_timeout: Span::from_ms(60_000),
            connect_retry: Span::from_ms(10),
            connect_timeout: Span::from_ms(3_000),
            cookie_epoch: Span::from_ms(10_000),
            control_max: 256,
        }
    }
}

/// A setting with which no endpoint can work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A table of no entries.
    #[error("{name} is {found}; it must be at least 1")]
    Zero {
        /// Which setting.
        name: &'static str,
        /// What it is.
        found: u64,
    },
    /// More flows than connection ids can name.
    #[error("flows_max is {found}; a connection id has room for at most {most} flows: lower it")]
    TooManyFlows {
        /// What it is.
        found: u16,
        /// The most there may be.
        most: u16,
    },
    /// A packet size that frames or ops do not allow.
    #[error(
        "packets have {found} bytes at most, by configuration or by the port's MTU; flows need \
         {least} to {most}"
    )]
    PacketBytes {
        /// What it is.
        found: u16,
        /// The smallest.
        least: u16,
        /// The largest.
        most: u16,
    },
    /// A window that not one packet fits.
    #[error("{name} is {found}; it must hold a packet of {packet_bytes} bytes: raise it")]
    Window {
        /// Which setting.
        name: &'static str,
        /// What it is.
        found: u32,
        /// The configured packet size.
        packet_bytes: u16,
    },
    /// No version to offer.
    #[error("versions is empty; the list must begin with the highest version to offer")]
    NoVersion,
    /// A first packet number that later ones could overflow.
    #[error("first_packet_number is {found}; it must be below {FIRST_PACKET_NUMBER_LIMIT}")]
    FirstPacketNumber {
        /// What it is.
        found: u64,
    },
}

/// First packet numbers lie below this, so that numbers never reach the end of 64 bits.
pub(crate) const FIRST_PACKET_NUMBER_LIMIT: u64 = 1 << 62;
/// One slot number is taken: it marks the absence of a slot in tables.
const FLOWS_MOST: u16 = u16::MAX;

impl Config {
    /// Looks for settings with which no endpoint can work.
    ///
    /// # Errors
    /// The first such setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (name, found) in [
            ("flows_max", u64::from(self.flows_max)),
            ("control_max", u64::from(self.control_max)),
            ("probes_max", u64::from(self.probes_max)),
            ("quiet_after", u64::from(self.quiet_after)),
            ("ack_delay in ns", self.ack_delay.as_ns()),
            ("round_trip_initial in ns", self.round_trip_initial.as_ns()),
            ("probe_min in ns", self.probe_min.as_ns()),
            ("timeout_min in ns", self.timeout_min.as_ns()),
            ("connect_retry in ns", self.connect_retry.as_ns()),
            ("cookie_epoch in ns", self.cookie_epoch.as_ns()),
        ] {
            if found == 0 {
                return Err(ConfigError::Zero { name, found });
            }
        }
        if self.flows_max == FLOWS_MOST {
            return Err(ConfigError::TooManyFlows { found: self.flows_max, most: FLOWS_MOST - 1 });
        }
        let (least, most) = (PACKET_BYTES_MIN, MAX_PACKET_BYTES as u16);
        if !(least..=most).contains(&self.packet_bytes) {
            return Err(ConfigError::PacketBytes { found: self.packet_bytes, least, most });
        }
        let packet_bytes = self.packet_bytes;
        for (name, found) in [
            ("receive_window_bytes", self.receive_window_bytes),
            ("congestion_window_bytes", self.congestion_window_bytes),
        ] {
            if found < u32::from(packet_bytes) {
                return Err(ConfigError::Window { name, found, packet_bytes });
            }
        }
        if self.versions[0] == 0 {
            return Err(ConfigError::NoVersion);
        }
        match self.first_packet_number {
            Some(found) if found >= FIRST_PACKET_NUMBER_LIMIT => {
                Err(ConfigError::FirstPacketNumber { found })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn unsound_settings_are_named() {
        let default = Config::default;
        let cases = [
            (Config { flows_max: 0, ..default() }, "flows_max is 0"),
            (Config { flows_max: u16::MAX, ..default() }, "flows_max is 65535"),
            (Config { packet_bytes: 100, ..default() }, "packets have 100 bytes at most"),
            (Config { receive_window_bytes: 10, ..default() }, "receive_window_bytes is 10"),
            (Config { versions: [0; MAX_VERSIONS], ..default() }, "versions is empty"),
            (Config { first_packet_number: Some(u64::MAX), ..default() }, "first_packet_number"),
        ];
        for (config, expected) in cases {
            let message = alloc::format!("{}", config.check().unwrap_err());
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
