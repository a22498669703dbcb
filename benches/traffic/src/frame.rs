//! The generator's frames, made here: for AF_XDP.

use crate::abi;
use crate::scheme::{Leg, Wrapper};

/// Writes a frame of this path at the beginning of `out`, which must be long enough; its length.
pub(crate) fn write(
    template: &abi::Template,
    leg: Leg,
    size: u16,
    stamp: [u32; 5],
    out: &mut [u8],
) -> usize {
    let head_len = if template.v6 != 0 { 54 } else { 34 };
    let send_len = if template.peer_family == 6 { abi::SEND_V6 } else { abi::SEND_V4 };
    let wrapper = match leg.wrapper {
        Wrapper::None => 0,
        Wrapper::Channel(_) => 4,
        Wrapper::Indication(_) => send_len as u16,
    };
    let datagram = 8 + wrapper + size;
    let head: Vec<u8> = template.head.iter().flat_map(|word| word.to_ne_bytes()).collect();
    out[..head_len].copy_from_slice(&head[..head_len]);
    if template.v6 != 0 {
        out[18..20].copy_from_slice(&datagram.to_be_bytes());
    } else {
        let total = 20 + datagram;
        out[16..18].copy_from_slice(&total.to_be_bytes());
        let checksum = !abi::fold(u64::from(template.ip_sum) + u64::from(total.to_be()));
        out[24..26].copy_from_slice(&checksum.to_ne_bytes());
    }
    let words = [leg.src, leg.dst, datagram, datagram];
    let mut sum = words.iter().map(|word| u64::from(word.to_be())).sum::<u64>();
    sum += u64::from(template.sum) + abi::filling_sum(u64::from(size) - abi::STAMP as u64);
    let mut at = head_len + 8;
    match leg.wrapper {
        Wrapper::None => {}
        Wrapper::Channel(channel) => {
            out[at..at + 2].copy_from_slice(&channel.to_be_bytes());
            out[at + 2..at + 4].copy_from_slice(&size.to_be_bytes());
            sum += u64::from(channel.to_be()) + u64::from(size.to_be());
        }
        Wrapper::Indication(port) => {
            let head = template.send.iter().flat_map(|word| word.to_ne_bytes());
            let head: Vec<u8> = head.take(send_len - 4).collect();
            out[at..at + head.len()].copy_from_slice(&head);
            let (length, port) = (wrapper - 20 + size, port ^ 0x2112);
            let words = [(2, length), (26, port), (send_len - 4, 0x13), (send_len - 2, size)];
            for (offset, word) in words {
                out[at + offset..at + offset + 2].copy_from_slice(&word.to_be_bytes());
                sum += u64::from(word.to_be());
            }
            sum += u64::from(template.send_sum);
        }
    }
    at += usize::from(wrapper);
    let checksum = match !abi::fold(sum) {
        0 => 0xffff,
        checksum => checksum,
    };
    for (word, bytes) in [leg.src, leg.dst, datagram].iter().zip(out[head_len..].chunks_mut(2)) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out[head_len + 6..head_len + 8].copy_from_slice(&checksum.to_ne_bytes());
    for word in stamp {
        out[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        at += 4;
    }
    let end = at + usize::from(size) - abi::STAMP;
    out[at..end].fill(abi::FILLING);
    end
}
