//! Whole frames through plan and rewrite, as the kernel program sends them through.

use std::net::{IpAddr, SocketAddr};

use wire::{Frame, Plain, Reason};

use crate::flows::{Flow, MAC, NEXT_MAC, Relay};

/// Room in front, as a driver leaves it.
const HEADROOM: usize = 256;
/// As much of a frame as a rewrite may change: what is put back before the next one.
const CHANGED: usize = 96;

/// A frame in memory that can be sent through the relay again and again.
pub struct Shuttle {
    bytes: Vec<u8>,
    head: usize,
    tail: usize,
    front: [u8; CHANGED],
    size: usize,
}

impl Shuttle {
    /// A frame with `data` bytes of application data on this channel.
    pub fn new(flow: &Flow, from_client: bool, data: u16) -> Self {
        let (source, destination) = match from_client {
            true => (flow.client, flow.listener),
            false => (flow.peer, flow.relay),
        };
        let mut payload = Vec::new();
        if from_client {
            payload.extend(flow.channel.to_be_bytes());
            payload.extend(data.to_be_bytes());
        }
        payload.resize(payload.len() + usize::from(data), 0xc5);
        let frame = frame(source, destination, &payload);
        let mut front = [0; CHANGED];
        front.copy_from_slice(&frame[..CHANGED]);
        let size = frame.len();
        let bytes = [&[0; HEADROOM][..], &frame].concat();
        Self { head: HEADROOM, tail: bytes.len(), bytes, front, size }
    }

    /// Puts the frame back as it was, and sends it through.
    #[inline(always)]
    pub fn relay(&mut self, relay: &Relay) -> Result<(), Reason> {
        (self.head, self.tail) = (HEADROOM, HEADROOM + self.size);
        self.bytes[HEADROOM..HEADROOM + CHANGED].copy_from_slice(&self.front);
        let plan = wire::plan(self, relay, relay)?;
        wire::rewrite(self, &plan)?;
        plan.forward.count();
        Ok(())
    }
}

impl Frame for Shuttle {
    #[inline(always)]
    fn size(&self) -> usize {
        self.tail - self.head
    }
    #[inline(always)]
    fn at<T: Plain>(&self, offset: usize) -> Option<&T> {
        let bytes = self.bytes[self.head..self.tail].get(offset..)?;
        T::ref_from_prefix(bytes).ok().map(|(view, _)| view)
    }
    #[inline(always)]
    fn at_mut<T: Plain>(&mut self, offset: usize) -> Option<&mut T> {
        let bytes = self.bytes[self.head..self.tail].get_mut(offset..)?;
        T::mut_from_prefix(bytes).ok().map(|(view, _)| view)
    }
    #[inline(always)]
    fn move_head(&mut self, delta: i32) -> Option<()> {
        let head = self.head.checked_add_signed(delta as isize)?;
        (head <= self.tail).then(|| self.head = head)
    }
    #[inline(always)]
    fn trim_tail(&mut self, count: u32) -> Option<()> {
        let tail = self.tail.checked_sub(count as usize).filter(|tail| *tail >= self.head)?;
        self.tail = tail;
        Some(())
    }
}

/// A UDP datagram in a frame, without a UDP checksum over IPv4 only where it is computed to zero.
fn frame(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut udp = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    udp.extend((8 + payload.len() as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let ends = [octets(source.ip()), octets(destination.ip())].concat();
    let length = (udp.len() as u16).to_be_bytes();
    let pseudo = [&ends[..], &[0, 17], &length, &udp].concat();
    let checksum = checksum(&pseudo);
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    let mut bytes = [MAC, NEXT_MAC].concat();
    if source.is_ipv4() {
        let mut ip = vec![0x45, 0];
        ip.extend((20 + udp.len() as u16).to_be_bytes());
        ip.extend([0x12, 0x34, 0x40, 0, 64, 17, 0, 0]);
        ip.extend(ends);
        let sum = self::checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend([8, 0]);
        bytes.extend(ip);
    } else {
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        bytes.extend((udp.len() as u16).to_be_bytes());
        bytes.extend([17, 64]);
        bytes.extend(ends);
    }
    bytes.extend(udp);
    bytes
}

fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_direction_and_family_is_forwarded_again_and_again() {
        for (client_v6, peer_v6) in [(false, false), (true, true), (false, true), (true, false)] {
            let flow = Flow::new(5, client_v6, peer_v6);
            let relay = Relay::new(&[flow]);
            for from_client in [true, false] {
                let mut shuttle = Shuttle::new(&flow, from_client, 160);
                (0..3).for_each(|_| assert_eq!(shuttle.relay(&relay), Ok(())));
                let v6 = if from_client { peer_v6 } else { client_v6 };
                let header = if from_client { 0 } else { 4 };
                assert_eq!(shuttle.size(), 14 + if v6 { 40 } else { 20 } + 8 + header + 160);
            }
        }
    }
}
