//! Mobility tickets (RFC 8016 section 3.1.2): what a client shows to take its allocation along to
//! another five-tuple.
//!
//! ```text
//! | nonce, 12 bytes | slot, 4 | serial, 8 | count, 4 | tag, 16 |          44 bytes
//!                   '------ sealed by AES-256-GCM -----'
//! ```
//!
//! A ticket is opaque and cannot be forged. The serial is the allocation's, so that it dies with it;
//! the count says which of its tickets this is, so that each is good once.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};

use crate::random::Random;

const NONCE_LEN: usize = 12;
const STATE_LEN: usize = 16;
const TAG_LEN: usize = 16;

/// Length of a ticket in bytes. It fits any path beside the rest of a Refresh.
pub(crate) const TICKET_LEN: usize = NONCE_LEN + STATE_LEN + TAG_LEN;

/// What the key is used for: no other sealed value is a ticket.
const LABEL: &[u8] = b"turnwire ticket 1";

/// What a ticket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Where the allocation lies.
    pub(crate) slot: u32,
    /// Which allocation it is: slots are used again.
    pub(crate) serial: u64,
    /// Which of the allocation's tickets this is.
    pub(crate) count: u32,
}

/// Seals tickets, and opens those of its own.
pub(crate) struct Tickets(Aes256Gcm);

impl Tickets {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// A new ticket: no two are alike, even of the same state. The nonce is random, which is good
    /// for 2^32 tickets of one key (NIST SP 800-38D section 8.3).
    pub(crate) fn seal(&self, ticket: Ticket, random: &mut dyn Random) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce);
        let mut state = [0; STATE_LEN];
        state[..4].copy_from_slice(&ticket.slot.to_be_bytes());
        state[4..12].copy_from_slice(&ticket.serial.to_be_bytes());
        state[12..].copy_from_slice(&ticket.count.to_be_bytes());
        let sealed = self.0.encrypt(&nonce.into(), Payload { msg: &state, aad: LABEL });
        let sealed = sealed.expect("16 bytes are below AES-GCM's limit of 64 GiB");
        [&nonce[..], &sealed].concat()
    }

    /// `None` for what is no ticket of ours, or was changed.
    pub(crate) fn open(&self, bytes: &[u8]) -> Option<Ticket> {
        if bytes.len() != TICKET_LEN {
            return None;
        }
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let state = self.0.decrypt(&(*nonce).into(), Payload { msg: sealed, aad: LABEL }).ok()?;
        let (slot, rest) = state.split_first_chunk()?;
        let (serial, rest) = rest.split_first_chunk()?;
        let count = rest.first_chunk()?;
        Some(Ticket {
            slot: u32::from_be_bytes(*slot),
            serial: u64::from_be_bytes(*serial),
            count: u32::from_be_bytes(*count),
        })
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seeded;

    const TICKET: Ticket = Ticket { slot: 7, serial: 0x0102_0304_0506_0708, count: 9 };

    #[test]
    fn a_ticket_comes_back_as_it_was_and_no_two_are_alike() {
        let (tickets, mut random) = (Tickets::new(&[1; 32]), Seeded::new(1));
        let first = tickets.seal(TICKET, &mut random);
        let second = tickets.seal(TICKET, &mut random);
        assert_eq!((first.len(), tickets.open(&first)), (TICKET_LEN, Some(TICKET)));
        assert_eq!(tickets.open(&second), Some(TICKET));
        assert_ne!(first, second);
        assert!(!first.windows(4).any(|bytes| bytes == [1, 2, 3, 4]), "nothing shows");
    }

    #[test]
    fn no_other_bytes_are_a_ticket() {
        let (tickets, mut random) = (Tickets::new(&[1; 32]), Seeded::new(2));
        let good = tickets.seal(TICKET, &mut random);
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(tickets.open(&bad), None, "bit {bit}");
        }
        for len in 0..good.len() {
            assert_eq!(tickets.open(&good[..len]), None, "cut to {len}");
        }
        assert_eq!(tickets.open(&[&good[..], &[0]].concat()), None);
        assert_eq!(Tickets::new(&[2; 32]).open(&good), None, "another server's");
    }
}
