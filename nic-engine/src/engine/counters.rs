//! What an engine counts. Plain words; the list is the documentation, and all that shows counters
//! (the counters file, `nic metrics`, `nic status`, `nic top`, Prometheus) is made from it.

use std::borrow::Cow;

use nic_ports::PortCounters;
use serde::{Deserialize, Serialize};

/// One counter as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name: the field of [`Counters`].
    pub name: Cow<'static, str>,
    /// How its value is to be read.
    pub kind: MetricKind,
    /// What one of it is.
    pub unit: Cow<'static, str>,
    /// What it counts, a sentence.
    pub meaning: Cow<'static, str>,
}

/// How a value is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// How many since the engine's start; it only grows.
    Total,
    /// The largest since the engine's start.
    Longest,
    /// How many there are now.
    Gauge,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident $unit:literal,)*) => {
        /// Counts since the engine started, and the few gauges beside them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[doc = $doc])+ pub $name: u64,)* }

        impl Counters {
            /// What each counter is, in the order of [`Counters::values`].
            pub const LIST: &'static [Metric] = &[$(Metric {
                name: Cow::Borrowed(stringify!($name)),
                kind: MetricKind::$kind,
                unit: Cow::Borrowed($unit),
                meaning: Cow::Borrowed(concat!($($doc),+).trim_ascii()),
            },)*];

            /// How many there are.
            pub const COUNT: usize = Self::LIST.len();

            /// Every counter's value.
            pub fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$name,)*]
            }

            /// The counters of which these are the values.
            pub fn from_values(values: [u64; Self::COUNT]) -> Self {
                let [$($name,)*] = values;
                Counters { $($name,)* }
            }
        }
    };
}

