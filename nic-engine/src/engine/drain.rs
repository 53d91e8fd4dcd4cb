//! The last task of an engine that is to end: nothing new begins, what is under way is finished, and
//! the peers are told.

use nic_kernels::KernelSet;
use nic_ports::Port;
use nic_wire::{Span, Status, Time};

use super::core::Core;
use super::links::LinkState;
use super::ops::OpState;
use super::work::{Answer, Answered};

/// How long peers are told of the end at most: strangers that knock meanwhile, or a port without
/// frames, must not put it off.
const TELLING: Span = Span::from_ms(100);

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Ops are under way.
    Finishing,
    /// The flows are closed; the packets that say so have yet to leave.
    Telling,
    /// It is answered.
    Over,
}

/// The end, once it was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    id: u64,
    /// What its stage has not finished by then is given up.
    until: Time,
    stage: Stage,
}

impl<K: KernelSet> Core<K> {
    /// From now on new ops are refused. The answer comes when the engine has nothing left to do.
    pub(super) fn begin_drain(&mut self, id: u64, until: Time) {
        self.drain = Some(Drain { id, until, stage: Stage::Finishing });
    }

    /// Whether new ops are to be refused.
    #[inline]
    pub(super) fn refuses_ops(&self) -> bool {
        self.drain.is_some()
    }

    /// Whether [`Core::drain`] has something to do.
    #[inline]
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some_and(|drain| drain.stage != Stage::Over)
    }

    /// When what is still under way is given up.
    pub(super) fn drain_timeout(&self) -> Time {
        match self.drain {
            Some(Drain { until, stage: Stage::Finishing | Stage::Telling, .. }) => until,
            _ => Time::NEVER,
        }
    }

    /// Looks whether everything is finished, or the time is up.
    #[cold]
    pub(super) fn drain<P: Port>(&mut self, port: &mut P) {
        let Some(drain) = self.drain else { return };
        let (stage, until) = match drain.stage {
            Stage::Finishing if self.now >= drain.until || self.is_finished() => {
                self.close_flows(port);
                (Stage::Telling, self.now + TELLING)
            }
            Stage::Telling if self.now >= drain.until || !self.endpoint.wants_control() => {
                let answer = Answer::Released(Vec::new());
                self.answers.push_back(Answered::new(drain.id, answer));
                (Stage::Over, drain.until)
            }
            unchanged => (unchanged, drain.until),
        };
        self.drain = Some(Drain { stage, until, ..drain });
    }

    /// Whether no op is under way, in either direction, and every reply has arrived.
    fn is_finished(&self) -> bool {
        // Of an abandoned op the application has heard already.
        self.ops.next(0, |op| op.state != OpState::Abandoned).is_none()
            && self.target.live() == 0
            && self.holds.len() == 0
            && self.endpoint.iter().all(|(_, flow)| {
                // A quiet flow has said everything to a peer that does not answer.
                !flow.is_open() || flow.is_quiet() || flow.unacked_packets() == 0
            })
    }

    /// Ends all flows. Their peers hear of it at once, and need not find out.
    fn close_flows<P: Port>(&mut self, port: &mut P) {
        for slot in 0..self.links.len() {
            let link = &self.links[slot];
            if let (true, Some(handle)) = (link.state != LinkState::Vacant, link.handle) {
                self.flow_ended(handle, Status::Draining, "this engine ends", port);
            }
        }
    }
}
