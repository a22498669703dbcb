//! Random messages, and what must be read from them. The seed is the test's.
#![allow(clippy::unwrap_used, reason = "the code of a test")]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::{IpAddr, SocketAddr};

use turn::attribute::{
    AttributeType, ChangeRequest, ChannelNumber, Code, Family, Icmp, PasswordAlgorithm,
};
use turn::integrity::{Hash, Key};
use turn::message::{Builder, Class, Message, Method, TransactionId};
use turn::{Random, Seeded};

/// A typed attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attr {
    MappedAddress(SocketAddr),
    Username(String),
    ErrorCode(Code, String),
    UnknownAttributes(Vec<AttributeType>),
    ChannelNumber(ChannelNumber),
    Lifetime(u32),
    XorPeerAddress(SocketAddr),
    Data(Vec<u8>),
    Realm(String),
    Nonce(Vec<u8>),
    XorRelayedAddress(SocketAddr),
    RequestedAddressFamily(Family),
    EvenPort(bool),
    RequestedTransport(u8),
    DontFragment,
    PasswordAlgorithm(PasswordAlgorithm),
    Userhash([u8; 32]),
    XorMappedAddress(SocketAddr),
    ReservationToken([u8; 8]),
    AdditionalAddressFamily(Family),
    AddressErrorCode(Family, Code),
    PasswordAlgorithms(Vec<PasswordAlgorithm>),
    AlternateDomain(String),
    Icmp(Icmp),
    Software(String),
    AlternateServer(SocketAddr),
    ConnectionId(u32),
    MobilityTicket(Vec<u8>),
    AccessToken(Vec<u8>),
    ThirdParty(String),
    Change(ChangeRequest),
    ResponsePort(u16),
    Padding(usize),
    ResponseOrigin(SocketAddr),
    OtherAddress(SocketAddr),
    Other(AttributeType, Vec<u8>),
}

/// How many kinds [`attribute`] draws from.
pub(crate) const KINDS: usize = 36;

/// An attribute of the given kind, 0 to [`KINDS`] - 1.
pub(crate) fn attribute(random: &mut Seeded, kind: usize) -> Attr {
    match kind {
        0 => Attr::MappedAddress(address(random)),
        1 => Attr::Username(text(random, 508)),
        2 => Attr::ErrorCode(code(random), text(random, 509)),
        3 => Attr::UnknownAttributes(
            (0..random.below(32)).map(|_| AttributeType(random.below(65536) as u16)).collect(),
        ),
        4 => Attr::ChannelNumber(channel(random)),
        5 => Attr::Lifetime(random.next_u64() as u32),
        6 => Attr::XorPeerAddress(address(random)),
        7 => Attr::Data(bytes(random, 1400)),
        8 => Attr::Realm(text(random, 509)),
        9 => Attr::Nonce(bytes(random, 509)),
        10 => Attr::XorRelayedAddress(address(random)),
        11 => Attr::RequestedAddressFamily(family(random)),
        12 => Attr::EvenPort(random.below(2) == 0),
        13 => Attr::RequestedTransport(random.below(256) as u8),
        14 => Attr::DontFragment,
        15 => Attr::PasswordAlgorithm(algorithm(random)),
        16 => Attr::Userhash(array(random)),
        17 => Attr::XorMappedAddress(address(random)),
        18 => Attr::ReservationToken(array(random)),
        19 => Attr::AdditionalAddressFamily(family(random)),
        20 => Attr::AddressErrorCode(family(random), code(random)),
        21 => Attr::PasswordAlgorithms((0..=random.below(7)).map(|_| algorithm(random)).collect()),
        22 => Attr::AlternateDomain(text(random, 255)),
        23 => {
            let [kind, code, ..]: [u8; 2] = array(random);
            Attr::Icmp(Icmp { kind, code, data: random.next_u64() as u32 })
        }
        24 => Attr::Software(text(random, 509)),
        25 => Attr::AlternateServer(address(random)),
        26 => Attr::ConnectionId(random.next_u64() as u32),
        27 => Attr::MobilityTicket(bytes(random, 200)),
        28 => Attr::AccessToken(bytes(random, 300)),
        29 => Attr::ThirdParty(text(random, 509)),
        30 => {
            let (ip, port) = (random.below(2) == 0, random.below(2) == 0);
            Attr::Change(ChangeRequest { ip, port })
        }
        31 => Attr::ResponsePort(random.next_u64() as u16),
        32 => Attr::Padding(random.below(1500)),
        33 => Attr::ResponseOrigin(address(random)),
        34 => Attr::OtherAddress(address(random)),
        _ => Attr::Other(unknown_type(random), bytes(random, 40)),
    }
}

