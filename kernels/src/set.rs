//! The kernels that an engine knows, as one enum: no boxing, no dynamic dispatch per step.

use nic_wire::KernelId;

use crate::kernel::{BadArguments, Call, Kernel};

/// A closed set of kernels. Made by [`kernel_set!`](crate::kernel_set), never by hand.
///
/// Which kernel it is gets decided once per event; what is then done with it is compiled for each
/// kernel alone, so that the compiler sees what that kernel answers.
pub trait KernelSet: Sized {
    /// Tells the kernels of the set apart.
    type Kind: Copy;

    /// The numbers of the kernels in the set.
    const IDS: &'static [KernelId];

    /// Does something with the kernel of that number; `None` if the set has no such kernel.
    fn choose<T: Choice<Self>>(kernel: KernelId, choice: T) -> Option<T::Output>;

    /// Which kernel of the set it is.
    fn kind(&self) -> Self::Kind;

    /// Does something with the kernel of that kind.
    fn choose_kind<T: Choice<Self>>(kind: Self::Kind, choice: T) -> T::Output;

    /// Does something with this kernel.
    fn visit<T: Visit>(&mut self, visit: T) -> T::Output;

    /// This kernel, if it is a `K`.
    fn downcast<K: Kernel>(&mut self) -> Option<&mut K>;

    /// This kernel's [`Kernel::strand`].
    fn strand(&self, place: u8) -> Option<Self>;
}

/// What is done with a kernel that has not begun.
pub trait Choice<S> {
    /// What comes of it.
    type Output;

    /// Does it. `wrap` makes the kernel one of the set.
    fn chosen<K: Kernel>(self, wrap: impl FnOnce(K) -> S) -> Self::Output;
}

/// What is done with a kernel that has begun.
pub trait Visit {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<K: Kernel>(self, kernel: &mut K) -> Self::Output;
}

/// Whether the kernel of that number would begin such a call: what a target with the same kernel says
/// to it, found out without one.
///
/// ```
/// use nic_kernels::{BadArguments, Builtin, Call, examine};
/// use nic_wire::KernelId;
///
/// let call = Call { arguments: &[0; 3], home: 0, payload_length: 0, reply_capacity: 8 };
/// let refusal = examine::<Builtin>(KernelId::READ, &call);
/// assert_eq!(refusal, Err(BadArguments::Length { found: 3, expected: 16 }));
/// ```
///
/// # Errors
/// Why it would not.
pub fn examine<S: KernelSet>(kernel: KernelId, call: &Call<'_>) -> Result<(), BadArguments> {
    S::choose(kernel, Examine { call }).unwrap_or(Err(BadArguments::Unknown(kernel)))
}

/// See [`examine`].
struct Examine<'a> {
    call: &'a Call<'a>,
}

impl<S> Choice<S> for Examine<'_> {
    type Output = Result<(), BadArguments>;

    fn chosen<K: Kernel>(self, _: impl FnOnce(K) -> S) -> Result<(), BadArguments> {
        K::begin(self.call).map(drop)
    }
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

