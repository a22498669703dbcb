//! Attributes after the integrity attribute (S6): nobody vouches for them, so they are ignored, but
//! for the other integrity and FINGERPRINT (RFC 8489 sections 14.5 and 14.6). 18 attributes after
//! each of 5 requests.

use super::auth::transport;
use super::{UNKNOWN, success};
use crate::call::Peer;
use crate::check::{Check, Stop, Verdict, fail, must, skip, want};
use crate::client::{Client, Mode};
use crate::codec::{Algorithm, Answer, Writer, attribute, kind};
use crate::trial::Trial;

const RULE: &str = "RFC 8489 section 14.5";

pub(super) const CHECKS: &[Check] = &[
    must("appended.refresh", "After a Refresh's integrity 18 attributes are ignored", RULE, |t| {
        refresh(t, Mode::Sha1)
    }),
    must(
        "appended.refresh.sha256",
        "After a Refresh's SHA-256 integrity 18 attributes are ignored",
        "RFC 8489 section 14.6",
        |t| refresh(t, Mode::Sha256(Algorithm::Sha256)),
    ),
    must(
        "appended.permission",
        "After a CreatePermission's integrity 18 attributes are ignored",
        RULE,
        permission,
    ),
    must(
        "appended.channel",
        "After a ChannelBind's integrity 18 attributes are ignored",
        RULE,
        |t| {
            let (mut client, peer) = t.call()?;
            each(&mut client, |client| {
                let number = 0x4abcu32 << 16;
                client
                    .write(kind::CHANNEL_BIND)
                    .with_u32(attribute::CHANNEL_NUMBER, number)
                    .with_xor_address(attribute::XOR_PEER_ADDRESS, peer.address())
            })
        },
    ),
    must(
        "appended.allocate",
        "After an Allocate's integrity 18 attributes are ignored",
        RULE,
        |t| {
            for (kind, value) in attributes(&t.client()?) {
                let mut client = t.client()?;
                let w = transport(client.write(kind::ALLOCATE));
                let answer = with_appended(&mut client, w, kind, &value)?;
                client.took(&answer).map_err(|_| wrong(kind, &answer))?;
                let kept = !answer.has(attribute::RESERVATION_TOKEN) && client.relayed.len() == 1;
                want(kept, "an allocation as it was signed", || format!("{kind:#06x} had effect"))?;
            }
            Ok(())
        },
    ),
    must("appended.delete", "LIFETIME 0 after the integrity ends no allocation", RULE, |t| {
        let mut client = t.allocated()?;
        let w = client.sign(client.write(kind::REFRESH));
        let answer = client.exchange(&w.with_u32(attribute::LIFETIME, 0).bytes())?;
        let lifetime = answer.u32(attribute::LIFETIME);
        want(lifetime != Some(0), "a lifetime", || "an end".into())?;
        client.is_alive()
    }),
];

fn attributes(client: &Client<'_>) -> [(u16, Vec<u8>); 18] {
    let peer = Writer::new(0, [0; 12])
        .with_xor_address(attribute::XOR_PEER_ADDRESS, "9.9.9.9:9".parse().expect("an address"));
    [
        (attribute::LIFETIME, vec![0; 4]),
        (attribute::REQUESTED_ADDRESS_FAMILY, vec![9, 0, 0, 0]),
        (attribute::ADDITIONAL_ADDRESS_FAMILY, vec![2, 0, 0, 0]),
        (attribute::EVEN_PORT, vec![0x80]),
        (attribute::RESERVATION_TOKEN, vec![7; 8]),
        (attribute::DONT_FRAGMENT, vec![]),
        (attribute::REQUESTED_TRANSPORT, vec![99, 0, 0, 0]),
        (attribute::CHANNEL_NUMBER, vec![0x10, 0, 0, 0]),
        (attribute::XOR_PEER_ADDRESS, peer.bytes()[24..].to_vec()),
        (attribute::DATA, b"data".to_vec()),
        (attribute::USERNAME, b"nobody".to_vec()),
        (attribute::REALM, b"nowhere".to_vec()),
        (attribute::NONCE, b"stale".to_vec()),
        (attribute::PASSWORD_ALGORITHM, vec![0, 9, 0, 0]),
        (attribute::PASSWORD_ALGORITHMS, vec![0, 9, 0, 0]),
        (attribute::SOFTWARE, client.login.user.clone().into_bytes()),
        (attribute::MOBILITY_TICKET, b"no ticket".to_vec()),
        (UNKNOWN, b"what".to_vec()),
    ]
}

fn with_appended(
    client: &mut Client<'_>,
    w: Writer,
    kind: u16,
    value: &[u8],
) -> Result<Answer, Stop> {
    let request = client.sign(w).with(kind, value).bytes();
    client.exchange(&request)
}

fn wrong(kind: u16, answer: &Answer) -> Stop {
    let expected = format!("success, whatever is in {kind:#06x} after the integrity");
    fail(expected, answer.summary())
}

fn each(client: &mut Client<'_>, make: impl Fn(&Client<'_>) -> Writer) -> Verdict {
    for (kind, value) in attributes(client) {
        let w = make(client);
        let answer = with_appended(client, w, kind, &value)?;
        success(&answer).map_err(|_| wrong(kind, &answer))?;
    }
    client.is_alive()
}

fn refresh(t: &Trial<'_>, mode: Mode) -> Verdict {
    let mut client = t.client()?;
    if mode != Mode::Sha1 && client.algorithms.is_none() {
        return Err(skip("the server sends no PASSWORD-ALGORITHMS"));
    }
    client.mode = mode;
    client.allocate()?;
    each(&mut client, |client| client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 600))
}

/// Besides, the address that was appended must not have been permitted.
fn permission(t: &Trial<'_>) -> Verdict {
    let (mut client, peer) = t.call()?;
    let good = peer.address();
    each(&mut client, |client| {
        client.write(kind::CREATE_PERMISSION).with_xor_address(attribute::XOR_PEER_ADDRESS, good)
    })?;
    let Some(other) = super::permission::second_address(t) else { return Ok(()) };
    let stranger = Peer::at(t, other)?;
    let w =
        client.write(kind::CREATE_PERMISSION).with_xor_address(attribute::XOR_PEER_ADDRESS, good);
    let w = client.sign(w).with_xor_address(attribute::XOR_PEER_ADDRESS, stranger.address());
    success(&client.exchange(&w.bytes())?)?;
    client.send_data(stranger.address(), b"appended")?;
    client.sentinel()?;
    stranger.expect_nothing("a peer that was only named after the integrity")
}