impl Attr {
    pub(crate) fn write(&self, builder: &mut Builder<'_>) {
        match self {
            Attr::MappedAddress(address) => builder.mapped_address(*address),
            Attr::Username(text) => builder.username(text),
            Attr::ErrorCode(code, reason) => builder.error_code_reason(*code, reason),
            Attr::UnknownAttributes(types) => builder.unknown_attributes(types.iter().copied()),
            Attr::ChannelNumber(channel) => builder.channel_number(*channel),
            Attr::Lifetime(secs) => builder.lifetime_secs(*secs),
            Attr::XorPeerAddress(address) => builder.xor_peer_address(*address),
            Attr::Data(data) => builder.data(data),
            Attr::Realm(text) => builder.realm(text),
            Attr::Nonce(nonce) => builder.nonce(nonce),
            Attr::XorRelayedAddress(address) => builder.xor_relayed_address(*address),
            Attr::RequestedAddressFamily(family) => builder.requested_address_family(*family),
            Attr::EvenPort(reserve) => builder.even_port(*reserve),
            Attr::RequestedTransport(protocol) => builder.requested_transport(*protocol),
            Attr::DontFragment => builder.dont_fragment(),
            Attr::PasswordAlgorithm(algorithm) => builder.password_algorithm(*algorithm),
            Attr::Userhash(hash) => builder.userhash(hash),
            Attr::XorMappedAddress(address) => builder.xor_mapped_address(*address),
            Attr::ReservationToken(token) => builder.reservation_token(token),
            Attr::AdditionalAddressFamily(family) => builder.additional_address_family(*family),
            Attr::AddressErrorCode(family, code) => builder.address_error_code(*family, *code),
            Attr::PasswordAlgorithms(list) => builder.password_algorithms(list),
            Attr::AlternateDomain(text) => builder.alternate_domain(text),
            Attr::Icmp(icmp) => builder.icmp(*icmp),
            Attr::Software(text) => builder.software(text),
            Attr::AlternateServer(address) => builder.alternate_server(*address),
            Attr::ConnectionId(id) => builder.connection_id(*id),
            Attr::MobilityTicket(ticket) => builder.mobility_ticket(ticket),
            Attr::AccessToken(token) => builder.access_token(token),
            Attr::ThirdParty(name) => builder.third_party_authorization(name),
            Attr::Change(change) => builder.change_request(*change),
            Attr::ResponsePort(port) => builder.response_port(*port),
            Attr::Padding(len) => builder.padding(*len),
            Attr::ResponseOrigin(address) => builder.response_origin(*address),
            Attr::OtherAddress(address) => builder.other_address(*address),
            Attr::Other(kind, value) => builder.attribute(*kind, value),
        };
    }

