//! Binding (RFC 8489): no authentication, one answer, small.

use super::{UNKNOWN, UNKNOWN_OPTIONAL, code, success};
use crate::check::{Check, Over, Stop, Verdict, house, must, should, skip, want};
use crate::codec::{Answer, Hash, Writer, attribute, kind};
use crate::trial::Trial;

/// What RFC 5780 adds to a success.
const OF_DISCOVERY: [u16; 3] =
    [attribute::MAPPED_ADDRESS, attribute::RESPONSE_ORIGIN, attribute::OTHER_ADDRESS];

pub(super) const CHECKS: &[Check] = &[
    must(
        "binding.success",
        "A Binding request is answered with XOR-MAPPED-ADDRESS",
        "RFC 8489 section 2",
        success_with_address,
    ),
    must(
        "binding.address",
        "XOR-MAPPED-ADDRESS is the address that the request came from",
        "RFC 8489 section 14.2",
        right_address,
    ),
    must(
        "binding.transaction",
        "The response has the request's method and transaction id",
        "RFC 8489 section 6.3.1.1",
        |t| {
            let (request, answer) = ask(t, |w| w)?;
            let same = answer.id == request[8..20] && answer.kind == kind::success(kind::BINDING);
            want(same, "type 0x0101 and the same id", || answer.summary())
        },
    ),
    house("binding.bare", "A success has XOR-MAPPED-ADDRESS and nothing else", |t| {
        let (_, answer) = ask(t, |w| w)?;
        let offers = answer.has(attribute::OTHER_ADDRESS);
        let kinds: Vec<u16> = answer.attributes.iter().map(|a| a.kind).collect();
        let others = kinds.iter().filter(|kind| !(offers && OF_DISCOVERY.contains(kind)));
        let bare = others.eq(&[attribute::XOR_MAPPED_ADDRESS]);
        want(bare, "one attribute, and those of RFC 5780", || format!("{kinds:04x?}"))
    }),
    must(
        "binding.retransmission",
        "A retransmitted request is answered again, alike",
        "RFC 8489 section 6.3.1",
        |t| {
            let mut client = t.stranger()?;
            let request = client.write(kind::BINDING).bytes();
            let (one, two) = (client.exchange(&request)?, client.exchange(&request)?);
            // RFC 5780's addresses may be counted out: then they are in one and not in the other.
            let mapped = attribute::XOR_MAPPED_ADDRESS;
            let same = one.kind == two.kind && one.xor_address(mapped) == two.xor_address(mapped);
            let offers = one.has(attribute::OTHER_ADDRESS) || two.has(attribute::OTHER_ADDRESS);
            let good = if offers { same } else { one.raw == two.raw };
            want(good, "the same bytes", || "other bytes".into())
        },
    ),
    must(
        "binding.optional",
        "An unknown comprehension-optional attribute is ignored",
        "RFC 8489 section 6.3.1",
        |t| success(&ask(t, |w| w.with(UNKNOWN_OPTIONAL, b"abc"))?.1),
    ),
    must(
        "binding.required",
        "An unknown comprehension-required attribute is a 420 that lists it",
        "RFC 8489 section 6.3.1",
        |t| unknown(t, &[UNKNOWN]),
    ),
    must(
        "binding.required.several",
        "A 420 lists every unknown attribute, and no known one",
        "RFC 8489 section 14.9",
        |t| unknown(t, &[UNKNOWN, 0x7f02, 0x0f0f]),
    ),
    should(
        "binding.required.twice",
        "A 420 lists an attribute once",
        "RFC 8489 section 14.9",
        |t| {
            let answer = ask(t, |w| w.with(UNKNOWN, b"").with(UNKNOWN, b"")).map(|(_, a)| a)?;
            let list = listed(&answer);
            want(list == [UNKNOWN], "one entry", || format!("{list:04x?}"))
        },
    ),
    must(
        "binding.fingerprint",
        "A request with a right FINGERPRINT is answered",
        "RFC 8489 section 7.3",
        |t| success(&ask(t, |w| w.fingerprint(0))?.1),
    ),
    must(
        "binding.fingerprint.wrong",
        "A message with a wrong FINGERPRINT is dropped",
        "RFC 8489 section 6.3",
        |t| silence(t, |w| w.fingerprint(1), "a wrong FINGERPRINT"),
    ),
    must(
        "binding.software",
        "SOFTWARE in a request changes nothing",
        "RFC 8489 section 14.14",
        |t| success(&ask(t, |w| w.with(attribute::SOFTWARE, b"x"))?.1),
    ),
    must("binding.software.long", "SOFTWARE of 763 bytes is fine", "RFC 8489 section 14.14", |t| {
        success(&ask(t, |w| w.with(attribute::SOFTWARE, &[b'x'; 763]))?.1)
    }),
    must("binding.padding", "Padding of any value is ignored", "RFC 8489 section 14", |t| {
        success(&ask(t, |w| w.with_padding(UNKNOWN_OPTIONAL, b"a", 0xff))?.1)
    }),
    must(
        "binding.empty-value",
        "An attribute without a value is an attribute",
        "RFC 8489 section 14",
        |t| success(&ask(t, |w| w.with(UNKNOWN_OPTIONAL, b""))?.1),
    ),
    must("binding.many", "Sixty attributes are no fault", "RFC 8489 section 14", |t| {
        let many = |w: Writer| (0..60).fold(w, |w, at| w.with(UNKNOWN_OPTIONAL + at, b"12"));
        success(&ask(t, many)?.1)
    }),
    should(
        "binding.unauthenticated",
        "Binding needs no credentials, and is not upset by them",
        "RFC 8489 section 12",
        |t| {
            let key = [7; 16];
            success(&ask(t, |w| w.with(attribute::USERNAME, b"nobody").sign(Hash::Sha1, &key))?.1)
        },
    ),
    must(
        "binding.indication",
        "A Binding indication is not answered",
        "RFC 8489 section 6.3.2",
        |t| {
            let mut client = t.stranger()?;
            let bytes = client.write(kind::BINDING_INDICATION).bytes();
            client.expect_silence(&[bytes], "an indication")
        },
    ),
    must("binding.response", "A response to nothing is dropped", "RFC 8489 section 6.3.3", |t| {
        let mut client = t.stranger()?;
        let good = client
            .write(kind::success(kind::BINDING))
            .with_xor_address(attribute::XOR_MAPPED_ADDRESS, client.local());
        let bad =
            client.write(kind::error(kind::BINDING)).with(attribute::ERROR_CODE, &[0, 0, 4, 0]);
        client.expect_silence(&[good.bytes(), bad.bytes()], "responses")
    }),
    must("binding.once", "One request brings one message", "RFC 8489 section 6.3.1", |t| {
        let mut client = t.stranger()?;
        let request = client.write(kind::BINDING).bytes();
        client.exchange(&request)?;
        client.expect_silence(&[], "one request that has been answered")
    })
    .over(Over::Datagrams),
];

