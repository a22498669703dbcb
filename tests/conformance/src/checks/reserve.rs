//! EVEN-PORT and RESERVATION-TOKEN (RFC 8656 sections 7.2, 18.6 and 18.9).

use super::allocate::{accepted, refused};
use super::auth::transport;
use crate::check::{Check, Stop, fail, house, must, want};
use crate::client::Client;
use crate::codec::{Writer, attribute, kind};
use crate::trial::Trial;

const RULE: &str = "RFC 8656 section 7.2";

pub(super) const CHECKS: &[Check] = &[
    must("reserve.even", "EVEN-PORT gives an even port", RULE, |t| {
        for _ in 0..4 {
            let answer = accepted(t, |w| transport(w).with(attribute::EVEN_PORT, &[0]))?;
            let port = answer.xor_address(attribute::XOR_RELAYED_ADDRESS).map(|a| a.port());
            want(port.is_some_and(|port| port % 2 == 0), "an even port", || format!("{port:?}"))?;
        }
        Ok(())
    }),
    must("reserve.even.no-token", "EVEN-PORT with R=0 gives no token", RULE, |t| {
        let answer = accepted(t, |w| transport(w).with(attribute::EVEN_PORT, &[0]))?;
        want(!answer.has(attribute::RESERVATION_TOKEN), "no token", || "one".into())
    }),
    must(
        "reserve.pair",
        "EVEN-PORT with R=1 gives an even port and a token of 8 bytes",
        RULE,
        |t| {
            let (client, _) = pair(t)?;
            let port = client.relay().port();
            want(port % 2 == 0, "an even port", || port.to_string())
        },
    ),
    must("reserve.redeem", "The token gives the next higher port", RULE, |t| {
        let (client, token) = pair(t)?;
        let other = redeem(t, &token)?;
        let (one, two) = (client.relay(), other.relay());
        let next = two.ip() == one.ip() && two.port() == one.port() + 1;
        want(next, "the next higher port", || format!("{one} and {two}"))
    }),
    must("reserve.redeem.twice", "A token can be used once: 508", RULE, |t| {
        let (_client, token) = pair(t)?;
        let _other = redeem(t, &token)?;
        refused(t, |w| transport(w).with(attribute::RESERVATION_TOKEN, &token), &[508])
    }),
    must("reserve.unknown", "An unknown token is a 508", RULE, |t| {
        refused(t, |w| transport(w).with(attribute::RESERVATION_TOKEN, &[0xa5; 8]), &[508])
    }),
    must("reserve.length", "A token of another length is a 400", RULE, |t| {
        refused(t, |w| transport(w).with(attribute::RESERVATION_TOKEN, &[0xa5; 7]), &[400])
    }),
    must("reserve.with-even-port", "RESERVATION-TOKEN with EVEN-PORT is a 400", RULE, |t| {
        let ask = |w: Writer| {
            transport(w)
                .with(attribute::RESERVATION_TOKEN, &[0xa5; 8])
                .with(attribute::EVEN_PORT, &[0])
        };
        refused(t, ask, &[400])
    }),
    must(
        "reserve.with-family",
        "RESERVATION-TOKEN with REQUESTED-ADDRESS-FAMILY is a 400",
        RULE,
        |t| {
            let ask = |w: Writer| {
                transport(w)
                    .with(attribute::RESERVATION_TOKEN, &[0xa5; 8])
                    .with(attribute::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0])
            };
            refused(t, ask, &[400])
        },
    ),
    must(
        "reserve.with-additional",
        "RESERVATION-TOKEN with ADDITIONAL-ADDRESS-FAMILY is a 400",
        RULE,
        |t| {
            let ask = |w: Writer| {
                transport(w)
                    .with(attribute::RESERVATION_TOKEN, &[0xa5; 8])
                    .with(attribute::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
            };
            refused(t, ask, &[400])
        },
    ),
    must(
        "reserve.even.reserved-bits",
        "The reserved bits of EVEN-PORT are ignored",
        "RFC 8656 section 18.6",
        |t| {
            let answer = accepted(t, |w| transport(w).with(attribute::EVEN_PORT, &[0x7f]))?;
            want(!answer.has(attribute::RESERVATION_TOKEN), "R=0", || "a token".into())
        },
    ),
    must("reserve.even.length", "EVEN-PORT without a value is a 400", RULE, |t| {
        refused(t, |w| transport(w).with(attribute::EVEN_PORT, &[]), &[400])
    }),
    house("reserve.token-random", "Tokens are hard to guess", |t| {
        let ((_one, a), (_two, b)) = (pair(t)?, pair(t)?);
        let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
        want(same < 6, "two unlike tokens", || format!("{a:02x?} and {b:02x?}"))
    }),
    must(
        "reserve.retransmission",
        "A retransmitted Allocate with R=1 has the same token",
        RULE,
        |t| {
            let mut client = t.client()?;
            let w = transport(client.write(kind::ALLOCATE)).with(attribute::EVEN_PORT, &[0x80]);
            let request = client.sign(w).bytes();
            let one = client.exchange(&request)?;
            client.took(&one)?;
            let two = client.exchange(&request)?;
            let token = attribute::RESERVATION_TOKEN;
            want(one.value(token) == two.value(token), "the same token", || two.summary())
        },
    )
    .over(crate::check::Over::Datagrams),
];

fn pair<'t>(t: &'t Trial<'t>) -> Result<(Client<'t>, Vec<u8>), Stop> {
    let mut client = t.client()?;
    let answer =
        client.ask(kind::ALLOCATE, |w| transport(w).with(attribute::EVEN_PORT, &[0x80]))?;
    client.took(&answer)?;
    match answer.value(attribute::RESERVATION_TOKEN) {
        Some(token) if token.len() == 8 => Ok((client, token.to_vec())),
        other => Err(fail("RESERVATION-TOKEN of 8 bytes", format!("{other:02x?}"))),
    }
}

fn redeem<'t>(t: &'t Trial<'t>, token: &[u8]) -> Result<Client<'t>, Stop> {
    let mut client = t.client()?;
    let answer =
        client.ask(kind::ALLOCATE, |w| transport(w).with(attribute::RESERVATION_TOKEN, token))?;
    client.took(&answer)?;
    Ok(client)
}