    /// The same attribute as the message's typed getter reads it.
    pub(crate) fn read(&self, message: &Message<'_>) -> Option<Attr> {
        match self {
            Attr::MappedAddress(_) => message.mapped_address().unwrap().map(Attr::MappedAddress),
            Attr::Username(_) => message.username().unwrap().map(|v| Attr::Username(v.into())),
            Attr::ErrorCode(..) => {
                message.error_code().unwrap().map(|v| Attr::ErrorCode(v.code, v.reason.into()))
            }
            Attr::UnknownAttributes(_) => {
                let types = message.unknown_attributes().unwrap();
                types.map(|types| Attr::UnknownAttributes(types.collect()))
            }
            Attr::ChannelNumber(_) => message.channel_number().unwrap().map(Attr::ChannelNumber),
            Attr::Lifetime(_) => message.lifetime_secs().unwrap().map(Attr::Lifetime),
            Attr::XorPeerAddress(_) => {
                message.xor_peer_address().unwrap().map(Attr::XorPeerAddress)
            }
            Attr::Data(_) => message.data().map(|v| Attr::Data(v.into())),
            Attr::Realm(_) => message.realm().unwrap().map(|v| Attr::Realm(v.into())),
            Attr::Nonce(_) => message.nonce().unwrap().map(|v| Attr::Nonce(v.into())),
            Attr::XorRelayedAddress(_) => {
                message.xor_relayed_address().unwrap().map(Attr::XorRelayedAddress)
            }
            Attr::RequestedAddressFamily(_) => {
                message.requested_address_family().unwrap().map(Attr::RequestedAddressFamily)
            }
            Attr::EvenPort(_) => message.even_port().unwrap().map(Attr::EvenPort),
            Attr::RequestedTransport(_) => {
                message.requested_transport().unwrap().map(Attr::RequestedTransport)
            }
            Attr::DontFragment => message.dont_fragment().unwrap().then_some(Attr::DontFragment),
            Attr::PasswordAlgorithm(_) => {
                message.password_algorithm().unwrap().flatten().map(Attr::PasswordAlgorithm)
            }
            Attr::Userhash(_) => message.userhash().unwrap().copied().map(Attr::Userhash),
            Attr::XorMappedAddress(_) => {
                message.xor_mapped_address().unwrap().map(Attr::XorMappedAddress)
            }
            Attr::ReservationToken(_) => {
                message.reservation_token().unwrap().map(Attr::ReservationToken)
            }
            Attr::AdditionalAddressFamily(_) => {
                message.additional_address_family().unwrap().map(Attr::AdditionalAddressFamily)
            }
            Attr::AddressErrorCode(..) => {
                let error = message.address_error_code().unwrap();
                error.map(|v| Attr::AddressErrorCode(v.family, v.code))
            }
            Attr::PasswordAlgorithms(_) => {
                let list = message.password_algorithms().unwrap();
                list.map(|list| Attr::PasswordAlgorithms(list.iter().map(Option::unwrap).collect()))
            }
            Attr::AlternateDomain(_) => {
                message.alternate_domain().unwrap().map(|v| Attr::AlternateDomain(v.into()))
            }
            Attr::Icmp(_) => message.icmp().unwrap().map(Attr::Icmp),
            Attr::Software(_) => message.software().unwrap().map(|v| Attr::Software(v.into())),
            Attr::AlternateServer(_) => {
                message.alternate_server().unwrap().map(Attr::AlternateServer)
            }
            Attr::ConnectionId(_) => message.connection_id().unwrap().map(Attr::ConnectionId),
            Attr::MobilityTicket(_) => {
                message.mobility_ticket().map(|v| Attr::MobilityTicket(v.into()))
            }
            Attr::AccessToken(_) => message.access_token().map(|v| Attr::AccessToken(v.into())),
            Attr::ThirdParty(_) => {
                message.third_party_authorization().unwrap().map(|v| Attr::ThirdParty(v.into()))
            }
            Attr::Change(_) => message.change_request().unwrap().map(Attr::Change),
            Attr::ResponsePort(_) => message.response_port().unwrap().map(Attr::ResponsePort),
            Attr::Padding(_) => message.padding().map(|v| Attr::Padding(v.len())),
            Attr::ResponseOrigin(_) => message.response_origin().unwrap().map(Attr::ResponseOrigin),
            Attr::OtherAddress(_) => message.other_address().unwrap().map(Attr::OtherAddress),
            Attr::Other(kind, _) => {
                message.attribute(*kind).map(|value| Attr::Other(*kind, value.into()))
            }
        }
    }
}

/// What [`message`] has written.
pub(crate) struct Generated {
    pub(crate) class: Class,
    pub(crate) method: Method,
    pub(crate) transaction: TransactionId,
    /// Of different kinds, in order.
    pub(crate) attributes: Vec<Attr>,
    pub(crate) sha1: bool,
    pub(crate) sha256: bool,
    pub(crate) fingerprint: bool,
}

