//! Opening the ports that settings ask for.

use std::io;

use nic_kernels::KernelSet;

use super::kinds::open_kind;
use super::{PortKind, PortSettings, ReadyPort};

/// The ports of a process, one for each engine.
pub struct Opened {
    /// In the order of the engines.
    pub ports: Vec<ReadyPort>,
    /// Which kind they are.
    pub kind: PortKind,
    /// What was asked for before, and why it could not be had.
    pub refused: Vec<PortRefusal>,
}

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("port {kind} at {address}: {reason}", address = settings.address)]
pub struct PortRefusal {
    /// Which.
    pub kind: PortKind,
    /// With these settings.
    pub settings: Box<PortSettings>,
    /// What went wrong, and what to do about it.
    pub reason: String,
    /// Whose fault it is.
    pub fault: PortFault,
}

/// Who can do something about a port that cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortFault {
    /// Another has the address.
    Taken,
    /// The settings cannot be.
    Settings,
    /// This user may not.
    Permission,
    /// This machine, or this build, cannot.
    System,
}

impl PortFault {
    pub(super) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => PortFault::Permission,
            io::ErrorKind::AddrInUse | io::ErrorKind::ResourceBusy => PortFault::Taken,
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::InvalidInput => PortFault::Settings,
            _ => PortFault::System,
        }
    }
}

/// What went wrong, before it is known with which settings.
pub(super) struct Refused {
    pub(super) reason: String,
    pub(super) fault: PortFault,
}

/// Opens a port for each of `count` engines: of the kind asked for, or of the first of the fallbacks
/// that can be had.
///
/// # Errors
/// None of them can be had: why the one that was asked for cannot.
pub fn open_all<K: KernelSet + Send + 'static>(
    settings: &PortSettings,
    count: usize,
) -> Result<Opened, PortRefusal> {
    let mut refused = Vec::new();
    for kind in [settings.kind].into_iter().chain(settings.fallback.iter().copied()) {
        match open_kind::<K>(kind, settings, count) {
            Ok(ports) => return Ok(Opened { ports, kind, refused }),
            Err(Refused { reason, fault }) => {
                let settings = Box::new(settings.clone());
                refused.push(PortRefusal { kind, settings, reason, fault });
            }
        }
    }
    Err(refused.remove(0))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::Builtin;

    #[test]
    fn what_cannot_be_had_is_told_and_only_what_is_allowed_is_taken_instead() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let settings = PortSettings { address, ..PortSettings::default() };
        let refusal = open_all::<Builtin>(&settings, 1).err().unwrap();
        assert_eq!((refusal.kind, refusal.fault), (PortKind::Udp, PortFault::Taken));
        let said = refusal.to_string();
        assert!(said.starts_with(&format!("port udp at {address}: ")) && said.contains("ss -lunp"));

        // Both are refused: the reason is that of the one that was asked for.
        let both = PortSettings { fallback: vec![PortKind::Udp], ..settings };
        assert_eq!(open_all::<Builtin>(&both, 1).err().unwrap().kind, PortKind::Udp);
    }

    #[test]
    fn engines_have_ports_in_a_row() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = PortSettings { address: free, ..PortSettings::default() };
        assert_eq!(settings.address_of(3).port(), free.port().wrapping_add(3));
        let any = PortSettings::default();
        assert_eq!(any.address_of(3).port(), 0);
        let opened = open_all::<Builtin>(&any, 3).unwrap();
        assert_eq!((opened.ports.len(), opened.kind), (3, PortKind::Udp));
        assert!(opened.refused.is_empty());
    }
}
