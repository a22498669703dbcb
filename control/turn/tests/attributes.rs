//! The boundaries of every attribute's value, and of ChannelData.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

#[path = "generator/request.rs"]
mod request;

use request::{builder, request};
use turn::attribute::{
    AttributeType, ChannelNumber, Code, Family, Fault, Malformed, PasswordAlgorithm,
};
use turn::message::{BuildError, Builder, ChannelData, Message, is_channel_data};

/// What the typed getter of `kind` says, whichever it is.
fn check(message: &Message<'_>, kind: AttributeType) -> Result<(), Malformed> {
    type Type = AttributeType;
    match kind {
        Type::MAPPED_ADDRESS => message.mapped_address().map(drop),
        Type::USERNAME => message.username().map(drop),
        Type::ERROR_CODE => message.error_code().map(drop),
        Type::UNKNOWN_ATTRIBUTES => message.unknown_attributes().map(drop),
        Type::CHANNEL_NUMBER => message.channel_number().map(drop),
        Type::LIFETIME => message.lifetime_secs().map(drop),
        Type::XOR_PEER_ADDRESS => message.xor_peer_address().map(drop),
        Type::DATA => Ok(()),
        Type::REALM => message.realm().map(drop),
        Type::NONCE => message.nonce().map(drop),
        Type::XOR_RELAYED_ADDRESS => message.xor_relayed_address().map(drop),
        Type::REQUESTED_ADDRESS_FAMILY => message.requested_address_family().map(drop),
        Type::EVEN_PORT => message.even_port().map(drop),
        Type::REQUESTED_TRANSPORT => message.requested_transport().map(drop),
        Type::DONT_FRAGMENT => message.dont_fragment().map(drop),
        Type::PASSWORD_ALGORITHM => message.password_algorithm().map(drop),
        Type::USERHASH => message.userhash().map(drop),
        Type::XOR_MAPPED_ADDRESS => message.xor_mapped_address().map(drop),
        Type::RESERVATION_TOKEN => message.reservation_token().map(drop),
        Type::ADDITIONAL_ADDRESS_FAMILY => message.additional_address_family().map(drop),
        Type::ADDRESS_ERROR_CODE => message.address_error_code().map(drop),
        Type::PASSWORD_ALGORITHMS => message.password_algorithms().map(drop),
        Type::ALTERNATE_DOMAIN => message.alternate_domain().map(drop),
        Type::ICMP => message.icmp().map(drop),
        Type::SOFTWARE => message.software().map(drop),
        Type::CONNECTION_ID => message.connection_id().map(drop),
        Type::MOBILITY_TICKET | Type::ACCESS_TOKEN | Type::PADDING => Ok(()),
        Type::THIRD_PARTY_AUTHORIZATION => message.third_party_authorization().map(drop),
        Type::CHANGE_REQUEST => message.change_request().map(drop),
        Type::RESPONSE_PORT => message.response_port().map(drop),
        Type::RESPONSE_ORIGIN => message.response_origin().map(drop),
        Type::OTHER_ADDRESS => message.other_address().map(drop),
        Type::ALTERNATE_SERVER => message.alternate_server().map(drop),
        other => panic!("no getter for {other}"),
    }
}

