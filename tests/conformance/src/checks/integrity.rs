//! RFC 8489's integrity: SHA-256, PASSWORD-ALGORITHMS with its echo, USERHASH.

use super::auth::transport;
use super::{code, signed, success};
use crate::check::{Check, Stop, Verdict, fail, may, must, should, skip, want};
use crate::client::{Client, Mode};
use crate::codec::{Algorithm, Answer, Hash, Writer, attribute, kind, userhash};
use crate::trial::Trial;

const ORDER: &str = "RFC 8489 section 9.2.4";
const SHA256: Mode = Mode::Sha256(Algorithm::Sha256);

pub(super) const CHECKS: &[Check] = &[
    should("sha256.offered", "The server offers SHA-256", "RFC 8489 section 9.2.4 and 18.5", |t| {
        let list = t.facts.algorithms.clone().unwrap_or_default();
        let offered = list.chunks(4).any(|entry| entry == Algorithm::Sha256.value());
        want(offered, "SHA-256 in PASSWORD-ALGORITHMS", || format!("{list:02x?}"))
    }),
    must(
        "sha256.list",
        "PASSWORD-ALGORITHMS is well-formed and in order of preference",
        "RFC 8489 section 14.11",
        |t| {
            let list = t.facts.algorithms.clone().ok_or_else(not_offered)?;
            let known = [Algorithm::Md5.value(), Algorithm::Sha256.value()];
            let good = !list.is_empty()
                && list.chunks(4).all(|entry| known.iter().any(|known| entry == known));
            want(good, "entries of 4 bytes", || format!("{list:02x?}"))
        },
    ),
    must("sha256.success", "A request by SHA-256 is answered by SHA-256", ORDER, |t| {
        let mut client = modern(t, SHA256)?;
        let answer = client.allocate()?;
        signed(&answer, Hash::Sha256, &client.key())
    }),
    must("sha256.success-only", "... and not by MESSAGE-INTEGRITY besides", ORDER, |t| {
        let mut client = modern(t, SHA256)?;
        let answer = client.allocate()?;
        want(!answer.has(attribute::MESSAGE_INTEGRITY), "one integrity", || "two".into())
    }),
    must("sha256.error", "An error response to a request by SHA-256 is signed by it", ORDER, |t| {
        let mut client = modern(t, SHA256)?;
        let answer = client.refresh(600)?;
        code(&answer, &[437])?;
        signed(&answer, Hash::Sha256, &client.key())
    }),
    must("sha256.md5-key", "The algorithm MD5 goes with MESSAGE-INTEGRITY-SHA256", ORDER, |t| {
        let mut client = modern(t, Mode::Sha256(Algorithm::Md5))?;
        let answer = client.allocate()?;
        signed(&answer, Hash::Sha256, &client.key())
    }),
    must(
        "sha256.no-algorithm",
        "Without algorithms a request is one by MD5, and so is its response",
        ORDER,
        |t| {
            let mut client = modern(t, Mode::Sha1)?;
            let answer = client.allocate()?;
            signed(&answer, Hash::Sha1, &client.key())
        },
    ),
    must("sha256.every-method", "Every method takes SHA-256", ORDER, every_method),
    must(
        "sha256.both",
        "Of two integrities SHA-256 counts: a wrong SHA-1 is no matter",
        ORDER,
        |t| {
            let mut client = allocated(t)?;
            let request = both(&client, [0; 20].to_vec(), None);
            success(&client.exchange(&request)?)
        },
    ),
    must(
        "sha256.both-wrong",
        "Of two integrities SHA-256 counts: a wrong SHA-256 is a 401",
        ORDER,
        |t| {
            let mut client = allocated(t)?;
            let w = refresh(&client);
            let sha1 = w.mac(Hash::Sha1, &client.key());
            let request = both(&client, sha1, Some(vec![0; 32]));
            code(&client.exchange(&request)?, &[401])?;
            client.is_alive()
        },
    ),
    must(
        "sha256.truncated",
        "A truncated MESSAGE-INTEGRITY-SHA256 proves nothing",
        "RFC 8489 section 14.6",
        |t| {
            let mut client = allocated(t)?;
            let w = client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 0);
            let w = client.credentials(w);
            let cut = |len: usize| {
                let value = w.mac_of(Hash::Sha256, &client.key(), len);
                w.clone().with(attribute::MESSAGE_INTEGRITY_SHA256, &value).bytes()
            };
            let requests: Vec<Vec<u8>> = [0, 4, 12, 15, 16, 20, 24, 28, 31].map(cut).to_vec();
            client.expect_no_success(&requests, "a truncated integrity")?;
            client.is_alive()
        },
    ),
    must(
        "bid-down.algorithm-alone",
        "PASSWORD-ALGORITHM without PASSWORD-ALGORITHMS is a 400",
        ORDER,
        |t| algorithms(t, |_| None, Some(&Algorithm::Sha256.value())),
    ),
    must(
        "bid-down.list-alone",
        "PASSWORD-ALGORITHMS without PASSWORD-ALGORITHM is a 400",
        ORDER,
        |t| algorithms(t, |list| Some(list.to_vec()), None),
    ),
    must("bid-down.shorter", "A list that lost an entry on the way is a 400", ORDER, |t| {
        algorithms(t, |list| Some(list[list.len() - 4..].to_vec()), Some(&Algorithm::Md5.value()))
    }),
    must("bid-down.reordered", "A list in another order is a 400", ORDER, |t| {
        let reversed = |list: &[u8]| Some(list.rchunks(4).flatten().copied().collect());
        algorithms(t, reversed, Some(&Algorithm::Md5.value()))
    }),
    must("bid-down.longer", "A list with one entry more is a 400", ORDER, |t| {
        let longer = |list: &[u8]| Some([list, &[0, 9, 0, 0]].concat());
        algorithms(t, longer, Some(&Algorithm::Sha256.value()))
    }),
    must("bid-down.unlisted", "An algorithm that is not in the list is a 400", ORDER, |t| {
        algorithms(t, |list| Some(list.to_vec()), Some(&[0, 9, 0, 0]))
    }),
    must(
        "bid-down.malformed",
        "Algorithms whose lengths lie are a 400",
        "RFC 8489 section 14.11",
        |t| algorithms(t, |list| Some(list.to_vec()), Some(&[0, 2, 0, 9])),
    ),
    must(
        "userhash.announced",
        "USERHASH is taken where the nonce cookie asks for it",
        "RFC 8489 section 9.2.1",
        |t| {
            let client = t.client()?;
            if !announces_anonymity(&client.nonce) {
                return Err(skip("the server does not announce username anonymity"));
            }
            with_userhash(t, &t.options.login.user).and_then(|answer| success(&answer))
        },
    ),
    may("userhash.taken", "USERHASH is taken in any case", "RFC 8489 section 9.2.4", |t| {
        let answer = with_userhash(t, &t.options.login.user)?;
        if matches!(answer.code(), Some(400 | 401)) && !announces_anonymity(&t.client()?.nonce) {
            return Err(skip("the server announces no username anonymity, and takes no USERHASH"));
        }
        success(&answer)
    }),
    must("userhash.unknown", "A USERHASH of nobody is a 401", ORDER, |t| {
        code(&with_userhash(t, "nobody")?, &[401, 400])
    }),
    must(
        "userhash.length",
        "A USERHASH of any other length is refused",
        "RFC 8489 section 14.4",
        |t| {
            let mut client = t.client()?;
            let mut requests = Vec::new();
            for len in [0, 1, 20, 31, 33, 64] {
                let mut hash = userhash(&client.login.user, &client.realm);
                hash.resize(len, 0);
                requests.push(hashed(&client, &hash));
            }
            client.expect_no_success(&requests, "a USERHASH of a wrong length")
        },
    ),
];

