//! Small changes of what was right: they reach further into a parser than arbitrary bytes do.

/// One change.
#[derive(Clone, Copy, Debug, bolero::TypeGenerator)]
pub enum Mutation {
    /// A byte is replaced.
    Replace { place: u16, byte: u8 },
    /// A bit is turned.
    Flip { place: u16, bit: u8 },
    /// A byte becomes an extreme value.
    Extreme { place: u16, is_high: bool },
    /// What follows is cut off.
    Truncate { place: u16 },
    /// A byte is put in.
    Insert { place: u16, byte: u8 },
}

/// Applies the changes; places beyond the end wrap around.
pub fn mutate(bytes: &mut Vec<u8>, mutations: &[Mutation]) {
    for mutation in mutations {
        if bytes.is_empty() {
            return;
        }
        let within = |place: u16| usize::from(place) % bytes.len();
        match *mutation {
            Mutation::Replace { place, byte } => {
                let place = within(place);
                bytes[place] = byte;
            }
            Mutation::Flip { place, bit } => {
                let place = within(place);
                bytes[place] ^= 1 << (bit % 8);
            }
            Mutation::Extreme { place, is_high } => {
                let place = within(place);
                bytes[place] = if is_high { 0xff } else { 0 };
            }
            Mutation::Truncate { place } => bytes.truncate(usize::from(place) % bytes.len()),
            Mutation::Insert { place, byte } => {
                let place = within(place);
                bytes.insert(place, byte);
            }
        }
    }
}
