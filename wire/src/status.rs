//! How an op ended, and what is known of its effect.

macro_rules! codes {
    ($(#[$attribute:meta])* $name:ident: $repr:ty, $error:ident, $what:literal {
        $($(#[$doc:meta])* $variant:ident = $code:literal => $text:literal,)*
    }) => {
        $(#[$attribute])*
        #[repr($repr)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant = $code,)* }

        impl $name {
            /// Every value, in the order of the codes.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The code as it stands in frames and slots.
            #[inline]
            pub const fn code(self) -> $repr {
                self as $repr
            }

            /// The value of a code.
            ///
            /// # Errors
            /// A code that this version does not know.
            #[inline]
            pub const fn from_code(code: $repr) -> Result<Self, $error> {
                match code { $($code => Ok($name::$variant),)* _ => Err($error(code)) }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                formatter.write_str(match self { $($name::$variant => $text,)* })
            }
        }

        #[doc = concat!("A ", $what, " code that this version does not know.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[error("unknown code {0}: the peer speaks a newer version")]
        pub struct $error(pub $repr);
    };
}

codes! {
    /// How an op ended.
    Status: u16, UnknownStatus, "status" {
        /// It ran, and the reply is whole.
        Ok = 0 => "ok",
        /// It reached a bound; the reply holds a continuation from which it may be resumed.
        Continues = 1 => "stopped at a bound; resume from the continuation",
        /// The target knows no kernel of this number. Use one that its engine was built with.
        UnknownKernel = 2 => "the target's engine has no such kernel",
        /// The kernel refused its arguments.
        BadArguments = 3 => "the kernel refused its arguments",
        /// The rkey names nothing, or its secret is wrong. Ask the owner for a fresh ticket.
        BadRkey = 4 => "the rkey is not valid at the target",
        /// The export was revoked or its owner is gone. Ask the owner for a fresh ticket.
        Revoked = 5 => "the region is no longer exported",
        /// An access would have left its region.
        OutOfBounds = 6 => "the access lies outside the region",
        /// The export does not allow this kind of access.
        Denied = 7 => "the export does not allow this access",
        /// An atomic or a pointer was not aligned as the kernel needs.
        Misaligned = 8 => "the address is not aligned",
        /// The deadline passed first.
        Expired = 9 => "the deadline passed",
        /// The target has no room for the op now. Retry later.
        Busy = 10 => "the target has no room for this op now",
        /// The reply does not fit the landing place that the op brought.
        ReplyTooLong = 11 => "the reply is longer than the op's landing place",
        /// Nobody at the target serves this call.
        NoService = 12 => "no application serves this call",
        /// The serving application refused or failed.
        ServiceFailed = 13 => "the serving application failed the call",
        /// The flow to the peer ended while the op was out.
        PeerLost = 14 => "the peer was lost",
        /// The peer never answered.
        Unreachable = 15 => "the peer does not answer",
        /// The local engine died.
        EngineLost = 16 => "the local engine was lost",
        /// No wire version in common with the peer.
        VersionMismatch = 17 => "no wire version in common with the peer",
        /// The command slot made no sense to the engine.
        BadCommand = 18 => "the engine could not make sense of the command",
        /// Its application cancelled it, or went away.
        Cancelled = 19 => "cancelled",
        /// What was read stayed torn until the deadline.
        Torn = 20 => "the data kept changing while it was read",
        /// A pointer that the kernel read leads where the export may not follow.
        BadPointer = 21 => "a pointer in the data leads outside what the export may follow",
        /// The kernel did more steps than any op may.
        TooManySteps = 22 => "the kernel ran into its bound",
        /// This engine cannot do this kind of access.
        Unsupported = 23 => "the engine does not support this",
        /// The region's owner took pages of its memory away. Ask it for a new region's ticket.
        MemoryLost = 24 => "the region's memory was taken away by its owner",
        /// The engine is ending and begins nothing new. Retry with its successor.
        Draining = 25 => "the engine is ending",
        /// The device that reaches the target's memory failed an access. Retry if the fate allows.
        TransferFailed = 26 => "the target's device failed an access to memory",
        /// What was changed stands in memory and could not be written to the region's file. Ask its
        /// owner for a new region: this one persists nothing any more.
        NotPersisted = 27 => "the region could not be written to its file",
    }
}

codes! {
    /// What is known of the effect of an op that failed. Only [`Fate::Unknown`] is unsafe to retry.
    Fate: u8, UnknownFate, "fate" {
        /// It had no effect on the target's memory, and never will.
        NotExecuted = 0 => "not executed",
        /// It ran at the target, once.
        Executed = 1 => "executed",
        /// It ran once or not at all.
        Unknown = 2 => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_come_back() {
        for (index, status) in Status::ALL.iter().enumerate() {
            assert_eq!(usize::from(status.code()), index);
            assert_eq!(Status::from_code(status.code()), Ok(*status));
        }
        for (index, fate) in Fate::ALL.iter().enumerate() {
            assert_eq!(usize::from(fate.code()), index);
            assert_eq!(Fate::from_code(fate.code()), Ok(*fate));
        }
        assert_eq!(Status::from_code(999), Err(UnknownStatus(999)));
        assert_eq!(Fate::from_code(3), Err(UnknownFate(3)));
    }
}
