//! What an engine counts. Plain words; the list is the documentation.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counts since the engine started, and the few gauges beside them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[doc = $doc])+ pub $name: u64,)* }

        impl Counters {
            /// Every counter's name and meaning, in the order of [`Counters::values`].
            pub const LIST: &'static [(&'static str, &'static str)] =
                &[$((stringify!($name), concat!($($doc),+)),)*];

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
    turns,
    /// Turns that found work.
    busy_turns,
    /// Nanoseconds spent in turns that found work.
    busy_ns,
    /// The longest turn in nanoseconds.
    longest_turn_ns,
    /// Times that the engine went to sleep.
    sleeps,
    /// Doorbells rung for sleeping applications.
    wakes,
    /// Commands taken from sessions.
    commands,
    /// Commands that made no sense.
    bad_commands,
    /// Sessions whose application broke the rules of its rings.
    ring_violations,
    /// Completions posted.
    completions,
    /// Ops of local sessions that ended by their deadline.
    expired,
    /// Ops of local sessions that failed because their flow ended.
    lost,
    /// Request frames sent (op frames; an op whose payload needs several packets sends several).
    requests_sent,
    /// Reply frames received for ops that are out.
    replies_received,
    /// Reply frames received for ops that have ended.
    late_replies,
    /// Reply frames sent.
    replies_sent,
    /// Requests received, each op once.
    requests_received,
    /// Ops executed to a good end at this target.
    executed,
    /// Requests that this target refused before they had an effect.
    refused,
    /// Ops that had begun and ended badly at this target.
    failed,
    /// Requests that had expired when they arrived.
    expired_on_arrival,
    /// Requests that waited for a fence.
    fenced,
    /// Calls delivered to serving applications.
    calls,
    /// Answers taken from serving applications.
    answers,
    /// Answers to calls that had already ended.
    late_answers,
    /// Frames that could not be understood in packets that were whole.
    malformed_frames,
    /// Packets left unacknowledged for want of room.
    unplaced_packets,
    /// Parts of payloads that could not be placed; their ops failed.
    unplaced_parts,
    /// Packets forwarded to another engine of the process.
    forwarded,
    /// Packets that another engine of the process forwarded to this one.
    taken_over,
    /// Packets for engines that the process does not have, or whose queue was full.
    unforwardable,
    /// Packets sent by the port.
    packets_sent,
    /// Packets received by the port.
    packets_received,
    /// Bytes sent by the port.
    bytes_sent,
    /// Bytes received by the port.
    bytes_received,
    /// System calls of the port that sent packets.
    send_calls,
    /// System calls of the port that received packets.
    receive_calls,
    /// System calls of the port that found nothing.
    empty_polls,
    /// Packets sent again.
    retransmissions,
    /// Packets that carried nothing but an ack.
    lone_acks,
    /// Packets sent for nothing but to ask a silent peer for an ack.
    lone_probes,
    /// Silent peers asked whether they are there.
    asks,
    /// Packets received twice.
    duplicates,
    /// Packets dropped because their bytes were changed on the way.
    corrupted_packets,
    /// Packets dropped because they were not packets of this protocol.
    malformed_packets,
    /// Packets of another wire version.
    foreign_versions,
    /// Packets dropped for any other reason.
    dropped_packets,
    /// Flows opened.
    flows_opened,
    /// Flows ended by a fault.
    flows_lost,
    /// Flows that are open (gauge).
    flows,
    /// Sessions that are open (gauge).
    sessions,
    /// Ops of local sessions that are out (gauge).
    ops_out,
    /// Ops of other hosts that are in hand (gauge).
    ops_in,
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
        assert_eq!(Counters::LIST[0], ("turns", " Turns of the engine."));
    }
}
