//! Which port an engine gets, as a configuration says it.
//!
//! ```
//! use nic_engine::ports::{PortSettings, open_all};
//! use nic_engine::Builtin;
//!
//! // The default: kernel UDP on loopback, any free port.
//! let opened = open_all::<Builtin>(&PortSettings::default(), 1)?;
//! println!("{}", opened.ports[0].capabilities());
//! # Ok::<(), nic_engine::ports::PortRefusal>(())
//! ```

mod kinds;
mod open;
mod probe;
mod ready;
mod settings;

#[cfg(feature = "dpdk")]
pub use self::kinds::eal;
pub use self::open::{Opened, PortFault, PortRefusal, open_all};
pub use self::probe::{Unusable, probe};
pub use self::ready::ReadyPort;
pub use self::settings::{Neighbour, PortKind, PortSettings, XdpModeSetting};
