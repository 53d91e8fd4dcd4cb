//! What an endpoint counts. Nothing is dropped without one of these going up.

/// Why a received packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Too short, of unknown kind, or with a body that makes no sense.
    Malformed,
    /// Of a wire version that this build does not speak.
    Version,
    /// Its checksum or tag does not fit.
    NotAuthentic,
    /// No flow has its connection id. A numbered packet was answered by RESET.
    UnknownFlow,
    /// The connection id is right, the sender's address is not the flow's.
    WrongAddress,
    /// Its number lies too far beyond what has arrived.
    OutOfWindow,
    /// It acknowledges packets that were never sent.
    ImpossibleAck,
    /// A handshake packet that fits no handshake under way.
    StaleHandshake,
    /// A RESET that does not name the flow's other end, or comes from elsewhere.
    UnbelievableReset,
    /// No slot is free for the flow that it asks for. Where none can be reclaimed, it was
    /// answered by RESET.
    NoRoom,
}

macro_rules! counters {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $field:ident,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$inner])* pub $field: u64,)*
        }

        impl $name {
            /// Adds another set of counts to this one.
            pub fn add(&mut self, other: &$name) {
                $(self.$field += other.$field;)*
            }

            /// Every counter with its name, in a fixed order.
            pub fn each(&self, mut visit: impl FnMut(&'static str, u64)) {
                $(visit(stringify!($field), self.$field);)*
            }
        }
    };
}

counters! {
    /// Packets dropped on receipt, by [`DropReason`].
    Drops {
        /// [`DropReason::Malformed`].
        malformed,
        /// [`DropReason::Version`].
        version,
        /// [`DropReason::NotAuthentic`].
        not_authentic,
        /// [`DropReason::UnknownFlow`].
        unknown_flow,
        /// [`DropReason::WrongAddress`].
        wrong_address,
        /// [`DropReason::OutOfWindow`].
        out_of_window,
        /// [`DropReason::ImpossibleAck`].
        impossible_ack,
        /// [`DropReason::StaleHandshake`].
        stale_handshake,
        /// [`DropReason::UnbelievableReset`].
        unbelievable_reset,
        /// [`DropReason::NoRoom`].
        no_room,
    }
}

impl Drops {
    pub(crate) fn count(&mut self, reason: DropReason) {
        let counter = match reason {
            DropReason::Malformed => &mut self.malformed,
            DropReason::Version => &mut self.version,
            DropReason::NotAuthentic => &mut self.not_authentic,
            DropReason::UnknownFlow => &mut self.unknown_flow,
            DropReason::WrongAddress => &mut self.wrong_address,
            DropReason::OutOfWindow => &mut self.out_of_window,
            DropReason::ImpossibleAck => &mut self.impossible_ack,
            DropReason::StaleHandshake => &mut self.stale_handshake,
            DropReason::UnbelievableReset => &mut self.unbelievable_reset,
            DropReason::NoRoom => &mut self.no_room,
        };
        *counter += 1;
    }
}

counters! {
    /// What flows count.
    FlowCounters {
        /// Numbered packets sent for the first time.
        data_sent,
        /// Bytes of them, headers included.
        data_bytes_sent,
        /// Numbered packets accepted.
        data_accepted,
        /// Packets sent again because later ones were acknowledged.
        retransmissions_fast,
        /// Last packets sent again because no ack came in time.
        retransmissions_probe,
        /// Oldest packets sent again because probing did not help.
        retransmissions_timeout,
        /// Numbered packets that had arrived before.
        duplicates,
        /// Acks sent on their own.
        lone_acks_sent,
        /// Packets sent for nothing but to ask for an ack.
        lone_probes_sent,
        /// Acks, and packets that ask for one, received on their own.
        lone_acks_received,
        /// Times a target fell quiet.
        quieted,
    }
}

counters! {
    /// What the endpoint itself counts.
    EndpointCounters {
        /// Packets handed to [`Endpoint::handle`](crate::Endpoint::handle).
        packets_received,
        /// Packets of another engine's flows.
        foreign,
        /// Handshake packets received in order.
        control_received,
        /// Handshake packets, resets and version lists sent.
        control_sent,
        /// Descriptors of such packets that found the queue full.
        control_overflows,
        /// INITs sent, repetitions included.
        inits_sent,
        /// RETRYs sent: INITs whose address was not proven.
        retries_sent,
        /// INITs that were repeated after the flow had been opened.
        duplicate_inits,
        /// Flows opened as initiator.
        opened_as_initiator,
        /// Flows opened as target.
        opened_as_target,
        /// Flows that could not be opened.
        connects_failed,
        /// Peers that speak no version of ours.
        version_mismatches,
        /// RESETs sent.
        resets_sent,
        /// RESETs received and believed.
        resets_received,
        /// Initiators that gave their peer up.
        peers_lost,
        /// Flows abandoned after long silence.
        abandoned,
    }
}

/// All counts of an endpoint since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The endpoint's own.
    pub endpoint: EndpointCounters,
    /// Those of its flows, past ones included.
    pub flows: FlowCounters,
    /// Drops.
    pub drops: Drops,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let reasons = [
            DropReason::Malformed,
            DropReason::Version,
            DropReason::NotAuthentic,
            DropReason::UnknownFlow,
            DropReason::WrongAddress,
            DropReason::OutOfWindow,
            DropReason::ImpossibleAck,
            DropReason::StaleHandshake,
            DropReason::UnbelievableReset,
            DropReason::NoRoom,
        ];
        let mut drops = Drops::default();
        reasons.iter().for_each(|reason| drops.count(*reason));
        let mut counters = 0;
        drops.each(|name, count| {
            assert_eq!(count, 1, "{name}");
            counters += 1;
        });
        assert_eq!(counters, reasons.len());
    }
}