counters! {
    /// Turns of the engine.
    turns: Total "turns",
    /// Turns that found work.
    busy_turns: Total "turns",
    /// Time spent in turns that found work.
    busy_ns: Total "ns",
    /// The longest turn.
    longest_turn_ns: Longest "ns",
    /// Times that the engine went to sleep.
    sleeps: Total "times",
    /// Times that the engine gave its core to others that use it as well.
    yields: Total "times",
    /// Times that the engine noticed that others keep its core from it.
    crowded: Total "times",
    /// Doorbells rung for sleeping applications.
    wakes: Total "times",
    /// Commands taken from sessions.
    commands: Total "commands",
    /// Commands that made no sense.
    bad_commands: Total "commands",
    /// Sessions whose application broke the rules of its rings.
    ring_violations: Total "sessions",
    /// Times that an op waited because its session has its share out while a polite one is served.
    limited: Total "times",
    /// Completions posted.
    completions: Total "ops",
    /// Time from pickup to completion, of all completed ops together.
    completion_ns: Total "ns",
    /// Ops of local sessions that ended by their deadline.
    expired: Total "ops",
    /// Ops of local sessions that their applications cancelled.
    cancelled: Total "ops",
    /// Targets told of ops that were given up while they were out: cancelled, or of a closed session.
    cancels_sent: Total "ops",
    /// Ops of local sessions that failed because their flow ended.
    lost: Total "ops",
    /// Request frames sent (op frames; an op whose payload needs several packets sends several).
    requests_sent: Total "frames",
    /// Reply frames received for ops that are out.
    replies_received: Total "frames",
    /// Reply frames received for ops that have ended.
    late_replies: Total "frames",
    /// Reply frames sent.
    replies_sent: Total "frames",
    /// Requests received, each op once.
    requests_received: Total "ops",
    /// Ops executed to a good end at this target.
    executed: Total "ops",
    /// Requests that this target refused before they had an effect.
    refused: Total "ops",
    /// Ops that had begun and ended badly at this target.
    failed: Total "ops",
    /// What ops have cost at this target: fetches and words changed, and one for every 64 bytes fetched.
    executor_cost: Total "units",
    /// Turns after which long ops stood aside, for other long ones or for short ones.
    set_aside: Total "turns",
    /// Requests that had expired when they arrived.
    expired_on_arrival: Total "ops",
    /// Requests that waited for a fence.
    fenced: Total "ops",
    /// Calls delivered to serving applications.
    calls: Total "calls",
    /// Answers taken from serving applications.
    answers: Total "calls",
    /// Answers to calls that had already ended.
    late_answers: Total "calls",
    /// Calls in hand that their callers cancelled.
    calls_cancelled: Total "calls",
    /// Words of that for which a serving session's ring had no room.
    notices_dropped: Total "notices",
    /// Other ops in hand that their initiators gave up.
    ops_cancelled: Total "ops",
    /// Word of given-up ops for which there was no room: those end by their deadlines.
    cancels_dropped: Total "ops",
    /// Times that the ops in hand were looked through for those given up.
    cancel_looks: Total "times",
    /// Frames that could not be understood in packets that were whole.
    malformed_frames: Total "frames",
    /// Packets left unacknowledged for want of room; they come again.
    unplaced_packets: Total "packets",
    /// Parts of payloads that could not be placed; their ops failed.
    unplaced_parts: Total "frames",
    /// Flushes asked for by ops: ranges of regions to be written to their files.
    flushes: Total "flushes",
    /// Times that a region's file was synced; many flushes share one.
    flush_syncs: Total "times",
    /// Bytes written to files of regions.
    flushed_bytes: Total "bytes",
    /// Files of regions that could not be written, and persist nothing any more.
    flush_failures: Total "files",
    /// Packets forwarded to another engine of the process.
    forwarded: Total "packets",
    /// Packets that another engine of the process forwarded to this one.
    taken_over: Total "packets",
    /// Packets for engines that the process does not have, or whose queue was full.
    unforwardable: Total "packets",
    /// Packets sent by the port.
    packets_sent: Total "packets",
    /// Packets received by the port.
    packets_received: Total "packets",
    /// Bytes sent by the port.
    bytes_sent: Total "bytes",
    /// Bytes received by the port.
    bytes_received: Total "bytes",
    /// System calls of the port that sent packets.
    send_calls: Total "calls",
    /// System calls of the port that received packets.
    receive_calls: Total "calls",
    /// System calls of the port that found nothing.
    empty_polls: Total "calls",
    /// Times that the network could take no more for now; the packets stayed queued.
    send_blocked: Total "times",
    /// Packets that the port refused to send: no such length or destination can work.
    send_refused: Total "packets",
    /// Packets that the network rejected, or that found the queue full or the peer gone.
    send_errors: Total "packets",
    /// Packets dropped because the next hop to their destination was not known yet, or there is none.
    send_unresolved: Total "packets",
    /// Packets copied into another frame, because theirs was still on its way to somebody else.
    send_copies: Total "packets",
    /// Frames that the device held although it was idle, and that were taken back by copying.
    send_recovered: Total "frames",
    /// Bursts whose segmentation failed and that left packet by packet.
    segmentation_failures: Total "bursts",
    /// Times that the port had no free frame for the share asked for.
    frames_exhausted: Total "times",
    /// Polls that could not receive because all buffers were held.
    receive_starved: Total "calls",
    /// Packets that the kernel dropped because the port had no free buffer; told within moments.
    receive_overruns: Total "packets",
    /// Errors that the network reported on receiving, such as of peers that are gone.
    receive_errors: Total "errors",
    /// Packets dropped because they were cut off.
    receive_truncated: Total "packets",
    /// Packets dropped because no engine sends such: empty, too long, of an unknown family.
    receive_foreign: Total "packets",
    /// Messages between neighbours (ARP, neighbour discovery, echo) that the port took care of.
    neighbour_messages: Total "packets",
    /// Entries in the port's shared memory that no correct peer writes.
    port_violations: Total "entries",
    /// Packets sent again.
    retransmissions: Total "packets",
    /// Packets that carried nothing but an ack.
    lone_acks: Total "packets",
    /// Packets sent for nothing but to ask a silent peer for an ack.
    lone_probes: Total "packets",
    /// Silent peers asked whether they are there.
    asks: Total "times",
    /// Packets received twice.
    duplicates: Total "packets",
    /// Packets dropped because their bytes were changed on the way.
    corrupted_packets: Total "packets",
    /// Packets dropped because they were not packets of this protocol.
    malformed_packets: Total "packets",
    /// Packets of another wire version.
    foreign_versions: Total "packets",
    /// Packets dropped for any of the reasons that follow: the sum of the next seven.
    dropped_packets: Total "packets",
    /// Packets dropped because no flow has their connection id.
    dropped_unknown_flow: Total "packets",
    /// Packets dropped because they came from another address than their flow's.
    dropped_wrong_address: Total "packets",
    /// Packets dropped because their number lies too far beyond what has arrived.
    dropped_out_of_window: Total "packets",
    /// Packets dropped because they acknowledge what was never sent.
    dropped_impossible_ack: Total "packets",
    /// Handshake packets dropped because they fit no handshake under way.
    dropped_stale_handshake: Total "packets",
    /// Resets dropped because they do not name the flow's other end, or come from elsewhere.
    dropped_unbelievable_reset: Total "packets",
    /// Handshake packets dropped because there is no room for another flow.
    dropped_no_room: Total "packets",
    /// Handshake packets and resets not sent because their queue was full.
    control_overflows: Total "packets",
    /// Flows opened.
    flows_opened: Total "flows",
    /// Flows that could not be opened.
    flows_refused: Total "flows",
    /// Flows of silent peers that were ended because others wanted their frames or their place.
    flows_abandoned: Total "flows",
    /// Flows ended by a fault.
    flows_lost: Total "flows",
    /// Flows that are open.
    flows: Gauge "flows",
    /// Sessions that are open.
    sessions: Gauge "sessions",
    /// Ops of local sessions that are out.
    ops_out: Gauge "ops",
    /// Ops of other hosts that are in hand.
    ops_in: Gauge "ops",
}

