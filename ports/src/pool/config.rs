//! How large a pool of frames is, and how it is shared out.

/// The most frames that a pool may have: 2 GiB of packets, far more than any engine uses.
const FRAMES_MAX: u32 = 1 << 20;

/// The size of a pool and its shares, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// All frames.
    pub frames: u32,
    /// Frames that only replies can use; they may use more while there are more.
    pub reply_frames: u32,
    /// Frames that only control packets can use, and all that they can.
    pub control_frames: u32,
}

impl PoolConfig {
    /// A pool of so many frames (at least 8), a quarter kept for replies and a thirty-second, but
    /// at least two, for control packets.
    pub const fn with_frames(frames: u32) -> Self {
        let control = frames / 32;
        let control_frames = if control < 2 { 2 } else { control };
        PoolConfig { frames, reply_frames: frames / 4, control_frames }
    }

    pub(super) fn check(&self) -> Result<(), PoolError> {
        if self.frames > FRAMES_MAX {
            return Err(PoolError::TooMany { found: self.frames });
        }
        let reserved = u64::from(self.reply_frames) + u64::from(self.control_frames);
        if self.control_frames == 0 || reserved >= u64::from(self.frames) {
            return Err(PoolError::Shares {
                frames: self.frames,
                reply_frames: self.reply_frames,
                control_frames: self.control_frames,
            });
        }
        Ok(())
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig::with_frames(4096)
    }
}

/// Why a pool of this size cannot be made. Correct the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// More frames than any pool has.
    #[error("{found} frames were asked for; a pool has at most {FRAMES_MAX}: ask for fewer")]
    TooMany {
        /// How many were asked for.
        found: u32,
    },
    /// Nothing is left for requests, or nothing is kept for control packets.
    #[error(
        "of {frames} frames {reply_frames} are kept for replies and {control_frames} for control \
         packets; keep at least one for control and leave at least one for requests"
    )]
    Shares {
        /// All frames.
        frames: u32,
        /// Kept for replies.
        reply_frames: u32,
        /// Kept for control packets.
        control_frames: u32,
    },
}
