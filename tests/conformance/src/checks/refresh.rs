//! Refresh (RFC 8656 section 8).

use super::auth::transport;
use super::{UNKNOWN, code, success};
use crate::check::{Check, Over, Verdict, must, should, want};
use crate::codec::{attribute, kind};
use crate::trial::Trial;

const RULE: &str = "RFC 8656 section 8.2";

pub(super) const CHECKS: &[Check] = &[
    must("refresh.success", "A Refresh is answered with the new LIFETIME", RULE, |t| {
        lifetime(t, Some(900), 600, 3600)
    }),
    should("refresh.longer", "A lifetime between default and maximum is given", RULE, |t| {
        lifetime(t, Some(1800), 1800, 1800)
    }),
    must("refresh.small", "A smaller lifetime than the default is raised to it", RULE, |t| {
        lifetime(t, Some(1), 600, 3600)
    }),
    should("refresh.cap", "No lifetime is above an hour", RULE, |t| {
        lifetime(t, Some(u32::MAX), 600, 3600)
    }),
    must("refresh.default", "Without LIFETIME the default is given", RULE, |t| {
        lifetime(t, None, 600, 3600)
    }),
    must("refresh.delete", "A lifetime of 0 ends the allocation, and says so", RULE, |t| {
        let mut client = t.allocated()?;
        let answer = client.refresh(0)?;
        success(&answer)?;
        client.relayed.clear();
        let secs = answer.u32(attribute::LIFETIME);
        want(secs == Some(0), "LIFETIME 0", || format!("{secs:?}"))?;
        code(&client.refresh(600)?, &[437])
    }),
    must("refresh.delete.reuse", "After that the five-tuple is free for another", RULE, |t| {
        let mut client = t.allocated()?;
        success(&client.refresh(0)?)?;
        client.relayed.clear();
        client.allocate().map(|_| ())
    }),
    must("refresh.delete.relays-nothing", "After that nothing is relayed", RULE, |t| {
        let (mut client, peer) = t.call()?;
        let relay = client.relay();
        client.expect_relay(&peer, b"before")?;
        success(&client.refresh(0)?)?;
        client.relayed.clear();
        client.send_data(peer.address(), b"after")?;
        client.sentinel()?;
        peer.expect_nothing("an allocation that has ended")?;
        peer.send(relay, b"after")?;
        client.expect_silence(&[], "an allocation that has ended")
    }),
    must("refresh.no-allocation", "Without an allocation it is a 437", RULE, |t| {
        code(&t.client()?.refresh(600)?, &[437])
    }),
    must("refresh.no-allocation.zero", "... for a lifetime of 0, too", RULE, |t| {
        code(&t.client()?.refresh(0)?, &[437])
    }),
    must(
        "refresh.other-tuple",
        "An allocation is refreshed from its own five-tuple only",
        "RFC 8656 section 5",
        |t| {
            let mut owner = t.allocated()?;
            code(&t.client()?.refresh(0)?, &[437])?;
            owner.is_alive()
        },
    ),
    must("refresh.malformed", "LIFETIME of another length is a 400", RULE, |t| {
        let mut client = t.allocated()?;
        let answer = client.ask(kind::REFRESH, |w| w.with(attribute::LIFETIME, &[0]))?;
        code(&answer, &[400])?;
        client.is_alive()
    }),
    must(
        "refresh.unknown",
        "An unknown required attribute is a 420, and nothing happens",
        RULE,
        |t| {
            let mut client = t.allocated()?;
            let answer = client
                .ask(kind::REFRESH, |w| w.with_u32(attribute::LIFETIME, 0).with(UNKNOWN, b""))?;
            code(&answer, &[420])?;
            client.is_alive()
        },
    ),
    must("refresh.family", "REQUESTED-ADDRESS-FAMILY of the allocation is fine", RULE, |t| {
        let mut client = t.client()?;
        let answer = client.ask(kind::ALLOCATE, transport)?;
        client.took(&answer)?;
        let answer = client
            .ask(kind::REFRESH, |w| w.with(attribute::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]))?;
        success(&answer)
    }),
    must("refresh.family.other", "Another family is a 443", RULE, |t| {
        let mut client = t.client()?;
        let answer = client.ask(kind::ALLOCATE, transport)?;
        client.took(&answer)?;
        let answer = client.ask(kind::REFRESH, |w| {
            w.with_u32(attribute::LIFETIME, 0)
                .with(attribute::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])
        })?;
        code(&answer, &[443])?;
        client.is_alive()
    }),
    must("refresh.dual.one", "Of two addresses one can be given back", RULE, |t| {
        let mut client = t.allocated_dual()?;
        let family = |family: u8, secs: u32| {
            move |w: crate::codec::Writer| {
                w.with_u32(attribute::LIFETIME, secs)
                    .with(attribute::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0])
            }
        };
        success(&client.ask(kind::REFRESH, family(2, 0))?)?;
        success(&client.ask(kind::REFRESH, family(1, 600))?)?;
        code(&client.ask(kind::REFRESH, family(2, 600))?, &[443])
    }),
    must("refresh.dual.all", "Without a family both addresses end", RULE, |t| {
        let mut client = t.allocated_dual()?;
        success(&client.refresh(0)?)?;
        client.relayed.clear();
        code(&client.refresh(600)?, &[437])
    }),
    must("refresh.retransmission", "A retransmitted Refresh is answered again", RULE, |t| {
        let mut client = t.allocated()?;
        let w = client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 700);
        let request = client.sign(w).bytes();
        success(&client.exchange(&request)?)?;
        success(&client.exchange(&request)?)
    })
    .over(Over::Datagrams),
];

fn lifetime(t: &Trial<'_>, asked: Option<u32>, least: u32, most: u32) -> Verdict {
    let mut client = t.allocated()?;
    let answer = client.ask(kind::REFRESH, |w| match asked {
        Some(secs) => w.with_u32(attribute::LIFETIME, secs),
        None => w,
    })?;
    success(&answer)?;
    let secs = answer.u32(attribute::LIFETIME).unwrap_or(0);
    let expected = format!("a lifetime of {least} to {most} s");
    want((least..=most).contains(&secs), &expected, || format!("{secs} s"))
}
