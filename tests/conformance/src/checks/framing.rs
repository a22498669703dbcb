//! Headers and lengths (RFC 8489 sections 5, 6.3 and 14): what is not a STUN message is not
//! answered, and does nothing.

use super::UNKNOWN_OPTIONAL;
use crate::check::{Check, Over, Verdict, fail, must, should};
use crate::client::Client;
use crate::codec::{Writer, attribute, kind};
use crate::trial::Trial;

/// Of each table that is too large to be sent whole.
const SAMPLES: u64 = 200;
const BASIC: &str = "RFC 8489 section 6.3";

pub(super) const CHECKS: &[Check] = &[
    must("framing.cut", "A signed request cut short at any byte does nothing", BASIC, cut)
        .over(Over::Datagrams),
    must("framing.trailing", "Bytes after the message make it none", BASIC, trailing)
        .over(Over::Datagrams),
    must(
        "framing.length",
        "A length field that is not the datagram's makes it no message",
        BASIC,
        length,
    )
    .over(Over::Datagrams),
    must(
        "framing.length.odd",
        "A length that is no multiple of 4 makes it no message",
        "RFC 8489 section 5",
        odd_length,
    )
    .over(Over::Datagrams),
    should(
        "framing.cookie",
        "A wrong cookie, in any bit, makes it no message",
        "RFC 8489 section 5 (RFC 3489 clients are gone: section 11)",
        cookie,
    )
    .over(Over::Datagrams),
    must(
        "framing.first-byte",
        "Any first byte but a Binding request's is not answered",
        BASIC,
        first_byte,
    )
    .over(Over::Datagrams),
    must("framing.zero-bits", "The first two bits are zero", "RFC 8489 section 5", |t| {
        let messages = |client: &Client<'_>| {
            [0x80, 0xc0, 0x40]
                .map(|bits| {
                    let mut bytes = client.write(kind::BINDING).bytes();
                    bytes[0] |= bits;
                    bytes
                })
                .to_vec()
        };
        unanswered(t, messages, "first bits that are not zero")
    })
    .over(Over::Datagrams),
    must("framing.methods", "Requests of unknown methods are not answered", BASIC, |t| {
        sampled(t, 0, &[1, 3, 4, 8, 9, 0xa, 0xb], "requests of unknown methods")
    }),
    must(
        "framing.indications",
        "Indications are not answered, whatever their method",
        "RFC 8489 section 6.3.2",
        |t| sampled(t, 1, &[], "indications"),
    ),
    must(
        "framing.successes",
        "Success responses are not answered, whatever their method",
        "RFC 8489 section 6.3.3",
        |t| sampled(t, 2, &[], "success responses"),
    ),
    must(
        "framing.errors",
        "Error responses are not answered, whatever their method",
        "RFC 8489 section 6.3.4",
        |t| sampled(t, 3, &[], "error responses"),
    ),
    must(
        "framing.overrun",
        "An attribute that runs over the message's end makes it malformed",
        "RFC 8489 section 14",
        overrun,
    ),
    must("framing.empty", "An empty datagram and a single byte are no messages", BASIC, |t| {
        unanswered(t, |_| vec![vec![0], vec![0, 1], vec![0x40], vec![0x40, 0]], "single bytes")
    })
    .over(Over::Datagrams),
    must("framing.header-cut", "Every part of a bare header is no message", BASIC, |t| {
        let parts = |client: &Client<'_>| {
            let whole = client.write(kind::BINDING).bytes();
            (1..20).map(|len| whole[..len].to_vec()).collect()
        };
        unanswered(t, parts, "a part of a header")
    })
    .over(Over::Datagrams),
    should(
        "framing.duplicates",
        "Of several equal attributes the first counts",
        "RFC 8489 section 14",
        first_of_two,
    ),
];

