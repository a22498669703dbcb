//! At the ends of frames, where the kernel's test runs do not go: on the host alone.

use std::net::SocketAddr;

use turnwire_tests::buffer::Buffer;
use turnwire_tests::frame::Datagram;
use turnwire_tests::random::Random;
use wire::{Packet, Reason};

use crate::calls::{OUR_MAC, OUR_VLAN, THEIR_MAC, call, from_client, from_peer, world};
use crate::cases::unfinished;
use crate::host::Host;
use crate::world::Call;

fn parse(frame: &[u8]) -> Result<Packet, Reason> {
    Packet::parse(&Buffer::new(frame, 0))
}

/// A datagram to the client of `call`, which grows, in a frame with so much room in front.
fn forward(call: &Call, headroom: usize) -> (Result<(), Reason>, Vec<u8>) {
    let host = Host::new(&world());
    let mut buffer = Buffer::new(&from_peer(call, b"data").frame(), headroom);
    let plan = wire::plan(&buffer, &host, &host).expect("it has a route");
    (wire::rewrite(&mut buffer, &plan), buffer.frame().to_vec())
}

#[test]
fn without_room_for_longer_headers_the_frame_stays_as_it_was() {
    // four of ChannelData; twenty more from IPv4 to IPv6
    for (name, growth) in [("44", 4), ("66", 4), ("64", 24)] {
        let call = call(name);
        let sent = from_peer(&call, b"data").frame();
        let (done, frame) = forward(&call, growth - 1);
        assert_eq!((done, frame), (Err(Reason::NoHeadroom), sent), "{name}");
        assert_eq!(forward(&call, growth).0, Ok(()), "{name}");
    }
}

#[test]
fn a_frame_that_became_shorter_after_its_plan_is_torn() {
    let host = Host::new(&world());
    let sent = from_client(&call("44"), b"data").frame();
    let plan = wire::plan(&Buffer::new(&sent, 0), &host, &host).expect("it has a route");
    let mut cut = Buffer::new(&sent[..30], 0);
    assert_eq!(wire::rewrite(&mut cut, &plan), Err(Reason::Torn));
}

#[test]
fn a_frame_cut_anywhere_is_nobodys_and_read_no_further_than_its_end() {
    for name in ["44", "66", "tagged"] {
        let mut sent = from_client(&call(name), b"cut");
        sent.vlans = if name == "tagged" { vec![OUR_VLAN] } else { vec![] };
        let frame = sent.frame();
        for size in 0..frame.len() {
            let refused = parse(&frame[..size]).err();
            let ip = if sent.vlans.is_empty() { 14 } else { 18 };
            let headers = ip + if sent.source.is_ipv4() { 20 } else { 40 };
            let expected = if size < headers { Reason::NotUdp } else { Reason::Malformed };
            assert_eq!(refused, Some(expected), "{name}, cut to {size}");
        }
        assert!(parse(&frame).is_ok(), "{name}");
    }
}

#[test]
fn a_priority_tag_is_no_vlan_that_there_can_be() {
    let mut sent = from_client(&call("44"), b"data");
    sent.vlans = vec![0xfff];
    assert_eq!(parse(&sent.frame()).map(|packet| packet.vlan), Ok(0xfff));
    sent.vlans = vec![0xe000];
    assert!(parse(&sent.frame()).is_ok_and(|packet| packet.vlan > 0xfff));
}

#[test]
fn datagrams_below_nine_thousand_bytes_are_looked_at() {
    let of = |size: usize| {
        let sent = Datagram::new((THEIR_MAC, OUR_MAC), at(7), at(8)).carrying(&vec![0; size - 8]);
        parse(&sent.frame()).map(|packet| packet.size())
    };
    assert_eq!(of(8), Ok(0));
    assert_eq!(of(8999), Ok(8991));
    assert_eq!(of(9000), Err(Reason::Malformed));
}

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([44, 9, 0, host], 9))
}

/// All carries that there are, and the carries of those: what is only that of the pseudo-header is
/// known by it, whatever the addresses, and a bit away is not.
#[test]
fn a_checksum_that_is_yet_to_be_made_is_known_whatever_the_addresses() {
    let mut random = Random::replayable(20_261_123);
    let mut sent = Datagram::new((THEIR_MAC, OUR_MAC), at(1), at(2));
    for number in 0..20_000 {
        // words of all ones and all zeros among them, which carry most
        let mut ip = || -> SocketAddr {
            let words: [u16; 8] = std::array::from_fn(|_| match random.below(4) {
                0 => 0xffff,
                1 => 0,
                _ => random.next_u64() as u16,
            });
            let [.., a, b] = words.map(|word| word.to_be_bytes());
            match number % 2 {
                0 => (words, 1).into(),
                _ => ([a[0], a[1], b[0], b[1]], 1).into(),
            }
        };
        (sent.source, sent.destination) = (ip(), ip());
        sent.payload = vec![0; number % 1400];
        let mut frame = unfinished(&sent);
        let Ok(packet) = parse(&frame) else { continue };
        assert!(packet.is_unfinished(), "{sent:?}");
        let checksum = if sent.source.is_ipv4() { 41 } else { 61 };
        frame[checksum] ^= 1;
        if let Ok(packet) = parse(&frame) {
            assert!(!packet.is_unfinished(), "{sent:?}");
        }
    }
}
