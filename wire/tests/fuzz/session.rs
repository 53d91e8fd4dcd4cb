//! What stands in session memory: slots in any state, and sizes of any kind.

use nic_wire::session::{
    AnswerArguments, Command, Completion, Geometry, INLINE_ARGUMENT_BYTES, RING_WORDS_BYTES,
    Receive, SessionHeader,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ITERATIONS;

fn read<T: FromBytes + IntoBytes + KnownLayout + Immutable>(bytes: &[u8]) -> T {
    let (value, _) = T::read_from_prefix(bytes).unwrap();
    assert_eq!(value.as_bytes(), &bytes[..size_of::<T>()], "a slot is written as it was read");
    value
}

#[test]
fn bytes_as_slots() {
    let input = bolero::check!().with_iterations(ITERATIONS).with_type::<[u8; 64]>();
    input.for_each(|bytes| {
        let command: Command = read(bytes);
        match command.arguments() {
            Some(arguments) => assert_eq!(arguments.len(), command.argument_length.into()),
            None => assert!(usize::from(command.argument_length) > INLINE_ARGUMENT_BYTES),
        }
        let completion: Completion = read(bytes);
        let (status, fate) = (completion.status(), completion.fate());
        assert!(status.code() == completion.status.get() || status.to_string().contains("engine"));
        assert!(fate.code() == completion.fate || fate == nic_wire::Fate::Unknown);
        read::<Receive>(bytes);
        read::<AnswerArguments>(bytes);
        read::<SessionHeader>(bytes);
    });
}

/// Sizes near what is possible: arbitrary ones are nearly all impossible.
#[derive(Clone, Copy, Debug, bolero::TypeGenerator)]
struct Sizes {
    exponents: [u8; 4],
    offsets: [i8; 4],
    is_exact: bool,
}

impl Sizes {
    fn geometry(self) -> Geometry {
        let size = |place: usize| {
            let offset = if self.is_exact { 0 } else { i32::from(self.offsets[place]) };
            (1u32 << (self.exponents[place] % 32)).wrapping_add_signed(offset)
        };
        Geometry {
            depth: size(0),
            arena_bytes: size(1),
            receive_buffers: if self.exponents[2] > 200 { 0 } else { size(2) },
            receive_buffer_bytes: size(3),
        }
    }
}

#[test]
fn places_of_any_sizes() {
    bolero::check!().with_iterations(16 * ITERATIONS).with_type::<Sizes>().for_each(|sizes| {
        let geometry = sizes.geometry();
        let Ok(places) = geometry.places() else { return };
        let ring =
            |entries: u32, entry: usize| (RING_WORDS_BYTES + entries as usize * entry) as u64;
        let header_end = size_of::<SessionHeader>() as u64;
        let buffers = u64::from(geometry.receive_buffers);
        let spans = [
            (0, header_end),
            (places.commands, ring(geometry.depth, size_of::<Command>())),
            (places.completions, ring(geometry.depth, size_of::<Completion>())),
            (places.receives, ring(geometry.receive_buffers.max(2), size_of::<Receive>())),
            (places.arena, geometry.arena_bytes.into()),
            (places.buffers, buffers * u64::from(geometry.receive_buffer_bytes)),
        ];
        let mut end = 0;
        for (start, length) in spans {
            assert!(start >= end && start % 64 == 0, "{geometry:?} overlaps: {places:?}");
            end = start + length;
        }
        assert!(end <= places.total && places.total < 2 << 30, "{geometry:?}: {places:?}");
        assert_eq!(places.total % 4096, 0);
    });
}
