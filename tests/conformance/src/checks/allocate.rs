//! Allocate (RFC 8656 section 7).

use super::auth::transport;
use super::{UNKNOWN, code, success};
use crate::check::{Check, Over, Stop, Verdict, fail, must, should, skip, want};
use crate::codec::{Answer, Writer, attribute, kind};
use crate::trial::Trial;

const RULE: &str = "RFC 8656 section 7.2";
const ANSWER: &str = "RFC 8656 section 7.3";

pub(super) const CHECKS: &[Check] = &[
    must(
        "allocate.success",
        "A success has XOR-RELAYED-ADDRESS, LIFETIME and XOR-MAPPED-ADDRESS",
        RULE,
        |t| {
            let answer = t.client()?.allocate()?;
            for kind in
                [attribute::XOR_RELAYED_ADDRESS, attribute::LIFETIME, attribute::XOR_MAPPED_ADDRESS]
            {
                want(answer.has(kind), "all three", || format!("{kind:#06x} is missing"))?;
            }
            Ok(())
        },
    ),
    must("allocate.bare-success", "... and no token that was not asked for", RULE, |t| {
        let answer = t.client()?.allocate()?;
        let token = answer.has(attribute::RESERVATION_TOKEN);
        want(!token, "no RESERVATION-TOKEN", || "one".into())
    }),
    must("allocate.default-family", "Without a family the relayed address is IPv4", RULE, |t| {
        let mut client = t.client()?;
        let answer = client.ask(kind::ALLOCATE, transport)?;
        client.took(&answer)?;
        want(client.relay().is_ipv4(), "an IPv4 address", || client.relay().to_string())
    }),
    should(
        "allocate.port-range",
        "Relayed ports are in the dynamic range, 49152 to 65535",
        RULE,
        |t| {
            let client = t.allocated()?;
            let port = client.relay().port();
            want(port >= 49152, "49152 or above", || port.to_string())
        },
    ),
    should("allocate.port-random", "Relayed ports are hard to guess", RULE, |t| {
        let clients: Result<Vec<_>, Stop> = (0..4).map(|_| t.allocated()).collect();
        let ports: Vec<u16> = clients?.iter().map(|client| client.relay().port()).collect();
        let steps: Vec<i32> =
            ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
        let even = steps.iter().all(|step| *step == steps[0] && step.abs() < 8);
        want(!even, "no steps of one size", || format!("{ports:?}"))
    }),
    should(
        "allocate.lifetime.default",
        "The default lifetime is 600 s",
        "RFC 8656 section 3.2",
        |t| lifetime(t, None, 600, 600),
    ),
    must(
        "allocate.lifetime.small",
        "A smaller lifetime than the default is raised to it",
        RULE,
        |t| lifetime(t, Some(1), 600, 3600),
    ),
    must("allocate.lifetime.zero", "A lifetime of 0 is raised to the default", RULE, |t| {
        lifetime(t, Some(0), 600, 3600)
    }),
    should(
        "allocate.lifetime.larger",
        "A larger lifetime is given, if it is not too large",
        RULE,
        |t| lifetime(t, Some(1200), 1200, 1200),
    ),
    should("allocate.lifetime.cap", "No lifetime is above an hour", RULE, |t| {
        lifetime(t, Some(u32::MAX), 600, 3600)
    }),
    must("allocate.lifetime.malformed", "LIFETIME of another length is a 400", RULE, |t| {
        refused(t, |w| transport(w).with(attribute::LIFETIME, &[0, 0]), &[400])
    }),
    must("allocate.no-transport", "Without REQUESTED-TRANSPORT it is a 400", RULE, |t| {
        refused(t, |w| w, &[400])
    }),
    must(
        "allocate.transport.length",
        "REQUESTED-TRANSPORT of another length is a 400",
        RULE,
        |t| refused(t, |w| w.with(attribute::REQUESTED_TRANSPORT, &[17]), &[400]),
    ),
    must(
        "allocate.transport.unknown",
        "A transport that is neither UDP nor TCP is a 442",
        RULE,
        |t| {
            for protocol in [0, 1, 41, 132, 255] {
                refused(
                    t,
                    |w| w.with(attribute::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0]),
                    &[442],
                )?;
            }
            Ok(())
        },
    ),
    must(
        "allocate.transport.tcp",
        "A relayed TCP address cannot be had over UDP or DTLS",
        "RFC 6062 section 5.1",
        |t| {
            let ask = |w: Writer| w.with(attribute::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
            refused(t, ask, &[442, 400])
        },
    )
    .over(Over::Datagrams),
    must(
        "allocate.transport.reserved",
        "The reserved bytes of REQUESTED-TRANSPORT are ignored",
        "RFC 8656 section 18.7",
        |t| {
            let ask = |w: Writer| w.with(attribute::REQUESTED_TRANSPORT, &[17, 0xff, 0xff, 0xff]);
            accepted(t, ask).map(|_| ())
        },
    ),
    must("allocate.unknown", "An unknown required attribute is a 420 that lists it", RULE, |t| {
        let answer = ask(t, |w| transport(w).with(UNKNOWN, b"what"))?;
        code(&answer, &[420])?;
        let list = answer.value(attribute::UNKNOWN_ATTRIBUTES).unwrap_or_default();
        want(list == UNKNOWN.to_be_bytes(), "7f01", || crate::codec::hex(list))
    }),
    must(
        "allocate.optional",
        "An unknown optional attribute is ignored",
        "RFC 8489 section 6.3.1",
        |t| accepted(t, |w| transport(w).with(0xff77, b"what")).map(|_| ()),
    ),
    must("allocate.twice", "A second Allocate on a five-tuple is a 437", RULE, |t| {
        let mut client = t.allocated()?;
        let answer = client.ask(kind::ALLOCATE, transport)?;
        code(&answer, &[437])?;
        client.is_alive()
    }),
    must("allocate.retransmission", "A retransmitted Allocate has the same success", RULE, |t| {
        let mut client = t.client()?;
        let request = client.sign(transport(client.write(kind::ALLOCATE))).bytes();
        let one = client.exchange(&request)?;
        client.took(&one)?;
        let two = client.exchange(&request)?;
        success(&two)?;
        let address = |answer: &Answer| answer.xor_address(attribute::XOR_RELAYED_ADDRESS);
        let (one, two) = (address(&one), address(&two));
        want(one == two, "the same relayed address", || format!("{one:?} and {two:?}"))
    })
    .over(Over::Datagrams),
    must(
        "allocate.five-tuples",
        "Every five-tuple has an allocation of its own",
        "RFC 8656 section 3.2",
        |t| {
            let (one, two) = (t.allocated()?, t.allocated()?);
            want(one.relay() != two.relay(), "two addresses", || one.relay().to_string())
        },
    ),
    must("allocate.family.v4", "REQUESTED-ADDRESS-FAMILY IPv4 gives an IPv4 address", RULE, |t| {
        let client = family(t, 1)?;
        want(client.is_ipv4(), "an IPv4 address", || client.to_string())
    }),
    must(
        "allocate.family.v6",
        "REQUESTED-ADDRESS-FAMILY IPv6 gives an IPv6 address, or 440",
        RULE,
        |t| {
            let answer =
                ask(t, |w| transport(w).with(attribute::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]))?;
            if answer.code() == Some(440) {
                return Err(skip("the server has no IPv6 addresses, and says so by 440"));
            }
            let relayed = answer.xor_address(attribute::XOR_RELAYED_ADDRESS);
            want(relayed.is_some_and(|a| a.is_ipv6()), "an IPv6 address", || answer.summary())
        },
    ),
    must("allocate.family.unknown", "An unknown family is a 440", RULE, |t| {
        let ask = |w| transport(w).with(attribute::REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0]);
        refused(t, ask, &[440])
    }),
    must(
        "allocate.family.length",
        "REQUESTED-ADDRESS-FAMILY of another length is a 400",
        RULE,
        |t| refused(t, |w| transport(w).with(attribute::REQUESTED_ADDRESS_FAMILY, &[1]), &[400]),
    ),
    must(
        "allocate.both-families",
        "REQUESTED- with ADDITIONAL-ADDRESS-FAMILY is a 400",
        RULE,
        |t| {
            let ask = |w: Writer| {
                transport(w)
                    .with(attribute::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0])
                    .with(attribute::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
            };
            refused(t, ask, &[400])
        },
    ),
    must("allocate.additional.v4", "ADDITIONAL-ADDRESS-FAMILY IPv4 is a 400", RULE, |t| {
        let ask = |w| transport(w).with(attribute::ADDITIONAL_ADDRESS_FAMILY, &[1, 0, 0, 0]);
        refused(t, ask, &[400])
    }),
    must(
        "allocate.dual",
        "ADDITIONAL-ADDRESS-FAMILY IPv6 gives an address of each family",
        RULE,
        |t| {
            let client = t.allocated_dual()?;
            let families: Vec<bool> = client.relayed.iter().map(|a| a.is_ipv6()).collect();
            let both = families.contains(&true) && families.contains(&false) && families.len() == 2;
            want(both, "IPv4 and IPv6", || format!("{:?}", client.relayed))
        },
    ),
    must("allocate.dual.error", "... or one, and ADDRESS-ERROR-CODE for the other", RULE, |t| {
        let answer = accepted(t, |w| {
            transport(w).with(attribute::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
        })?;
        if answer.xor_addresses(attribute::XOR_RELAYED_ADDRESS).len() == 2 {
            return Err(skip("the server has addresses of both families"));
        }
        let error = answer.value(attribute::ADDRESS_ERROR_CODE);
        let said = error.is_some_and(|value| value.starts_with(&[2, 0, 4, 40]));
        want(said, "440 for IPv6", || format!("{error:02x?}"))
    }),
    must(
        "allocate.dual.even-port",
        "ADDITIONAL-ADDRESS-FAMILY with EVEN-PORT R=1 is a 400",
        RULE,
        |t| {
            let ask = |w: Writer| {
                transport(w)
                    .with(attribute::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
                    .with(attribute::EVEN_PORT, &[0x80])
            };
            refused(t, ask, &[400])
        },
    ),
    must("allocate.dont-fragment", "DONT-FRAGMENT is taken, or a 420 that lists it", RULE, |t| {
        let answer = ask(t, |w| transport(w).with(attribute::DONT_FRAGMENT, b""))?;
        if answer.code() == Some(420) {
            let list = answer.value(attribute::UNKNOWN_ATTRIBUTES).unwrap_or_default();
            let named = list == attribute::DONT_FRAGMENT.to_be_bytes();
            return want(named, "001a", || crate::codec::hex(list));
        }
        success(&answer)
    }),
    should("allocate.dont-fragment.supported", "DONT-FRAGMENT is supported", RULE, |t| {
        accepted(t, |w| transport(w).with(attribute::DONT_FRAGMENT, b"")).map(|_| ())
    }),
    must(
        "allocate.error.reason",
        "ERROR-CODE of a refusal is well-formed",
        "RFC 8489 section 14.8",
        |t| {
            let answer = ask(t, |w| w)?;
            let value = answer.value(attribute::ERROR_CODE).unwrap_or_default();
            let good = value.len() >= 4
                && value[..2] == [0, 0]
                && (3..=6).contains(&value[2])
                && value[3] < 100
                && std::str::from_utf8(&value[4..]).is_ok();
            want(good, "a code of 300 to 699 and UTF-8", || crate::codec::hex(value))
        },
    ),
    must(
        "allocate.refused-keeps-nothing",
        "A refused Allocate leaves the five-tuple free",
        RULE,
        |t| {
            let mut client = t.client()?;
            code(&client.ask(kind::ALLOCATE, |w| w)?, &[400])?;
            client.allocate().map(|_| ())
        },
    ),
    must("allocate.quota", "Beyond the user's quota it is a 486", RULE, |t| {
        let Some(quota) = t.options.quota else { return Err(skip("needs --quota")) };
        let mut held = Vec::new();
        for _ in 0..quota {
            let mut client = t.client()?;
            let answer = client.ask(kind::ALLOCATE, transport)?;
            if client.took(&answer).is_err() {
                return code(&answer, &[486]);
            }
            held.push(client);
        }
        let mut client = t.client()?;
        code(&client.ask(kind::ALLOCATE, transport)?, &[486])
    })
    .alone(),
    must(
        "allocate.success-family",
        "XOR-MAPPED-ADDRESS has the family of the client",
        ANSWER,
        |t| {
            let mut client = t.client()?;
            let answer = client.allocate()?;
            let mapped = answer.xor_address(attribute::XOR_MAPPED_ADDRESS);
            let same = mapped.is_some_and(|a| a.is_ipv6() == client.local().is_ipv6());
            want(same, "one family", || format!("{mapped:?}"))
        },
    ),
];

/// An Allocate on a five-tuple of its own. A success is given back at once.
pub(super) fn ask(t: &Trial<'_>, fill: impl Fn(Writer) -> Writer) -> Result<Answer, Stop> {
    let mut client = t.client()?;
    let answer = client.ask(kind::ALLOCATE, fill)?;
    if answer.is_success() {
        client.took(&answer)?;
    }
    Ok(answer)
}

pub(super) fn refused(t: &Trial<'_>, fill: impl Fn(Writer) -> Writer, codes: &[u16]) -> Verdict {
    code(&ask(t, fill)?, codes)
}

pub(super) fn accepted(t: &Trial<'_>, fill: impl Fn(Writer) -> Writer) -> Result<Answer, Stop> {
    let answer = ask(t, fill)?;
    if answer.is_success() { Ok(answer) } else { Err(fail("success", answer.summary())) }
}

fn lifetime(t: &Trial<'_>, asked: Option<u32>, least: u32, most: u32) -> Verdict {
    let answer = accepted(t, |w| match asked {
        Some(secs) => transport(w).with_u32(attribute::LIFETIME, secs),
        None => transport(w),
    })?;
    let secs = answer.u32(attribute::LIFETIME).unwrap_or(0);
    let expected = format!("a lifetime of {least} to {most} s");
    want((least..=most).contains(&secs), &expected, || format!("{secs} s"))
}

fn family(t: &Trial<'_>, family: u8) -> Result<std::net::SocketAddr, Stop> {
    let ask = |w| transport(w).with(attribute::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
    let answer = accepted(t, ask)?;
    let relayed = answer.xor_address(attribute::XOR_RELAYED_ADDRESS);
    relayed.ok_or_else(|| fail("XOR-RELAYED-ADDRESS", "none"))
}
