//! What waits to be sent to one stream client: bounded in bytes and in messages.
//!
//! ```text
//!   push ──> | ... message | message | mess                          | ──> writev, as far as it goes
//!            |<---------------- limit for data ---------------->|<- reserve for STUN ->|
//! ```
//!
//! A datagram that finds it full is dropped, as a full socket would drop it: late media is worth
//! nothing. STUN messages have a small reserve, since nothing repeats them over a stream.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes beyond the limit that STUN messages may take.
const RESERVE_BYTES: usize = 16 << 10;

/// Messages beyond the limit.
const RESERVE_FRAMES: usize = 16;

/// Memory that an idle queue may keep.
const KEPT: usize = 4 << 10;

/// The limits of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) frames: usize,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// STUN.
    Message,
    /// ChannelData, a Data indication, anything that may be lost.
    Data,
}

/// The queue of one connection.
#[derive(Default)]
pub(crate) struct Queue {
    bytes: VecDeque<u8>,
    /// Bytes left of each message.
    frames: VecDeque<u32>,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts a message in, in pieces. False, changing nothing, when the queue is too full.
    pub(crate) fn push(&mut self, pieces: &[&[u8]], class: Class, limits: Limits) -> bool {
        let size: usize = pieces.iter().map(|piece| piece.len()).sum();
        let (more_bytes, more_frames) = match class {
            Class::Message => (RESERVE_BYTES, RESERVE_FRAMES),
            Class::Data => (0, 0),
        };
        if self.bytes.len() + size > limits.bytes + more_bytes
            || self.frames.len() >= limits.frames + more_frames
        {
            return false;
        }
        pieces.iter().for_each(|piece| self.bytes.extend(*piece));
        // a message has at most 65,540 bytes
        self.frames.push_back(size as u32);
        true
    }

    /// Puts bytes of no message in: what goes through a splice. The caller has asked for room.
    pub(crate) fn push_raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.frames.push_back(bytes.len() as u32);
    }

    /// All bytes, in the two pieces that they lie in.
    pub(crate) fn pieces(&self) -> [IoSlice<'_>; 2] {
        let (first, second) = self.bytes.as_slices();
        [IoSlice::new(first), IoSlice::new(second)]
    }

    /// The first bytes, as far as they lie side by side.
    pub(crate) fn front(&self, size_max: usize) -> &[u8] {
        let (first, _) = self.bytes.as_slices();
        &first[..first.len().min(size_max)]
    }

    /// Forgets `size` bytes that were sent.
    pub(crate) fn advance(&mut self, size: usize) {
        self.bytes.drain(..size);
        let mut left = size as u64;
        while left > 0 {
            let Some(frame) = self.frames.front_mut() else { break };
            if u64::from(*frame) > left {
                *frame -= left as u32;
                break;
            }
            left -= u64::from(*frame);
            self.frames.pop_front();
        }
    }

    /// Gives back memory that a burst took.
    pub(crate) fn relax(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            (self.bytes, self.frames) = (VecDeque::new(), VecDeque::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 1000, frames: 10 };

    #[test]
    fn data_beyond_the_limit_in_bytes_is_dropped_and_messages_have_a_reserve() {
        let mut queue = Queue::default();
        assert!(queue.push(&[&[1; 4], &[2; 600], &[0; 2]], Class::Data, LIMITS));
        assert!(!queue.push(&[&[3; 400]], Class::Data, LIMITS));
        assert_eq!(queue.len(), 606);
        assert!(queue.push(&[&[4; 400]], Class::Message, LIMITS));
        assert!(!queue.push(&[&[5; RESERVE_BYTES]], Class::Message, LIMITS));
        assert!(!queue.push(&[&[6; 1]], Class::Data, LIMITS));
        assert_eq!(queue.len(), 1006);
    }

    #[test]
    fn messages_are_counted_and_partly_sent_ones_still_count() {
        let mut queue = Queue::default();
        let push = |queue: &mut Queue| queue.push(&[&[1; 10]], Class::Data, LIMITS);
        (0..10).for_each(|_| assert!(push(&mut queue)));
        assert!(!push(&mut queue));
        queue.advance(9);
        assert!(!push(&mut queue), "the first is not sent");
        queue.advance(1);
        assert!(push(&mut queue) && !push(&mut queue));
        queue.advance(100);
        assert!(queue.is_empty() && push(&mut queue));
    }

    #[test]
    fn bytes_come_out_in_order_however_they_are_taken() {
        let (mut queue, mut sent, mut taken) = (Queue::default(), Vec::<u8>::new(), Vec::new());
        for round in 0..500_usize {
            let bytes: Vec<u8> = (0..round % 97).map(|at| (at + round) as u8).collect();
            if queue.push(&[&bytes], Class::Data, Limits { bytes: 4000, frames: 1000 }) {
                sent.extend(&bytes);
            }
            let size = (round * 31 % 120).min(queue.len());
            let [first, second] = queue.pieces();
            taken.extend([&first[..], &second[..]].concat()[..size].iter());
            queue.advance(size);
        }
        taken.extend(queue.front(usize::MAX));
        queue.advance(queue.front(usize::MAX).len());
        taken.extend(queue.front(usize::MAX));
        assert_eq!(sent, taken);
    }
}
