//! Bit flips (S6): a signed request with any bit changed has no effect.

use crate::check::{Check, Over, Stop, Verdict, must, skip};
use crate::client::{Client, Mode};
use crate::codec::{Algorithm, attribute, kind};
use crate::trial::Trial;

/// How many flips of each request are tried; with `--slow`, so many times as many.
const FLIPS: usize = 600;
const SLOW: usize = 50;
const FLIPS_IN_STREAMS: usize = 30;
const RULE: &str = "RFC 8489 section 9.2.4";

pub(super) const CHECKS: &[Check] = &[
    must("flips.refresh", "No bit of a signed Refresh can be changed", RULE, |t| {
        flipped(t, Mode::Sha1, |client| {
            client.sign(client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 0)).bytes()
        })
    })
    .alone(),
    must(
        "flips.refresh.sha256",
        "No bit of a Refresh signed by SHA-256 can be changed",
        RULE,
        |t| {
            flipped(t, Mode::Sha256(Algorithm::Sha256), |client| {
                client.sign(client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 0)).bytes()
            })
        },
    )
    .alone(),
    must("flips.permission", "No bit of a signed CreatePermission can be changed", RULE, |t| {
        let peer = std::net::SocketAddr::new(t.options.peer_ip, 9);
        flipped(t, Mode::Sha1, |client| {
            let w = client
                .write(kind::CREATE_PERMISSION)
                .with_xor_address(attribute::XOR_PEER_ADDRESS, peer);
            client.sign(w).bytes()
        })
    })
    .alone(),
    must("flips.two", "Nor can two bits", RULE, |t| {
        let mut client = t.allocated()?;
        let good =
            client.sign(client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 0)).bytes();
        let flip = || {
            let mut bytes = good.clone();
            let (one, two) = (bit(t, &bytes), bit(t, &bytes));
            bytes[one / 8] ^= 1 << (one % 8);
            bytes[two / 8] ^= 1 << (two % 8);
            bytes
        };
        let flipped: Vec<Vec<u8>> =
            (0..FLIPS / 2).map(|_| flip()).filter(|bytes| *bytes != good).collect();
        no_effect(&mut client, &flipped)
    })
    .over(Over::Datagrams)
    .alone(),
];

fn bit(t: &Trial<'_>, bytes: &[u8]) -> usize {
    (t.random() % (bytes.len() as u64 * 8)) as usize
}

fn allocated<'t>(t: &'t Trial<'t>, mode: Mode) -> Result<Client<'t>, Stop> {
    let mut client = t.client()?;
    if mode != Mode::Sha1 && client.algorithms.is_none() {
        return Err(skip("the server sends no PASSWORD-ALGORITHMS"));
    }
    client.mode = mode;
    client.allocate()?;
    Ok(client)
}

fn flipped(t: &Trial<'_>, mode: Mode, make: impl Fn(&Client<'_>) -> Vec<u8>) -> Verdict {
    let mut client = allocated(t, mode)?;
    if t.is_stream() {
        return flipped_in_streams(t, mode, make);
    }
    let rounds = if t.options.slow { SLOW } else { 1 };
    for _ in 0..rounds {
        let good = make(&client);
        let flips = (0..FLIPS).map(|_| {
            let mut bytes = good.clone();
            let at = bit(t, &bytes);
            bytes[at / 8] ^= 1 << (at % 8);
            bytes
        });
        let flips: Vec<Vec<u8>> = flips.collect();
        no_effect(&mut client, &flips)?;
    }
    Ok(())
}

/// One by one, for a stream may be closed by what is malformed. The header is left alone: its
/// length says where the next message starts, and that is another check.
fn flipped_in_streams(t: &Trial<'_>, mode: Mode, make: impl Fn(&Client<'_>) -> Vec<u8>) -> Verdict {
    let mut client = allocated(t, mode)?;
    for _ in 0..FLIPS_IN_STREAMS {
        if client.closed {
            client = allocated(t, mode)?;
        }
        let mut bytes = make(&client);
        let at = 64 + bit(t, &bytes[8..]);
        bytes[at / 8] ^= 1 << (at % 8);
        client.expect_no_success(&[bytes], "a request with a flipped bit")?;
        if !client.closed {
            client.is_alive()?;
        }
    }
    Ok(())
}

fn no_effect(client: &mut Client<'_>, flips: &[Vec<u8>]) -> Verdict {
    client.expect_no_success(flips, "a request with flipped bits")?;
    client.is_alive()
}