fn not_offered() -> Stop {
    skip("the server sends no PASSWORD-ALGORITHMS")
}

/// A challenged client of a server that offers SHA-256.
fn modern<'t>(t: &'t Trial<'t>, mode: Mode) -> Result<Client<'t>, Stop> {
    let mut client = t.client()?;
    let list = client.algorithms.clone().ok_or_else(not_offered)?;
    if !list.chunks(4).any(|entry| entry == Algorithm::Sha256.value()) {
        return Err(skip("the server does not offer SHA-256"));
    }
    client.mode = mode;
    Ok(client)
}

fn allocated<'t>(t: &'t Trial<'t>) -> Result<Client<'t>, Stop> {
    let mut client = modern(t, SHA256)?;
    client.allocate()?;
    Ok(client)
}

fn refresh(client: &Client<'_>) -> Writer {
    client.credentials(client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 600))
}

/// Refresh with this MESSAGE-INTEGRITY, and then the other one, right unless given.
fn both(client: &Client<'_>, sha1: Vec<u8>, sha256: Option<Vec<u8>>) -> Vec<u8> {
    let w = refresh(client).with(attribute::MESSAGE_INTEGRITY, &sha1);
    let sha256 = sha256.unwrap_or_else(|| w.mac(Hash::Sha256, &client.key()));
    w.with(attribute::MESSAGE_INTEGRITY_SHA256, &sha256).bytes()
}

