//! TLS and DTLS (RFC 7350, RFC 7443, RFC 8489 section 6.2.3).

use std::net::UdpSocket;
use std::time::Duration;

use super::success;
use crate::check::{Check, Over, Stop, Verdict, fail, must, should, want};
use crate::codec::kind;
use crate::trial::Trial;

pub(super) const CHECKS: &[Check] = &[
    must(
        "secure.version",
        "TLS and DTLS are of version 1.2 or newer",
        "RFC 8489 section 6.2.3",
        |t| {
            let client = t.stranger()?;
            let version = client.link.security().unwrap_or_default();
            let new = version.contains("1.2") || version.contains("1.3");
            want(new, "1.2 or 1.3", || version)
        },
    )
    .over(Over::Secure),
    should(
        "secure.alpn",
        "ALPN stun.turn is agreed to, or not spoken of",
        "RFC 7443 section 3",
        |t| {
            let client = t.stranger()?;
            let agreed = client.link.security().unwrap_or_default();
            let good = !agreed.contains(',') || agreed.ends_with("stun.turn");
            want(good, "stun.turn or nothing", || agreed)
        },
    )
    .over(Over::Streams),
    must("secure.works", "Binding and Allocate work over it", "RFC 8656 section 3.1", |t| {
        let mut client = t.allocated()?;
        let binding = client.write(kind::BINDING).bytes();
        success(&client.exchange(&binding)?)
    })
    .over(Over::Secure),
    must(
        "secure.dtls-cookie",
        "A first ClientHello is answered by a cookie, before any state",
        "RFC 6347 section 4.2.1",
        cookie,
    )
    .over(Over::Datagrams),
    must(
        "secure.dtls-garbage",
        "Records that are none are not answered",
        "RFC 6347 section 4.1.2.7",
        garbage,
    )
    .over(Over::Datagrams),
];

/// A ClientHello of DTLS 1.2 without a cookie, written by hand: two cipher suites for ECDSA and two
/// for RSA, P-256 and X25519, the extended master secret.
fn client_hello() -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend_from_slice(&[0x42; 32]);
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&[0, 8, 0xc0, 0x2b, 0xc0, 0x2c, 0xc0, 0x2f, 0xc0, 0x30]);
    body.extend_from_slice(&[1, 0]);
    let extensions: [&[u8]; 4] = [
        &[0, 10, 0, 6, 0, 4, 0, 0x1d, 0, 0x17],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 8, 0, 6, 4, 3, 4, 1, 8, 4],
        &[0, 23, 0, 0],
    ];
    let extensions = extensions.concat();
    body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    body.extend_from_slice(&extensions);

    let length = (body.len() as u32).to_be_bytes();
    let mut handshake = vec![1, length[1], length[2], length[3], 0, 0, 0, 0, 0];
    handshake.extend_from_slice(&length[1..]);
    handshake.extend_from_slice(&body);
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend_from_slice(&(handshake.len() as u16).to_be_bytes());
    record.extend_from_slice(&handshake);
    record
}

fn socket(t: &Trial<'_>) -> Result<UdpSocket, Stop> {
    let open = || {
        let server = t.options.dialer.server;
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(700)))?;
        Ok(socket)
    };
    open().map_err(|error: std::io::Error| fail("a socket", error.to_string()))
}

/// Over UDP there may be no DTLS on this port: silence passes there.
fn cookie(t: &Trial<'_>) -> Verdict {
    let dtls = t.options.dialer.transport.is_secure();
    let socket = socket(t)?;
    let hello = client_hello();
    let mut buffer = [0; 4096];
    for _ in 0..5 {
        t.note("->", &hello);
        let _ = socket.send(&hello);
        if let Ok(len) = socket.recv(&mut buffer) {
            t.note("<-", &buffer[..len]);
            let verify = buffer[0] == 22 && buffer[13] == 3;
            want(verify, "a HelloVerifyRequest", || crate::codec::hex(&buffer[..len]))?;
            return want(len <= hello.len(), "an answer no longer than the request", || {
                format!("{len} bytes for {}", hello.len())
            });
        }
        if !dtls {
            return Ok(());
        }
    }
    Err(fail("a HelloVerifyRequest", "nothing"))
}

fn garbage(t: &Trial<'_>) -> Verdict {
    let socket = socket(t)?;
    let hello = client_hello();
    let mut cases = vec![vec![22; 13], hello[..20].to_vec(), vec![20, 0xfe, 0xfd, 0, 0, 1]];
    let mut long = hello;
    long[11..13].copy_from_slice(&0xffffu16.to_be_bytes());
    cases.push(long);
    for case in &cases {
        t.note("->", case);
        let _ = socket.send(case);
    }
    let mut buffer = [0; 4096];
    match socket.recv(&mut buffer) {
        Ok(len) => {
            // An alert of a few bytes is no harm; a flight would be.
            let small = len <= 32;
            want(small, "nothing, or an alert", || crate::codec::hex(&buffer[..len]))
        }
        Err(_) => Ok(()),
    }
}
