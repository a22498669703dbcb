//! Channels (RFC 8656 section 12).

use std::net::SocketAddr;
use std::time::Duration;

use super::{UNKNOWN, code, success};
use crate::call::Peer;
use crate::check::{Check, Over, Stop, Verdict, fail, must, should, want};
use crate::client::{Client, Data};
use crate::codec::{Answer, Writer, attribute, channel_data, kind};
use crate::trial::Trial;

const BIND: &str = "RFC 8656 section 12.2";
const DATA: &str = "RFC 8656 section 12.6";
const NUMBER: u16 = 0x4abc;
/// How long a channel's number and peer stay bound to each other after it has expired (section 12):
/// longer than anybody waits for a check, so `--slow` waits for the first part only.
const EXPIRY: Duration = Duration::from_secs(605);

pub(super) const CHECKS: &[Check] = &[
    must("channel.bind", "A channel can be bound", BIND, |t| bound(t).map(|_| ())),
    must("channel.lowest", "0x4000 is a channel number", "RFC 8656 section 12", |t| {
        number(t, 0x4000)
    }),
    must("channel.highest", "0x4FFF is a channel number", "RFC 8656 section 12", |t| {
        number(t, 0x4fff)
    }),
    must("channel.range.below", "0 to 0x3FFF are none: 400", "RFC 8656 section 12", |t| {
        out_of_range(t, &[0, 1, 0x1000, 0x2000, 0x3000, 0x3ffe, 0x3fff], 0, 0x4000)
    }),
    must(
        "channel.range.reserved",
        "0x5000 to 0x7FFF are none any more: 400",
        "RFC 8656 section 12",
        |t| out_of_range(t, &[0x5000, 0x5001, 0x6000, 0x7ffe, 0x7fff], 0x5000, 0x3000),
    ),
    must("channel.range.above", "0x8000 to 0xFFFF are none: 400", "RFC 8656 section 12", |t| {
        out_of_range(t, &[0x8000, 0xc000, 0xfffe, 0xffff], 0x8000, 0x8000)
    }),
    must("channel.range.all", "All 61,440 other numbers are a 400", "RFC 8656 section 12", |t| {
        let mut client = t.allocated()?;
        let all: Vec<u16> =
            (0..=0xffff).filter(|number| !(0x4000..0x5000).contains(number)).collect();
        all_refused(t, &mut client, &all)
    })
    .slow()
    .alone(),
    must("channel.no-number", "Without CHANNEL-NUMBER it is a 400", BIND, |t| {
        let peer = SocketAddr::new(t.options.peer_ip, 9);
        refused(t, |w| w.with_xor_address(attribute::XOR_PEER_ADDRESS, peer), &[400])
    }),
    must("channel.no-peer", "Without XOR-PEER-ADDRESS it is a 400", BIND, |t| {
        refused(t, |w| w.with_u32(attribute::CHANNEL_NUMBER, 0x4000_0000), &[400])
    }),
    must("channel.length", "CHANNEL-NUMBER of another length is a 400", BIND, |t| {
        let peer = SocketAddr::new(t.options.peer_ip, 9);
        let ask = |w: Writer| {
            w.with(attribute::CHANNEL_NUMBER, &[0x40, 0])
                .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
        };
        refused(t, ask, &[400])
    }),
    must(
        "channel.reserved",
        "The reserved bytes of CHANNEL-NUMBER are ignored",
        "RFC 8656 section 18.1",
        |t| {
            let (mut client, peer) = t.call()?;
            let answer = client.ask(kind::CHANNEL_BIND, |w| {
                w.with(attribute::CHANNEL_NUMBER, &[0x4a, 0xbc, 0xff, 0xff])
                    .with_xor_address(attribute::XOR_PEER_ADDRESS, peer.address())
            })?;
            success(&answer)
        },
    ),
    must("channel.unknown", "An unknown required attribute is a 420", BIND, |t| {
        let peer = SocketAddr::new(t.options.peer_ip, 9);
        let ask = |w: Writer| {
            w.with_u32(attribute::CHANNEL_NUMBER, 0x4000_0000)
                .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
                .with(UNKNOWN, b"")
        };
        refused(t, ask, &[420])
    }),
    must("channel.no-allocation", "Without an allocation it is a 437", "RFC 8656 section 5", |t| {
        let mut client = t.client()?;
        code(&client.bind(NUMBER, SocketAddr::new(t.options.peer_ip, 9))?, &[437])
    }),
    must("channel.family", "A peer of another family is a 443", BIND, |t| {
        let mut client = t.client()?;
        let answer = client.ask(kind::ALLOCATE, super::auth::transport)?;
        client.took(&answer)?;
        code(&client.bind(NUMBER, "[2620:fe::fe]:9".parse().expect("an address"))?, &[443])
    }),
    must("channel.again", "The same number and peer can be bound again", BIND, |t| {
        let (mut client, peer) = bound(t)?;
        success(&client.bind(NUMBER, peer.address())?)
    }),
    must("channel.other-peer", "A bound number for another peer is a 400", BIND, |t| {
        let (mut client, _peer) = bound(t)?;
        let other = Peer::new(t)?;
        code(&client.bind(NUMBER, other.address())?, &[400])
    }),
    must("channel.other-number", "A bound peer by another number is a 400", BIND, |t| {
        let (mut client, peer) = bound(t)?;
        code(&client.bind(NUMBER + 1, peer.address())?, &[400])
    }),
    must("channel.other-port", "A peer's other port is another peer", BIND, |t| {
        let (mut client, _peer) = bound(t)?;
        let other = Peer::new(t)?;
        success(&client.bind(NUMBER + 1, other.address())?)?;
        client.expect_channel(NUMBER + 1, &other, b"other").map(|_| ())
    }),
    must(
        "channel.conflict-harmless",
        "A refused ChannelBind leaves the channel as it was",
        BIND,
        |t| {
            let (mut client, peer) = bound(t)?;
            let other = Peer::new(t)?;
            code(&client.bind(NUMBER, other.address())?, &[400])?;
            client.expect_channel(NUMBER, &peer, b"still there").map(|_| ())
        },
    ),
    must("channel.permits", "ChannelBind installs a permission", BIND, |t| {
        let (mut client, peer) = bind_only(t)?;
        client.expect_relay(&peer, b"by indication").map(|_| ())
    }),
    must("channel.to-peer", "ChannelData reaches the peer from the relayed address", DATA, |t| {
        let (mut client, peer) = bound(t)?;
        let source = client.expect_channel(NUMBER, &peer, b"to the peer")?;
        let relay = client.relay();
        want(source == relay, &relay.to_string(), || source.to_string())
    }),
    must(
        "channel.to-client",
        "A bound peer's datagrams come as ChannelData",
        "RFC 8656 section 12.7",
        |t| {
            let (mut client, peer) = bound(t)?;
            let relay = client.relay();
            let expected = Data::Channel(NUMBER, b"to the client".to_vec());
            client.expect_data(&expected, || peer.send(relay, b"to the client"))
        },
    ),
    must(
        "channel.to-client.other-port",
        "Another port's datagrams come as Data indications",
        "RFC 8656 section 11.3",
        |t| {
            let (mut client, _peer) = bound(t)?;
            let other = Peer::new(t)?;
            let relay = client.relay();
            let expected = Data::Indication(other.address(), b"other".to_vec());
            client.expect_data(&expected, || other.send(relay, b"other"))
        },
    ),
    must("channel.sizes", "Data of 0 to 9, 100, 1000 and 1200 bytes passes both ways", DATA, |t| {
        let (mut client, peer) = bound(t)?;
        let relay = client.relay();
        for len in (0..10).chain([100, 1000, 1200]) {
            let data: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
            client.expect_channel(NUMBER, &peer, &data)?;
            let expected = Data::Channel(NUMBER, data.clone());
            client.expect_data(&expected, || peer.send(relay, &data))?;
        }
        Ok(())
    }),
    must(
        "channel.padded",
        "Over datagrams padding is taken as well",
        "RFC 8656 section 12.5",
        |t| {
            let (mut client, peer) = bound(t)?;
            for len in 1..=5usize {
                let data = vec![len as u8; len];
                let mut bytes = channel_data(NUMBER, &data);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                peer.expect(&data, || client.send(&bytes))?;
            }
            Ok(())
        },
    )
    .over(Over::Datagrams),
    must(
        "channel.padding-dropped",
        "Whatever its padding is, no byte of it is relayed",
        "RFC 8656 section 12.5",
        |t| {
            let (mut client, peer) = bound(t)?;
            let mut bytes = channel_data(NUMBER, b"12345");
            bytes.extend_from_slice(b"abc");
            peer.expect(b"12345", || client.send(&bytes)).map(|_| ())
        },
    ),
    must("channel.unbound", "ChannelData on a number that is not bound is dropped", DATA, |t| {
        let (mut client, peer) = bound(t)?;
        client.send_channel(NUMBER + 1, b"not bound")?;
        peer.expect_nothing("a channel that is not bound")?;
        client.expect_channel(NUMBER, &peer, b"bound").map(|_| ())
    }),
    must("channel.too-long", "A length beyond the datagram is dropped", DATA, |t| {
        let (mut client, peer) = bound(t)?;
        for length in [12u16, 100, 1500, 0xffff] {
            let mut bytes = channel_data(NUMBER, b"not so long");
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            client.send(&bytes)?;
        }
        client.expect_channel(NUMBER, &peer, b"good").map(|_| ())
    })
    .over(Over::Datagrams),
    must("channel.no-more-than-length", "Not a byte beyond the length is relayed", DATA, |t| {
        let (mut client, peer) = bound(t)?;
        let mut bytes = channel_data(NUMBER, b"12345678");
        bytes[3] = 4;
        client.send(&bytes)?;
        while let Some((came, _)) = peer.receive(t.options.grace) {
            want(came == b"1234", "4 bytes, or nothing", || crate::codec::hex(&came))?;
        }
        client.expect_channel(NUMBER, &peer, b"good").map(|_| ())
    })
    .over(Over::Datagrams),
    must(
        "channel.numbers-reserved",
        "Data that starts as a reserved number's is dropped",
        "RFC 8656 section 12.4",
        |t| {
            let mut client = t.allocated()?;
            let messages: Vec<Vec<u8>> = [0x5000, 0x6000, 0x7fff, 0x8000, 0xffff]
                .map(|number| channel_data(number, b"data"))
                .to_vec();
            client.expect_silence(&messages, "reserved channel numbers")?;
            client.is_alive()
        },
    )
    .over(Over::Datagrams),
    must("channel.own-allocation", "A channel is its own allocation's", DATA, |t| {
        let (_client, peer) = bound(t)?;
        let mut other = t.allocated()?;
        other.send_channel(NUMBER, b"not yours")?;
        other.sentinel()?;
        peer.expect_nothing("another allocation's channel")
    }),
    must("channel.gone", "With the allocation the channel ends", "RFC 8656 section 12", |t| {
        let (mut client, peer) = bound(t)?;
        client.expect_channel(NUMBER, &peer, b"before")?;
        success(&client.refresh(0)?)?;
        client.relayed.clear();
        client.send_channel(NUMBER, b"after")?;
        client.sentinel()?;
        peer.expect_nothing("a channel of an allocation that has ended")
    }),
    should("channel.several", "Sixteen channels side by side", DATA, |t| {
        let (mut client, _) = t.call()?;
        let peers: Result<Vec<Peer<'_>>, Stop> = (0..16).map(|_| Peer::new(t)).collect();
        let peers = peers?;
        for (at, peer) in peers.iter().enumerate() {
            success(&client.bind(0x4100 + at as u16, peer.address())?)?;
        }
        for (at, peer) in peers.iter().enumerate() {
            client.expect_channel(0x4100 + at as u16, peer, format!("to {at}").as_bytes())?;
        }
        Ok(())
    }),
    must(
        "channel.cooling",
        "After it has expired a number is bound to no other peer for 5 minutes",
        "RFC 8656 section 12",
        |t| {
            let (mut client, _peer) = bound(t)?;
            success(&client.refresh(3600)?)?;
            std::thread::sleep(EXPIRY);
            let other = Peer::new(t)?;
            code(&client.bind(NUMBER, other.address())?, &[400])
        },
    )
    .slow(),
];

