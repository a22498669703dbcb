//! What is sent, in full: paths, flows and payload lengths.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use crate::{abi, packet};

/// A link address.
pub type Mac = [u8; 6];

/// How frames reach the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Index of the interface by which they leave.
    pub interface: u32,
    /// That interface's address.
    pub own: Mac,
    /// The address of the relay's interface, or of the router before it.
    pub next: Mac,
    /// The client, or the peer.
    pub src: IpAddr,
    /// Where the relay listens, or its relayed address.
    pub dst: IpAddr,
}

/// One end of a flow's way. Ports in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// The channel that carries it; `None`: a plain datagram.
    pub channel: Option<u16>,
}

/// Datagrams that leave and arrive in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its path, by number.
    pub path: usize,
    /// As it leaves.
    pub out: Leg,
    /// As it is to arrive.
    pub arrive: Leg,
    /// Counted as going to a client, else to a peer.
    pub to_client: bool,
}

/// What generator and sink are loaded for.
#[derive(Clone, Debug)]
pub struct Scheme {
    /// Sources, destinations and the ways to them: 1 to [`abi::PATHS`].
    pub paths: Vec<Path>,
    /// How many flows there are: 1 to [`abi::FLOWS`]. They take turns.
    pub flows: usize,
    /// Payload lengths in bytes that take turns: 1 to [`abi::PATTERN`] of them, each
    /// [`abi::STAMP`] to [`abi::PAYLOAD_MAX`].
    pub payloads: Vec<u16>,
    /// Follow each flow's numbers, every latency and every byte. Without it the sink only counts
    /// datagrams whose headers, stamp, first and last bytes are right, and is faster.
    pub tracked: bool,
    /// The two interfaces of [`crate::Bare::Redirect`], in the namespace in which it is attached.
    pub arms: [u32; 2],
}

impl Leg {
    pub(crate) fn word(self, number: u16) -> u64 {
        abi::Leg::new(self.src, self.dst, self.channel.unwrap_or(0), number).0
    }
}

impl Scheme {
    pub(crate) fn check(&self) -> Result<()> {
        let Scheme { paths, flows, payloads, .. } = self;
        ensure!((1..=abi::PATHS).contains(&paths.len()), "{} paths", paths.len());
        ensure!((1..=abi::FLOWS).contains(flows), "{flows} flows are not 1 to {}", abi::FLOWS);
        ensure!((1..=abi::PATTERN).contains(&payloads.len()), "{} lengths", payloads.len());
        for payload in payloads {
            ensure!(
                (abi::STAMP..=abi::PAYLOAD_MAX).contains(&usize::from(*payload)),
                "a payload of {payload} bytes is not {} to {}: a frame holds no more",
                abi::STAMP,
                abi::PAYLOAD_MAX
            );
        }
        Ok(())
    }

    pub(crate) fn longest(&self) -> u16 {
        self.payloads.iter().copied().max().unwrap_or_default()
    }

    /// The longest headers of any frame, from Ethernet to ChannelData.
    pub(crate) fn headers(&self) -> usize {
        let v6 = self.paths.iter().any(|path| path.dst.is_ipv6());
        (if v6 { 54 } else { 34 }) + 8 + 4
    }
}

impl Path {
    /// The headers of this path's frames, without lengths.
    pub(crate) fn template(&self) -> abi::Template {
        let Path { interface, own, next, src, dst } = *self;
        let mut bytes = packet::head(next, own, src, dst, 0);
        let v6 = dst.is_ipv6();
        if v6 {
            bytes[18..20].fill(0);
        } else {
            // length and checksum
            bytes[16..18].fill(0);
            bytes[24..26].fill(0);
        }
        let ip_sum = if v6 { 0 } else { packet::sum(&bytes[14..]) };
        let sum = packet::sum(&packet::pseudo_header(src, dst, 0));
        bytes.resize(56, 0);
        let mut head = [0; 7];
        for (word, bytes) in head.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        abi::Template {
            head,
            ifindex: interface,
            v6: v6.into(),
            ip_sum: ip_sum.to_be().into(),
            sum: sum.to_be().into(),
        }
    }
}
