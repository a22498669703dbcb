//! Datagrams that came out in fragments, put together again.

use std::collections::BTreeMap;
use std::ops::Range;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const FRAGMENT_HEADER: usize = 8;

/// Fragments whose datagrams are not whole yet.
#[derive(Debug, Default)]
pub(crate) struct Parts(BTreeMap<Vec<u8>, Vec<Part>>);

#[derive(Debug)]
struct Part {
    offset: usize,
    more: bool,
    frame: Vec<u8>,
    body: Range<usize>,
    /// Addresses, protocol and identification: all fragments of a datagram have the same.
    key: Vec<u8>,
}

impl Parts {
    /// The frame, where it is no fragment; the frame that all fragments would have been, where this was
    /// the last of them.
    pub(crate) fn whole(&mut self, frame: Vec<u8>) -> Option<Vec<u8>> {
        let Some(part) = Part::of(&frame) else { return Some(frame) };
        let key = part.key.clone();
        let parts = self.0.entry(key.clone()).or_default();
        parts.push(part);
        parts.sort_by_key(|part| part.offset);
        let mut end = 0;
        for part in &*parts {
            if part.offset != end {
                return None;
            }
            end += part.body.len();
        }
        if parts.last().is_none_or(|part| part.more) {
            return None;
        }
        self.0.remove(&key).map(|parts| joined(&parts))
    }
}

impl Part {
    fn of(frame: &[u8]) -> Option<Part> {
        let number = |at: usize| Some(u16::from_be_bytes(*frame.get(at..at + 2)?.first_chunk()?));
        let ip = frame.get(ETHERNET..)?;
        let (word, body, key) = match number(12)? {
            0x0800 => {
                let header = usize::from(ip.first()? & 0xf) * 4;
                let end = ETHERNET + usize::from(number(ETHERNET + 2)?);
                let key = [ip.get(9..10)?, ip.get(12..20)?, ip.get(4..6)?].concat();
                let word = number(ETHERNET + 6)?;
                ((word & 0x1fff) << 3 | word >> 13 & 1, ETHERNET + header..end, key)
            }
            0x86dd if *ip.get(6)? == 44 => {
                let start = ETHERNET + IPV6 + FRAGMENT_HEADER;
                let end = ETHERNET + IPV6 + usize::from(number(ETHERNET + 4)?);
                let key = [ip.get(8..41)?, ip.get(44..48)?].concat();
                (number(ETHERNET + IPV6 + 2)?, start..end, key)
            }
            _ => return None,
        };
        let (offset, more) = (usize::from(word & !7), word & 1 != 0);
        let part = more || offset != 0;
        part.then(|| Part { offset, more, frame: frame.into(), body, key })
    }
}

/// With the first one's headers, and lengths and flags as one packet has them.
fn joined(parts: &[Part]) -> Vec<u8> {
    let first = &parts[0];
    let mut frame = first.frame[..first.body.start].to_vec();
    parts.iter().for_each(|part| frame.extend(&part.frame[part.body.clone()]));
    if frame[12] == 0x08 {
        let size = (frame.len() - ETHERNET) as u16;
        let ip = &mut frame[ETHERNET..];
        ip[2..4].copy_from_slice(&size.to_be_bytes());
        // DF stays
        ip[6] &= 0x40;
        ip[7] = 0;
        ip[10..12].fill(0);
        let header = usize::from(ip[0] & 0xf) * 4;
        let words = ip[..header].chunks(2);
        let sum: u32 = words.map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let header = ETHERNET + IPV6;
        frame[ETHERNET + 6] = frame[header];
        frame.drain(header..header + FRAGMENT_HEADER);
        let size = (frame.len() - header) as u16;
        frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&size.to_be_bytes());
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnwire_tests::frame::{Datagram, Packet};

    #[test]
    fn fragments_in_any_order_are_the_packet_that_they_were_cut_from() {
        for (from, to) in [("44.1.0.1:5", "44.1.0.2:6"), ("[2e00::1]:5", "[2e00::2]:6")] {
            let datagram =
                Datagram::new(([1; 6], [2; 6]), from.parse().unwrap(), to.parse().unwrap())
                    .carrying(&[7; 100]);
            let whole = Packet::parse(&datagram.frame()).unwrap();
            for order in [[0, 1], [1, 0]] {
                let (mut parts, fragments) = (Parts::default(), datagram.fragments(16));
                assert_eq!(parts.whole(fragments[order[0]].clone()), None);
                let joined = parts.whole(fragments[order[1]].clone()).expect("all are there");
                assert_eq!(Packet::parse(&joined).unwrap(), whole);
            }
            let mut parts = Parts::default();
            assert_eq!(parts.whole(datagram.frame()), Some(datagram.frame()));
        }
    }
}
