//! The case table: one list of frames, run by the host's functions and by the kernel program.

use turnwire_tests::frame::{Datagram, Packet};
use wire::Reason;

use crate::calls::{NARROW_MTU, OUR_MAC, OUR_VLAN, THEIR_MAC, call, from_client, from_peer};
use crate::world::Call;

/// A frame, and why it is not forwarded; `None` when it is.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) frame: Vec<u8>,
    pub(crate) refused: Option<Reason>,
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    [forwarded(), link(), network(), transport(), channel_data(), routes(), sizes()].concat()
}

fn good(name: impl Into<String>, frame: Vec<u8>) -> Case {
    Case { name: name.into(), frame, refused: None }
}

fn bad(name: impl Into<String>, reason: Reason, frame: Vec<u8>) -> Case {
    Case { name: name.into(), frame, refused: Some(reason) }
}

/// `change` applied to a datagram of call "44" from its client.
fn changed(change: impl FnOnce(&mut Datagram)) -> Vec<u8> {
    let mut datagram = from_client(&call("44"), b"some data");
    change(&mut datagram);
    datagram.frame()
}

fn forwarded() -> Vec<Case> {
    let mut cases = Vec::new();
    let carried = ["44", "66", "46", "64", "second peer", "second address", "tagged", "tagged 6"];
    for name in carried {
        let call = call(name);
        for size in [0, 1, 2, 3, 4, 5, 20, 159, 160, 161, 1160] {
            let data: Vec<u8> = (0..size).map(|at| (at * 7 + size) as u8).collect();
            for padding in 0..4 {
                let mut sent = from_client(&call, &data);
                sent.payload.extend(&[0xa1, 0xb2, 0xc3][..padding]);
                let title = format!("{name}: {size} bytes to the peer, {padding} of padding");
                cases.push(good(title, sent.frame()));
            }
            cases.push(good(
                format!("{name}: {size} to the client"),
                from_peer(&call, &data).frame(),
            ));
        }
        let mut marked = from_client(&call, b"marked");
        (marked.traffic_class, marked.ttl, marked.dont_fragment) = (0xb9, 2, true);
        cases.push(good(format!("{name}: class, least TTL and DF"), marked.frame()));
        let mut tagged = from_peer(&call, b"tagged");
        tagged.vlans = vec![OUR_VLAN];
        cases.push(good(format!("{name}: in our VLAN"), tagged.frame()));
        let mut trailing = from_peer(&call, b"x").frame();
        trailing.extend([0xdd; 17]);
        cases.push(good(format!("{name}: a short frame filled up"), trailing));
    }
    for name in ["inner a", "inner b"] {
        for data in [&b""[..], b"odd", b"even"] {
            cases.push(good(name, from_client(&call(name), data).frame()));
            // from outside nobody has the address of a relay of ours, but the route holds
            cases.push(good(name, from_peer(&call(name), data).frame()));
        }
    }
    for name in ["44", "66"] {
        let call = call(name);
        let data = data_that_sums_to_zero(&call);
        let title = format!("{name}: a computed checksum of zero leaves as ffff");
        cases.push(good(title, from_client(&call, &data).frame()));
    }
    for name in ["44", "second peer"] {
        for mut sent in [from_client(&call(name), b"data"), from_peer(&call(name), b"data")] {
            sent.checksum = false;
            cases.push(good(format!("{name}: without checksum"), sent.frame()));
        }
    }
    cases
}

/// Two bytes with which the datagram to the peer has the checksum zero, which is sent as 0xffff
/// (RFC 768).
fn data_that_sums_to_zero(call: &Call) -> [u8; 2] {
    let checksum = |data: &[u8]| {
        let frame =
            Datagram::new((OUR_MAC, THEIR_MAC), call.relay, call.peer).carrying(data).frame();
        Packet::parse(&frame).expect("a datagram").checksum
    };
    let found = (0..=u16::MAX).map(u16::to_be_bytes).find(|data| checksum(data) == 0xffff);
    found.expect("one of all sums of two bytes")
}

