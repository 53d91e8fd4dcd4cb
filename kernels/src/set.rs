//! The kernels that an engine knows, as one enum: no boxing, no dynamic dispatch per step.

use nic_wire::KernelId;

use crate::kernel::{BadArguments, Call, Continuation, Event, Step};
use crate::reply::Reply;

/// A closed set of kernels. Made by [`kernel_set!`](crate::kernel_set), never by hand.
pub trait KernelSet: Sized {
    /// The numbers of the kernels in the set.
    const IDS: &'static [KernelId];

    /// Begins the kernel of that number; see [`Kernel::begin`](crate::Kernel::begin).
    ///
    /// # Errors
    /// The set has no such kernel, or it does not take the arguments.
    fn begin(kernel: KernelId, call: &Call<'_>) -> Result<Self, BadArguments>;

    /// See [`Kernel::step`](crate::Kernel::step).
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step;

    /// See [`Kernel::resume_point`](crate::Kernel::resume_point).
    fn resume_point(&self) -> Option<Continuation>;
}

/// Whether no number occurs twice; evaluated at compile time by [`kernel_set!`](crate::kernel_set).
#[doc(hidden)]
pub const fn all_differ(ids: &[KernelId]) -> bool {
    let mut first = 0;
    while first < ids.len() {
        let mut second = first + 1;
        while second < ids.len() {
            if ids[first].0 == ids[second].0 {
                return false;
            }
            second += 1;
        }
        first += 1;
    }
    true
}

/// Makes an enum of kernels that implements [`KernelSet`].
///
/// Two kernels of one number, or a kernel with too much state, do not compile.
///
/// ```
/// nic_kernels::kernel_set! {
///     /// Only what this daemon serves.
///     pub enum ReadOnly { Read(nic_kernels::read::Read) }
/// }
/// ```
#[macro_export]
macro_rules! kernel_set {
    ($(#[$attribute:meta])* $visibility:vis enum $name:ident {
        $($(#[$doc:meta])* $variant:ident($kernel:ty)),+ $(,)?
    }) => {
        $(#[$attribute])*
        #[allow(missing_docs)]
        $visibility enum $name { $($(#[$doc])* $variant($kernel)),+ }

        const _: () = assert!(
            ::core::mem::size_of::<$name>() <= $crate::KERNEL_STATE_BYTES_MAX,
            "a kernel has more state than KERNEL_STATE_BYTES_MAX",
        );
        const _: () = assert!(
            $crate::__all_differ(<$name as $crate::KernelSet>::IDS),
            "two kernels of the set have the same number",
        );

        impl $crate::KernelSet for $name {
            const IDS: &'static [$crate::__KernelId] =
                &[$(<$kernel as $crate::Kernel>::ID),+];

            #[inline]
            fn begin(
                kernel: $crate::__KernelId,
                call: &$crate::Call<'_>,
            ) -> ::core::result::Result<Self, $crate::BadArguments> {
                $(if kernel == <$kernel as $crate::Kernel>::ID {
                    return <$kernel as $crate::Kernel>::begin(call).map($name::$variant);
                })+
                ::core::result::Result::Err($crate::BadArguments::Unknown(kernel))
            }

            #[inline]
            fn step(
                &mut self,
                event: $crate::Event<'_>,
                reply: &mut $crate::Reply<'_>,
            ) -> $crate::Step {
                match self {
                    $($name::$variant(kernel) => $crate::Kernel::step(kernel, event, reply),)+
                }
            }

            fn resume_point(&self) -> ::core::option::Option<$crate::Continuation> {
                match self { $($name::$variant(kernel) => $crate::Kernel::resume_point(kernel),)+ }
            }
        }
    };
}

crate::kernel_set! {
    /// The kernels of this crate.
    #[derive(Clone, Copy, Debug)]
    pub enum Builtin {
        /// Read a range.
        Read(crate::read::Read),
        /// Write a range.
        Write(crate::write::Write),
        /// Replace a word if it holds an expected value.
        CompareSwap(crate::compare_swap::CompareSwap),
        /// Add to a word.
        FetchAdd(crate::fetch_add::FetchAdd),
        /// Scan a bucket and read the entry that it points to.
        ScanAndRead(crate::scan_and_read::ScanAndRead),
    }
}
