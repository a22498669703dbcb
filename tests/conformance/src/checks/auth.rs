//! Long-term credentials (RFC 8489 section 9.2.4): which check comes first, and what is told.

use super::{UNKNOWN, code, signed, success};
use crate::check::{Check, Stop, Verdict, fail, house, must, should, skip, want};
use crate::client::Client;
use crate::codec::{Answer, Hash, Writer, attribute, kind};
use crate::trial::Trial;

const ORDER: &str = "RFC 8489 section 9.2.4";

pub(super) const CHECKS: &[Check] = &[
    must("auth.allocate", "Allocate without integrity is a 401 with REALM and NONCE", ORDER, |t| {
        unsigned(t, kind::ALLOCATE)
    }),
    must("auth.refresh", "Refresh without integrity is a 401", ORDER, |t| {
        unsigned(t, kind::REFRESH)
    }),
    must("auth.permission", "CreatePermission without integrity is a 401", ORDER, |t| {
        unsigned(t, kind::CREATE_PERMISSION)
    }),
    must("auth.channel", "ChannelBind without integrity is a 401", ORDER, |t| {
        unsigned(t, kind::CHANNEL_BIND)
    }),
    must(
        "auth.unsigned-refresh",
        "Refresh without integrity does nothing to an allocation",
        ORDER,
        |t| {
            let mut client = t.allocated()?;
            let w = client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 0);
            let w = client.credentials(w).bytes();
            code(&client.exchange(&w)?, &[401])?;
            client.is_alive()
        },
    ),
    should("auth.challenge-unsigned", "A 401 has no USERNAME and no integrity", ORDER, |t| {
        let mut client = t.stranger()?;
        let answer = client.challenge()?;
        let kinds = [
            attribute::USERNAME,
            attribute::USERHASH,
            attribute::MESSAGE_INTEGRITY,
            attribute::MESSAGE_INTEGRITY_SHA256,
        ];
        let found = kinds.iter().find(|&&kind| answer.has(kind));
        want(found.is_none(), "none of them", || format!("{found:04x?}"))
    }),
    must("auth.realm", "REALM is at most 763 bytes of UTF-8", "RFC 8489 section 14.9", |t| {
        let answer = t.stranger()?.challenge()?;
        let realm = answer.value(attribute::REALM).unwrap_or_default();
        let good = realm.len() <= 763 && std::str::from_utf8(realm).is_ok();
        want(good, "such a REALM", || crate::codec::hex(realm))
    }),
    must("auth.no-username", "Integrity without USERNAME and USERHASH is a 400", ORDER, |t| {
        without(t, attribute::USERNAME)
    }),
    must("auth.no-realm", "Integrity without REALM is a 400", ORDER, |t| {
        without(t, attribute::REALM)
    }),
    must("auth.no-nonce", "Integrity without NONCE is a 400", ORDER, |t| {
        without(t, attribute::NONCE)
    }),
    should("auth.400-bare", "That 400 has no NONCE, REALM or USERNAME", ORDER, |t| {
        let answer = ask_without(t, attribute::USERNAME)?;
        let kinds = [attribute::USERNAME, attribute::NONCE, attribute::REALM];
        let found = kinds.iter().find(|&&kind| answer.has(kind));
        want(found.is_none(), "none of them", || format!("{found:04x?}"))
    }),
    must("auth.wrong-password", "A wrong password is a 401 with REALM and NONCE", ORDER, |t| {
        let answer = as_other(t, &t.options.login.user, "wrong")?;
        challenged(&answer)
    }),
    must("auth.unknown-user", "An unknown user is a 401 with REALM and NONCE", ORDER, |t| {
        let answer = as_other(t, "nobody-of-that-name", &t.options.login.password)?;
        challenged(&answer)
    }),
    house("auth.same-answer", "An unknown user is told what a wrong password is told", |t| {
        let one = as_other(t, &t.options.login.user, "wrong")?;
        let two = as_other(t, "nobody-of-that-name", "wrong")?;
        let shape = |answer: &Answer| -> Vec<(u16, usize)> {
            answer.attributes.iter().map(|a| (a.kind, a.value.len())).collect()
        };
        let (one, two) = (shape(&one), shape(&two));
        want(one == two, "the same attributes", || format!("{one:?} and {two:?}"))
    }),
    must(
        "auth.401-has-algorithms",
        "PASSWORD-ALGORITHMS is in every challenge, if in any",
        ORDER,
        |t| {
            if t.facts.algorithms.is_none() {
                return Err(skip("the server sends no PASSWORD-ALGORITHMS"));
            }
            let answer = as_other(t, &t.options.login.user, "wrong")?;
            let sent = answer.has(attribute::PASSWORD_ALGORITHMS);
            want(sent, "PASSWORD-ALGORITHMS", || "none".into())
        },
    ),
    should("auth.wrong-realm", "A key for another realm is a 401", ORDER, |t| {
        let mut client = t.client()?;
        client.realm = "another.invalid".into();
        let answer = client.ask(kind::ALLOCATE, transport)?;
        code(&answer, &[401])
    }),
    must(
        "auth.401-before-420",
        "Integrity is asked for before attributes are judged",
        "RFC 8489 section 6.3.1",
        |t| {
            let mut client = t.stranger()?;
            let request = transport(client.write(kind::ALLOCATE)).with(UNKNOWN, b"");
            code(&client.exchange(&request.bytes())?, &[401])
        },
    ),
    must(
        "auth.401-before-400",
        "Integrity is asked for before a request is judged",
        "RFC 8656 section 7.2",
        |t| {
            let mut client = t.stranger()?;
            let request = client.write(kind::ALLOCATE).bytes();
            code(&client.exchange(&request)?, &[401])
        },
    ),
    must(
        "auth.401-before-437",
        "Integrity is asked for before allocations are looked up",
        "RFC 8656 section 7.2",
        |t| {
            let mut client = t.allocated()?;
            let request = transport(client.write(kind::ALLOCATE)).bytes();
            code(&client.exchange(&request)?, &[401])
        },
    ),
    must(
        "auth.401-before-438",
        "A wrong integrity is a 401, though the nonce is stale, too",
        ORDER,
        |t| {
            let mut client = t.client()?;
            client.login.password = "wrong".into();
            client.nonce = b"stale".to_vec();
            let request = client.sign(transport(client.write(kind::ALLOCATE))).bytes();
            code(&client.exchange(&request)?, &[401])
        },
    ),
    must("auth.success", "A right request has a success response with integrity", ORDER, |t| {
        let mut client = t.client()?;
        let answer = client.allocate()?;
        signed(&answer, Hash::Sha1, &client.key())
    }),
    must("auth.error-signed", "Error responses after authentication carry integrity", ORDER, |t| {
        let mut client = t.client()?;
        let answer = client.refresh(600)?;
        code(&answer, &[437])?;
        signed(&answer, Hash::Sha1, &client.key())
    }),
    should(
        "auth.success-bare",
        "Success responses do not repeat USERNAME, REALM, NONCE",
        ORDER,
        |t| {
            let mut client = t.client()?;
            let answer = client.allocate()?;
            let kinds = [attribute::USERNAME, attribute::NONCE, attribute::REALM];
            let found = kinds.iter().find(|&&kind| answer.has(kind));
            want(found.is_none(), "none of them", || format!("{found:04x?}"))
        },
    ),
    must(
        "auth.integrity-length",
        "MESSAGE-INTEGRITY of any other length proves nothing",
        "RFC 8489 section 14.5",
        |t| {
            let mut client = t.allocated()?;
            let w = client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 0);
            let w = client.credentials(w);
            let mac = |len: usize| {
                let mut value = w.mac_of(Hash::Sha1, &client.key(), len);
                value.resize(len, 0);
                w.clone().with(attribute::MESSAGE_INTEGRITY, &value).bytes()
            };
            let requests: Vec<Vec<u8>> = [0, 1, 4, 10, 16, 19, 21, 24, 32].map(mac).to_vec();
            client.expect_no_success(&requests, "a cut or stretched integrity")?;
            client.is_alive()
        },
    ),
    must(
        "auth.fingerprint",
        "FINGERPRINT after the integrity of a request is fine",
        "RFC 8489 section 14.7",
        |t| {
            let mut client = t.allocated()?;
            let w = client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 600);
            let request = client.sign(w).fingerprint(0).bytes();
            success(&client.exchange(&request)?)
        },
    ),
    must(
        "auth.441",
        "Another user's request for an allocation is a 441",
        "RFC 8656 section 5",
        |t| {
            let other = t.options.other.clone().ok_or_else(|| skip("needs --other-user"))?;
            let mut client = t.allocated()?;
            let (login, nonce) = (client.login.clone(), client.nonce.clone());
            client.login = other;
            let answers = [
                client.refresh(0)?,
                client.ask(kind::CREATE_PERMISSION, |w| {
                    w.with_xor_address(
                        attribute::XOR_PEER_ADDRESS,
                        "9.9.9.9:9".parse().expect("one"),
                    )
                })?,
                client.bind(0x4000, "9.9.9.9:9".parse().expect("one"))?,
            ];
            client.login = login;
            client.nonce = nonce;
            for answer in answers {
                code(&answer, &[441])?;
            }
            client.is_alive()
        },
    ),
];

