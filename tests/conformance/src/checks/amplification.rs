//! How much a forged source address would be sent (D2): answers to those who have proved nothing.
//! Over UDP alone: a stream's client, and one of DTLS, has shown that it receives.

use super::auth::transport;
use super::{UNKNOWN, code};
use crate::check::{Check, Over, Stop, Verdict, fail, house, want};
use crate::codec::{Answer, Hash, attribute, kind};
use crate::trial::Trial;

pub(super) const CHECKS: &[Check] = &[
    house(
        "amplification.binding",
        "A Binding success is 1.6 times its request, 2.2 over IPv6; with RFC 5780's addresses 3.4, 5.8",
        |t| {
            let (request, answer) = stranger(t, |client| client.write(kind::BINDING).bytes())?;
            let offers = answer.has(attribute::OTHER_ADDRESS);
            let tenths = match (t.options.dialer.server.is_ipv6(), offers) {
                (false, false) => 16,
                (true, false) => 22,
                (false, true) => 34,
                (true, true) => 58,
            };
            at_most(request.len() * tenths / 10, &answer)
        },
    )
    .over(Over::Udp),
    house("amplification.401", "A 401 is at most 4 times a bare header", |t| {
        let (_, answer) = stranger(t, |client| client.write(kind::ALLOCATE).bytes())?;
        code(&answer, &[401])?;
        at_most(80, &answer)
    })
    .over(Over::Udp),
    house("amplification.401.every-method", "... for every method", |t| {
        for kind in [kind::REFRESH, kind::CREATE_PERMISSION, kind::CHANNEL_BIND] {
            let (_, answer) = stranger(t, |client| client.write(kind).bytes())?;
            code(&answer, &[401])?;
            at_most(80, &answer)?;
        }
        Ok(())
    })
    .over(Over::Udp),
    house(
        "amplification.401.first",
        "A 401 to an ordinary first Allocate is at most 4 times it",
        |t| {
            let (request, answer) =
                stranger(t, |client| transport(client.write(kind::ALLOCATE)).bytes())?;
            at_most(request.len() * 4, &answer)
        },
    )
    .over(Over::Udp),
    house(
        "amplification.401.wrong",
        "A 401 to a wrong integrity is no longer than 2 times it",
        |t| {
            let mut client = t.client()?;
            client.login.password = "wrong".into();
            let request = client.sign(transport(client.write(kind::ALLOCATE))).bytes();
            let answer = client.exchange(&request)?;
            at_most(request.len() * 2, &answer)
        },
    )
    .over(Over::Udp),
    house("amplification.400", "A 400 to somebody without credentials is no longer than it", |t| {
        let (request, answer) = stranger(t, |client| {
            let w = transport(client.write(kind::ALLOCATE)).with(attribute::USERNAME, b"u");
            w.sign(Hash::Sha1, b"key").bytes()
        })?;
        at_most(request.len(), &answer)
    })
    .over(Over::Udp),
    house("amplification.420", "A 420 to a Binding request is at most 2 times it", |t| {
        let fill = |client: &crate::client::Client<'_>| {
            client.write(kind::BINDING).with(UNKNOWN, b"").bytes()
        };
        let (request, answer) = stranger(t, fill)?;
        at_most(request.len() * 2, &answer)
    })
    .over(Over::Udp),
    house("amplification.420.many", "... however many attributes it lists", |t| {
        let (request, answer) = stranger(t, |client| {
            let w = client.write(kind::BINDING);
            (0..200).fold(w, |w, at| w.with(0x7000 + at, b"")).bytes()
        })?;
        at_most(request.len(), &answer)
    })
    .over(Over::Udp),
    house("amplification.438", "A 438 is no longer than its request", |t| {
        let mut client = t.client()?;
        let last = client.nonce.len() - 1;
        client.nonce[last] ^= 1;
        let request = client.sign(transport(client.write(kind::ALLOCATE))).bytes();
        let answer = client.exchange(&request)?;
        code(&answer, &[438])?;
        at_most(request.len(), &answer)
    })
    .over(Over::Udp),
    house("amplification.once", "One request brings one datagram", |t| {
        let mut client = t.stranger()?;
        let request = client.write(kind::ALLOCATE).bytes();
        client.exchange(&request)?;
        client.expect_silence(&[], "a request that has been answered")
    })
    .over(Over::Udp),
];

fn stranger(
    t: &Trial<'_>,
    write: impl FnOnce(&crate::client::Client<'_>) -> Vec<u8>,
) -> Result<(Vec<u8>, Answer), Stop> {
    let mut client = t.stranger()?;
    let request = write(&client);
    let answer = client.exchange(&request)?;
    Ok((request, answer))
}

fn at_most(len: usize, answer: &Answer) -> Verdict {
    let came = answer.raw.len();
    if came <= len {
        return Ok(());
    }
    let expected = format!("at most {len} bytes");
    want(false, &expected, || format!("{came} bytes"))
        .map_err(|_| fail(expected, format!("{came} bytes: {}", answer.summary())))
}
