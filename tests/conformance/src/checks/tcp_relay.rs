//! TCP allocations (RFC 6062): Connect, ConnectionBind, ConnectionAttempt.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dial::Received;

use super::{code, success};
use crate::check::{Check, Over, Stop, Verdict, fail, house, must, skip, want};
use crate::client::Client;
use crate::codec::{Answer, Writer, attribute, kind};
use crate::trial::Trial;

/// How long a connection or data may take.
const SOON: Duration = Duration::from_secs(5);

pub(super) const CHECKS: &[Check] = &[
    must(
        "tcp.allocate",
        "REQUESTED-TRANSPORT TCP gives a relayed address",
        "RFC 6062 section 5.1",
        |t| tcp(t).map(|_| ()),
    )
    .over(Over::Streams),
    must("tcp.even-port", "... but not with EVEN-PORT: 400", "RFC 6062 section 5.1", |t| {
        excluded(t, attribute::EVEN_PORT, &[0])
    })
    .over(Over::Streams),
    must("tcp.dont-fragment", "... nor with DONT-FRAGMENT: 400", "RFC 6062 section 5.1", |t| {
        excluded(t, attribute::DONT_FRAGMENT, &[])
    })
    .over(Over::Streams),
    must("tcp.token", "... nor with RESERVATION-TOKEN: 400", "RFC 6062 section 5.1", |t| {
        excluded(t, attribute::RESERVATION_TOKEN, &[7; 8])
    })
    .over(Over::Streams),
    must(
        "tcp.connect",
        "Connect connects to a peer, and gives a CONNECTION-ID",
        "RFC 6062 section 5.2",
        |t| connected(t).map(|_| ()),
    )
    .over(Over::Streams),
    must(
        "tcp.connect.source",
        "The connection comes from the relayed address",
        "RFC 6062 section 5.2, erratum 3467",
        |t| {
            let Connected { client, peer, .. } = connected(t)?;
            let source = peer.peer_addr().map_err(broken)?;
            want(source == client.relay(), &client.relay().to_string(), || source.to_string())
        },
    )
    .over(Over::Streams),
    must("tcp.data", "After ConnectionBind bytes flow both ways", "RFC 6062 section 5.4", |t| {
        let Connected { client, mut peer, id } = connected(t)?;
        let mut data = bind(t, id)?;
        flows(&mut data, &mut peer)?;
        drop(client);
        Ok(())
    })
    .over(Over::Streams),
    must(
        "tcp.data.early",
        "What the peer sends before ConnectionBind is not lost",
        "RFC 6062 section 5.2, erratum 3469",
        |t| {
            let Connected { client: _client, mut peer, id } = connected(t)?;
            peer.write_all(b"early").map_err(broken)?;
            std::thread::sleep(Duration::from_millis(100));
            let mut data = bind(t, id)?;
            take(&mut data, b"early")
        },
    )
    .over(Over::Streams),
    must(
        "tcp.peer-closes",
        "When the peer closes, the data connection ends",
        "RFC 6062 section 5.5",
        |t| {
            let Connected { client: _client, peer, id } = connected(t)?;
            let mut data = bind(t, id)?;
            drop(peer);
            match data.link.receive_raw(SOON).map_err(broken)? {
                Received::Closed => Ok(()),
                other => Err(fail("the end", format!("{other:?}"))),
            }
        },
    )
    .over(Over::Streams),
    must(
        "tcp.client-closes",
        "When the client closes, the peer's connection ends",
        "RFC 6062 section 5.5",
        |t| {
            let Connected { client: _client, mut peer, id } = connected(t)?;
            drop(bind(t, id)?);
            let len = peer.read(&mut [0; 10]).map_err(broken)?;
            want(len == 0, "the end", || format!("{len} bytes"))
        },
    )
    .over(Over::Streams),
    must("tcp.446", "A second connection to a peer is a 446", "RFC 6062 section 5.2", |t| {
        let Connected { mut client, peer, .. } = connected(t)?;
        let address = peer.local_addr().map_err(broken)?;
        code(&connect(&mut client, address)?, &[446])
    })
    .over(Over::Streams),
    must("tcp.447", "A peer that refuses is a 447", "RFC 6062 section 5.2", |t| {
        let mut client = tcp(t)?;
        let closed = listener(t)?.local_addr().map_err(broken)?;
        let answer = connect(&mut client, closed)?;
        if answer.code() == Some(403) {
            return Err(skip("the server forbids our peer's address"));
        }
        code(&answer, &[447])
    })
    .over(Over::Streams),
    must(
        "tcp.connect.no-allocation",
        "Connect without an allocation is a 437",
        "RFC 6062 section 5.2",
        |t| {
            offered(t)?;
            let mut client = t.client()?;
            code(&connect(&mut client, SocketAddr::new(t.options.peer_ip, 9))?, &[437])
        },
    )
    .over(Over::Streams),
    must(
        "tcp.connect.no-peer",
        "Connect without XOR-PEER-ADDRESS is a 400",
        "RFC 6062 section 5.2",
        |t| {
            let mut client = tcp(t)?;
            code(&client.ask(kind::CONNECT, |w| w)?, &[400])
        },
    )
    .over(Over::Streams),
    must(
        "tcp.connect.udp",
        "Connect on a UDP allocation is refused",
        "RFC 6062 section 5.2",
        |t| {
            offered(t)?;
            let mut client = t.allocated()?;
            let peer = SocketAddr::new(t.options.peer_ip, 9);
            code(&connect(&mut client, peer)?, &[400, 437, 403])
        },
    )
    .over(Over::Streams),
    house("tcp.connect.forbidden", "Connect to special addresses is a 403", |t| {
        let mut client = tcp(t)?;
        for bad in ["0.0.0.0:80", "169.254.169.254:80", "255.255.255.255:80", "10.0.0.1:80"] {
            code(&connect(&mut client, bad.parse().expect("an address"))?, &[403])?;
        }
        Ok(())
    })
    .over(Over::Streams),
    must(
        "tcp.bind.unknown",
        "ConnectionBind of an unknown id is a 400",
        "RFC 6062 section 5.4",
        |t| {
            offered(t)?;
            let mut client = data_client(t)?;
            code(&bind_answer(&mut client, 0xdead_beef)?, &[400])
        },
    )
    .over(Over::Streams),
    must(
        "tcp.bind.missing",
        "ConnectionBind without CONNECTION-ID is a 400",
        "RFC 6062 section 5.4",
        |t| {
            offered(t)?;
            let mut client = data_client(t)?;
            code(&client.ask(kind::CONNECTION_BIND, |w| w)?, &[400])
        },
    )
    .over(Over::Streams),
    must("tcp.bind.twice", "A connection can be bound once", "RFC 6062 section 5.4", |t| {
        let Connected { client: _client, peer: _peer, id } = connected(t)?;
        let _data = bind(t, id)?;
        let mut other = data_client(t)?;
        code(&bind_answer(&mut other, id)?, &[400])
    })
    .over(Over::Streams),
    must(
        "tcp.attempt",
        "A permitted peer that connects is announced, and can be bound",
        "RFC 6062 section 5.3",
        attempt,
    )
    .over(Over::Streams),
    must(
        "tcp.attempt.unpermitted",
        "A peer without a permission is refused",
        "RFC 6062 section 5.3",
        |t| {
            let mut client = tcp(t)?;
            let refused = TcpStream::connect_timeout(&client.relay(), SOON).and_then(|mut peer| {
                peer.set_read_timeout(Some(SOON))?;
                peer.read(&mut [0; 1])
            });
            want(!matches!(refused, Ok(1..)), "no connection, or its end", || "data".into())?;
            client.expect_silence(&[], "a peer without a permission")
        },
    )
    .over(Over::Streams),
];