/// Whether a kernel may have the number that it has; evaluated at compile time by
/// [`kernel_set!`](crate::kernel_set).
#[doc(hidden)]
pub const fn has_its_own_number<K: Kernel>() -> bool {
    K::ID.is_of_users() != K::IS_BUILT_IN
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
///
/// Nor does a kernel of one's own with a number below [`KernelId::FIRST_OF_USERS`]:
///
/// ```compile_fail,E0080
/// use nic_kernels::{BadArguments, Call, Event, Kernel, Reply, Step};
/// use nic_wire::KernelId;
///
/// struct Nothing;
///
/// impl Kernel for Nothing {
///     const ID: KernelId = KernelId(0x7fff);
///
///     fn begin(_: &Call<'_>) -> Result<Self, BadArguments> {
///         Ok(Nothing)
///     }
///
///     fn step(&mut self, _: Event<'_>, _: &mut Reply<'_>) -> Step {
///         Step::DONE
///     }
/// }
///
/// nic_kernels::kernel_set! {
///     /// error[E0080]: a kernel of your own has a number below KernelId::FIRST_OF_USERS (0x8000)
///     pub enum Mine { Nothing(Nothing) }
/// }
/// ```
#[macro_export]
macro_rules! kernel_set {
    ($(#[$attribute:meta])* $visibility:vis enum $name:ident {
        $($(#[$doc:meta])* $variant:ident($kernel:ty)),+ $(,)?
    }) => {
        $(#[$attribute])*
        #[allow(missing_docs)]
        // A plain tag, of which the executor's branch per event is cheapest.
        #[repr(u8)]
        $visibility enum $name { $($(#[$doc])* $variant($kernel)),+ }

        const _: () = assert!(
            ::core::mem::size_of::<$name>() <= $crate::KERNEL_STATE_BYTES_MAX,
            "a kernel has more state than KERNEL_STATE_BYTES_MAX",
        );
        const _: () = assert!(
            $($crate::__has_its_own_number::<$kernel>())&&+,
            "a kernel of your own has a number below KernelId::FIRST_OF_USERS (0x8000), where those \
             of nic-kernels are: give it one of 0x8000 to 0xffff",
        );
        const _: () = assert!(
            $crate::__all_differ(<$name as $crate::KernelSet>::IDS),
            "two kernels of the set have the same number",
        );

        const _: () = {
        // As the set's own tag, so that one becomes the other at no cost.
        #[derive(Clone, Copy)]
        #[repr(u8)]
        pub enum Kind { $($variant),+ }

        impl $crate::KernelSet for $name {
            type Kind = Kind;

            const IDS: &'static [$crate::__KernelId] =
                &[$(<$kernel as $crate::Kernel>::ID),+];

            #[inline(always)]
            fn choose<T: $crate::Choice<Self>>(
                kernel: $crate::__KernelId,
                choice: T,
            ) -> ::core::option::Option<T::Output> {
                $(if kernel == <$kernel as $crate::Kernel>::ID {
                    return ::core::option::Option::Some($crate::Choice::chosen::<$kernel>(
                        choice,
                        $name::$variant,
                    ));
                })+
                ::core::option::Option::None
            }

            #[inline(always)]
            fn kind(&self) -> Kind {
                match self { $($name::$variant(_) => Kind::$variant,)+ }
            }

            #[inline(always)]
            fn choose_kind<T: $crate::Choice<Self>>(kind: Kind, choice: T) -> T::Output {
                match kind {
                    $(Kind::$variant => {
                        $crate::Choice::chosen::<$kernel>(choice, $name::$variant)
                    })+
                }
            }

            #[inline(always)]
            fn visit<T: $crate::Visit>(&mut self, visit: T) -> T::Output {
                match self { $($name::$variant(kernel) => $crate::Visit::visit(visit, kernel),)+ }
            }

            // Of each arm is known at compile time whether it is the one.
            #[inline(always)]
            fn downcast<K: $crate::Kernel>(&mut self) -> ::core::option::Option<&mut K> {
                match self {
                    $($name::$variant(kernel) => {
                        <dyn ::core::any::Any>::downcast_mut::<K>(kernel)
                    })+
                }
            }

            fn strand(&self, place: u8) -> ::core::option::Option<Self> {
                match self {
                    $($name::$variant(kernel) => {
                        $crate::Kernel::strand(kernel, place).map($name::$variant)
                    })+
                }
            }
        }
        };
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
        /// Read through many entries of an indirection table.
        IndirectRead(crate::indirect_read::IndirectRead),
        /// Read an object whose checksum fits.
        ConsistentRead(crate::consistent_read::ConsistentRead),
        /// Walk from element to element until a field fits, and read what belongs to it.
        Traverse(crate::traverse::Traverse),
        /// Walk a version chain to its latest entry and read it.
        ChainRead(crate::chain_read::ChainRead),
        /// Write an entry and link it behind the latest of its chain.
        ChainAppend(crate::chain_append::ChainAppend),
        /// Run up to four primitives, each of which may depend on the one before.
        Prism(crate::prism::Prism),
        /// Scan a range of records.
        Scan(crate::scan::Scan),
        /// Store values and count the different ones.
        SketchWrite(crate::sketch_write::SketchWrite),
        /// Distribute records over partitions by their keys.
        PartitionWrite(crate::partition_write::PartitionWrite),
        /// Append a record to a log.
        Append(crate::append::Append),
        /// Read records of a log.
        Fetch(crate::fetch::Fetch),
    }
}