fn link() -> Vec<Case> {
    use Reason::{ForeignLink, NotOurs, NotUdp};
    let other_ethertype = |kind: [u8; 2]| {
        let mut frame = changed(|_| ());
        frame[12..14].copy_from_slice(&kind);
        frame
    };
    let mut elsewhere = from_client(&call("44"), b"some data");
    (elsewhere.to, elsewhere.vlans) = ([2, 0, 0, 0, 0, 2], vec![6]);
    elsewhere.destination.set_port(53);
    let cut_tag = changed(|sent| sent.vlans = vec![OUR_VLAN])[..16].to_vec();
    let mut priority = changed(|sent| sent.vlans = vec![0x2000]);
    priority[14..16].copy_from_slice(&[0xe0, 0]);
    vec![
        bad("another MAC", ForeignLink, changed(|sent| sent.to = [2, 0, 0, 0, 0, 2])),
        bad("broadcast MAC", ForeignLink, changed(|sent| sent.to = [0xff; 6])),
        bad("unknown VLAN", ForeignLink, changed(|sent| sent.vlans = vec![6])),
        bad("a priority tag is nobody's VLAN", ForeignLink, priority),
        bad("two tags", NotUdp, changed(|sent| sent.vlans = vec![OUR_VLAN, OUR_VLAN])),
        bad("ARP", NotUdp, other_ethertype([8, 6])),
        bad("IPv6 ethertype over IPv4", NotUdp, other_ethertype([0x86, 0xdd])),
        bad("a port of nobody's, whosever frame it is", NotOurs, elsewhere.frame()),
        bad("cut in the tag", NotUdp, cut_tag),
        bad("no more than a header", NotUdp, changed(|_| ())[..14].to_vec()),
        bad("cut in the IP header", NotUdp, changed(|_| ())[..33].to_vec()),
    ]
}

fn network() -> Vec<Case> {
    use Reason::{LastHop, Malformed, NotUdp};
    let six = || from_client(&call("66"), b"some data, and more");
    let patched = |at: usize, byte: u8| {
        let mut frame = changed(|_| ());
        frame[at] = byte;
        frame
    };
    let extended = |mut sent: Datagram| {
        sent.options = vec![0, 0, 1, 4, 0, 0, 0, 0];
        sent.frame()
    };
    let [first, rest] = changed_fragments();
    let six_patched = |at: usize, byte: u8| {
        let mut frame = six().frame();
        frame[at] = byte;
        frame
    };
    // a protocol more, and the header's checksum one less by as much
    let mut tcp4 = changed(|_| ());
    assert_eq!(tcp4[23], 17, "UDP");
    tcp4[23] = 6;
    let checksum = u16::from_be_bytes([tcp4[24], tcp4[25]]);
    tcp4[24..26].copy_from_slice(&(checksum + 17 - 6).to_be_bytes());
    let mapped = "[::ffff:44.1.0.10]:40000".parse().expect("an address");
    let (mut from_mapped, mut to_mapped) = (six(), six());
    from_mapped.source = mapped;
    to_mapped.destination = mapped;
    vec![
        bad("TTL 1", LastHop, changed(|sent| sent.ttl = 1)),
        bad("TTL 0", LastHop, changed(|sent| sent.ttl = 0)),
        bad("IPv4 options", NotUdp, changed(|sent| sent.options = vec![1, 1, 1, 0])),
        bad("IPv6 extension header", NotUdp, extended(six())),
        bad("first fragment", NotUdp, first),
        bad("later fragment", NotUdp, rest),
        bad("IPv4 header checksum", Malformed, patched(24, 0x99)),
        bad("IPv4 identification changed", Malformed, patched(18, 0x99)),
        bad("another IP version", NotUdp, patched(14, 0x55)),
        bad("TCP over IPv4", NotUdp, tcp4),
        bad("TCP over IPv6", NotUdp, six_patched(20, 6)),
        bad("another IP version than 6", NotUdp, six_patched(14, 0x70)),
        bad("cut in the IPv6 header", NotUdp, six().frame()[..53].to_vec()),
        bad("from a mapped address in an IPv6 header", Malformed, from_mapped.frame()),
        bad("to a mapped address in an IPv6 header", Malformed, to_mapped.frame()),
    ]
}