struct Connected<'t> {
    client: Client<'t>,
    peer: TcpStream,
    id: u32,
}

fn broken(error: std::io::Error) -> Stop {
    fail("a TCP connection that works", error.to_string())
}

fn offered(t: &Trial<'_>) -> Verdict {
    if t.facts.tcp_relay { Ok(()) } else { Err(skip("the server does not relay TCP (RFC 6062)")) }
}

fn tcp<'t>(t: &'t Trial<'t>) -> Result<Client<'t>, Stop> {
    offered(t)?;
    let mut client = t.client()?;
    let answer = client.ask(kind::ALLOCATE, transport)?;
    client.took(&answer)?;
    Ok(client)
}

fn transport(w: Writer) -> Writer {
    w.with(attribute::REQUESTED_TRANSPORT, &[6, 0, 0, 0])
}

fn excluded(t: &Trial<'_>, kind: u16, value: &[u8]) -> Verdict {
    offered(t)?;
    super::allocate::refused(t, |w| transport(w).with(kind, value), &[400])
}

fn listener(t: &Trial<'_>) -> Result<TcpListener, Stop> {
    TcpListener::bind(SocketAddr::new(t.options.peer_ip, 0)).map_err(broken)
}

fn connect(client: &mut Client<'_>, peer: SocketAddr) -> Result<Answer, Stop> {
    client.ask(kind::CONNECT, |w| w.with_xor_address(attribute::XOR_PEER_ADDRESS, peer))
}

