//! Mobility (RFC 8016): an allocation that moves to another five-tuple by its ticket.

use super::auth::transport;
use super::{code, success};
use crate::call::Peer;
use crate::check::{Check, Stop, Verdict, fail, house, must, skip, want};
use crate::client::{Client, Data};
use crate::codec::{Answer, attribute, kind};
use crate::trial::Trial;

pub(super) const CHECKS: &[Check] = &[
    must(
        "mobility.ticket",
        "An Allocate with an empty MOBILITY-TICKET gives a ticket",
        "RFC 8016 section 3.1.2",
        |t| ticket(t).map(|_| ()),
    ),
    must("mobility.unasked", "Without one it gives none", "RFC 8016 section 3.1.2", |t| {
        let answer = t.client()?.allocate()?;
        want(!answer.has(attribute::MOBILITY_TICKET), "no ticket", || "one".into())
    }),
    must(
        "mobility.refresh",
        "A Refresh with the ticket from another five-tuple moves it",
        "RFC 8016 section 3.2.2",
        |t| moved(t).map(|_| ()),
    ),
    must("mobility.data", "... and its data with it", "RFC 8016 section 3.2.2", |t| {
        let (mut old, first) = ticket(t)?;
        let peer = Peer::new(t)?;
        t.permit(&mut old, &peer)?;
        let relay = old.relay();
        old.expect_relay(&peer, b"before")?;
        let (mut new, _) = take_over(t, &mut old, &first)?;
        let source = new.expect_relay(&peer, b"after")?;
        want(source == relay, &relay.to_string(), || source.to_string())?;
        let expected = Data::Indication(peer.address(), b"back".to_vec());
        new.expect_data(&expected, || peer.send(relay, b"back"))
    }),
    must("mobility.channel", "... and its channels", "RFC 8016 section 3.2.2", |t| {
        let (mut old, first) = ticket(t)?;
        let peer = Peer::new(t)?;
        t.permit(&mut old, &peer)?;
        success(&old.bind(0x4abc, peer.address())?)?;
        let relay = old.relay();
        let (mut new, _) = take_over(t, &mut old, &first)?;
        new.expect_channel(0x4abc, &peer, b"by channel")?;
        let expected = Data::Channel(0x4abc, b"back".to_vec());
        new.expect_data(&expected, || peer.send(relay, b"back"))
    }),
    must("mobility.new-ticket", "The answer has a new ticket", "RFC 8016 section 3.2.2", |t| {
        let (_client, first, second) = moved(t)?;
        want(first != second, "another ticket", || "the same".into())
    }),
    house("mobility.single-use", "A ticket is good once", |t| {
        let (mut new, first, _) = moved(t)?;
        // Until the new five-tuple is used its response may have been lost.
        new.is_alive()?;
        let mut thief = t.client()?;
        let answer = refresh(&mut thief, &first, 600)?;
        want(!answer.is_success(), "a refusal", || answer.summary())?;
        new.is_alive()
    }),
    house("mobility.tampered", "A ticket with any byte changed is refused", |t| {
        let (mut owner, good) = ticket(t)?;
        let mut thief = t.client()?;
        let requests: Vec<Vec<u8>> = (0..good.len())
            .map(|at| {
                let mut bad = good.clone();
                bad[at] ^= 1;
                let w = thief.write(kind::REFRESH).with_u32(attribute::LIFETIME, 600);
                thief.sign(w.with(attribute::MOBILITY_TICKET, &bad)).bytes()
            })
            .collect();
        thief.expect_no_success(&requests, "a ticket that was changed")?;
        owner.is_alive()
    }),
    must("mobility.garbage", "A ticket that is none is refused", "RFC 8016 section 3.2.2", |t| {
        offered(t)?;
        let mut client = t.client()?;
        let answer = refresh(&mut client, &[0x5a; 40], 600)?;
        code(&answer, &[400, 437])
    }),
    must(
        "mobility.old-tuple",
        "After the new five-tuple has been used the old one has nothing",
        "RFC 8016 section 3.2.2",
        |t| {
            let (mut old, first) = ticket(t)?;
            let peer = Peer::new(t)?;
            t.permit(&mut old, &peer)?;
            let (mut new, _) = take_over(t, &mut old, &first)?;
            new.expect_relay(&peer, b"from the new one")?;
            match old.refresh(600) {
                Ok(answer) => code(&answer, &[437]),
                // A stream, or an association, without an allocation may be ended.
                Err(_) if old.closed => Ok(()),
                Err(stop) => Err(stop),
            }
        },
    ),
    must("mobility.other-user", "A ticket is its user's", "RFC 8016 section 3.2.2", |t| {
        let other = t.options.other.clone().ok_or_else(|| skip("needs --other-user"))?;
        let (mut owner, good) = ticket(t)?;
        let mut thief = t.client_of(&other)?;
        let answer = refresh(&mut thief, &good, 600)?;
        want(!answer.is_success(), "a refusal", || answer.summary())?;
        owner.is_alive()
    }),
];

fn offered(t: &Trial<'_>) -> Verdict {
    if t.facts.mobility { Ok(()) } else { Err(skip("the server has no mobility (RFC 8016)")) }
}

fn ticket<'t>(t: &'t Trial<'t>) -> Result<(Client<'t>, Vec<u8>), Stop> {
    offered(t)?;
    let mut client = t.client()?;
    let answer = client.ask(kind::ALLOCATE, |w| {
        let w = transport(w).with(attribute::MOBILITY_TICKET, &[]);
        if t.options.peer_ip.is_ipv6() {
            return w.with(attribute::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
        }
        w
    })?;
    client.took(&answer)?;
    let ticket = answer.value(attribute::MOBILITY_TICKET).unwrap_or_default().to_vec();
    if ticket.is_empty() {
        return Err(fail("a ticket", "none"));
    }
    Ok((client, ticket))
}

fn refresh(client: &mut Client<'_>, ticket: &[u8], secs: u32) -> Result<Answer, Stop> {
    client.ask(kind::REFRESH, |w| {
        w.with_u32(attribute::LIFETIME, secs).with(attribute::MOBILITY_TICKET, ticket)
    })
}

/// A client on another five-tuple that has taken the allocation over, and its ticket.
fn take_over<'t>(
    t: &'t Trial<'t>,
    old: &mut Client<'_>,
    ticket: &[u8],
) -> Result<(Client<'t>, Vec<u8>), Stop> {
    let mut new = t.client()?;
    let answer = refresh(&mut new, ticket, 600)?;
    success(&answer)?;
    new.relayed = std::mem::take(&mut old.relayed);
    let next = answer.value(attribute::MOBILITY_TICKET).unwrap_or_default().to_vec();
    Ok((new, next))
}

fn moved<'t>(t: &'t Trial<'t>) -> Result<(Client<'t>, Vec<u8>, Vec<u8>), Stop> {
    let (mut old, first) = ticket(t)?;
    let (new, second) = take_over(t, &mut old, &first)?;
    Ok((new, first, second))
}
