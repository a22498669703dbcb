//! What every datagram carries, so that its receiver can judge it by itself.
//!
//! ```text
//!  0      1             4            8                16       20
//!  | tag  | flow (24)   | sequence   | scheduled, ns  | check  | filler ...
//!    ^ one of 256 measurements that        ^ CLOCK_MONOTONIC      ^ always the same bytes
//!      a sink may serve at once              of the sender
//!
//!  check = CRC-32(bytes 0 to 15) xor CRC-32(filler)
//! ```
//!
//! All numbers are big-endian. The filler is the same for all datagrams of one length, so the sender
//! computes no checksum over it, while the receiver reads every byte. When the check fails and the
//! filler alone explains it, the first 20 bytes are right and say whose datagram it was.

use turn::{Random as _, Seeded};

/// The shortest payload: the stamp alone.
pub const STAMP_LEN: usize = 20;
/// The longest payload.
pub const PAYLOAD_MAX: usize = 9_000;
/// Most flows: 24 bits number them.
pub const FLOWS_MAX: usize = 1 << 24;

/// The numbers in front of every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The measurement.
    pub tag: u8,
    /// The flow, below [`FLOWS_MAX`].
    pub flow: u32,
    /// Counts from 0 in each flow.
    pub sequence: u32,
    /// When it should have been sent: CLOCK_MONOTONIC in nanoseconds.
    pub scheduled: u64,
}

impl Stamp {
    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.flow.to_be_bytes());
        bytes[0] = self.tag;
        bytes[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..].copy_from_slice(&self.scheduled.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; 16]) -> Stamp {
        let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        Stamp {
            tag: bytes[0],
            flow: word(0) & 0x00ff_ffff,
            sequence: word(4),
            scheduled: u64::from(word(8)) << 32 | u64::from(word(12)),
        }
    }
}

/// What a payload turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Every byte is as it was sent.
    Intact(Stamp),
    /// Bytes behind the stamp are wrong, or missing.
    Damaged(Stamp),
    /// The stamp itself is wrong, or this is no datagram of ours.
    Unreadable,
}

/// The filler, and the checksum of each of its beginnings.
pub struct Filler {
    bytes: Vec<u8>,
    checks: Vec<u32>,
}

impl Filler {
    /// For payloads of at most `payload_max` bytes. The same for all processes of one version.
    pub fn new(payload_max: usize) -> Filler {
        let mut bytes = vec![0; payload_max.saturating_sub(STAMP_LEN)];
        Seeded::new(0x7475_726e_7769_7265).fill(&mut bytes);
        let mut hasher = crc32fast::Hasher::new();
        let mut checks = vec![hasher.clone().finalize()];
        for byte in &bytes {
            hasher.update(std::slice::from_ref(byte));
            checks.push(hasher.clone().finalize());
        }
        Filler { bytes, checks }
    }

    /// Writes a payload of `out`'s length, at least [`STAMP_LEN`] and at most what the filler is
    /// for.
    pub fn write(&self, stamp: Stamp, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(STAMP_LEN);
        let stamp = stamp.encode();
        let check = crc32fast::hash(&stamp) ^ self.checks[rest.len()];
        head[..16].copy_from_slice(&stamp);
        head[16..].copy_from_slice(&check.to_be_bytes());
        rest.copy_from_slice(&self.bytes[..rest.len()]);
    }

    /// Judges a payload as it was received.
    pub fn judge(&self, payload: &[u8]) -> Judgement {
        let Some((head, rest)) = payload.split_first_chunk::<STAMP_LEN>() else {
            return Judgement::Unreadable;
        };
        let [stamp @ .., a, b, c, d] = head;
        let claimed = u32::from_be_bytes([*a, *b, *c, *d]);
        let of_stamp = crc32fast::hash(stamp);
        let stamp = Stamp::decode(stamp);
        if of_stamp ^ crc32fast::hash(rest) == claimed {
            return Judgement::Intact(stamp);
        }
        // The filler that belongs to the check tells that the stamp is right. It is looked for
        // at the length received only: a cut datagram is one that nobody can be blamed for.
        match self.checks.get(rest.len()) {
            Some(of_filler) if of_stamp ^ of_filler == claimed => Judgement::Damaged(stamp),
            _ => Judgement::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp =
        Stamp { tag: 0xa5, flow: 0x01_0203, sequence: u32::MAX - 1, scheduled: 1 << 62 | 77 };

    fn payload(len: usize) -> (Filler, Vec<u8>) {
        let filler = Filler::new(PAYLOAD_MAX);
        let mut bytes = vec![0; len];
        filler.write(STAMP, &mut bytes);
        (filler, bytes)
    }

    #[test]
    fn every_length_comes_back_intact() {
        for len in [20, 21, 160, 1160, PAYLOAD_MAX] {
            let (filler, bytes) = payload(len);
            assert_eq!(filler.judge(&bytes), Judgement::Intact(STAMP), "length {len}");
        }
    }

    #[test]
    fn every_flipped_bit_is_seen_and_the_flow_is_told_when_it_can_be() {
        let (filler, bytes) = payload(64);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                at if at < STAMP_LEN => Judgement::Unreadable,
                _ => Judgement::Damaged(STAMP),
            };
            assert_eq!(filler.judge(&damaged), expected, "bit {bit}");
        }
    }

    #[test]
    fn what_is_cut_or_foreign_is_unreadable() {
        let (filler, bytes) = payload(64);
        for len in 0..bytes.len() {
            assert_eq!(filler.judge(&bytes[..len]), Judgement::Unreadable, "length {len}");
        }
        assert_eq!(filler.judge(&[0; 64]), Judgement::Unreadable);
    }
}
