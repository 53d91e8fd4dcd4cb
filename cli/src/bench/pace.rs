//! When ops begin: as soon as there is room (a closed loop), or at a fixed rate (an open loop).

/// The times at which a connection's ops are due.
#[derive(Clone, Debug)]
pub struct Pace {
    schedule: Option<Schedule>,
}

/// A fixed rate.
#[derive(Clone, Debug)]
struct Schedule {
    interval_ns: f64,
    /// When the next op is due, since the beginning.
    due_ns: f64,
    end_ns: f64,
}

/// So many connections share a rate, and this is one of them.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Ops a second, of all connections.
    pub rate: u64,
    /// Which connection.
    pub connection: u32,
    /// How many there are.
    pub connections: u32,
}

impl Pace {
    /// For a time of `time_ns` nanoseconds. Connections take turns, so that together they keep
    /// the rate evenly.
    pub fn new(share: Option<Share>, time_ns: u64) -> Self {
        let schedule = share.map(|Share { rate, connection, connections }| {
            let all_ns = 1e9 / rate as f64;
            Schedule {
                interval_ns: all_ns * f64::from(connections),
                due_ns: all_ns * f64::from(connection),
                end_ns: time_ns as f64,
            }
        });
        Pace { schedule }
    }

    /// Whether ops are due at times of their own.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.schedule.is_some()
    }

    /// When the op began that can be submitted now: now, or when it was due. None: none is due.
    #[inline]
    pub fn due(&self, now_ns: u64) -> Option<u64> {
        match &self.schedule {
            None => Some(now_ns),
            Some(Schedule { due_ns, end_ns, .. }) => {
                (*due_ns <= now_ns as f64 && due_ns < end_ns).then_some(*due_ns as u64)
            }
        }
    }

    /// That op was submitted.
    #[inline]
    pub fn submitted(&mut self) {
        if let Some(schedule) = &mut self.schedule {
            schedule.due_ns += schedule.interval_ns;
        }
    }

    /// How long until an op is due, in nanoseconds; 0 if one is. None: there is always room for one,
    /// or never again.
    pub fn until_due(&self, now_ns: u64) -> Option<u64> {
        let Schedule { due_ns, end_ns, .. } = self.schedule.as_ref()?;
        (due_ns < end_ns).then(|| (due_ns - now_ns as f64).max(0.0) as u64)
    }

    /// Ops that were due by then and were not submitted.
    pub fn overdue(&self, now_ns: u64) -> u64 {
        let Some(Schedule { interval_ns, due_ns, end_ns }) = &self.schedule else { return 0 };
        let late_ns = end_ns.min(now_ns as f64) - due_ns;
        if late_ns > 0.0 { (late_ns / interval_ns).ceil() as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_a_rate_evenly() {
        let pace = |connection| {
            Pace::new(Some(Share { rate: 1_000_000, connection, connections: 2 }), 9_000)
        };
        let mut due = Vec::new();
        for mut pace in [pace(0), pace(1)] {
            while let Some(at) = pace.due(1_000_000) {
                due.push(at);
                pace.submitted();
            }
            assert_eq!(pace.until_due(0), None);
        }
        due.sort_unstable();
        assert_eq!(due, (0..9).map(|number| number * 1000).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_late_is_counted_from_when_it_was_due() {
        let share = Share { rate: 1_000_000, connection: 0, connections: 1 };
        let mut pace = Pace::new(Some(share), 10_000);
        assert_eq!((pace.due(0), pace.overdue(0)), (Some(0), 0));
        pace.submitted();
        assert_eq!((pace.due(999), pace.until_due(400)), (None, Some(600)));
        assert_eq!((pace.due(5_500), pace.overdue(5_500)), (Some(1_000), 5));
        assert_eq!(pace.overdue(1_000_000), 9);
    }

    #[test]
    fn a_closed_loop_is_due_whenever_there_is_room() {
        let pace = Pace::new(None, 1000);
        assert_eq!((pace.due(7), pace.until_due(7), pace.overdue(u64::MAX)), (Some(7), None, 0));
    }
}
