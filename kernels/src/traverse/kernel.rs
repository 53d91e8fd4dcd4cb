//! The program.

use nic_wire::KernelId;
use zerocopy::IntoBytes;

use super::layout::{Arguments, ELEMENT_BYTES_MAX, Flags, Predicate, ReplyHeader, Value};
use super::shape::{Shape, UNIT};
use crate::kernel::{
    BadArguments, Call, Continuation, Event, Extent, Kernel, Origin, Outcome, Pointer, Step,
};
use crate::pointer_form::PointerForm;
use crate::reply::Reply;
use crate::walk::Walk;

/// Walks from element to element until a field fits.
#[derive(Clone, Copy, Debug)]
pub struct Traverse {
    /// As they came, for a continuation.
    arguments: Arguments,
    /// The element under way.
    at: Pointer,
    /// How its pointers, and those to values, are written.
    form: PointerForm,
    value_form: PointerForm,
    shape: Shape,
    /// Who named the element under way.
    origin: Origin,
    /// Elements looked at, and how many there may be.
    hops: u32,
    hops_max: u32,
    /// Levels still above the elements that are searched.
    levels: u16,
    /// Where an element has its field and its pointer, in bytes, if all that matters is whether one
    /// field has one value: the executor then passes by those elements that do not.
    plain: Option<[u16; 2]>,
}

impl Kernel for Traverse {
    const ID: KernelId = KernelId::TRAVERSE;
    const IS_BUILT_IN: bool = true;

    #[inline(always)]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::view(call.arguments)?;
        call.reply_fits(ReplyHeader::BYTES as u32)?;
        let shape = Shape::of(arguments)?;
        let region = call.region(arguments.region.get())?;
        let value_region = call.region(arguments.value_region.get())?;
        let (form, value_form) = if shape.flags.contains(Flags::TAGGED) {
            (PointerForm::Tagged, PointerForm::Tagged)
        } else {
            (PointerForm::Plain { region }, PointerForm::Plain { region: value_region })
        };
        let hops_max = hops_max(arguments)?;
        shape.check(arguments).map_err(|field| BadArguments::Value { field })?;
        // A walk that goes on stands where a pointer has led it.
        let is_first = arguments.hops_before.get() == 0;
        Ok(Traverse {
            arguments: *arguments,
            at: Pointer { region, address: arguments.start.get() },
            form,
            value_form,
            shape,
            origin: if is_first { Origin::Arguments } else { Origin::Followed },
            hops: 0,
            hops_max,
            levels: arguments.levels.get(),
            plain: shape.plain_places(arguments),
        })
    }

    #[inline(always)]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        let element = match event {
            Event::Start => return self.go_on(),
            Event::Fetched(element) => element,
            Event::Walked { at, hops, element } => {
                self.walked(at, hops, element);
                if element.is_empty() || self.hops >= self.hops_max {
                    return self.fetch();
                }
                element
            }
            Event::Replied { .. } => return Step::DONE,
            _ => return Step::UNEXPECTED,
        };
        self.look(element, reply)
    }

    fn walk(&self) -> Walk {
        Walk {
            from: self.at,
            form: self.form,
            key: self.arguments.key.get(),
            places: self.plain.unwrap_or_default(),
            element_bytes: self.arguments.element_bytes.get(),
            hops_max: self.hops_max.saturating_sub(self.hops),
        }
    }

    fn resume_point(&self) -> Option<Continuation> {
        let mut arguments = self.arguments;
        arguments.start = self.at.address.into();
        arguments.region = u16::from(self.at.region).into();
        arguments.hops_before = self.hops_in_all().into();
        arguments.levels = self.levels.into();
        if let PointerForm::Plain { region } = self.value_form {
            arguments.value_region = u16::from(region).into();
        }
        if self.shape.predicate == Predicate::AtDepth {
            arguments.key = arguments.key.get().saturating_sub(self.hops.into()).into();
        }
        Some(Continuation::new(&arguments.encode()))
    }
}

/// The bounds of the arguments, as a number of elements.
#[inline(always)]
fn hops_max(arguments: &Arguments) -> Result<u32, BadArguments> {
    let (hops, bytes) = (arguments.hops_max.get(), arguments.bytes_max.get());
    let element = u32::from(arguments.element_bytes.get());
    if !(4..=u32::from(ELEMENT_BYTES_MAX)).contains(&element) || !element.is_multiple_of(4) {
        return Err(BadArguments::Value { field: "element_bytes" });
    }
    let hops = if hops == 0 { u32::MAX } else { hops };
    if bytes == 0 {
        return Ok(hops);
    }
    match bytes / element {
        0 => Err(BadArguments::Value { field: "bytes_max" }),
        fitting => Ok(hops.min(fitting)),
    }
}

/// A look at one element.
impl Traverse {
    /// Walks from the element on, or fetches it.
    #[inline(always)]
    fn go_on(&self) -> Step {
        if self.plain.is_some() && self.hops < self.hops_max { Step::Walk } else { self.fetch() }
    }

    /// The walk has come to an element, of which there may be a copy.
    #[inline(always)]
    fn walked(&mut self, at: Pointer, hops: u32, element: &[u8]) {
        self.hops = self.hops.saturating_add(hops);
        self.at = at;
        if hops > 0 {
            self.origin = Origin::Followed;
        } else if element.is_empty() {
            // Nobody walks here.
            self.plain = None;
        }
    }