/// A random message: up to 8 attributes of different kinds, and then any of integrity and
/// fingerprint.
pub(crate) fn message(random: &mut Seeded, key: &Key, out: &mut Vec<u8>) -> Generated {
    let class = [Class::Request, Class::Indication, Class::Success, Class::Error][random.below(4)];
    let method = Method::new(random.below(0x1000) as u16).unwrap();
    let transaction = TransactionId(array(random));
    let mut kinds: Vec<usize> = (0..KINDS).collect();
    let count = random.below(9);
    let attributes: Vec<Attr> = (0..count)
        .map(|_| {
            let kind = kinds.swap_remove(random.below(kinds.len()));
            attribute(random, kind)
        })
        .collect();
    let [sha1, sha256, fingerprint] = [0; 3].map(|_| random.below(2) == 0);
    let mut builder = Builder::new(out, class, method, transaction);
    attributes.iter().for_each(|attribute| attribute.write(&mut builder));
    if sha1 {
        builder.integrity(key, Hash::Sha1);
    }
    if sha256 {
        builder.integrity(key, Hash::Sha256);
    }
    if fingerprint {
        builder.fingerprint();
    }
    builder.finish().unwrap();
    Generated { class, method, transaction, attributes, sha1, sha256, fingerprint }
}

/// Damages a message in one of several ways. What comes out may still be valid.
pub(crate) fn mutate(random: &mut Seeded, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len().max(1));
        match random.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.below(256) as u8,
            2 => bytes.truncate(at),
            3 => bytes.extend((0..random.below(9)).map(|n| n as u8)),
            4 if bytes.len() >= 4 => {
                // A length field, anywhere, of some likely wrong value.
                let value = [0, 1, 3, 4, 5, 8, 0xFF, 0xFFFC, 0xFFFF][random.below(9)] as u16;
                let at = at.min(bytes.len() - 4) / 4 * 4 + 2;
                bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
            }
            5 if bytes.len() >= 4 => {
                // The header's length made right again, so that the walk goes deeper.
                let len = (bytes.len().saturating_sub(20) as u16).to_be_bytes();
                bytes[2..4].copy_from_slice(&len);
            }
            6 if bytes.len() >= 24 => {
                // An attribute's type, made another one that is known.
                let known = AttributeType::KNOWN[random.below(AttributeType::KNOWN.len())];
                let at = at.clamp(20, bytes.len() - 4) / 4 * 4;
                bytes[at..at + 2].copy_from_slice(&known.0.to_be_bytes());
            }
            _ => bytes.truncate(bytes.len() / 4 * 4),
        }
    }
}

pub(crate) fn array<const N: usize>(random: &mut Seeded) -> [u8; N] {
    let mut array = [0; N];
    random.fill(&mut array);
    array
}

fn bytes(random: &mut Seeded, max: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.below(max + 1)];
    random.fill(&mut bytes);
    bytes
}

/// UTF-8 of at most `max` bytes, of one to four bytes a character.
fn text(random: &mut Seeded, max: usize) -> String {
    let mut text = String::new();
    let len = random.below(max + 1);
    loop {
        let next = ['a', '~', '\u{E9}', '\u{30DE}', '\u{1F600}'][random.below(5)];
        if text.len() + next.len_utf8() > len {
            return text;
        }
        text.push(next);
    }
}

fn address(random: &mut Seeded) -> SocketAddr {
    let ip = match random.below(2) {
        0 => IpAddr::from(array::<4>(random)),
        _ => IpAddr::from(array::<16>(random)),
    };
    SocketAddr::new(ip, random.below(65536) as u16)
}

fn family(random: &mut Seeded) -> Family {
    [Family::V4, Family::V6][random.below(2)]
}

fn algorithm(random: &mut Seeded) -> PasswordAlgorithm {
    [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256][random.below(2)]
}

fn code(random: &mut Seeded) -> Code {
    Code::new(300 + random.below(400) as u16).unwrap()
}

fn channel(random: &mut Seeded) -> ChannelNumber {
    ChannelNumber::new(0x4000 + random.below(0x1000) as u16).unwrap()
}

fn unknown_type(random: &mut Seeded) -> AttributeType {
    loop {
        let kind = AttributeType(random.below(65536) as u16);
        if !kind.is_known() {
            return kind;
        }
    }
}
