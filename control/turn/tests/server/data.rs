//! Send and Data indications, ChannelData, Binding, and what is never answered.

use turn::attribute::AttributeType;
use turn::message::{Class, Message, Method};
use turn::{Client, Reason};

use crate::lab::{Lab, address, client, client_v6, code};
use crate::user::{Mode, User, alice};
use crate::wire::Event;

#[test]
fn a_send_indication_reaches_the_peer_with_its_df_bit() {
    let mut lab = Lab::new();
    let (mut user, relay) = alice(&mut lab, 1);
    let peer = address("9.9.9.9:53");
    assert_eq!(user.permit(&mut lab, &[peer]), 0);
    for (dont_fragment, data) in [(false, &b""[..]), (true, b"abc"), (false, &[7; 1400])] {
        let bytes = lab.plain(Class::Indication, Method::SEND, |b| {
            b.data(data).xor_peer_address(peer);
            if dont_fragment {
                b.dont_fragment();
            }
        });
        let sent = Event::ToPeer { relay, peer, bytes: data.to_vec(), dont_fragment };
        assert_eq!(lab.input(client(1), &bytes), [sent]);
    }
    assert_eq!(lab.server.stats().carried.to_peer.packets, 3);
    assert_eq!(lab.server.stats().carried.to_peer.bytes, 1403);
}

#[test]
fn a_peers_datagram_becomes_a_data_indication() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client_v6(1), Mode::Legacy);
    let relay = user.allocate(&mut lab);
    let peer = address("9.9.9.9:53");
    assert_eq!(user.permit(&mut lab, &[peer]), 0);
    for len in [0, 1, 3, 1200] {
        let bytes = lab.by_peer(relay, peer, &vec![9; len]).unwrap();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
        assert_eq!(message.xor_peer_address().unwrap(), Some(peer));
        assert_eq!(message.data(), Some(&vec![9; len][..]));
        assert_eq!(message.attributes().count(), 2);
    }
    assert!(lab.by_peer(relay, peer, &vec![0; 65_500]).is_none());
    assert_eq!(lab.refused(Reason::PeerTooLarge), 1);
    assert!(lab.by_peer(address("93.184.216.10:1"), peer, b"x").is_none());
    assert_eq!(lab.refused(Reason::PeerNoAllocation), 1);
}

#[test]
fn channel_data_may_be_padded_and_must_not_lie() {
    let mut lab = Lab::new();
    let (mut user, relay) = alice(&mut lab, 1);
    let peer = address("9.9.9.9:53");
    assert_eq!(user.bind(&mut lab, 0x4000, peer), 0);
    let sent =
        |bytes: &[u8]| Event::ToPeer { relay, peer, bytes: bytes.to_vec(), dont_fragment: false };
    for (bytes, expected) in [
        (&b"\x40\x00\x00\x03abc"[..], Some(&b"abc"[..])),
        (b"\x40\x00\x00\x03abc\xff", Some(b"abc")),
        (b"\x40\x00\x00\x01a\0\0\0", Some(b"a")),
        (b"\x40\x00\x00\x00", Some(b"")),
        (b"\x40\x00\x00\x03ab", None),
        (b"\x40\x00\x00\x01a\0\0\0\0", None),
        (b"\x40\x00\x00", None),
        (b"\x40", None),
        (b"\x4f\xff\x00\x00", None),
        (b"\x50\x00\x00\x00", None),
        (b"\x3f\xff\x00\x00", None),
    ] {
        let expected: Vec<Event> = expected.map(sent).into_iter().collect();
        assert_eq!(lab.input(client(1), bytes), expected, "{bytes:?}");
    }
    assert!(lab.channel_data(client(2), 0x4000, b"x").is_none());
    assert_eq!(lab.refused(Reason::DataNoAllocation), 1);
}

