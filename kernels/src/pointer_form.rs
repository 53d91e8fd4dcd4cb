//! How structures in memory write their pointers.
//!
//! A pointer is an aligned word of 8 bytes, little-endian; zero is null. Either it is a plain
//! address and the op's arguments say in which region, as with pointers of the program that owns
//! the memory; or it carries the region's number in its highest 8 bits, so that a structure may
//! span the regions of a domain. Nothing may therefore lie at address 0 of a region that pointers
//! of either form should reach.

use crate::kernel::Pointer;

/// How the pointers of a structure are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerForm {
    /// An address in this region.
    Plain {
        /// The region's number within its domain.
        region: u8,
    },
    /// The region's number in the highest 8 bits, the address in the other 56.
    Tagged,
}

/// Addresses that tagged pointers reach are below this.
pub const TAGGED_ADDRESS_LIMIT: u64 = 1 << 56;

impl PointerForm {
    /// Where a pointer leads; `None` if it is null.
    #[inline]
    pub const fn follow(self, word: u64) -> Option<Pointer> {
        if word == 0 {
            return None;
        }
        Some(match self {
            PointerForm::Plain { region } => Pointer { region, address: word },
            PointerForm::Tagged => {
                let region = (word >> 56) as u8;
                Pointer { region, address: word & (TAGGED_ADDRESS_LIMIT - 1) }
            }
        })
    }

    /// Whether whatever pointer leads into this region, or nowhere.
    #[inline(always)]
    pub(crate) fn stays_in(self, region: u8) -> bool {
        self == PointerForm::Plain { region }
    }

    /// The word that leads to a place; `None` if this form cannot name it.
    pub const fn word(self, to: Pointer) -> Option<u64> {
        let word = match self {
            PointerForm::Plain { region } if region == to.region => to.address,
            PointerForm::Tagged if to.address < TAGGED_ADDRESS_LIMIT => {
                (to.region as u64) << 56 | to.address
            }
            _ => 0,
        };
        if word == 0 { None } else { Some(word) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_where_they_should() {
        let to = |region, address| Pointer { region, address };
        for region in [0, 1, 255] {
            for address in [8, 0x1234_5678, TAGGED_ADDRESS_LIMIT - 8] {
                for form in [PointerForm::Tagged, PointerForm::Plain { region }] {
                    let word = form.word(to(region, address)).unwrap();
                    assert_eq!(form.follow(word), Some(to(region, address)));
                }
            }
        }
        assert_eq!(PointerForm::Tagged.word(to(2, 0x30)), Some(0x0200_0000_0000_0030));
        assert_eq!(PointerForm::Tagged.word(to(0, TAGGED_ADDRESS_LIMIT)), None);
        assert_eq!(PointerForm::Tagged.word(to(0, 0)), None, "that would be null");
        assert_eq!(PointerForm::Plain { region: 1 }.word(to(2, 8)), None);
        assert_eq!(PointerForm::Tagged.follow(0), None);
    }
}
