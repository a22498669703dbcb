//! NAT behaviour discovery (RFC 5780), and its absence. A server may count such answers out by
//! source, since they go where the request asks: so these checks come before all others, and a plain
//! answer without the addresses is asked for again.

#![allow(clippy::disallowed_methods, reason = "sockets are the edge where the clock is read")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::check::{Check, Over, Stop, Verdict, fail, house, must, skip, want};
use crate::codec::{Answer, attribute, kind};
use crate::trial::Trial;

const RULE: &str = "RFC 5780 section 6.1";
const CHANGE_IP: u32 = 4;
const CHANGE_PORT: u32 = 2;
/// How often a Binding request asks for the addresses of RFC 5780.
const PATIENCE: usize = 3;
/// And how long after one another.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) const CHECKS: &[Check] = &[
    house("discovery.off", "A server without RFC 5780 answers CHANGE-REQUEST by 420", |t| {
        if t.facts.other_address.is_some() {
            return Err(skip("the server offers RFC 5780"));
        }
        let mut client = t.stranger()?;
        let request = client.write(kind::BINDING).with_u32(attribute::CHANGE_REQUEST, CHANGE_PORT);
        let answer = client.exchange(&request.bytes())?;
        super::code(&answer, &[420])
    })
    .over(Over::Udp)
    .first(),
    must("discovery.origin", "RESPONSE-ORIGIN is where the response comes from", RULE, |t| {
        let mut told = ask(t, 0)?;
        for _ in 1..PATIENCE {
            if told.0.has(attribute::RESPONSE_ORIGIN) {
                break;
            }
            std::thread::sleep(PAUSE);
            told = ask(t, 0)?;
        }
        let (answer, source) = told;
        let origin = answer.plain_address(attribute::RESPONSE_ORIGIN);
        want(origin == Some(source), &source.to_string(), || format!("{origin:?}"))
    })
    .over(Over::Udp)
    .first(),
    must("discovery.other", "OTHER-ADDRESS has another address and another port", RULE, |t| {
        let other = offered(t)?;
        let server = t.options.dialer.server;
        let good = other.ip() != server.ip() && other.port() != server.port();
        want(good, "both other", || format!("{other} beside {server}"))
    })
    .over(Over::Udp)
    .first(),
    must(
        "discovery.change.none",
        "Without a flag the response comes from where it was asked",
        RULE,
        |t| from(t, 0, false, false),
    )
    .over(Over::Udp)
    .first(),
    must(
        "discovery.change.port",
        "Change port: the response comes from the other port",
        RULE,
        |t| from(t, CHANGE_PORT, false, true),
    )
    .over(Over::Udp)
    .first(),
    must(
        "discovery.change.ip",
        "Change IP: the response comes from the other address",
        RULE,
        |t| from(t, CHANGE_IP, true, false),
    )
    .over(Over::Udp)
    .first(),
    must(
        "discovery.change.both",
        "Change both: the response comes from the other of both",
        RULE,
        |t| from(t, CHANGE_IP | CHANGE_PORT, true, true),
    )
    .over(Over::Udp)
    .first(),
    must("discovery.alternate", "The other address answers, too", RULE, |t| {
        let other = offered(t)?;
        let (answer, source) = exchange(t, other, 0)?;
        want(answer.is_success() && source == other, &other.to_string(), || source.to_string())
    })
    .over(Over::Udp)
    .first(),
];

/// OTHER-ADDRESS, where the server has one.
///
/// # Errors
/// It does not answer.
pub(crate) fn other_address(t: &Trial<'_>) -> Result<Option<SocketAddr>, Stop> {
    for attempt in 1..=PATIENCE {
        let mut client = t.stranger()?;
        // Without a flag: whoever knows the attribute answers as if it were not there.
        let request = client.write(kind::BINDING).with_u32(attribute::CHANGE_REQUEST, 0);
        let answer = client.exchange(&request.bytes())?;
        let other = answer.plain_address(attribute::OTHER_ADDRESS);
        if other.is_some() || !answer.is_success() {
            return Ok(other);
        }
        if attempt < PATIENCE {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(None)
}

fn offered(t: &Trial<'_>) -> Result<SocketAddr, Stop> {
    t.facts.other_address.ok_or_else(|| skip("the server does not offer RFC 5780"))
}

fn from(t: &Trial<'_>, flags: u32, ip: bool, port: bool) -> Verdict {
    let other = offered(t)?;
    let server = t.options.dialer.server;
    let expected = SocketAddr::new(
        if ip { other.ip() } else { server.ip() },
        if port { other.port() } else { server.port() },
    );
    let (answer, source) = ask(t, flags)?;
    want(answer.is_success() && source == expected, &expected.to_string(), || source.to_string())
}

fn ask(t: &Trial<'_>, flags: u32) -> Result<(Answer, SocketAddr), Stop> {
    offered(t)?;
    exchange(t, t.options.dialer.server, flags)
}

/// A Binding request, and from where its response came.
fn exchange(t: &Trial<'_>, to: SocketAddr, flags: u32) -> Result<(Answer, SocketAddr), Stop> {
    let client = t.stranger()?;
    let socket = client.link.socket().ok_or_else(|| skip("needs UDP"))?;
    let request = client.write(kind::BINDING).with_u32(attribute::CHANGE_REQUEST, flags).bytes();
    let broken = |error: std::io::Error| fail("a socket", error.to_string());
    let mut buffer = [0; 2048];
    for _ in 0..4 {
        t.note(&format!("-> {to}:"), &request);
        socket.send_to(&request, to).map_err(broken)?;
        let until = Instant::now() + Duration::from_secs(1);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left)).map_err(broken)?;
            let Ok((len, source)) = socket.recv_from(&mut buffer) else { break };
            t.note(&format!("<- {source}:"), &buffer[..len]);
            if let Some(answer) = client.read(&buffer[..len])
                && answer.id[..] == request[8..20]
            {
                return Ok((answer, source));
            }
        }
    }
    Err(fail("a response from anywhere", "silence"))
}