fn ask(t: &Trial<'_>, fill: impl FnOnce(Writer) -> Writer) -> Result<(Vec<u8>, Answer), Stop> {
    let mut client = t.stranger()?;
    let request = fill(client.write(kind::BINDING)).bytes();
    let answer = client.exchange(&request)?;
    Ok((request, answer))
}

fn silence(t: &Trial<'_>, fill: impl FnOnce(Writer) -> Writer, what: &str) -> Verdict {
    let mut client = t.stranger()?;
    let message = fill(client.write(kind::BINDING)).bytes();
    client.expect_silence(&[message], what)
}

fn success_with_address(t: &Trial<'_>) -> Verdict {
    let (_, answer) = ask(t, |w| w)?;
    success(&answer)?;
    let address = answer.xor_address(attribute::XOR_MAPPED_ADDRESS);
    want(address.is_some(), "XOR-MAPPED-ADDRESS", || "none".into())
}

fn right_address(t: &Trial<'_>) -> Verdict {
    let mut client = t.stranger()?;
    let request = client.write(kind::BINDING).bytes();
    let answer = client.exchange(&request)?;
    let mapped = answer.xor_address(attribute::XOR_MAPPED_ADDRESS);
    let local = client.local();
    match mapped {
        Some(mapped) if mapped == local => Ok(()),
        Some(mapped) if mapped.ip() != local.ip() => {
            Err(skip(format!("there is a NAT between {local} and {mapped}")))
        }
        _ => want(false, &local.to_string(), || format!("{mapped:?}")),
    }
}

fn listed(answer: &Answer) -> Vec<u16> {
    let list = answer.value(attribute::UNKNOWN_ATTRIBUTES).unwrap_or_default();
    list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

fn unknown(t: &Trial<'_>, kinds: &[u16]) -> Verdict {
    let fill = |w: Writer| {
        let w = w.with(UNKNOWN_OPTIONAL, b"fine");
        kinds.iter().fold(w, |w, &kind| w.with(kind, b"what"))
    };
    let (_, answer) = ask(t, fill)?;
    code(&answer, &[420])?;
    let mut list = listed(&answer);
    list.sort_unstable();
    list.dedup();
    let mut kinds = kinds.to_vec();
    kinds.sort_unstable();
    want(list == kinds, &format!("{kinds:04x?}"), || format!("{list:04x?}"))
}
