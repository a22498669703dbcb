//! Attributes: what a typed getter reads from any value, its writer writes, and the getter reads the
//! same again. What the getter refuses is never read as something else.
//!
//! ```text
//!   | kind 1 | transaction 12 | value ... |
//! ```

use std::net::SocketAddr;

use turn::attribute::{AttributeType as Type, ChannelNumber, Icmp};
use turn::message::{Builder, Class, Message, Method, TransactionId};

use crate::input::Input;

fn build(id: TransactionId, fill: impl FnOnce(&mut Builder<'_>)) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut builder = Builder::new(&mut out, Class::Success, Method::ALLOCATE, id);
    fill(&mut builder);
    builder.finish().is_ok().then_some(())?;
    Some(out)
}

/// `get` reads, `put` writes what was read; `limit` is where writing is stricter than reading.
macro_rules! both {
    ($id:expr, $value:expr, $kind:ident, |$m:ident| $get:expr, |$b:ident, $v:ident| $put:expr) => {
        both!($id, $value, $kind, usize::MAX, |$m| $get, |$b, $v| $put)
    };
    ($id:expr, $value:expr, $kind:ident, $limit:expr, |$m:ident| $get:expr, |$b:ident, $v:ident| $put:expr) => {{
        let first = build($id, |b| _ = b.attribute(Type::$kind, $value)).expect("it fits");
        let $m = Message::parse(&first).expect("one attribute");
        let Ok(Some($v)) = $get else { return };
        let Some(second) = build($id, |$b| _ = $put) else {
            assert!($value.len() > $limit, "what was read cannot be written");
            return;
        };
        let before = $v;
        let $m = Message::parse(&second).expect("we read what we write");
        assert_eq!($m.attributes().count(), 1);
        let Ok(Some($v)) = $get else { panic!("what was written is not read") };
        assert_eq!($v, before);
    }};
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.below(35);
    let id = TransactionId(input.array());
    let value = input.rest();
    match kind {
        0 => both!(id, value, MAPPED_ADDRESS, |m| m.mapped_address(), |b, v| b.mapped_address(v)),
        1 => both!(id, value, USERNAME, 508, |m| m.username(), |b, v| b.username(v)),
        2 => both!(id, value, REALM, 509, |m| m.realm(), |b, v| b.realm(v)),
        3 => both!(id, value, NONCE, 509, |m| m.nonce(), |b, v| b.nonce(v)),
        4 => both!(id, value, SOFTWARE, 509, |m| m.software(), |b, v| b.software(v)),
        5 => both!(id, value, USERHASH, |m| m.userhash(), |b, v| b.userhash(v)),
        6 => both!(id, value, XOR_MAPPED_ADDRESS, |m| m.xor_mapped_address(), |b, v| b
            .xor_mapped_address(v)),
        7 => both!(id, value, XOR_PEER_ADDRESS, |m| m.xor_peer_address(), |b, v| b
            .xor_peer_address(v)),
        8 => both!(id, value, XOR_RELAYED_ADDRESS, |m| m.xor_relayed_address(), |b, v| b
            .xor_relayed_address(v)),
        9 => both!(id, value, ALTERNATE_SERVER, |m| m.alternate_server(), |b, v| b
            .alternate_server(v)),
        10 => both!(id, value, ALTERNATE_DOMAIN, |m| m.alternate_domain(), |b, v| b
            .alternate_domain(v)),
        11 => both!(id, value, CHANNEL_NUMBER, |m| m.channel_number(), |b, v| b.channel_number(v)),
        12 => both!(id, value, LIFETIME, |m| m.lifetime_secs(), |b, v| b.lifetime_secs(v)),
        13 => both!(id, value, REQUESTED_TRANSPORT, |m| m.requested_transport(), |b, v| b
            .requested_transport(v)),
        14 => {
            both!(id, value, REQUESTED_ADDRESS_FAMILY, |m| m.requested_address_family(), |b, v| b
                .requested_address_family(v))
        }
        15 => both!(
            id,
            value,
            ADDITIONAL_ADDRESS_FAMILY,
            |m| m.additional_address_family(),
            |b, v| b.additional_address_family(v)
        ),
        16 => both!(id, value, EVEN_PORT, |m| m.even_port(), |b, v| b.even_port(v)),
        17 => both!(id, value, RESERVATION_TOKEN, |m| m.reservation_token(), |b, v| b
            .reservation_token(&v)),
        18 => both!(id, value, ICMP, |m| m.icmp(), |b, v| b.icmp(v)),
        19 => both!(id, value, DATA, |m| Ok::<_, ()>(m.data()), |b, v| b.data(v)),
        20 => both!(
            id,
            value,
            ERROR_CODE,
            4 + 509,
            |m| m.error_code().map(|e| e.map(|e| (e.code, e.reason))),
            |b, v| b.error_code_reason(v.0, v.1)
        ),
        // the writer adds the recommended phrase, so only family and code are kept
        21 => both!(
            id,
            value,
            ADDRESS_ERROR_CODE,
            |m| m.address_error_code().map(|e| e.map(|e| (e.family, e.code))),
            |b, v| b.address_error_code(v.0, v.1)
        ),
        22 => both!(
            id,
            value,
            UNKNOWN_ATTRIBUTES,
            |m| m.unknown_attributes().map(|types| types.map(|t| t.take(32).collect::<Vec<_>>())),
            |b, v| b.unknown_attributes(v.iter().copied())
        ),
        23 => both!(
            id,
            value,
            PASSWORD_ALGORITHMS,
            |m| m.password_algorithms().map(|list| list.map(|list| list.as_bytes().to_vec())),
            |b, v| b.password_algorithms_echo(&v)
        ),
        24 => both!(
            id,
            value,
            PASSWORD_ALGORITHM,
            |m| m.password_algorithm().map(Option::flatten),
            |b, v| b.password_algorithm(v)
        ),
        _ => extension(kind, id, value),
    }
}

/// Those of RFC 5780, 6062, 7635 and 8016.
fn extension(kind: usize, id: TransactionId, value: &[u8]) {
    plainly(id, value);
    match kind {
        25 => both!(id, value, CONNECTION_ID, |m| m.connection_id(), |b, v| b.connection_id(v)),
        26 => both!(id, value, MOBILITY_TICKET, |m| Ok::<_, ()>(m.mobility_ticket()), |b, v| b
            .mobility_ticket(v)),
        27 => both!(id, value, ACCESS_TOKEN, |m| Ok::<_, ()>(m.access_token()), |b, v| b
            .access_token(v)),
        28 => both!(
            id,
            value,
            THIRD_PARTY_AUTHORIZATION,
            509,
            |m| m.third_party_authorization(),
            |b, v| b.third_party_authorization(v)
        ),
        29 => both!(id, value, CHANGE_REQUEST, |m| m.change_request(), |b, v| b.change_request(v)),
        30 => both!(id, value, RESPONSE_PORT, |m| m.response_port(), |b, v| b.response_port(v)),
        // its size is all that counts
        31 => both!(
            id,
            value,
            PADDING,
            2048,
            |m| Ok::<_, ()>(m.padding().map(<[u8]>::len)),
            |b, v| b.padding(v)
        ),
        32 => {
            both!(id, value, RESPONSE_ORIGIN, |m| m.response_origin(), |b, v| b.response_origin(v))
        }
        33 => both!(id, value, OTHER_ADDRESS, |m| m.other_address(), |b, v| b.other_address(v)),
        _ => both!(
            id,
            value,
            DONT_FRAGMENT,
            |m| m.dont_fragment().map(|there| there.then_some(())),
            |b, _v| b.dont_fragment()
        ),
    }
}

/// One value in each of them, as arithmetic alone reads it.
fn plainly(id: TransactionId, value: &[u8]) {
    let kinds = [
        Type::CONNECTION_ID,
        Type::CHANGE_REQUEST,
        Type::RESPONSE_PORT,
        Type::MOBILITY_TICKET,
        Type::ACCESS_TOKEN,
        Type::PADDING,
        Type::MAPPED_ADDRESS,
        Type::RESPONSE_ORIGIN,
        Type::OTHER_ADDRESS,
    ];
    let bytes = build(id, |b| kinds.into_iter().for_each(|kind| _ = b.attribute(kind, value)));
    let bytes = bytes.expect("they fit");
    let told = Message::parse(&bytes).expect("a few attributes");
    let number = <[u8; 4]>::try_from(value).ok().map(u32::from_be_bytes);
    assert_eq!(told.connection_id().ok().flatten(), number);
    let change = told.change_request().ok().flatten().map(|change| (change.ip, change.port));
    assert_eq!(change, number.map(|flags| (flags >> 2 & 1 == 1, flags >> 1 & 1 == 1)));
    let port = match *value {
        [high, low] | [high, low, _, _] => Some(256 * u16::from(high) + u16::from(low)),
        _ => None,
    };
    assert_eq!(told.response_port().ok().flatten(), port);
    assert_eq!([told.mobility_ticket(), told.access_token(), told.padding()], [Some(value); 3]);
    let address = told.mapped_address().ok();
    assert_eq!([told.response_origin().ok(), told.other_address().ok()], [address; 2]);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let id = TransactionId([7; 12]);
    let addresses: [SocketAddr; 2] =
        [([192, 0, 2, 1], 9).into(), ([1, 2, 3, 4, 5, 6, 7, 8], 9).into()];
    let value = |fill: &dyn Fn(&mut Builder<'_>)| {
        let message = build(id, fill).expect("it fits");
        let size = usize::from(u16::from_be_bytes([message[22], message[23]]));
        message[24..24 + size].to_vec()
    };
    let mut seeds = Vec::new();
    let mut add = |kind: u8, value: Vec<u8>| seeds.push([&[kind], &id.0[..], &value].concat());
    for address in addresses {
        add(0, value(&|b| _ = b.mapped_address(address)));
        add(9, value(&|b| _ = b.alternate_server(address)));
        for kind in 6..=8 {
            add(kind, value(&|b| _ = b.xor_mapped_address(address)));
        }
    }
    for address in addresses {
        add(32, value(&|b| _ = b.response_origin(address)));
        add(33, value(&|b| _ = b.other_address(address)));
    }
    for kind in [1, 2, 3, 4, 10, 28] {
        add(kind, b"alice.example.org".to_vec());
    }
    add(5, vec![9; 32]);
    add(11, value(&|b| _ = b.channel_number(ChannelNumber::MIN)));
    add(12, vec![0, 0, 2, 0x58]);
    add(13, vec![17, 0, 0, 0]);
    (14..=15).for_each(|kind| add(kind, vec![2, 0, 0, 0]));
    add(16, vec![0x80]);
    add(17, vec![8; 8]);
    add(18, value(&|b| _ = b.icmp(Icmp { kind: 3, code: 4, data: 1280 })));
    add(20, b"\0\0\x04\x26Stale".to_vec());
    add(21, b"\x02\0\x04\x28No".to_vec());
    add(22, vec![0x7f, 0xff, 0x7f, 0xfe]);
    add(23, vec![0, 1, 0, 0, 0, 2, 0, 0]);
    add(24, vec![0, 2, 0, 0]);
    add(25, vec![0, 0, 1, 7]);
    (26..=27).for_each(|kind| add(kind, vec![7; 60]));
    add(29, vec![0, 0, 0, 6]);
    add(30, vec![0x0d, 0x96]);
    add(30, vec![0x0d, 0x96, 0, 0]);
    add(31, vec![0; 40]);
    add(34, Vec::new());
    seeds
}
