//! The printable handle of an exported region.
//!
//! ```text
//! nic1:127.0.0.1:40961/0003.0001/8f6d2c1b5a493827/0/8000000/3
//!      engine address /export.generation/secret/base/length/access, numbers in hexadecimal
//! ```
//! Whoever holds a ticket may use the region: treat it as a password.

use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;

use crate::Rkey;

const PREFIX: &str = "nic1:";

/// All that an initiator needs to use a region of another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Where the engine beside the region receives packets.
    pub engine: SocketAddr,
    /// The right to the region.
    pub rkey: Rkey,
    /// The address of the region's first byte.
    pub base: u64,
    /// The region's length in bytes.
    pub length: u64,
    /// What the export allows, as bits of the kernels' `Access`.
    pub access: u32,
}

/// Why a text is not a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTicket {
    /// It does not begin as tickets of this version do.
    #[error("a ticket begins with \"nic1:\"; copy it whole, as the target printed it")]
    Prefix,
    /// Not the right number of parts.
    #[error("a ticket has 6 parts between slashes, this text has {found}; was it cut?")]
    Parts {
        /// How many there are.
        found: usize,
    },
    /// A part is not what it should be.
    #[error("the ticket's {part} cannot be read; was it changed?")]
    Part {
        /// Which.
        part: &'static str,
    },
}

impl fmt::Display for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rkey { export, generation, secret } = self.rkey;
        write!(
            formatter,
            "{PREFIX}{}/{:04x}.{:04x}/{:016x}/{:x}/{:x}/{:x}",
            self.engine,
            export.get(),
            generation.get(),
            secret.get(),
            self.base,
            self.length,
            self.access
        )
    }
}

impl FromStr for Ticket {
    type Err = BadTicket;

    fn from_str(text: &str) -> Result<Self, BadTicket> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(BadTicket::Prefix)?;
        let found = rest.split('/').count();
        if found != 6 {
            return Err(BadTicket::Parts { found });
        }
        let mut parts = rest.split('/');
        let mut next = || parts.next().unwrap_or_default();
        let engine = next().parse().map_err(|_| BadTicket::Part { part: "engine address" })?;
        let export = next().split_once('.').ok_or(BadTicket::Part { part: "export" })?;
        let number =
            |text: &str, part| u64::from_str_radix(text, 16).map_err(|_| BadTicket::Part { part });
        let small =
            |text: &str, part| u16::from_str_radix(text, 16).map_err(|_| BadTicket::Part { part });
        let slot = small(export.0, "export")?;
        let generation = small(export.1, "export generation")?;
        let secret = number(next(), "secret")?;
        let base = number(next(), "base")?;
        let length = number(next(), "length")?;
        let access = u32::try_from(number(next(), "access")?)
            .map_err(|_| BadTicket::Part { part: "access" })?;
        Ok(Ticket { engine, rkey: Rkey::new(slot, generation, secret), base, length, access })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn ticket() -> Ticket {
        Ticket {
            engine: "127.0.0.1:40961".parse().unwrap(),
            rkey: Rkey::new(3, 1, 0x8f6d_2c1b_5a49_3827),
            base: 0,
            length: 128 << 20,
            access: 3,
        }
    }

    #[test]
    fn text_is_golden() {
        let text = "nic1:127.0.0.1:40961/0003.0001/8f6d2c1b5a493827/0/8000000/3";
        assert_eq!(ticket().to_string(), text);
        assert_eq!(text.parse(), Ok(ticket()));
    }

    #[test]
    fn bad_tickets_say_what_is_wrong() {
        assert_eq!("nonsense".parse::<Ticket>(), Err(BadTicket::Prefix));
        assert_eq!("nic1:1/2".parse::<Ticket>(), Err(BadTicket::Parts { found: 2 }));
        let text = ticket().to_string().replace("127.0.0.1", "localhost");
        assert_eq!(text.parse::<Ticket>(), Err(BadTicket::Part { part: "engine address" }));
    }
}
