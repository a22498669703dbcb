//! Reads Send and Data indications for the sink (RFC 8656 sections 11.2 to 11.4): whatever the order
//! of their attributes, and beside attributes that it does not know.
//!
//! ```text
//!  0 | 00 16, 00 17 | length | 21 12 a4 42 | transaction (12) | attributes, padded to 4 bytes each
//! ```

use crate::abi::{PAYLOAD_MAX, Template};
use crate::frame::{Xdp, opaque};
use wire::Frame;

const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
/// More than any relay was seen to send.
const ATTRIBUTES_MAX: usize = 5;
/// The longest that is read, bytes: 128 beside the data.
const SIZE_MAX: usize = PAYLOAD_MAX + 128;

/// What one says.
pub struct Found {
    /// Where its data begin in the frame, and their bytes.
    pub data: usize,
    pub size: usize,
    /// Where XOR-PEER-ADDRESS's value is.
    pub peer: usize,
    /// The peer's port.
    pub port: u16,
    /// Sum of all its 16-bit words, in memory order, not folded.
    pub sum: u64,
}

/// Reads one of `size` bytes at `at`. `None`: it is none, or lacks the data or the peer.
#[inline(always)]
pub fn read(frame: &Xdp, at: usize, size: usize) -> Option<Found> {
    let head = frame.at::<[u8; HEADER]>(at)?;
    let length = u16::from_be_bytes([head[2], head[3]]) as usize;
    let cookie = [head[4], head[5], head[6], head[7]];
    if cookie != COOKIE || length + HEADER != size || !size.is_multiple_of(4) || size > SIZE_MAX {
        return None;
    }
    let (mut data, mut data_size, mut peer) = (0, 0, 0);
    let (mut next, end) = (at + HEADER, at + size);
    for _ in 0..ATTRIBUTES_MAX {
        if next + 4 > end {
            break;
        }
        let [kind, low, high, size] = frame.peek::<[u8; 4]>(next)?;
        let size = u16::from_be_bytes([high, size]) as usize;
        let kind = u16::from_be_bytes([kind, low]);
        // without branches, whose every sequence the verifier would follow
        let (is_data, is_peer) = (mask(kind, DATA), mask(kind, XOR_PEER_ADDRESS));
        data |= (next + 4) & is_data;
        data_size |= size & is_data;
        peer |= (next + 4) & is_peer;
        next += 4 + (size + 3 & !3);
    }
    if next != end || data == 0 || peer == 0 || data > SIZE_MAX || peer > SIZE_MAX {
        return None;
    }
    let [_, _, high, low] = frame.peek::<[u8; 4]>(peer)?;
    let port = u16::from_be_bytes([high ^ COOKIE[0], low ^ COOKIE[1]]);
    let sum = sum(frame, at, size);
    Some(Found { data, size: data_size, peer, port, sum })
}

/// All ones where the two are equal, else nothing.
#[inline(always)]
fn mask(kind: u16, wanted: u16) -> usize {
    // only nothing, less one, has the highest bit
    let differ = opaque((kind ^ wanted) as usize);
    opaque(differ.wrapping_sub(1) >> 63).wrapping_neg()
}

/// Sum of `size` bytes, a multiple of 4.
#[inline(always)]
fn sum(frame: &Xdp, at: usize, size: usize) -> u64 {
    const STEP: usize = 8;
    let (mut sum, mut at, mut left) = (0, at, opaque(size));
    if left & 4 != 0 {
        // first what is no whole step, so that the loop's ends are all alike to the verifier
        let Some(word) = frame.at::<[u8; 4]>(at) else { return 0 };
        sum += u32::from_ne_bytes(*word) as u64;
        at += 4;
    }
    for _ in 0..SIZE_MAX / STEP {
        if left < STEP {
            break;
        }
        let Some(word) = frame.peek::<[u8; STEP]>(at) else { break };
        let word = u64::from_ne_bytes(word);
        sum += (word & 0xffff_ffff) + (word >> 32);
        at += STEP;
        left -= STEP;
    }
    sum
}

/// Whether the XOR-PEER-ADDRESS at `peer` of the indication at `at` is the template's peer.
#[inline(always)]
pub fn names(frame: &Xdp, at: usize, peer: usize, template: &Template) -> Option<bool> {
    let [_, family, _, _] = frame.peek::<[u8; 4]>(peer)?;
    let word = |at: usize| frame.at::<[u8; 4]>(at).map(|bytes| u32::from_ne_bytes(*bytes));
    let name = |at: usize| frame.peek::<[u8; 4]>(at).map(u32::from_ne_bytes);
    let [a, b, c, d] = template.peer;
    let first = name(peer + 4)? ^ u32::from_ne_bytes(COOKIE) == a;
    Some(match (family, template.peer_family) {
        (1, 4) => first,
        (2, 6) => {
            first
                && name(peer + 8)? ^ word(at + 8)? == b
                && name(peer + 12)? ^ word(at + 12)? == c
                && name(peer + 16)? ^ word(at + 16)? == d
        }
        _ => false,
    })
}