/// A client with a channel to a peer, and nothing else.
fn bind_only<'t>(t: &'t Trial<'t>) -> Result<(Client<'t>, Peer<'t>), Stop> {
    let mut client = t.allocated()?;
    let peer = Peer::new(t)?;
    let answer = client.bind(NUMBER, peer.address())?;
    if answer.code() == Some(403) {
        t.permit(&mut client, &peer)?;
    }
    if !answer.is_success() {
        return Err(fail("a channel to our peer", answer.summary()));
    }
    Ok((client, peer))
}

fn bound<'t>(t: &'t Trial<'t>) -> Result<(Client<'t>, Peer<'t>), Stop> {
    bind_only(t)
}

fn number(t: &Trial<'_>, number: u16) -> Verdict {
    let (mut client, peer) = t.call()?;
    success(&client.bind(number, peer.address())?)?;
    client.expect_channel(number, &peer, b"by this number").map(|_| ())
}

fn refused(t: &Trial<'_>, fill: impl Fn(Writer) -> Writer, codes: &[u16]) -> Verdict {
    let mut client = t.allocated()?;
    code(&client.ask(kind::CHANNEL_BIND, fill)?, codes)
}

/// These numbers, and 40 of the range by chance.
fn out_of_range(t: &Trial<'_>, edges: &[u16], start: u32, len: u32) -> Verdict {
    let mut client = t.allocated()?;
    let drawn = (0..40).map(|_| (start + (t.random() % u64::from(len)) as u32) as u16);
    let numbers: Vec<u16> = edges.iter().copied().chain(drawn).collect();
    all_refused(t, &mut client, &numbers)
}

fn all_refused(t: &Trial<'_>, client: &mut Client<'_>, numbers: &[u16]) -> Verdict {
    let peer = SocketAddr::new(t.options.peer_ip, 9);
    for chunk in numbers.chunks(1024) {
        let bind = |number: &u16| {
            let w = client
                .write(kind::CHANNEL_BIND)
                .with_u32(attribute::CHANNEL_NUMBER, u32::from(*number) << 16)
                .with_xor_address(attribute::XOR_PEER_ADDRESS, peer);
            client.sign(w).bytes()
        };
        let requests: Vec<Vec<u8>> = chunk.iter().map(bind).collect();
        let answers = client.volley(&requests)?;
        for (number, answer) in chunk.iter().zip(answers) {
            let code = answer.as_ref().and_then(Answer::code);
            want(code == Some(400), &format!("400 for {number:#06x}"), || {
                answer.map_or("no answer".into(), |answer| answer.summary())
            })?;
        }
    }
    Ok(())
}