fn every_method(t: &Trial<'_>) -> Verdict {
    let mut client = allocated(t)?;
    let peer = crate::call::Peer::new(t)?;
    t.permit(&mut client, &peer)?;
    success(&client.bind(0x4000, peer.address())?)?;
    success(&client.refresh(600)?)
}

/// An Allocate by SHA-256 with another list and another choice: a 400.
fn algorithms(
    t: &Trial<'_>,
    list: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    chosen: Option<&[u8]>,
) -> Verdict {
    let mut client = modern(t, SHA256)?;
    let offered = client.algorithms.clone().unwrap_or_default();
    if offered.len() < 8 {
        return Err(skip("the server offers one algorithm only"));
    }
    let mut w = transport(client.write(kind::ALLOCATE))
        .with(attribute::USERNAME, client.login.user.as_bytes())
        .with(attribute::REALM, client.realm.as_bytes())
        .with(attribute::NONCE, &client.nonce);
    if let Some(list) = list(&offered) {
        w = w.with(attribute::PASSWORD_ALGORITHMS, &list);
    }
    if let Some(chosen) = chosen {
        w = w.with(attribute::PASSWORD_ALGORITHM, chosen);
        if chosen == Algorithm::Md5.value() {
            client.mode = Mode::Sha256(Algorithm::Md5);
        }
    }
    let request = w.sign(Hash::Sha256, &client.key()).bytes();
    let answer = client.exchange(&request)?;
    if answer.is_success() {
        client.took(&answer)?;
        return Err(fail("error 400", "success"));
    }
    code(&answer, &[400])
}

fn announces_anonymity(nonce: &[u8]) -> bool {
    nonce.starts_with(b"obMatJos2AAA") && matches!(nonce.get(12), Some(b'C' | b'D'))
}

fn hashed(client: &Client<'_>, hash: &[u8]) -> Vec<u8> {
    transport(client.write(kind::ALLOCATE))
        .with(attribute::USERHASH, hash)
        .with(attribute::REALM, client.realm.as_bytes())
        .with(attribute::NONCE, &client.nonce)
        .sign(Hash::Sha1, &client.key())
        .bytes()
}

fn with_userhash(t: &Trial<'_>, user: &str) -> Result<Answer, Stop> {
    let mut client = t.client()?;
    let request = hashed(&client, &userhash(user, &client.realm));
    let answer = client.exchange(&request)?;
    if answer.is_success() {
        client.took(&answer)?;
    }
    Ok(answer)
}