fn connected<'t>(t: &'t Trial<'t>) -> Result<Connected<'t>, Stop> {
    let mut client = tcp(t)?;
    let listener = listener(t)?;
    let answer = connect(&mut client, listener.local_addr().map_err(broken)?)?;
    if answer.code() == Some(403) {
        return Err(skip("the server forbids our peer's address"));
    }
    success(&answer)?;
    let id = answer.u32(attribute::CONNECTION_ID);
    let id = id.ok_or_else(|| fail("CONNECTION-ID", "none"))?;
    let (peer, _) = listener.accept().map_err(broken)?;
    peer.set_read_timeout(Some(SOON)).map_err(broken)?;
    Ok(Connected { client, peer, id })
}

fn bind_answer(client: &mut Client<'_>, id: u32) -> Result<Answer, Stop> {
    client.ask(kind::CONNECTION_BIND, |w| w.with_u32(attribute::CONNECTION_ID, id))
}

/// A new connection that has been challenged for a ConnectionBind: on a data connection nothing else
/// belongs.
fn data_client<'t>(t: &'t Trial<'t>) -> Result<Client<'t>, Stop> {
    let mut data = t.stranger()?;
    let request = data.write(kind::CONNECTION_BIND).with_u32(attribute::CONNECTION_ID, 1).bytes();
    let answer = data.exchange(&request)?;
    code(&answer, &[401])?;
    data.take_challenge(&answer)?;
    Ok(data)
}

/// A data connection of its own.
fn bind<'t>(t: &'t Trial<'t>, id: u32) -> Result<Client<'t>, Stop> {
    let mut data = data_client(t)?;
    success(&bind_answer(&mut data, id)?)?;
    Ok(data)
}

fn take(data: &mut Client<'_>, expected: &[u8]) -> Verdict {
    let mut came = Vec::new();
    while came.len() < expected.len() {
        match data.link.receive_raw(SOON).map_err(broken)? {
            Received::Message(bytes) | Received::Foreign(bytes) => came.extend(bytes),
            other => return Err(fail(crate::codec::hex(expected), format!("{other:?}"))),
        }
    }
    want(came == expected, &crate::codec::hex(expected), || crate::codec::hex(&came))
}

fn flows(data: &mut Client<'_>, peer: &mut TcpStream) -> Verdict {
    data.send(b"GET / from the client")?;
    let mut came = [0; 21];
    peer.read_exact(&mut came).map_err(broken)?;
    want(&came == b"GET / from the client", "the client's bytes", || crate::codec::hex(&came))?;
    peer.write_all(&[0x16; 3000]).map_err(broken)?;
    take(data, &[0x16; 3000])
}

fn attempt(t: &Trial<'_>) -> Verdict {
    let mut client = tcp(t)?;
    let permitted =
        super::permission::permit(&mut client, &[SocketAddr::new(t.options.peer_ip, 9)])?;
    if permitted.code() == Some(403) {
        return Err(skip("the server forbids our peer's address"));
    }
    let mut peer = TcpStream::connect_timeout(&client.relay(), SOON).map_err(broken)?;
    peer.set_read_timeout(Some(SOON)).map_err(broken)?;
    let bytes = match client.inbox.pop_front() {
        Some(bytes) => Some(bytes),
        None => client.receive(SOON)?,
    };
    let announced = bytes.and_then(|bytes| client.read(&bytes));
    let announced = announced.ok_or_else(|| fail("a ConnectionAttempt", "nothing"))?;
    want(announced.kind == kind::CONNECTION_ATTEMPT, "a ConnectionAttempt", || {
        announced.summary()
    })?;
    let from = announced.xor_address(attribute::XOR_PEER_ADDRESS);
    let local = peer.local_addr().map_err(broken)?;
    want(from == Some(local), &local.to_string(), || format!("{from:?}"))?;
    let id = announced.u32(attribute::CONNECTION_ID);
    let mut data = bind(t, id.ok_or_else(|| fail("CONNECTION-ID", "none"))?)?;
    flows(&mut data, &mut peer)
}
