//! What a port counts. Each way to lose a packet has a counter of its own.

/// A counter's name and meaning, for metrics listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterDescription {
    /// The name, unit included, in snake case.
    pub name: &'static str,
    /// What it counts.
    pub meaning: &'static str,
}

macro_rules! port_counters {
    ($($(#[doc = $meaning:literal])+ $name:ident,)+) => {
        /// What a port has done since it was opened. Plain words, copied out whole.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct PortCounters {
            $($(#[doc = $meaning])+ pub $name: u64,)+
        }

        impl PortCounters {
            /// Names and meanings, in the order of [`PortCounters::values`].
            pub const DESCRIPTIONS: &'static [CounterDescription] = &[
                $(CounterDescription {
                    name: stringify!($name),
                    meaning: concat!($($meaning),+).trim_ascii(),
                },)+
            ];

            /// All counters, in the order of [`PortCounters::DESCRIPTIONS`].
            pub fn values(&self) -> [u64; Self::DESCRIPTIONS.len()] {
                [$(self.$name,)+]
            }
        }
    };
}

port_counters! {
    /// Packets that left.
    transmitted_packets,
    /// Bytes that left, packet headers included, network headers not.
    transmitted_bytes,
    /// System calls (or publications of a ring) that moved packets out.
    transmit_calls,
    /// Times the network could take no more for now; the packets stayed queued.
    transmit_blocked,
    /// Packets refused on submission: length or destination can never work.
    transmit_refused,
    /// Packets that the network rejected, or that found the queue full or the peer gone.
    transmit_errors,
    /// Packets dropped because the next hop to their destination is not known yet, or there is none.
    transmit_unresolved,
    /// Packets copied into another frame, because theirs was still on its way to somebody else.
    transmit_copies,
    /// Frames that the device held although it was idle, and that were taken back by copying.
    transmit_recovered,
    /// Bursts whose segmentation failed and that left packet by packet.
    segmentation_failures,
    /// Times no frame was free for the share asked for.
    frames_exhausted,
    /// Packets received.
    received_packets,
    /// Bytes received.
    received_bytes,
    /// Calls that moved packets in.
    receive_calls,
    /// Polls that found nothing.
    empty_polls,
    /// Polls that could not receive because all buffers were held by unreleased bursts.
    receive_starved,
    /// Packets that the kernel dropped because the port had no free buffer; told within moments.
    receive_overruns,
    /// Errors that the network reported on receiving, such as ICMP messages of dead peers.
    receive_errors,
    /// Packets dropped because they were cut off.
    receive_truncated,
    /// Packets dropped because no engine sends such: empty, too long, or of an unknown family.
    receive_foreign,
    /// Messages between neighbours (ARP, neighbour discovery, echo) that were taken care of.
    neighbour_messages,
    /// Entries or cursors in shared memory that no correct peer writes.
    violations,
    /// Wake-ups sent to a sleeping peer.
    wakes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_and_values_are_in_the_same_order() {
        let counters = PortCounters { transmitted_packets: 7, wakes: 9, ..PortCounters::default() };
        let values = counters.values();
        let of = |name| {
            let place = PortCounters::DESCRIPTIONS.iter().position(|known| known.name == name);
            values[place.unwrap()]
        };
        assert_eq!((of("transmitted_packets"), of("wakes"), of("empty_polls")), (7, 9, 0));
        assert!(PortCounters::DESCRIPTIONS.iter().all(|known| known.meaning.ends_with('.')));
    }
}
