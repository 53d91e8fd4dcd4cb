//! CHAIN_READ and CHAIN_APPEND.

use anyhow::Result;
use nic_host::ops::{self, ChainAppended, ChainEnd};
use nic_host::version_chain::{EntryState, Image, Link, check_entry};
use nic_host::{Fate, Op, OpError, Pointer, RemoteRegion, Session, chain_append, chain_read};

use super::{Ground, Judged, Prepared, Work};
use crate::bench::fault::Fault;
use crate::bench::pattern::Pattern;
use crate::bench::structures::{CHAIN_ENTRIES, Structures};
use crate::random::Random;

/// Reads of the latest entries of random chains, from their first ones.
pub struct Latest<'s> {
    region: &'s RemoteRegion,
    structures: Structures,
    number: u8,
    random: Random,
    /// By place: the chain that is read.
    asked: Vec<u64>,
}

impl<'s> Latest<'s> {
    /// Of the site's chains.
    pub fn new(ground: Ground<'s>) -> Self {
        Latest {
            region: &ground.site.memory,
            structures: ground.site.structures(),
            number: ground.site.header.region(),
            random: Random::new(ground.seed),
            asked: vec![0; ground.load.window as usize],
        }
    }
}

impl Work for Latest<'_> {
    type Operation = ops::ChainRead;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::ChainRead> {
        let chain = self.random.below(self.structures.chains());
        self.asked[place as usize] = chain;
        let cursor = self.structures.entry(self.number, chain, 0);
        // At most 4088.
        let room = self.structures.value_bytes() as u32;
        self.region.chain_read(chain_read::Arguments::from_cursor(cursor), room)
    }

    #[inline]
    fn judge(&mut self, place: u32, end: ChainEnd) -> Judged {
        let chain = self.asked[place as usize];
        let length = self.structures.value_bytes();
        match end {
            ChainEnd::Latest(entry)
                if entry.at() == self.structures.entry(self.number, chain, CHAIN_ENTRIES - 1)
                    && entry.value().len() as u64 == length
                    && Structures::entry_value(chain).is(entry.value()) =>
            {
                Judged::Right { bytes: length }
            }
            other => Judged::Wrong(format!("chain {chain} ended otherwise: {other:?}")),
        }
    }
}

/// The two buffers of a place take turns, and each has so many versions in turn.
const BUFFERS: u64 = 2;
const VERSIONS: u64 = 2;
/// Images of a place: by buffer and version.
const IMAGES: u64 = BUFFERS * VERSIONS;
/// The pattern of values.
const VALUE: u64 = 5 << 40;

/// Bytes that a place has to itself: a chain that is never longer than two entries.
pub fn pitch(size: u64) -> u64 {
    BUFFERS * Structures::buffer_bytes(size)
}

/// All entries that the ops of a connection append: by place, and in the order of time.
pub fn prepare(ground: &Ground<'_>) -> Result<Prepared> {
    let size = u64::from(ground.size);
    let buffer_bytes = Structures::buffer_bytes(size);
    let (mut images, mut value) = (Vec::new(), vec![0; ground.size as usize]);
    for place in 0..u64::from(ground.load.window) {
        for turn in 0..IMAGES {
            let address = ground.own + place * pitch(size) + turn % BUFFERS * buffer_bytes;
            let at = Pointer { region: ground.site.header.region(), address };
            let version = 1 + (turn / BUFFERS) as u16;
            let fresh = Link::new(at, version).ok_or(Fault::Unlinked { address })?;
            Pattern::of(VALUE + turn).after(place).fill(&mut value);
            images.push(Image::compose(fresh, u32::try_from(buffer_bytes)?, &value)?);
        }
    }
    Ok(Prepared { images, ..Prepared::default() })
}

/// Appends, each op out to a chain of its own: behind the entry of the op before, in the buffer of
/// the one before that.
pub struct Appends<'s> {
    region: &'s RemoteRegion,
    images: &'s [Image],
    size: u64,
    places: Vec<Place>,
}

/// What is known of a place's chain.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The turn in which its latest entry was appended.
    latest: u64,
    /// Whether an append has failed of which nobody knows whether it is linked.
    is_unknown: bool,
}

impl<'s> Appends<'s> {
    /// Writes the first entry of each chain.
    pub fn new(ground: Ground<'s>) -> Result<Self> {
        let appends = Appends {
            region: &ground.site.memory,
            images: &ground.prepared.images,
            size: ground.size.into(),
            places: vec![Place::default(); ground.load.window as usize],
        };
        for place in 0..ground.load.window {
            let image = appends.image(place, 0);
            let first = image.fresh().pointer().address;
            let written = ground.session.run(appends.region.write(first, image.bytes()));
            written.map_err(Fault::Unreadable)?;
        }
        Ok(appends)
    }

    fn image(&self, place: u32, turn: u64) -> &'s Image {
        &self.images[(u64::from(place) * IMAGES + turn % IMAGES) as usize]
    }
}

impl<'s> Work for Appends<'s> {
    type Operation = ops::ChainAppend<'s>;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::ChainAppend<'s>> {
        let latest = self.places[place as usize].latest;
        let cursor = self.image(place, latest).fresh();
        let image = self.image(place, latest + 1);
        self.region.chain_append(chain_append::Arguments::new(cursor, image.fresh()), image)
    }

    #[inline]
    fn judge(&mut self, place: u32, end: ChainAppended) -> Judged {
        let Place { latest, is_unknown } = self.places[place as usize];
        let expected = self.image(place, latest).fresh();
        self.places[place as usize].latest = latest + 1;
        match end {
            ChainAppended::Linked { behind, .. } if behind == expected => {
                self.places[place as usize].is_unknown = false;
                Judged::Right { bytes: self.size }
            }
            // The one before has linked it after all.
            _ if is_unknown => Judged::Right { bytes: self.size },
            other => Judged::Wrong(format!("an append behind {expected:?} ended with {other:?}")),
        }
    }

    fn failed(&mut self, place: u32, fate: Fate) {
        self.places[place as usize].is_unknown |= fate != Fate::NotExecuted;
    }

    fn left(&mut self, session: &Session, place: u32) -> Result<Option<Judged>, OpError> {
        let Place { latest, is_unknown } = self.places[place as usize];
        if is_unknown {
            return Ok(None);
        }
        let image = self.image(place, latest);
        let (at, length) = (image.fresh().pointer().address, image.bytes().len());
        let bytes = session.run(self.region.read(at..at + length as u64))?;
        let is_whole = matches!(check_entry(image.fresh(), &bytes), EntryState::Whole { .. });
        Ok(Some(match is_whole && *bytes == *image.bytes() {
            true => Judged::Right { bytes: self.size },
            false => Judged::Wrong(format!("what was appended at {at:#x} is not there")),
        }))
    }
}