fn changed_fragments() -> [Vec<u8>; 2] {
    from_client(&call("44"), &[7; 64]).fragments(24)
}

fn transport() -> Vec<Case> {
    use Reason::{Malformed, NotOurs, UnfinishedChecksum, ZeroChecksum};
    let udp_length = |name: &str, length: u16| {
        let sent = from_client(&call(name), b"some data");
        let at = if sent.source.is_ipv4() { 38 } else { 58 };
        let mut frame = sent.frame();
        frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
        frame
    };
    let unsummed = |mut sent: Datagram| {
        sent.checksum = false;
        sent.frame()
    };
    let mut cases = vec![
        bad("zero checksum over IPv6", Malformed, unsummed(from_client(&call("66"), b"data"))),
        bad("zero checksum across", ZeroChecksum, unsummed(from_client(&call("46"), b"data"))),
        bad("another port", NotOurs, changed(|sent| sent.destination.set_port(53))),
        bad(
            "from a port of ours",
            NotOurs,
            changed(|sent| {
                (sent.source, sent.destination) = (sent.destination, sent.source);
            }),
        ),
    ];
    for name in ["44", "66", "46", "64", "second address", "inner a"] {
        let call = call(name);
        for sent in [from_client(&call, b"some data"), from_peer(&call, b"some data")] {
            let frame = unfinished(&sent);
            cases.push(bad(format!("{name}: a checksum to be made"), UnfinishedChecksum, frame));
        }
    }
    for length in [0, 7, 8, 20, 22, 65535] {
        for name in ["44", "66"] {
            let title = format!("{name}: UDP length {length}");
            cases.push(bad(title, Malformed, udp_length(name, length)));
        }
    }
    // lengths that agree with each other, and leave no room for a UDP header
    let mut short = from_client(&call("66"), b"some data").frame();
    (short[18..20]).copy_from_slice(&[0, 7]);
    (short[58..60]).copy_from_slice(&[0, 7]);
    cases.push(bad("66: seven bytes of UDP", Malformed, short));
    for name in ["44", "66"] {
        let whole = from_client(&call(name), b"cut").frame();
        let ip = if name == "44" { 34 } else { 54 };
        for size in ip..whole.len() {
            cases.push(bad(format!("{name}: cut to {size}"), Malformed, whole[..size].to_vec()));
        }
    }
    cases
}

/// With the sum of the pseudo-header for a checksum, as a kernel leaves it to a card.
pub(crate) fn unfinished(sent: &Datagram) -> Vec<u8> {
    let mut frame = sent.frame();
    let udp = if sent.source.is_ipv4() { 34 } else { 54 };
    let addresses = if sent.source.is_ipv4() { 26..34 } else { 22..54 };
    let pseudo = [&frame[addresses], &frame[udp + 4..udp + 6], &[0, 17]].concat();
    let words = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[udp + 6..udp + 8].copy_from_slice(&(sum as u16).to_be_bytes());
    frame
}