/// REQUESTED-TRANSPORT: UDP.
pub(super) fn transport(writer: Writer) -> Writer {
    writer.with(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
}

fn challenged(answer: &Answer) -> Verdict {
    code(answer, &[401])?;
    let has = answer.has(attribute::REALM) && answer.has(attribute::NONCE);
    want(has, "REALM and NONCE", || "not both".into())
}

fn unsigned(t: &Trial<'_>, kind: u16) -> Verdict {
    let mut client = t.stranger()?;
    let request = client.write(kind).bytes();
    challenged(&client.exchange(&request)?)
}

fn ask_without(t: &Trial<'_>, missing: u16) -> Result<Answer, Stop> {
    let mut client = t.client()?;
    let mut w = transport(client.write(kind::ALLOCATE));
    let all = [
        (attribute::USERNAME, client.login.user.clone().into_bytes()),
        (attribute::REALM, client.realm.clone().into_bytes()),
        (attribute::NONCE, client.nonce.clone()),
    ];
    for (kind, value) in all.into_iter().filter(|(kind, _)| *kind != missing) {
        w = w.with(kind, &value);
    }
    let request = w.sign(Hash::Sha1, &client.key()).bytes();
    client.exchange(&request)
}

fn without(t: &Trial<'_>, missing: u16) -> Verdict {
    code(&ask_without(t, missing)?, &[400])
}

fn as_other(t: &Trial<'_>, user: &str, password: &str) -> Result<Answer, Stop> {
    let mut client: Client<'_> = t.client()?;
    client.login.user = user.into();
    client.login.password = password.into();
    let request = client.sign(transport(client.write(kind::ALLOCATE))).bytes();
    let answer = client.exchange(&request)?;
    if answer.is_success() {
        return Err(fail("a refusal", "success"));
    }
    Ok(answer)
}