/// Messages from a stranger that must all meet silence.
fn unanswered(
    t: &Trial<'_>,
    messages: impl FnOnce(&Client<'_>) -> Vec<Vec<u8>>,
    what: &str,
) -> Verdict {
    let mut client = t.stranger()?;
    let messages = messages(&client);
    client.expect_silence(&messages, what)
}

/// Broken forms of a signed request that would end the allocation, which must live on.
fn broken(t: &Trial<'_>, break_it: impl FnOnce(&[u8]) -> Vec<Vec<u8>>, what: &str) -> Verdict {
    let mut client = t.allocated()?;
    let end = client.sign(client.write(kind::REFRESH).with_u32(attribute::LIFETIME, 0)).bytes();
    let messages = break_it(&end);
    client.expect_silence(&messages, what)?;
    client.is_alive()
}

fn cut(t: &Trial<'_>) -> Verdict {
    broken(t, |good| (1..good.len()).map(|len| good[..len].to_vec()).collect(), "a cut request")
}

fn trailing(t: &Trial<'_>) -> Verdict {
    let longer = |good: &[u8]| (1..=32).map(|more| [good, &vec![0; more][..]].concat()).collect();
    broken(t, longer, "a request with more bytes after it")
}

fn with_length(good: &[u8], length: u16) -> Vec<u8> {
    let mut bytes = good.to_vec();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn length(t: &Trial<'_>) -> Verdict {
    let lie = |good: &[u8]| {
        let lengths = (0..=256).step_by(4).chain([1000, 0x7ffc, 0x8000, 0xfffc]);
        lengths
            .filter(|&length| usize::from(length) + 20 != good.len())
            .map(|length| with_length(good, length))
            .collect()
    };
    broken(t, lie, "a length that lies")
}

fn odd_length(t: &Trial<'_>) -> Verdict {
    let lie = |good: &[u8]| {
        let lengths = (0..=255u16).filter(|length| length % 4 != 0).chain([0xffff, 0x7fff]);
        lengths.map(|length| with_length(good, length)).collect()
    };
    broken(t, lie, "an odd length")
}

fn cookie(t: &Trial<'_>) -> Verdict {
    let messages = |client: &Client<'_>| {
        let flipped = (0..32).map(|bit: usize| {
            let mut bytes = client.write(kind::BINDING).bytes();
            bytes[4 + bit / 8] ^= 1 << (bit % 8);
            bytes
        });
        flipped.collect()
    };
    unanswered(t, messages, "a wrong cookie")
}

fn first_byte(t: &Trial<'_>) -> Verdict {
    let messages = |client: &Client<'_>| {
        let others = (1..=255).map(|first| {
            let mut bytes = client.write(kind::BINDING).bytes();
            bytes[0] = first;
            bytes
        });
        others.collect()
    };
    unanswered(t, messages, "another first byte")
}

/// Messages of a class with methods drawn from all 4096, and the lowest 16.
fn sampled(t: &Trial<'_>, class: u16, known: &[u16], what: &str) -> Verdict {
    let low = 0..16u64;
    let drawn = (0..SAMPLES).map(|_| t.random() % 4096);
    let methods: Vec<u16> = low.chain(drawn).map(|method| method as u16).collect();
    let mut client = t.stranger()?;
    let methods = methods.into_iter().filter(|method| !known.contains(method));
    let messages: Vec<Vec<u8>> =
        methods.map(|method| client.write(kind::of(method, class)).bytes()).collect();
    client.expect_silence(&messages, what)
}

/// Silence and 400 are both right, for this is a STUN message.
fn overrun(t: &Trial<'_>) -> Verdict {
    for (length, value) in [(4, &[][..]), (5, b"abcd"), (0xffff, b"abcd"), (8, b"abcd")] {
        let mut client = t.stranger()?;
        let message: Writer = client.write(kind::BINDING);
        let message = message.with_length(UNKNOWN_OPTIONAL, length, value).bytes();
        client.send(&message)?;
        client.sentinel()?;
        for bytes in std::mem::take(&mut client.inbox) {
            if client.read(&bytes).is_none_or(|answer| answer.code() != Some(400)) {
                let expected = format!("silence, or 400, to an attribute of {length} bytes");
                return Err(fail(expected, crate::codec::hex(&bytes)));
            }
        }
    }
    Ok(())
}

fn first_of_two(t: &Trial<'_>) -> Verdict {
    let mut client = t.allocated()?;
    let answer = client.ask(kind::REFRESH, |w| {
        w.with_u32(attribute::LIFETIME, 600).with_u32(attribute::LIFETIME, 0)
    })?;
    super::success(&answer)?;
    client.is_alive()
}
