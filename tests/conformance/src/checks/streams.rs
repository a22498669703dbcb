//! STUN over TCP and TLS (RFC 8489 section 6.2.2, RFC 8656 section 12.5): messages cut and joined,
//! and what is no STUN.

use std::time::Duration;

use dial::Received;

use super::success;
use crate::check::{Check, Over, Stop, Verdict, fail, house, must, want};
use crate::client::{CLOSING, Client, Data};
use crate::codec::{attribute, channel_data, kind};
use crate::trial::Trial;

const STREAM: &str = "RFC 8489 section 6.2.2";
const PADDED: &str = "RFC 8656 section 12.5";
const NUMBER: u16 = 0x4abc;

pub(super) const CHECKS: &[Check] = &[
    must("stream.pieces", "A request may come byte by byte", STREAM, |t| {
        let mut client = t.stranger()?;
        let request = client.write(kind::BINDING).with(attribute::SOFTWARE, b"slow").bytes();
        for byte in &request[..request.len() - 1] {
            client.send(&[*byte])?;
            std::thread::sleep(Duration::from_millis(2));
        }
        let last = request[request.len() - 1];
        client.send(&[last])?;
        answered(&mut client, &request)
    })
    .over(Over::Streams),
    must("stream.joined", "Many requests may come at once", STREAM, |t| {
        let mut client = t.stranger()?;
        let requests: Vec<Vec<u8>> = (0..20).map(|_| client.write(kind::BINDING).bytes()).collect();
        client.send(&requests.concat())?;
        requests.iter().try_for_each(|request| answered(&mut client, request))
    })
    .over(Over::Streams),
    must("stream.cut-across", "Requests may be cut anywhere", STREAM, |t| {
        let mut client = t.stranger()?;
        let requests: Vec<Vec<u8>> = (0..6).map(|_| client.write(kind::BINDING).bytes()).collect();
        for piece in requests.concat().chunks(7) {
            client.send(piece)?;
            std::thread::sleep(Duration::from_millis(3));
        }
        requests.iter().try_for_each(|request| answered(&mut client, request))
    })
    .over(Over::Streams),
    must("stream.order", "Responses come in the order of the requests", STREAM, |t| {
        let mut client = t.stranger()?;
        let requests: Vec<Vec<u8>> = (0..10).map(|_| client.write(kind::BINDING).bytes()).collect();
        client.send(&requests.concat())?;
        for request in &requests {
            let bytes = client.receive(Duration::from_secs(5))?;
            let bytes = bytes.ok_or_else(|| fail("a response", "nothing"))?;
            want(bytes[8..20] == request[8..20], "the next response", || "another".into())?;
        }
        Ok(())
    })
    .over(Over::Streams),
    must("stream.padded.in", "ChannelData is padded to 4 bytes by clients", PADDED, |t| {
        let (mut client, peer) = t.call()?;
        success(&client.bind(NUMBER, peer.address())?)?;
        for len in 0..9usize {
            let data = vec![b'a' + len as u8; len];
            client.expect_channel(NUMBER, &peer, &data)?;
        }
        Ok(())
    })
    .over(Over::Streams),
    must("stream.padded.out", "ChannelData is padded to 4 bytes by the server", PADDED, |t| {
        let (mut client, peer) = t.call()?;
        success(&client.bind(NUMBER, peer.address())?)?;
        let relay = client.relay();
        // Unpadded messages would run into each other, and the next response with them.
        for len in 0..9usize {
            let data = vec![b'A' + len as u8; len];
            let expected = Data::Channel(NUMBER, data.clone());
            client.expect_data(&expected, || peer.send(relay, &data))?;
        }
        client.is_alive()
    })
    .over(Over::Streams),
    must("stream.mixed", "ChannelData and requests may come at once", PADDED, |t| {
        let (mut client, peer) = t.call()?;
        success(&client.bind(NUMBER, peer.address())?)?;
        let request = client.write(kind::BINDING).bytes();
        let mut data = channel_data(NUMBER, b"mixed");
        data.resize(data.len().next_multiple_of(4), 0);
        let all = [&data[..], &request, &data].concat();
        peer.expect(b"mixed", || client.send(&all))?;
        answered(&mut client, &request)
    })
    .over(Over::Streams),
    must("stream.channel.cut", "ChannelData may be cut anywhere", PADDED, |t| {
        let (mut client, peer) = t.call()?;
        success(&client.bind(NUMBER, peer.address())?)?;
        let mut data = channel_data(NUMBER, b"in three pieces");
        data.resize(data.len().next_multiple_of(4), 0);
        peer.expect(b"in three pieces", || {
            for piece in data.chunks(7) {
                client.send(piece)?;
                std::thread::sleep(Duration::from_millis(3));
            }
            Ok(())
        })
        .map(|_| ())
    })
    .over(Over::Streams),
    must("stream.large", "The largest data that UDP carries passes", PADDED, |t| {
        let (mut client, peer) = t.call()?;
        success(&client.bind(NUMBER, peer.address())?)?;
        let data = vec![0x5a; 9000];
        client.expect_channel(NUMBER, &peer, &data).map(|_| ())
    })
    .over(Over::Streams),
    house("stream.http", "HTTP on a TURN port: closed, with no byte sent", |t| {
        closed(t, b"GET / HTTP/1.1\r\nHost: turn.invalid\r\n\r\n")
    })
    .over(Over::Streams),
    house("stream.garbage", "Bytes that are no message: closed, with no byte sent", |t| {
        closed(t, &[0xff; 64])?;
        closed(t, &[0x80, 1, 0, 0])
    })
    .over(Over::Streams),
    house("stream.ssh", "Another protocol's greeting: closed, with no byte sent", |t| {
        closed(t, b"SSH-2.0-OpenSSH_9.2p1\r\n")
    })
    .over(Over::Streams),
    house("stream.cookie", "A wrong cookie: closed, with no byte sent", |t| {
        let mut bytes = t.stranger()?.write(kind::BINDING).bytes();
        bytes[7] ^= 1;
        closed(t, &bytes)
    })
    .over(Over::Streams),
    house(
        "stream.length.odd",
        "A length that is no multiple of 4: closed, with no byte sent",
        |t| {
            let mut bytes = t.stranger()?.write(kind::BINDING).bytes();
            bytes[3] = 3;
            bytes.extend_from_slice(&[0; 3]);
            closed(t, &bytes)
        },
    )
    .over(Over::Streams),
    house("stream.length.lie", "A length that is never filled brings no answer", |t| {
        let mut client = t.stranger()?;
        let mut bytes = client.write(kind::BINDING).bytes();
        bytes[2..4].copy_from_slice(&2000u16.to_be_bytes());
        client.send(&bytes)?;
        let came = client.receive(Duration::from_millis(500))?;
        want(came.is_none(), "nothing, or the end", || "a message".into())
    })
    .over(Over::Streams),
    house("stream.others-live", "Such a connection harms no other", |t| {
        let mut client = t.allocated()?;
        closed(t, &[0xff; 64])?;
        client.is_alive()
    })
    .over(Over::Streams),
    must(
        "stream.close-deletes",
        "With the connection the allocation ends",
        "RFC 8656 section 4",
        |t| {
            let (client, peer) = t.call()?;
            let relay = client.relay();
            let mut client = client;
            client.expect_relay(&peer, b"before")?;
            client.relayed.clear();
            drop(client);
            // Nobody is told; but the port must come free, and another client's Allocate must not
            // find the five-tuple taken. What can be seen: the server still serves.
            let mut other = t.stranger()?;
            other.sentinel()?;
            peer.send(relay, b"after")?;
            other.expect_silence(&[], "a connection that has ended")
        },
    )
    .over(Over::Streams),
];

fn answered(client: &mut Client<'_>, request: &[u8]) -> Verdict {
    let until = deadline();
    match client.response(&request[8..20], until)? {
        Some(answer) => success(&answer),
        None => Err(fail("a response", if client.closed { "the end" } else { "nothing" })),
    }
}

#[allow(clippy::disallowed_methods, reason = "sockets are the edge where the clock is read")]
fn deadline() -> std::time::Instant {
    std::time::Instant::now() + Duration::from_secs(5)
}

/// Wants the stream closed, and no byte before that.
fn closed(t: &Trial<'_>, bytes: &[u8]) -> Verdict {
    let mut client = t.stranger()?;
    client.send(bytes)?;
    let broken = |error: std::io::Error| -> Stop { fail("the end", error.to_string()) };
    match client.link.receive_raw(CLOSING).map_err(broken)? {
        Received::Closed => Ok(()),
        Received::Nothing => Err(fail("the end of the stream", "nothing within 5 s")),
        Received::Message(bytes) | Received::Foreign(bytes) => {
            t.note("<-", &bytes);
            Err(fail("the end of the stream, and no byte", format!("{} bytes", bytes.len())))
        }
    }
}
