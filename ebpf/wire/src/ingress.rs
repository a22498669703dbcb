//! Where a frame came in, and what is known of the frames there.
//!
//! ```text
//!   bit 63              47                            0
//!   +---+---------------+-----------------------------+
//!   | L |       0       | MAC address, as mac_word    |    a word of the program's tables
//!   +---+---------------+-----------------------------+
//!     L: checksums may be left to a card
//! ```

/// An interface that the program runs on.
pub trait Ingress {
    /// What is known of frames to this MAC address (see [`mac_word`](crate::mac_word)) and VLAN (0 for
    /// untagged); `None` when they are not for this host.
    fn own(&self, mac: u64, vlan: u16) -> Option<Checksums>;
}

/// Whether UDP checksums are made where frames come in; see
/// [`Packet::is_unfinished`](crate::Packet::is_unfinished).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// By who sent them, as on every cable.
    Made,
    /// Some may be left to a card: frames of this machine's own, or merged by its kernel.
    MayBeLeft,
}

/// Above a MAC address.
const LEFT: u64 = 1 << 63;

impl Checksums {
    /// The word of an interface with this MAC address, given as [`mac_word`](crate::mac_word) makes it.
    pub const fn word(self, mac: u64) -> u64 {
        match self {
            Self::Made => mac,
            Self::MayBeLeft => mac | LEFT,
        }
    }

    /// What the word of an interface says of frames to this MAC address.
    #[inline(always)]
    pub fn of(word: u64, mac: u64) -> Option<Self> {
        if word & !LEFT != mac {
            None
        } else if word == mac {
            Some(Self::Made)
        } else {
            Some(Self::MayBeLeft)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac_word;

    #[test]
    fn a_word_says_whose_frames_come_and_how() {
        let (own, other) = (mac_word([2, 0, 0, 0, 0, 0xff]), mac_word([2, 0, 0, 0, 0, 0xfe]));
        for checksums in [Checksums::Made, Checksums::MayBeLeft] {
            assert_eq!(Checksums::of(checksums.word(own), own), Some(checksums));
            assert_eq!(Checksums::of(checksums.word(own), other), None);
        }
    }
}