#[test]
fn fixed_lengths_are_exact() {
    type Type = AttributeType;
    let v4: &[u8] = &[0, 1, 0, 9, 1, 2, 3, 4];
    let cases: &[(AttributeType, &[usize])] = &[
        (Type::CHANNEL_NUMBER, &[4]),
        (Type::LIFETIME, &[4]),
        (Type::REQUESTED_ADDRESS_FAMILY, &[4]),
        (Type::ADDITIONAL_ADDRESS_FAMILY, &[4]),
        (Type::EVEN_PORT, &[1]),
        (Type::REQUESTED_TRANSPORT, &[4]),
        (Type::DONT_FRAGMENT, &[0]),
        (Type::USERHASH, &[32]),
        (Type::RESERVATION_TOKEN, &[8]),
        (Type::ICMP, &[8]),
        (Type::CONNECTION_ID, &[4]),
        (Type::CHANGE_REQUEST, &[4]),
        (Type::RESPONSE_PORT, &[2, 4]),
        (Type::RESPONSE_ORIGIN, &[8]),
        (Type::OTHER_ADDRESS, &[8]),
        (Type::MAPPED_ADDRESS, &[8]),
        (Type::ALTERNATE_SERVER, &[8]),
        (Type::XOR_MAPPED_ADDRESS, &[8]),
        (Type::XOR_PEER_ADDRESS, &[8]),
        (Type::XOR_RELAYED_ADDRESS, &[8]),
    ];
    for (kind, good) in cases {
        for len in 0..=40 {
            let mut value = vec![0; len];
            match *kind {
                // A good beginning, so that only the length can be wrong.
                Type::CHANNEL_NUMBER => copy(&mut value, &[0x40]),
                Type::REQUESTED_ADDRESS_FAMILY | Type::ADDITIONAL_ADDRESS_FAMILY => {
                    copy(&mut value, &[1])
                }
                _ => copy(&mut value, v4),
            }
            let bytes = request(&[(*kind, &value)]);
            let expected =
                if good.contains(&len) { Ok(()) } else { Err(Fault::Length(len).of(*kind)) };
            assert_eq!(check(&Message::parse(&bytes).unwrap(), *kind), expected, "{len}");
        }
    }
}

fn copy(to: &mut [u8], from: &[u8]) {
    let len = to.len().min(from.len());
    to[..len].copy_from_slice(&from[..len]);
}

#[test]
fn addresses_have_a_known_family_and_its_length() {
    for kind in [AttributeType::MAPPED_ADDRESS, AttributeType::XOR_PEER_ADDRESS] {
        for family in 0..=255 {
            for len in [4, 7, 8, 9, 19, 20, 21] {
                let mut value = vec![0; len];
                value[1] = family;
                let bytes = request(&[(kind, &value)]);
                let expected = match (family, len) {
                    (1, 8) | (2, 20) => Ok(()),
                    (1 | 2, _) => Err(Fault::Length(len).of(kind)),
                    _ => Err(Fault::Family(family).of(kind)),
                };
                assert_eq!(check(&Message::parse(&bytes).unwrap(), kind), expected);
            }
        }
    }
    let bytes = request(&[(AttributeType::REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0])]);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.requested_address_family().unwrap_err().fault, Fault::Family(3));
}

#[test]
fn reserved_bits_are_ignored_when_read_and_zero_when_written() {
    type Type = AttributeType;
    let bytes = request(&[
        (Type::CHANNEL_NUMBER, &[0x40, 1, 0xFF, 0xFF]),
        (Type::REQUESTED_TRANSPORT, &[17, 0xFF, 0xFF, 0xFF]),
        (Type::REQUESTED_ADDRESS_FAMILY, &[2, 0xFF, 0xFF, 0xFF]),
        (Type::EVEN_PORT, &[0x7F]),
        (Type::ERROR_CODE, &[0xFF, 0xFF, 0xFC, 1]),
        (Type::ICMP, &[0xFF, 0xFF, 3, 4, 0, 0, 5, 220]),
        (Type::MAPPED_ADDRESS, &[0xFF, 1, 0, 9, 1, 2, 3, 4]),
    ]);
    let message = Message::parse(&bytes).unwrap();
    let channel = ChannelNumber::new(0x4001).unwrap();
    assert_eq!(message.channel_number(), Ok(Some(channel)));
    assert_eq!(message.requested_transport(), Ok(Some(17)));
    assert_eq!(message.requested_address_family(), Ok(Some(Family::V6)));
    assert_eq!(message.even_port(), Ok(Some(false)));
    assert_eq!(message.error_code().unwrap().unwrap().code.value(), 401);
    assert_eq!(message.icmp().unwrap().unwrap().data, 1500);
    assert_eq!(message.mapped_address(), Ok(Some("1.2.3.4:9".parse().unwrap())));

    let mut out = Vec::new();
    let mut builder = builder(&mut out);
    builder.channel_number(channel).even_port(true).requested_transport(17).dont_fragment();
    let expected: &[u8] = &[
        0, 12, 0, 4, 0x40, 1, 0, 0, 0, 24, 0, 1, 0x80, 0, 0, 0, 0, 25, 0, 4, 17, 0, 0, 0, 0, 26, 0,
        0,
    ];
    assert_eq!(&builder.finish().unwrap()[20..], expected);
}

