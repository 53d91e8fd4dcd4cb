//! What an engine is told at its start; everything that costs memory is sized from here.

use nic_kernels::Budget;
use nic_wire::Span;

use super::TABLE_MIN;

/// Sizes and times of one engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Which engine of its process this is.
    pub engine: u8,
    /// Flows, of both directions together.
    pub flows: u16,
    /// Applications.
    pub clients: u16,
    /// Sessions of all applications.
    pub sessions: u16,
    /// Regions of all applications.
    pub regions: u16,
    /// Exports of all applications.
    pub exports: u16,
    /// Ops of local sessions that may be out.
    pub ops_out: u16,
    /// Ops of other hosts that may be in hand; at least 340, a few packets' worth.
    pub ops_in: u16,
    /// Requests that may wait for a fence; at least 340, a few packets' worth.
    pub holds: u16,
    /// Ops that one initiating engine may have out here, and this engine at one target, whatever
    /// that grants: ops that it never answers stay in the table.
    pub op_credits: u16,
    /// KiB of replies that those may ask for together.
    pub reply_credits_kib: u16,
    /// Length of full packets in bytes; less if the port carries less. `None`: 1400, which nearly
    /// every path carries, or the port's longest where that is all of the path.
    pub packet_bytes: Option<usize>,
    /// How much may be unacknowledged towards a peer, in bytes.
    pub congestion_window_bytes: u32,
    /// How much one peer may have unacknowledged towards this engine, in bytes; `None`: a share of
    /// what the port can take.
    pub receive_window_bytes: Option<u32>,
    /// Packets received in one turn.
    pub burst: usize,
    /// Commands taken from one session in one turn.
    pub pickup_max: u32,
    /// What the executor may spend in one turn.
    pub budget: Budget,
    /// How long a peer may be silent while requests are unanswered.
    pub peer_timeout: Span,
    /// How long a new flow may take to open.
    pub connect_timeout: Span,
    /// The number of each flow's first packet; `None`: random.
    pub first_packet_number: Option<u64>,
}

impl EngineConfig {
    /// How many ops of other hosts may be in hand, the least counted in.
    pub fn requests(&self) -> u16 {
        self.ops_in.max(TABLE_MIN)
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            engine: 0,
            flows: 64,
            clients: 64,
            sessions: 128,
            regions: 1024,
            exports: 1024,
            ops_out: 8192,
            ops_in: 4096,
            holds: 512,
            op_credits: 1024,
            reply_credits_kib: 16 * 1024,
            packet_bytes: None,
            congestion_window_bytes: 160 << 10,
            receive_window_bytes: None,
            burst: 128,
            pickup_max: 256,
            budget: Budget::default(),
            peer_timeout: Span::from_ms(2_000),
            connect_timeout: Span::from_ms(3_000),
            first_packet_number: None,
        }
    }
}