    /// Fetches the element, unless a bound is reached.
    #[inline]
    fn fetch(&self) -> Step {
        if self.hops >= self.hops_max {
            return Step::Finish(Outcome::Bounded);
        }
        let length = self.arguments.element_bytes.get().into();
        Step::Fetch(Extent { at: self.at, length, origin: self.origin })
    }

    #[inline(always)]
    fn look(&mut self, element: &[u8], reply: &mut Reply<'_>) -> Step {
        let depth = u64::from(self.hops);
        self.hops = self.hops.saturating_add(1);
        let is_inner = self.levels > 0;
        if !is_inner || self.shape.flags.contains(Flags::MATCH_ABOVE) {
            let found = if self.shape.predicate == Predicate::AtDepth {
                (depth == self.arguments.key.get()).then_some(0)
            } else {
                let is_there = |field| !self.is_empty(element, field);
                self.first_field(element, self.shape.predicate, is_there)
            };
            if let Some(field) = found {
                return self.found(element, field, reply);
            }
        }
        let next = self.next(element);
        self.levels = self.levels.saturating_sub(1);
        match next.and_then(|word| self.form.follow(word)) {
            Some(at) => {
                self.at = at;
                self.origin = Origin::Followed;
                self.go_on()
            }
            None => self.end(&self.header(), reply),
        }
    }

    /// The pointer by which the walk goes on.
    #[inline(always)]
    fn next(&self, element: &[u8]) -> Option<u64> {
        let mut place = i32::from(self.arguments.next_offset) * UNIT;
        if self.levels > 0 {
            if let Some(field) = self.first_field(element, self.shape.descend, |_| true) {
                place = self.shape.child_place(&self.arguments, field);
            }
        } else if !self.shape.flags.contains(Flags::NEXT) {
            return None;
        }
        Some(word(element, place))
    }

    /// Replies with what matched.
    #[inline(always)]
    fn found(&self, element: &[u8], field: i32, reply: &mut Reply<'_>) -> Step {
        let mut header = self.header();
        header.is_found = 1;
        // Below 64.
        header.field = (field / UNIT) as u8;
        let place = self.shape.value_place(&self.arguments, field);
        let length = self.arguments.value_length.get();
        match self.shape.value {
            Value::None => self.end(&header, reply),
            Value::Pointer => {
                let Some(at) = self.value_form.follow(word(element, place)) else {
                    // Only an element that is matched by its depth can have no value.
                    return self.end(&self.header(), reply);
                };
                header.value_region = at.region;
                header.pointer = at.address.into();
                match reply.append(header.as_bytes()) {
                    Ok(()) => Step::FetchToReply(Extent::followed(at, length)),
                    Err(full) => full.into(),
                }
            }
            Value::Within => {
                header.value_region = self.at.region;
                header.pointer = self.at.address.wrapping_add(place as u64).into();
                let value = part(element, place, length as usize);
                match reply.append(header.as_bytes()).and_then(|()| reply.append(value)) {
                    Ok(()) => Step::DONE,
                    Err(full) => full.into(),
                }
            }
        }
    }

    #[inline(always)]
    fn end(&self, header: &ReplyHeader, reply: &mut Reply<'_>) -> Step {
        match reply.append(header.as_bytes()) {
            Ok(()) => Step::DONE,
            Err(full) => full.into(),
        }
    }

    /// The header of a reply without a match.
    fn header(&self) -> ReplyHeader {
        ReplyHeader {
            hops: self.hops_in_all().into(),
            is_found: 0,
            field: 0,
            element_region: self.at.region,
            value_region: 0,
            element: self.at.address.into(),
            pointer: 0.into(),
        }
    }

    fn hops_in_all(&self) -> u32 {
        self.arguments.hops_before.get().saturating_add(self.hops)
    }

    /// Whether no value belongs to a field.
    #[inline]
    fn is_empty(&self, element: &[u8], field: i32) -> bool {
        self.shape.value == Value::Pointer
            && word(element, self.shape.value_place(&self.arguments, field)) == 0
    }

    /// The byte at which the first field begins that fits and counts.
    #[inline(always)]
    fn first_field(
        &self,
        element: &[u8],
        predicate: Predicate,
        counts: impl Fn(i32) -> bool,
    ) -> Option<i32> {
        let key = self.arguments.key.get();
        let mut rest = self.arguments.mask.get();
        while rest != 0 {
            let place = rest.trailing_zeros() as i32 * UNIT;
            rest &= rest - 1;
            let field = match self.shape.key_bytes() {
                4 => number(element, place),
                _ => word(element, place),
            };
            let fits = match predicate {
                Predicate::Equal => field == key,
                Predicate::Less => field < key,
                Predicate::Greater => field > key,
                Predicate::NotEqual => field != key,
                Predicate::AtDepth => false,
            };
            if fits && counts(place) {
                return Some(place);
            }
        }
        None
    }
}

/// A part of an element; empty if it is not there.
#[inline]
fn part(element: &[u8], place: i32, length: usize) -> &[u8] {
    let place = place as usize;
    element.get(place..place.saturating_add(length)).unwrap_or_default()
}

/// A word of an element.
#[inline]
fn word(element: &[u8], place: i32) -> u64 {
    part(element, place, 8).first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// A number of 4 bytes of an element.
#[inline]
fn number(element: &[u8], place: i32) -> u64 {
    part(element, place, 4).first_chunk().map_or(0, |word| u32::from_le_bytes(*word).into())
}