#[test]
fn text_is_utf8_and_limited_both_ways() {
    type Type = AttributeType;
    for kind in [Type::USERNAME, Type::REALM, Type::SOFTWARE, Type::NONCE] {
        for len in [0, 1, 508, 509, 763] {
            let bytes = request(&[(kind, &vec![b'x'; len])]);
            assert_eq!(check(&Message::parse(&bytes).unwrap(), kind), Ok(()), "{kind} {len}");
        }
        let bytes = request(&[(kind, &[b'x'; 764])]);
        let expected = Err(Fault::Length(764).of(kind));
        assert_eq!(check(&Message::parse(&bytes).unwrap(), kind), expected);
    }
    for kind in [Type::USERNAME, Type::REALM, Type::SOFTWARE, Type::ALTERNATE_DOMAIN] {
        let bytes = request(&[(kind, b"\xC3\x28")]);
        assert_eq!(check(&Message::parse(&bytes).unwrap(), kind), Err(Fault::Utf8.of(kind)));
    }
    for (len, fits) in [(255, true), (256, false)] {
        let bytes = request(&[(Type::ALTERNATE_DOMAIN, &vec![b'x'; len])]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.alternate_domain().is_ok(), fits);
    }
    let mut out = Vec::new();
    let mut fits = |max: usize, kind, write: &dyn Fn(&mut Builder<'_>, &str)| {
        for len in [max, max + 1] {
            let mut builder = builder(&mut out);
            write(&mut builder, &"x".repeat(len));
            let expected = if len == max { None } else { Some(BuildError::TooLong(kind)) };
            assert_eq!(builder.finish().err(), expected, "{kind} {len}");
        }
    };
    fits(508, Type::USERNAME, &|b, text| {
        b.username(text);
    });
    fits(509, Type::REALM, &|b, text| {
        b.realm(text);
    });
    fits(509, Type::NONCE, &|b, text| {
        b.nonce(text.as_bytes());
    });
    fits(509, Type::SOFTWARE, &|b, text| {
        b.software(text);
    });
    fits(255, Type::ALTERNATE_DOMAIN, &|b, text| {
        b.alternate_domain(text);
    });
    let code = Code::BAD_REQUEST;
    fits(509, Type::ERROR_CODE, &|b, text| {
        b.error_code_reason(code, text);
    });
    fits(65528, Type::DATA, &|b, text| {
        b.data(text.as_bytes());
    });
}

#[test]
fn error_codes_run_from_300_to_699() {
    for class in 0..8_u8 {
        for number in 0..=255_u8 {
            let bytes = request(&[(AttributeType::ERROR_CODE, &[0, 0, class, number])]);
            let code = Message::parse(&bytes).unwrap().error_code();
            if (3..=6).contains(&class) && number < 100 {
                let value = u16::from(class) * 100 + u16::from(number);
                assert_eq!(code.unwrap().unwrap().code.value(), value);
            } else {
                assert_eq!(code.unwrap_err().fault, Fault::ErrorCode(class, number));
            }
        }
    }
    assert_eq!([299, 300, 699, 700].map(|v| Code::new(v).is_some()), [false, true, true, false]);
    let short = request(&[(AttributeType::ERROR_CODE, &[0, 0, 4])]);
    assert!(Message::parse(&short).unwrap().error_code().is_err());
    let long = request(&[(AttributeType::ERROR_CODE, &[&[0, 0, 4, 1], &[b'x'; 764][..]].concat())]);
    assert!(Message::parse(&long).unwrap().error_code().is_err());
}

#[test]
fn of_all_65536_channel_numbers_4096_are_channels() {
    for number in 0..=u16::MAX {
        let good = (0x4000..=0x4FFF).contains(&number);
        let [high, low] = number.to_be_bytes();
        let bytes = request(&[(AttributeType::CHANNEL_NUMBER, &[high, low, 0, 0])]);
        match Message::parse(&bytes).unwrap().channel_number() {
            Ok(channel) => assert!(good && channel.unwrap().number() == number),
            Err(error) => assert!(!good && error.fault == Fault::ChannelNumber(number)),
        }
        let datagram = [high, low, 0, 1, 9];
        assert_eq!(ChannelData::parse(&datagram).is_some(), good);
        assert_eq!(is_channel_data(&datagram), good);
    }
}

