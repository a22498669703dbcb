//! What should come out, worked out plainly from the channels and the frame that went in.

use turnwire_tests::frame::Packet;
use wire::Hop;

use super::{Call, NOW, OUR_MAC, OUR_VLAN, THEIR_MAC, Twin};

const WRONG_SUM: &str = "the UDP checksum is wrong";

pub(super) fn check(twin: &Twin, sent: &[u8], hop: &Hop, out: &[u8]) -> Result<(), String> {
    let received = Packet::parse(sent).ok_or("forwarded what is no UDP")?;
    if received.fragment || received.options_len > 0 || received.to != OUR_MAC {
        return Err("forwarded what is the kernel's".into());
    }
    if !matches!(received.vlans[..], [] | [OUR_VLAN]) || received.ttl <= 1 {
        return Err("forwarded from a foreign VLAN, or for longer than its TTL".into());
    }
    if received.faults.iter().any(|fault| *fault != WRONG_SUM) {
        return Err(format!("forwarded with {:?}", received.faults));
    }
    let (call, from_client) = find(twin, &received).ok_or("forwarded without a channel")?;
    let last = if from_client && call.inner {
        // the peer's own channel carries it to the other client
        let back = |other: &&Call| other.relay == call.peer && other.peer == call.relay;
        twin.calls.iter().find(back).ok_or("no channel on the other side")?
    } else {
        call
    };
    if call.expires <= NOW || last.expires <= NOW {
        return Err("forwarded by an expired channel".into());
    }
    let to_client = !from_client || call.inner;
    let (source, destination) =
        if to_client { (last.listener, last.client) } else { (call.relay, call.peer) };
    let data = application_data(&received, from_client).ok_or("forwarded bad ChannelData")?;
    let payload = if to_client {
        [&last.number.to_be_bytes(), &(data.len() as u16).to_be_bytes(), data].concat()
    } else {
        data.to_vec()
    };
    if twin.hops[usize::from(last.hop)] != Some(*hop) {
        return Err("forwarded to another hop".into());
    }
    let headers = if source.is_ipv4() { 28 } else { 48 };
    if headers + payload.len() > usize::from(hop.mtu) {
        return Err("forwarded beyond the MTU".into());
    }
    let came = Packet::parse(out).ok_or("what came out is no UDP")?;
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
        checksum: came.checksum,
        payload,
        trailing_len: 0,
        // a datagram that was damaged stays recognisably so
        faults: received.faults.clone(),
    };
    if (came.checksum == 0) != (received.checksum == 0) {
        return Err("a checksum appeared or vanished".into());
    }
    if came != expected {
        return Err(format!("\nexpected {expected:?}\ncame     {came:?}"));
    }
    Ok(())
}

/// The channel that a packet belongs to, and whether it came from the client.
fn find<'t>(twin: &'t Twin, packet: &Packet) -> Option<(&'t Call, bool)> {
    let ends = (packet.source, packet.destination);
    twin.calls.iter().find_map(|call| {
        if (call.client, call.listener) == ends && packet.payload.len() >= 4 {
            let number = u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
            return (number == call.number).then_some((call, true));
        }
        ((call.peer, call.relay) == ends).then_some((call, false))
    })
}

/// The bytes that the applications exchange.
fn application_data(packet: &Packet, from_client: bool) -> Option<&[u8]> {
    if !from_client {
        return Some(&packet.payload);
    }
    let size = usize::from(u16::from_be_bytes([*packet.payload.get(2)?, *packet.payload.get(3)?]));
    let padding = (packet.payload.len() - 4).checked_sub(size)?;
    (padding <= 3).then(|| &packet.payload[4..4 + size])
}
