//! What came out of a relay, in words that mean the same in every lab; and what of it is compared.
//!
//! Compared are: which way it came out, both addresses and ports, TTL or hop limit, DSCP and ECN, DF,
//! every byte of the payload, that all lengths and checksums are right, and that no byte follows.
//!
//! Not compared, because the relay or its kernel chooses freely:
//! - the number of a relay port, which is drawn: a call's number stands for it;
//! - a Data indication's transaction id, which is drawn: zeros stand for it;
//! - the identification of IPv4 packets and fragments, and IPv6 flow labels;
//! - link addresses (`wire_format` looks at them);
//! - DF of what sockets forward: a socket does not tell whether a datagram came with it. That is channel
//!   data by the tier of sockets, and indications but by AF_XDP ([`LOST_BY_SOCKETS`]). DF that a Send
//!   indication asks for is compared;
//! - datagrams with a wrong UDP checksum: what forwards frames keeps it wrong, sockets drop them, and
//!   so does the host at the far end. They do not count as having come out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use turnwire_tests::frame::Packet;
use turnwire_tests::packet_socket::PacketSocket;
use turnwire_tests::relay::{Direction, Tier};
use turnwire_tests::stun::{Builder, Message, attribute, kind};
use turnwire_tests::wait::{Deadline, SOON};

use super::generated::Way;
use super::parts::Parts;
use super::stand::Stand;

/// The port that stands for the first call's relay port.
const RELAYED_PORT: u16 = 1;
/// Nothing more is to come: what comes in this time is too much.
const REST: Duration = Duration::from_millis(300);

/// One datagram that came out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Out {
    /// Toward the peer or toward the client.
    to_client: bool,
    from: SocketAddr,
    to: SocketAddr,
    ttl: u8,
    class: u8,
    dont_fragment: bool,
    faults: Vec<&'static str>,
    payload: Vec<u8>,
}

impl Out {
    pub(crate) fn ttl(&self) -> u8 {
        self.ttl
    }

    /// Whether its data begins with `number`.
    pub(crate) fn carries(&self, number: &[u8; 4]) -> bool {
        self.payload.windows(4).any(|four| four == number)
    }
}

/// What sockets cannot keep: DF of what they forward.
const LOST_BY_SOCKETS: fn(&Out, bool) -> Out = |out, channels| {
    let lost = match out.to_client {
        true => channels || out.payload.starts_with(&kind::DATA_INDICATION.to_be_bytes()),
        false => match Way::to(out.to) {
            Way::Channel => channels,
            Way::SendWhole => false,
            Way::Send => true,
        },
    };
    Out { dont_fragment: out.dont_fragment && !lost, ..out.clone() }
};

/// What two tiers made of a window, where it is not the same.
pub(crate) fn difference(tiers: [Tier; 2], outs: [&Vec<Out>; 2]) -> Option<String> {
    let compared = |outs: &Vec<Out>| {
        let channels = tiers.contains(&Tier::Sockets);
        let mut compared: Vec<Out> =
            outs.iter().map(|out| LOST_BY_SOCKETS(out, channels)).collect();
        compared.sort();
        compared
    };
    let [first, second] = outs.map(compared);
    if first == second {
        return None;
    }
    let only = |these: &[Out], others: &[Out]| {
        let mut counts = BTreeMap::<&Out, i32>::new();
        these.iter().for_each(|out| *counts.entry(out).or_default() += 1);
        others.iter().for_each(|out| *counts.entry(out).or_default() -= 1);
        let only = counts.into_iter().filter(|(_, count)| *count > 0);
        only.map(|(out, count)| format!("{count} of {out:02x?}")).collect::<Vec<_>>()
    };
    let [one, other] = tiers;
    let (ones, others) = (only(&first, &second), only(&second, &first));
    Some(format!("only by {one:?}: {ones:#?}\nonly by {other:?}: {others:#?}"))
}

/// Takes what comes out one way until there are so many datagrams more.
pub(crate) fn take(
    stand: &Stand<'_>,
    direction: Direction,
    wanted: usize,
    outs: &mut Vec<Out>,
) -> Result<()> {
    let (end, mut parts) = (stand.wires.far(direction), Parts::default());
    let deadline = Deadline::after(SOON);
    for came in 0..wanted {
        let out = next(stand, end, direction, &mut parts, deadline)?;
        ensure!(out.is_some(), "{came} of {wanted} came out within {SOON:?}");
        outs.extend(out);
    }
    Ok(())
}

/// Takes what should not have come.
pub(crate) fn take_rest(stand: &Stand<'_>, outs: &mut Vec<Out>) -> Result<()> {
    for direction in Direction::ALL {
        let (end, mut parts) = (stand.wires.far(direction), Parts::default());
        let deadline = Deadline::after(REST);
        while let Some(out) = next(stand, end, direction, &mut parts, deadline)? {
            outs.push(out);
        }
    }
    Ok(())
}

/// The next datagram that came out; `None` when none does in time.
fn next(
    stand: &Stand<'_>,
    end: &PacketSocket,
    direction: Direction,
    parts: &mut Parts,
    deadline: Deadline,
) -> Result<Option<Out>> {
    while let Some(seen) = end.next(deadline)? {
        if seen.sent_here {
            continue;
        }
        let Some(frame) = parts.whole(seen.bytes) else { continue };
        let Some(packet) = Packet::parse(&frame) else { continue };
        if packet.faults.contains(&"the UDP checksum is wrong") {
            continue;
        }
        return Ok(Some(stand.told(direction, packet)));
    }
    Ok(None)
}

impl Stand<'_> {
    /// In words of no particular lab.
    fn told(&self, direction: Direction, packet: Packet) -> Out {
        let (from, to) = (self.name(packet.source), self.name(packet.destination));
        let mut faults = packet.faults;
        if packet.trailing_len != 0 {
            faults.push("bytes follow the datagram");
        }
        Out {
            to_client: direction == Direction::ToClient,
            from,
            to,
            ttl: packet.ttl,
            class: packet.traffic_class,
            dont_fragment: packet.dont_fragment,
            faults,
            payload: without_transaction(packet.payload),
        }
    }

    fn name(&self, mut address: SocketAddr) -> SocketAddr {
        let call = self.relayed.iter().position(|relayed| *relayed == address);
        if let Some(call) = call {
            address.set_port(RELAYED_PORT + call as u16);
        }
        address
    }
}

/// A Data indication as it would be with zeros for its transaction id. Only one that is byte for byte
/// what a plain writer makes of its peer and data; anything else stays as it is, and will differ.
fn without_transaction(payload: Vec<u8>) -> Vec<u8> {
    let written = |message: &Message, transaction: [u8; 12]| {
        let peer = message.xor_address(attribute::XOR_PEER_ADDRESS)?;
        let data = message.attribute(attribute::DATA)?;
        let new = Builder::new(kind::DATA_INDICATION, transaction);
        let new = new.with_xor_address(attribute::XOR_PEER_ADDRESS, peer);
        Some(new.with(attribute::DATA, data).bytes())
    };
    let plain = Message::parse(&payload).and_then(|message| {
        let transaction = message.transaction().try_into().ok()?;
        let same = written(&message, transaction)? == payload;
        same.then(|| written(&message, [0; 12]))?
    });
    plain.unwrap_or(payload)
}