#[test]
fn channel_data_has_its_length_and_at_most_three_bytes_of_padding() {
    let channel = ChannelNumber::MIN;
    let mut out = Vec::new();
    for len in 0..=64_usize {
        let data = vec![0xDA; len];
        for padded in [false, true] {
            let bytes = ChannelData { channel, data: &data }.write(&mut out, padded).unwrap();
            let expected = if padded { len.next_multiple_of(4) } else { len };
            assert_eq!(bytes.len(), 4 + expected);
            assert_eq!(ChannelData::parse(bytes), Some(ChannelData { channel, data: &data }));
        }
        for extra in 0..8 {
            ChannelData { channel, data: &data }.write(&mut out, false).unwrap();
            out.resize(4 + len + extra, 0xEE);
            assert_eq!(ChannelData::parse(&out).is_some(), extra <= 3, "{len} + {extra}");
        }
        ChannelData { channel, data: &data }.write(&mut out, false).unwrap();
        out.pop();
        assert_eq!(ChannelData::parse(&out), None);
    }
    assert_eq!((0..4).find(|&len| ChannelData::parse(&[0x40; 4][..len]).is_some()), None);
    assert!(ChannelData { channel, data: &[0; 65535] }.write(&mut out, true).is_some());
    assert!(ChannelData { channel, data: &[0; 65536] }.write(&mut out, true).is_none());
}

#[test]
fn password_algorithm_lists_keep_what_they_do_not_know() {
    let kind = AttributeType::PASSWORD_ALGORITHMS;
    // An unknown algorithm with 5 bytes of parameters (and 3 of padding), then SHA-256, MD5.
    let value = [0, 9, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0];
    let bytes = request(&[(kind, &value)]);
    let list = Message::parse(&bytes).unwrap().password_algorithms().unwrap().unwrap();
    let (sha256, md5) = (PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5);
    assert_eq!(list.iter().collect::<Vec<_>>(), [None, Some(sha256), Some(md5)]);
    assert_eq!(list.first_supported(), Some(sha256));
    assert_eq!(list.as_bytes(), value);
    assert!(!list.is_echo_of(&[sha256, md5]));

    let bytes = request(&[(kind, &value[12..])]);
    let list = Message::parse(&bytes).unwrap().password_algorithms().unwrap().unwrap();
    assert!(list.is_echo_of(&[sha256, md5]));
    assert!(!list.is_echo_of(&[md5, sha256]) && !list.is_echo_of(&[sha256]));

    for (value, fault) in [
        (&[][..], Fault::Length(0)),
        (&[0, 1, 0][..], Fault::Length(3)),
        (&[0, 1, 0, 1][..], Fault::Parameters),
        (&[0, 1, 0, 0, 0][..], Fault::Length(1)),
    ] {
        let bytes = request(&[(kind, value)]);
        let malformed = Message::parse(&bytes).unwrap().password_algorithms().unwrap_err();
        assert_eq!(malformed.fault, fault);
    }
    // One algorithm: unknown is not malformed; two are.
    let kind = AttributeType::PASSWORD_ALGORITHM;
    let one = |value: &[u8]| {
        let bytes = request(&[(kind, value)]);
        Message::parse(&bytes).unwrap().password_algorithm()
    };
    assert_eq!(one(&[0, 2, 0, 0]), Ok(Some(Some(sha256))));
    assert_eq!(one(&[0, 3, 0, 0]), Ok(Some(None)));
    assert_eq!(one(&[0, 2, 0, 4, 0, 0, 0, 0]), Ok(Some(None)));
    assert_eq!(one(&[0, 2, 0, 0, 0, 1, 0, 0]), Err(Fault::Length(8).of(kind)));
    assert_eq!(one(&[]), Err(Fault::Length(0).of(kind)));
}