#[test]
fn bad_indications_are_dropped_with_a_reason() {
    let mut lab = Lab::new();
    let (mut user, _) = alice(&mut lab, 1);
    let peer = address("9.9.9.9:53");
    assert_eq!(user.permit(&mut lab, &[peer]), 0);
    let mut case = |who: Client,
                    reason: Reason,
                    method: Method,
                    fill: &dyn Fn(&mut turn::message::Builder<'_>)| {
        let before = lab.refused(reason);
        let bytes = lab.plain(Class::Indication, method, fill);
        assert!(lab.input(who, &bytes).is_empty());
        assert_eq!(lab.refused(reason), before + 1, "{reason:?}");
    };
    let me = client(1);
    case(me, Reason::DataIncomplete, Method::SEND, &|b| _ = b.data(b"x"));
    case(me, Reason::DataIncomplete, Method::SEND, &|b| _ = b.xor_peer_address(peer));
    case(me, Reason::DataIncomplete, Method::SEND, &|b| {
        b.attribute(AttributeType::XOR_PEER_ADDRESS, &[0, 3, 1, 2, 3, 4, 5, 6]).data(b"x");
    });
    case(me, Reason::DataIncomplete, Method::SEND, &|b| {
        b.xor_peer_address(peer).data(b"x").attribute(AttributeType::DONT_FRAGMENT, &[1]);
    });
    case(me, Reason::DataUnknownAttribute, Method::SEND, &|b| {
        b.xor_peer_address(peer).data(b"x").attribute(AttributeType(0x7fff), &[]);
    });
    case(me, Reason::DataFamily, Method::SEND, &|b| {
        b.xor_peer_address(address("[2620:fe::9]:1")).data(b"x");
    });
    case(me, Reason::DataNoPermission, Method::SEND, &|b| {
        b.xor_peer_address(address("9.9.9.8:1")).data(b"x");
    });
    case(me, Reason::DataForbidden, Method::SEND, &|b| {
        b.xor_peer_address(address("9.9.9.9:0")).data(b"x");
    });
    case(client(2), Reason::DataNoAllocation, Method::SEND, &|b| {
        b.xor_peer_address(peer).data(b"x");
    });
    case(me, Reason::UnknownMethod, Method::DATA, &|b| _ = b.xor_peer_address(peer).data(b"x"));
    case(me, Reason::Keepalive, Method::BINDING, &|_| {});
    case(me, Reason::UnknownMethod, Method::ALLOCATE, &|_| {});
}

#[test]
fn a_binding_request_is_answered_with_the_address_and_no_more() {
    let mut lab = Lab::new();
    for (client, len) in [(client(1), 32), (client_v6(1), 44)] {
        let request =
            lab.plain(Class::Request, Method::BINDING, |b| _ = b.software("x").username("y"));
        let answer = lab.answer(client, &request).unwrap();
        let message = Message::parse(&answer).unwrap();
        assert_eq!((code(&answer), answer.len()), (None, len));
        assert_eq!(message.xor_mapped_address().unwrap(), Some(client.remote));
    }
    // RFC 5780's CHANGE-REQUEST is off.
    let request = lab.plain(Class::Request, Method::BINDING, |b| {
        b.attribute(AttributeType(0x0003), &[0, 0, 0, 6]);
    });
    assert_eq!(code(&lab.answer(client(1), &request).unwrap()), Some(420));
}

#[test]
fn impossible_sources_and_our_own_are_never_answered() {
    let mut lab = Lab::new();
    let (_, relay) = alice(&mut lab, 1);
    let sources = [
        ("81.0.0.7:0", Reason::SourcePort),
        ("[2a03::1]:0", Reason::SourcePort),
        ("0.0.0.0:5000", Reason::SourceAddress),
        ("0.9.9.9:5000", Reason::SourceAddress),
        ("224.0.0.1:5000", Reason::SourceAddress),
        ("239.255.255.250:5000", Reason::SourceAddress),
        ("240.0.0.1:5000", Reason::SourceAddress),
        ("255.255.255.255:5000", Reason::SourceAddress),
        ("[::]:5000", Reason::SourceAddress),
        ("[ff02::1]:5000", Reason::SourceAddress),
        ("[::ffff:224.0.0.1]:5000", Reason::SourceAddress),
        ("93.184.216.10:3478", Reason::SourceOwn),
        ("[2a02:100::10]:3478", Reason::SourceOwn),
        ("127.0.0.1:9641", Reason::SourceOwn),
        (&relay.to_string(), Reason::SourceOwn),
    ];
    for (source, reason) in sources {
        let who = Client { remote: address(source), ..client(1) };
        for method in [Method::BINDING, Method::ALLOCATE, Method::REFRESH] {
            let before = lab.refused(reason);
            let request = lab.plain(Class::Request, method, |_| {});
            assert!(lab.input(who, &request).is_empty(), "{source}");
            assert_eq!(lab.refused(reason), before + 1, "{source}");
        }
    }
}
