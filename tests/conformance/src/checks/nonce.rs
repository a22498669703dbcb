//! Nonces (RFC 8489 sections 9.2, 9.2.1 and 18.1).

use super::auth::transport;
use super::code;
use crate::check::{Check, Verdict, fail, house, must, should, skip, want};
use crate::codec::{Answer, attribute, kind};
use crate::trial::Trial;

const COOKIE: &[u8] = b"obMatJos2";
const FEATURES: &str = "RFC 8489 section 9.2.1";

pub(super) const CHECKS: &[Check] = &[
    must(
        "nonce.length",
        "A nonce is printable and of fewer than 128 characters",
        "RFC 8489 section 14.10",
        |t| {
            let client = t.client()?;
            let good = client.nonce.len() < 128
                && client.nonce.iter().all(|&byte| (0x20..0x7f).contains(&byte) && byte != b'"');
            want(good, "such a NONCE", || crate::codec::hex(&client.nonce))
        },
    ),
    must("nonce.unique", "Two sources never get the same nonce", "RFC 8489 section 9.2.4", |t| {
        let (one, two) = (t.client()?, t.client()?);
        want(one.nonce != two.nonce, "two nonces", || crate::codec::hex(&one.nonce))
    }),
    must(
        "nonce.garbage",
        "A nonce that is none of the server's is a 438",
        "RFC 8489 section 9.2.4",
        |t| {
            let answer = with_nonce(t, |_| b"not a nonce of yours".to_vec())?;
            code(&answer, &[438])
        },
    ),
    must(
        "nonce.fresh",
        "A 438 brings REALM and a nonce that is good",
        "RFC 8489 section 9.2.4",
        |t| {
            let mut client = t.client()?;
            client.nonce = b"0123456789abcdef0123456789abcdef".to_vec();
            let request = client.sign(transport(client.write(kind::ALLOCATE))).bytes();
            let answer = client.exchange(&request)?;
            code(&answer, &[438])?;
            client.take_challenge(&answer)?;
            let request = client.sign(transport(client.write(kind::ALLOCATE))).bytes();
            let answer = client.exchange(&request)?;
            client.took(&answer)
        },
    ),
    must(
        "nonce.fresh-algorithms",
        "A 438 brings PASSWORD-ALGORITHMS, if the server has any",
        "RFC 8489 section 9.2.4",
        |t| {
            if t.facts.algorithms.is_none() {
                return Err(skip("the server sends no PASSWORD-ALGORITHMS"));
            }
            let answer = with_nonce(t, |_| b"0123456789abcdef0123456789abcdef".to_vec())?;
            code(&answer, &[438])?;
            let sent = answer.value(attribute::PASSWORD_ALGORITHMS);
            want(sent == t.facts.algorithms.as_deref(), "PASSWORD-ALGORITHMS", || {
                format!("{sent:?}")
            })
        },
    ),
    house("nonce.other-client", "A nonce is good for the address that it was given to", |t| {
        let other = t.client()?;
        let nonce = other.nonce.clone();
        let answer = with_nonce(t, |_| nonce.clone())?;
        code(&answer, &[438])
    }),
    house("nonce.tampered", "A nonce with another character anywhere is refused", |t| {
        let mut client = t.allocated()?;
        let good = client.nonce.clone();
        let requests: Vec<Vec<u8>> = (0..good.len())
            .map(|at| {
                client.nonce = good.clone();
                client.nonce[at] = if good[at] == b'A' { b'B' } else { b'A' };
                let w = client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 0);
                client.sign(w).bytes()
            })
            .collect();
        client.nonce = good;
        client.expect_no_success(&requests, "a nonce that was changed")?;
        client.is_alive()
    }),
    should("nonce.cookie", "A nonce begins with the nonce cookie", FEATURES, |t| {
        let client = t.client()?;
        let begins = client.nonce.starts_with(COOKIE);
        want(begins, "obMatJos2", || String::from_utf8_lossy(&client.nonce).into_owned())
    }),
    must(
        "nonce.features",
        "The cookie says that there are password algorithms if and only if there are",
        FEATURES,
        features,
    ),
    should(
        "nonce.bit-order",
        "Feature bits count from the lowest one",
        "RFC 8489 section 18.1, erratum 6290",
        |t| {
            let client = t.client()?;
            if !client.nonce.starts_with(COOKIE) {
                return Err(skip("the nonce has no cookie"));
            }
            let bits = feature_bits(&client.nonce).unwrap_or(0);
            want(bits & 0x00ff_fffc == 0, "AAAA to AAAD", || format!("bits {bits:#08x}"))
        },
    ),
    must(
        "nonce.bid-down",
        "A nonce whose feature bits are cleared on the way is refused",
        "RFC 8489 section 9.2.4",
        |t| {
            let client = t.client()?;
            if feature_bits(&client.nonce).unwrap_or(0) == 0 {
                return Err(skip("the nonce announces no features"));
            }
            let answer = with_nonce(t, |nonce| {
                let mut nonce = nonce.to_vec();
                nonce[9..13].copy_from_slice(b"AAAA");
                nonce
            })?;
            code(&answer, &[438, 401, 400])
        },
    ),
    must("nonce.empty", "An empty nonce is no nonce", "RFC 8489 section 9.2.4", |t| {
        // Silence is right where a 438 would be longer than its request.
        let mut client = t.client()?;
        client.nonce.clear();
        let request = client.sign(transport(client.write(kind::ALLOCATE))).bytes();
        client.expect_no_success(&[request], "an empty nonce")
    }),
    must(
        "nonce.long",
        "A nonce of 763 bytes is refused, and nothing else happens",
        "RFC 8489 section 14.10",
        |t| code(&with_nonce(t, |_| vec![b'x'; 763])?, &[438, 400]),
    ),
];

/// An Allocate with a right integrity and a nonce made of the right one.
fn with_nonce(
    t: &Trial<'_>,
    make: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<Answer, crate::check::Stop> {
    let mut client = t.client()?;
    client.nonce = make(&client.nonce);
    let request = client.sign(transport(client.write(kind::ALLOCATE))).bytes();
    let answer = client.exchange(&request)?;
    if answer.is_success() {
        client.took(&answer)?;
        return Err(fail("a refusal", "success"));
    }
    Ok(answer)
}

/// The 24 bits after the cookie: four characters of base64.
fn feature_bits(nonce: &[u8]) -> Option<u32> {
    let characters = nonce.strip_prefix(COOKIE)?.get(..4)?;
    characters.iter().try_fold(0, |bits, &character| {
        let six = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        Some(bits << 6 | u32::from(six))
    })
}

fn features(t: &Trial<'_>) -> Verdict {
    let client = t.client()?;
    let bits = feature_bits(&client.nonce).unwrap_or(0);
    // Either order of bits: which one is right is another rule.
    let announced = bits & 0x01 != 0 || bits & 0x80_0000 != 0;
    let sent = client.algorithms.is_some();
    want(announced == sent, "both or neither", || format!("bit {announced}, attribute {sent}"))
}
