//! What each user may have, so that no application takes the machine from the others.

use std::collections::BTreeMap;

use nic_wire::Status;
use nic_wire::control::ControlRequest;

use super::config::QuotaSettings;
use crate::engine::Refusal;

/// Memory is given out in pages of so many bytes.
const PAGE_BYTES: u64 = 4096;

/// What somebody has, or asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) regions: u64,
    pub(super) sessions: u64,
    /// Ops that may be outstanding: the sessions' depths.
    pub(super) ops: u64,
    pub(super) bytes: u64,
}

impl Usage {
    /// What a request asks for.
    pub(super) fn asked_by(request: &ControlRequest) -> Usage {
        let pages = |bytes: u64| bytes.checked_next_multiple_of(PAGE_BYTES).unwrap_or(u64::MAX);
        match request {
            ControlRequest::OpenSession { geometry } => {
                let bytes = geometry.places().map_or(0, |places| places.total);
                let ops = geometry.depth.into();
                Usage { sessions: 1, ops, bytes: pages(bytes), regions: 0 }
            }
            ControlRequest::Register { length, .. }
            | ControlRequest::RegisterBacked { length, .. } => {
                Usage { regions: 1, bytes: pages(*length), ..Usage::default() }
            }
            _ => Usage::default(),
        }
    }

    pub(super) fn plus(self, other: Usage) -> Usage {
        Usage {
            regions: self.regions.saturating_add(other.regions),
            sessions: self.sessions.saturating_add(other.sessions),
            ops: self.ops.saturating_add(other.ops),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn minus(self, other: Usage) -> Usage {
        Usage {
            regions: self.regions.saturating_sub(other.regions),
            sessions: self.sessions.saturating_sub(other.sessions),
            ops: self.ops.saturating_sub(other.ops),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// What users have, by user number.
#[derive(Debug)]
pub(super) struct Quotas {
    limits: Usage,
    used: BTreeMap<u32, Usage>,
}

impl Quotas {
    pub(super) fn new(settings: &QuotaSettings) -> Self {
        let limits = Usage {
            regions: settings.regions.into(),
            sessions: settings.sessions.into(),
            ops: settings.ops,
            bytes: settings.bytes.unwrap_or_else(half_of_memory),
        };
        Quotas { limits, used: BTreeMap::new() }
    }

    /// Books what a user asks for, before anything of it is made.
    ///
    /// # Errors
    /// The first limit that it would go beyond.
    pub(super) fn take(&mut self, user: u32, asked: Usage) -> Result<(), Refusal> {
        let used = self.used.get(&user).copied().unwrap_or_default();
        let checks = [
            ("regions", used.regions, asked.regions, self.limits.regions),
            ("sessions", used.sessions, asked.sessions, self.limits.sessions),
            ("ops", used.ops, asked.ops, self.limits.ops),
            ("bytes", used.bytes, asked.bytes, self.limits.bytes),
        ];
        for (what, used, asked, limit) in checks {
            if asked > 0 && used.saturating_add(asked) > limit {
                let reason = format!(
                    "user {user} has {used} {what} and asks for {asked} more; the most is {limit}. \
                     Give some up, or raise quota.{what} in the engine's configuration"
                );
                return Err(Refusal::new(Status::Busy, reason));
            }
        }
        if asked != Usage::default() {
            self.used.insert(user, used.plus(asked));
        }
        Ok(())
    }

    /// A user has given something up.
    pub(super) fn give_back(&mut self, user: u32, given: Usage) {
        if let Some(used) = self.used.get_mut(&user) {
            *used = used.minus(given);
            if *used == Usage::default() {
                self.used.remove(&user);
            }
        }
    }
}

fn half_of_memory() -> u64 {
    let system = rustix::system::sysinfo();
    // The types of its fields differ between platforms.
    let (total, unit) = (system.totalram as u64, u64::from(system.mem_unit));
    total.saturating_mul(unit) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use nic_wire::session::Geometry;

    fn region(length: u64) -> Usage {
        Usage::asked_by(&ControlRequest::Register { length, base: 0 })
    }

    fn quotas() -> Quotas {
        let bytes = Some(10 * PAGE_BYTES);
        Quotas::new(&QuotaSettings { regions: 2, sessions: 1, ops: 4, bytes })
    }

    #[test]
    fn each_limit_is_named_with_its_key() {
        let mut quotas = quotas();
        quotas.take(7, region(1)).unwrap();
        let refusal = quotas.take(7, region(9 * PAGE_BYTES + 1)).unwrap_err();
        assert!(refusal.reason.contains("quota.bytes"), "{}", refusal.reason);
        assert!(refusal.reason.contains("has 4096 bytes"), "{}", refusal.reason);
        quotas.take(7, region(9 * PAGE_BYTES)).unwrap();
        let refusal = quotas.take(7, region(1)).unwrap_err();
        assert!(refusal.reason.contains("quota.regions"), "{}", refusal.reason);
        let geometry =
            Geometry { depth: 2, arena_bytes: 4096, receive_buffers: 0, receive_buffer_bytes: 0 };
        let session = Usage::asked_by(&ControlRequest::OpenSession { geometry });
        assert!(session.bytes > 4096 && session.sessions == 1);
        // Another user has a quota of his own.
        quotas.take(8, session).unwrap();
        let refusal = quotas.take(8, session).unwrap_err();
        assert!(refusal.reason.contains("quota.sessions"), "{}", refusal.reason);
        quotas.give_back(8, session);
        quotas.take(8, session).unwrap();
        let deep = Geometry { depth: 8, ..geometry };
        let deep = Usage::asked_by(&ControlRequest::OpenSession { geometry: deep });
        let refusal = quotas.take(9, deep).unwrap_err();
        assert!(refusal.reason.contains("asks for 8 more; the most is 4"), "{}", refusal.reason);
        assert!(refusal.reason.contains("quota.ops"), "{}", refusal.reason);
    }

    #[test]
    fn lengths_beyond_everything_are_refused_and_nothing_is_booked() {
        let mut quotas = quotas();
        for length in [u64::MAX, u64::MAX - 1, 11 * PAGE_BYTES] {
            assert!(quotas.take(7, region(length)).is_err());
        }
        assert!(quotas.used.is_empty());
        quotas.take(7, region(PAGE_BYTES)).unwrap();
        assert!(quotas.take(7, region(u64::MAX)).is_err());
        quotas.give_back(7, region(PAGE_BYTES));
        assert!(quotas.used.is_empty());
    }
}