fn channel_data() -> Vec<Case> {
    use Reason::{BadChannelData, NoRoute, NotStun, Stun};
    let raw = |payload: &[u8]| changed(|sent| sent.payload = payload.to_vec());
    let mut binding = [0; 20];
    binding[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    let mut cases = vec![
        bad("a STUN request", Stun, raw(&binding)),
        bad("nothing", NotStun, raw(b"")),
        bad("three bytes", NotStun, raw(b"\x40\0\0")),
        bad("too short for STUN", NotStun, raw(&binding[..19])),
        bad("the last first byte of messages for the control thread", Stun, raw(&[0x3f; 20])),
        bad("three bytes, filled up", NotStun, [&raw(b"\x40\0\0")[..], &[0; 20]].concat()),
        bad("RTP", NotStun, raw(&[0x80; 20])),
        bad("channel 0x3fff", NotStun, raw(b"\x3f\xff\0\0")),
        bad("channel 0x5000", NotStun, raw(b"\x50\0\0\0")),
        bad("an unbound channel", NoRoute, raw(b"\x4a\xbc\0\x01x")),
        bad("a length beyond the end", BadChannelData, raw(b"\x40\0\0\x05data")),
        bad("a huge length", BadChannelData, raw(b"\x40\0\xff\xffdata")),
        bad("four bytes more than data", BadChannelData, raw(b"\x40\0\0\0data")),
    ];
    let source = |text: &str| {
        let text = text.to_string();
        changed(|sent| sent.source = text.parse().expect("an address"))
    };
    cases.push(bad("another client port", NoRoute, source("44.1.0.10:40001")));
    cases.push(bad("another client address", NoRoute, source("44.1.0.12:40000")));
    cases.push(bad(
        "another address of ours",
        NoRoute,
        changed(|sent| {
            sent.destination = "44.1.0.2:3478".parse().expect("an address");
        }),
    ));
    cases
}

fn routes() -> Vec<Case> {
    use Reason::{Expired, NoHop, NoRoute};
    let both = |name: &str, reason: Reason| {
        let call = call(name);
        let (up, down) = (from_client(&call, b"data"), from_peer(&call, b"data"));
        [up, down].map(|sent| bad(name.to_string(), reason, sent.frame()))
    };
    let stranger = |source: &str, destination: &str| {
        let mut sent = from_peer(&call("44"), b"data");
        sent.source = source.parse().expect("an address");
        sent.destination = destination.parse().expect("an address");
        sent.frame()
    };
    let lone = from_client(&call("inner lone"), b"data").frame();
    let mut cases = vec![
        bad("a peer without a channel", NoRoute, stranger("44.9.0.21:41000", "44.1.0.2:50000")),
        bad("the peer from another port", NoRoute, stranger("44.9.0.20:41009", "44.1.0.2:50000")),
        bad("another relay address", NoRoute, stranger("44.9.0.20:41000", "44.1.0.9:50000")),
        bad("no channel on this port", NoRoute, stranger("44.9.0.20:41000", "44.1.0.2:50020")),
        bad("no allocation", Reason::NotOurs, stranger("44.9.0.20:41000", "44.1.0.2:50021")),
        bad("inner, but the other end has no channel", NoRoute, lone),
    ];
    let stale = from_client(&call("inner stale"), b"data").frame();
    cases.push(bad("inner, but the other end's channel has run out", Expired, stale));
    cases.extend(both("expired", Expired));
    cases.extend(both("no hop", NoHop));
    cases
}

/// Exactly the MTU fits, one byte more does not: the program punts before it has written.
fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, headers) in [("narrow", 28), ("narrow 6", 48)] {
        let call = call(name);
        let room = usize::from(NARROW_MTU) - headers;
        let (fits, more) = (vec![9; room], vec![9; room + 1]);
        cases.push(good(format!("{name}: just fits"), from_client(&call, &fits).frame()));
        cases.push(bad(
            format!("{name}: one too many"),
            Reason::TooBig,
            from_client(&call, &more).frame(),
        ));
        let wrapped = room - 4;
        cases.push(good(
            format!("{name}: fits wrapped"),
            from_peer(&call, &fits[..wrapped]).frame(),
        ));
        cases.push(bad(
            format!("{name}: wrapped, one too many"),
            Reason::TooBig,
            from_peer(&call, &fits[..=wrapped]).frame(),
        ));
    }
    for size in [1231, 1232, 1233] {
        let data = vec![3; size];
        cases.push(good(format!("64: DF at {size}"), from_client(&call("64"), &data).frame()));
    }
    cases
}
