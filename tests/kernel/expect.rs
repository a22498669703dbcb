//! What should come out, worked out plainly from the channel and the frame that went in.

use turnwire_tests::frame::Packet;
use wire::Key;

use crate::calls::{OUR_MAC, THEIR_MAC};
use crate::world::{Call, Outcome, World};

/// A channel that a packet belongs to, and whether it came from the client.
pub(crate) fn find<'w>(world: &'w World, packet: &Packet) -> Option<(&'w Call, bool)> {
    let number = || u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
    let ends = (packet.source, packet.destination);
    world.calls.iter().find_map(|call| {
        if (call.client, call.listener) == ends && packet.payload.len() >= 4 {
            return (number() == call.number).then_some((call, true));
        }
        ((call.peer, call.relay) == ends).then_some((call, false))
    })
}

/// Compares what came out with what went in; both are described by independent code.
pub(crate) fn check(world: &World, sent: &[u8], outcome: &Outcome) -> Result<(), String> {
    let received = Packet::parse(sent).ok_or("forwarded what is no UDP")?;
    let (call, from_client) = find(world, &received).ok_or("forwarded without a channel")?;
    let last = if from_client && call.inner {
        // the peer's own channel carries it to the other client
        let back = |other: &&Call| other.relay == call.peer && other.peer == call.relay;
        world.calls.iter().find(back).ok_or("no channel on the other side")?
    } else {
        call
    };
    let to_client = !from_client || call.inner;
    let (source, destination, hop) = if to_client {
        (last.listener, last.client, last.hops[0])
    } else {
        (call.relay, call.peer, call.hops[1])
    };
    let data = application_data(&received, from_client).ok_or("forwarded bad ChannelData")?;
    let payload = if to_client {
        [&last.number.to_be_bytes(), &(data.len() as u16).to_be_bytes(), data].concat()
    } else {
        data.to_vec()
    };
    let hop = world.hops[usize::from(hop)].ok_or("forwarded without a hop")?;
    let out = Packet::parse(&outcome.frame).ok_or("what came out is no UDP")?;
    let wrong_sum = "the UDP checksum is wrong";
    let expected = Packet {
        from: OUR_MAC,
        to: THEIR_MAC,
        vlans: if hop.vlan.get() == 0 { vec![] } else { vec![hop.vlan.get()] },
        source,
        destination,
        ttl: received.ttl - 1,
        traffic_class: received.traffic_class,
        // RFC 8656 section 14 copies it; from IPv6 RFC 7915 section 5.1 sets it above 1,260 bytes
        dont_fragment: match (received.source.is_ipv4(), source.is_ipv4()) {
            (_, false) => true,
            (true, true) => received.dont_fragment,
            (false, true) => 28 + payload.len() > 1260,
        },
        fragment: false,
        options_len: 0,
        checksum: out.checksum,
        payload,
        trailing_len: 0,
        // a datagram that was damaged stays recognisably so
        faults: received.faults.iter().copied().filter(|fault| *fault == wrong_sum).collect(),
    };
    if (out.checksum == 0) != (received.checksum == 0) {
        return Err("a checksum appeared or vanished".into());
    }
    if outcome.forwarded != Some(hop.ifindex) {
        return Err(format!("left by {:?}, not by {}", outcome.forwarded, hop.ifindex));
    }
    if out != expected {
        return Err(format!("\nexpected {expected:?}\ncame     {out:?}"));
    }
    Ok(())
}

/// The bytes that the applications exchange.
pub(crate) fn application_data(packet: &Packet, from_client: bool) -> Option<&[u8]> {
    if !from_client {
        return Some(&packet.payload);
    }
    let size = usize::from(u16::from_be_bytes([*packet.payload.get(2)?, *packet.payload.get(3)?]));
    packet.payload.get(4..4 + size)
}

/// The keys of the routes that count a forwarded packet.
pub(crate) fn counting_keys(world: &World, sent: &[u8]) -> Vec<Key> {
    let received = Packet::parse(sent).expect("it was forwarded");
    let (call, from_client) = find(world, &received).expect("it was forwarded");
    let [to_peer, to_client] = call.keys();
    match (from_client, call.inner) {
        (false, _) => vec![to_client],
        (true, false) => vec![to_peer],
        (true, true) => vec![to_peer, wire::Key::new(call.relay.into(), call.peer.into(), 0)],
    }
}