impl Counters {
    /// The same with what the port and the flows have counted.
    pub(super) fn joined(self, port: &PortCounters, flows: &nic_transport::Counters) -> Counters {
        Counters {
            packets_sent: port.transmitted_packets,
            packets_received: port.received_packets,
            bytes_sent: port.transmitted_bytes,
            bytes_received: port.received_bytes,
            send_calls: port.transmit_calls,
            receive_calls: port.receive_calls,
            empty_polls: port.empty_polls,
            send_blocked: port.transmit_blocked,
            send_refused: port.transmit_refused,
            send_errors: port.transmit_errors,
            send_unresolved: port.transmit_unresolved,
            send_copies: port.transmit_copies,
            send_recovered: port.transmit_recovered,
            segmentation_failures: port.segmentation_failures,
            frames_exhausted: port.frames_exhausted,
            receive_starved: port.receive_starved,
            receive_overruns: port.receive_overruns,
            receive_errors: port.receive_errors,
            receive_truncated: port.receive_truncated,
            receive_foreign: port.receive_foreign,
            neighbour_messages: port.neighbour_messages,
            port_violations: port.violations,
            retransmissions: flows.flows.retransmissions_fast
                + flows.flows.retransmissions_probe
                + flows.flows.retransmissions_timeout,
            lone_acks: flows.flows.lone_acks_sent,
            lone_probes: flows.flows.lone_probes_sent,
            duplicates: flows.flows.duplicates,
            corrupted_packets: flows.drops.not_authentic,
            malformed_packets: flows.drops.malformed,
            foreign_versions: flows.drops.version,
            dropped_packets: flows.drops.unknown_flow
                + flows.drops.wrong_address
                + flows.drops.out_of_window
                + flows.drops.impossible_ack
                + flows.drops.stale_handshake
                + flows.drops.unbelievable_reset
                + flows.drops.no_room,
            dropped_unknown_flow: flows.drops.unknown_flow,
            dropped_wrong_address: flows.drops.wrong_address,
            dropped_out_of_window: flows.drops.out_of_window,
            dropped_impossible_ack: flows.drops.impossible_ack,
            dropped_stale_handshake: flows.drops.stale_handshake,
            dropped_unbelievable_reset: flows.drops.unbelievable_reset,
            dropped_no_room: flows.drops.no_room,
            control_overflows: flows.endpoint.control_overflows,
            flows_refused: flows.endpoint.connects_failed,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_the_order_of_the_list() {
        let mut values = [0; Counters::COUNT];
        for (index, value) in values.iter_mut().enumerate() {
            *value = index as u64 * 7;
        }
        assert_eq!(Counters::from_values(values).values(), values);
        let first = &Counters::LIST[0];
        assert_eq!((&*first.name, &*first.meaning), ("turns", "Turns of the engine."));
    }

    /// Units are words of a short list, so that who reads them may rely on them; a time says so in
    /// its name.
    #[test]
    fn every_counter_has_a_unit_and_a_meaning() {
        for metric in Counters::LIST {
            assert!(metric.meaning.ends_with('.'), "{metric:?}");
            assert_eq!(metric.unit == "ns", metric.name.ends_with("_ns"), "{metric:?}");
            let is_now = matches!(&*metric.name, "flows" | "sessions" | "ops_out" | "ops_in");
            assert_eq!(metric.kind == MetricKind::Gauge, is_now, "{metric:?}");
        }
    }

    /// Nothing is lost in silence: what a flow drops or a port loses shows under a name of its own.
    #[test]
    fn every_drop_of_flows_and_port_is_shown() {
        let none = Counters::default();
        let (port, flows) = (PortCounters::default(), nic_transport::Counters::default());
        assert_eq!(none.joined(&port, &flows), none);
        let shown = |port: &PortCounters, flows: &nic_transport::Counters, sum: u64| {
            let values = none.joined(port, flows).values();
            let places = values.iter().filter(|value| **value == 1).count() as u64;
            assert_eq!(places, 1 + sum, "{port:?} {flows:?}");
        };
        type Drop = fn(&mut nic_transport::Drops) -> &mut u64;
        let drops: [(Drop, u64); 10] = [
            (|drops| &mut drops.malformed, 0),
            (|drops| &mut drops.version, 0),
            (|drops| &mut drops.not_authentic, 0),
            // The others stand in their sum as well.
            (|drops| &mut drops.unknown_flow, 1),
            (|drops| &mut drops.wrong_address, 1),
            (|drops| &mut drops.out_of_window, 1),
            (|drops| &mut drops.impossible_ack, 1),
            (|drops| &mut drops.stale_handshake, 1),
            (|drops| &mut drops.unbelievable_reset, 1),
            (|drops| &mut drops.no_room, 1),
        ];
        let mut count = 0;
        flows.drops.each(|_, _| count += 1);
        assert_eq!(count, drops.len(), "a reason is missing here");
        for (drop, sum) in drops {
            let mut flows = flows;
            *drop(&mut flows.drops) = 1;
            shown(&port, &flows, sum);
        }
        type Loss = fn(&mut PortCounters) -> &mut u64;
        let losses: [Loss; 10] = [
            |port| &mut port.transmit_refused,
            |port| &mut port.transmit_errors,
            |port| &mut port.transmit_unresolved,
            |port| &mut port.frames_exhausted,
            |port| &mut port.receive_starved,
            |port| &mut port.receive_overruns,
            |port| &mut port.receive_errors,
            |port| &mut port.receive_truncated,
            |port| &mut port.receive_foreign,
            |port| &mut port.violations,
        ];
        for loss in losses {
            let mut port = port;
            *loss(&mut port) = 1;
            shown(&port, &flows, 0);
        }
    }
}
