//! S2: malformed and abusive messages, each with its one exact answer: these bytes, or silence.
//!
//! One allocation stands all the while; nothing that comes here changes it.

use turn::attribute::{AttributeType, Code};
use turn::integrity::Hash;
use turn::message::{Builder, Class, Message, Method, TransactionId};
use turn::{ChannelNumber, Client, Config, Reason};

use crate::lab::{Lab, REALM, address, client, config};
use crate::user::{Mode, User};

mod extensions;

const OUR_METHODS: [Method; 7] = [
    Method::BINDING,
    Method::ALLOCATE,
    Method::REFRESH,
    Method::CREATE_PERMISSION,
    Method::CHANNEL_BIND,
    Method::CONNECT,
    Method::CONNECTION_BIND,
];

enum Expected {
    Silence(Reason),
    /// XOR-MAPPED-ADDRESS.
    Mapped,
    /// REALM, a NONCE of ours, the algorithms unless the request is too short for them.
    Challenge(Code),
    /// No signature, no reason phrase.
    Bare(Code, Vec<AttributeType>),
    /// Signed, with a reason phrase.
    Signed(Code, Vec<AttributeType>),
}

use Expected::{Bare, Challenge, Mapped, Signed, Silence};

struct Table {
    lab: Lab,
    user: User,
    cases: u32,
}

impl Table {
    fn new() -> Self {
        Self::with(config(), client(1))
    }

    /// A client with an allocation: of TCP if there are such and it can have one.
    fn with(mut config: Config, at: Client) -> Self {
        let tcp = config.tcp_relay && at.transport.is_stream();
        let rate = turn::limits::Rate { per_second: 1_000_000, burst: 1_000_000 };
        config.limits.unauthenticated =
            turn::limits::Budget { source: rate, prefix: rate, total: rate };
        let mut lab = Lab::with(config);
        let mut user = User::new("alice", at, Mode::Legacy);
        let protocol = if tcp { 6 } else { 17 };
        let made = user.ask(&mut lab, Method::ALLOCATE, |b| _ = b.requested_transport(protocol));
        assert_eq!(made.code(), 0);
        Self { lab, user, cases: 0 }
    }

    fn check(&mut self, name: &str, bytes: &[u8], expected: Expected) {
        self.cases += 1;
        let before = self.lab.server.stats().refused.clone();
        let answer = self.lab.answer(self.user.client, bytes);
        let mut want = Vec::new();
        let reason = match expected {
            Silence(reason) => {
                assert_eq!(answer, None, "{name}");
                assert_eq!(self.lab.refused(reason), before[reason] + 1, "{name}");
                return;
            }
            Mapped => {
                reply(&mut want, bytes, Class::Success, |b| {
                    _ = b.xor_mapped_address(self.user.client.remote)
                });
                None
            }
            Challenge(code) => {
                let got = Message::parse(answer.as_deref().expect(name)).unwrap();
                let nonce = got.nonce().unwrap().expect(name);
                assert_eq!(nonce.len(), 32, "{name}");
                reply(&mut want, bytes, Class::Error, |b| {
                    b.error_code_reason(code, "").realm(REALM).nonce(nonce);
                    if nonce[12] == b'B' {
                        b.attribute(AttributeType::PASSWORD_ALGORITHMS, &[0, 2, 0, 0, 0, 1, 0, 0]);
                    }
                });
                Some(code)
            }
            Bare(code, unknown) => {
                reply(&mut want, bytes, Class::Error, |b| {
                    b.error_code_reason(code, "");
                    if !unknown.is_empty() {
                        b.unknown_attributes(unknown.clone());
                    }
                });
                Some(code)
            }
            Signed(code, unknown) => {
                reply(&mut want, bytes, Class::Error, |b| {
                    b.error_code(code);
                    if !unknown.is_empty() {
                        b.unknown_attributes(unknown.clone());
                    }
                    b.integrity(&self.user.key, Hash::Sha1);
                });
                Some(code)
            }
        };
        assert_eq!(answer.as_deref(), Some(&want[..]), "{name}");
        // One reason, with this code.
        let after = &self.lab.server.stats().refused;
        let counted: Vec<Reason> =
            after.iter().filter(|&(r, count)| count > before[r]).map(|(r, _)| r).collect();
        assert_eq!(
            counted.iter().map(|r| r.code()).collect::<Vec<_>>(),
            reason.map(Some).into_iter().collect::<Vec<_>>(),
            "{name}"
        );
    }

    /// A signed request.
    fn signed(&mut self, method: Method, fill: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
        self.user.sign(self.lab.transaction(), method, fill)
    }

    fn done(self) -> u32 {
        let stats = self.lab.server.stats();
        assert_eq!(
            (stats.allocations, stats.permissions, stats.channels, stats.reservations),
            (1, 0, 0, 0)
        );
        assert_eq!(self.lab.wire.opened, 1);
        self.cases
    }
}

fn reply(out: &mut Vec<u8>, request: &[u8], class: Class, fill: impl FnOnce(&mut Builder<'_>)) {
    let method = OUR_METHODS.into_iter().find(|method| {
        let mut bytes = Vec::new();
        let id = TransactionId([0; 12]);
        Builder::new(&mut bytes, Class::Request, *method, id).finish().unwrap()[..2] == request[..2]
    });
    let id = TransactionId(request[8..20].try_into().unwrap());
    let mut builder = Builder::new(out, class, method.expect("one of our methods"), id);
    fill(&mut builder);
    builder.finish().unwrap();
}

fn attribute(kind: u16, len: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_be_bytes(), len.to_be_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes
}

/// A Binding request with this body, whatever it is.
fn raw(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    bytes.extend_from_slice(&[7; 12]);
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn headers_that_lie() {
    let mut table = Table::new();
    let good = table.signed(Method::REFRESH, |b| _ = b.lifetime_secs(0));
    for len in 0..good.len() {
        let reason = if len < 20 { Reason::NotStun } else { Reason::Malformed };
        table.check(&format!("cut to {len}"), &good[..len], Silence(reason));
    }
    for extra in 1..=32 {
        let longer = [&good[..], &vec![0; extra]].concat();
        table.check(&format!("{extra} bytes more"), &longer, Silence(Reason::Malformed));
    }
    for length in (0..=255u16).chain([1000, 0x7fff, 0x8000, 0xfffc, 0xffff]) {
        if usize::from(length) != good.len() - 20 {
            let mut bytes = good.clone();
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            table.check(&format!("length {length}"), &bytes, Silence(Reason::Malformed));
        }
    }
    for bit in 0..32 {
        let mut bytes = good.clone();
        bytes[4 + bit / 8] ^= 1 << (bit % 8);
        table.check(&format!("cookie bit {bit}"), &bytes, Silence(Reason::NotStun));
    }
    for first in 1..=255u8 {
        let mut bytes = raw(&[]);
        bytes[0] = first;
        let reason = match first {
            0x40..=0x4f => Reason::ChannelMalformed,
            0x04..=0xff if first & 0xc0 != 0 => Reason::NotStun,
            // The odd ones have the success and error classes; the method grows in twos.
            _ if first & 1 == 1 => Reason::Response,
            _ => Reason::UnknownMethod,
        };
        table.check(&format!("first byte {first:#04x}"), &bytes, Silence(reason));
    }
    let cases = table.done();
    assert!(cases > 600, "{cases}");
}

#[test]
fn every_method_and_class() {
    let mut table = Table::new();
    for number in 0..=0xfff {
        let method = Method::new(number).unwrap();
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            let bytes = table.lab.plain(class, method, |_| {});
            let known = OUR_METHODS.contains(&method);
            let expected = match (class, method) {
                (Class::Success | Class::Error, _) => Silence(Reason::Response),
                (Class::Request, Method::BINDING) => Mapped,
                (Class::Request, _) if known => Challenge(Code::UNAUTHENTICATED),
                (Class::Request, _) => Silence(Reason::UnknownMethod),
                (_, Method::BINDING) => Silence(Reason::Keepalive),
                (_, Method::SEND) => Silence(Reason::DataIncomplete),
                _ => Silence(Reason::UnknownMethod),
            };
            table.check(&format!("{method} {class}"), &bytes, expected);
        }
    }
    assert_eq!(table.done(), 4 * 4096);
}

#[test]
fn attributes_that_lie() {
    let mut table = Table::new();
    let silent = || Silence(Reason::Malformed);
    for len in 1..=64u16 {
        let bytes = raw(&attribute(0x8022, len, &[]));
        table.check(&format!("{len} bytes past the end"), &bytes, silent());
        let bytes = raw(&attribute(0x8022, 0xffff - len, &[0; 64]));
        table.check(&format!("{len} bytes past all ends"), &bytes, silent());
    }
    for (kind, name) in [(0x8028, "FINGERPRINT"), (0x8028, "FINGERPRINT again")] {
        for len in [0, 1, 2, 3, 8, 20] {
            let value = vec![0; usize::from(len).next_multiple_of(4)];
            let bytes = raw(&attribute(kind, len, &value));
            table.check(&format!("{name} of {len}"), &bytes, silent());
        }
    }
    let good = table.lab.plain(Class::Request, Method::BINDING, |b| _ = b.fingerprint());
    for bit in 0..32 {
        let mut bytes = good.clone();
        bytes[24 + bit / 8] ^= 1 << (bit % 8);
        table.check(&format!("FINGERPRINT bit {bit}"), &bytes, Silence(Reason::BadFingerprint));
    }
    for at in 8..20 {
        let mut bytes = good.clone();
        bytes[at] ^= 0x80;
        table.check(&format!("id byte {at}"), &bytes, Silence(Reason::BadFingerprint));
    }
    let after = [&good[20..], &attribute(0x8022, 0, &[])].concat();
    table.check("behind FINGERPRINT", &raw(&after), silent());
    for count in [257, 300, 1000, 16_000] {
        let bytes = raw(&attribute(0x8022, 0, &[]).repeat(count));
        table.check(&format!("{count} attributes"), &bytes, silent());
    }
    table.check("256 attributes", &raw(&attribute(0x8022, 0, &[]).repeat(256)), Mapped);
    assert!(table.done() > 180);
}

#[test]
fn every_attribute_of_every_wrong_length() {
    let mut table = Table::new();
    let fixed: &[(Method, AttributeType, &[usize])] = &[
        (Method::REFRESH, AttributeType::LIFETIME, &[4]),
        (Method::REFRESH, AttributeType::REQUESTED_ADDRESS_FAMILY, &[4]),
        (Method::CHANNEL_BIND, AttributeType::CHANNEL_NUMBER, &[4]),
        (Method::CHANNEL_BIND, AttributeType::XOR_PEER_ADDRESS, &[8, 20]),
        (Method::CREATE_PERMISSION, AttributeType::XOR_PEER_ADDRESS, &[8, 20]),
    ];
    for &(method, kind, good) in fixed {
        for len in (0..=40).filter(|len| !good.contains(len)) {
            let bytes = table.signed(method, |b| {
                b.attribute(kind, &vec![1; len]);
                if kind == AttributeType::XOR_PEER_ADDRESS {
                    b.channel_number(ChannelNumber::MIN);
                } else {
                    b.xor_peer_address(address("9.9.9.9:1"));
                }
            });
            let name = format!("{method} with {kind} of {len}");
            table.check(&name, &bytes, Signed(Code::BAD_REQUEST, vec![]));
        }
    }
    // The same of a peer address whose family byte is not that of its length.
    for (family, len) in [(0, 8), (2, 8), (3, 8), (255, 8), (0, 20), (1, 20), (3, 20)] {
        let mut value = vec![9; len];
        (value[0], value[1]) = (0, family);
        for method in [Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
            let bytes = table.signed(method, |b| {
                b.channel_number(ChannelNumber::MIN);
                b.attribute(AttributeType::XOR_PEER_ADDRESS, &value);
            });
            let name = format!("{method} with family {family} in {len} bytes");
            table.check(&name, &bytes, Signed(Code::BAD_REQUEST, vec![]));
        }
    }
    assert!(table.done() > 190);
}

#[test]
fn allocate_with_every_attribute_of_every_wrong_length() {
    // An allocation that stands would be a 437: this user has none.
    let mut table = Table::new();
    table.user = table.user.at(client(2));
    table.user.learn(&mut table.lab);
    for (kind, good) in [
        (AttributeType::REQUESTED_TRANSPORT, 4),
        (AttributeType::LIFETIME, 4),
        (AttributeType::REQUESTED_ADDRESS_FAMILY, 4),
        (AttributeType::ADDITIONAL_ADDRESS_FAMILY, 4),
        (AttributeType::EVEN_PORT, 1),
        (AttributeType::RESERVATION_TOKEN, 8),
        (AttributeType::DONT_FRAGMENT, 0),
    ] {
        for len in (0..=24).filter(|&len| len != good) {
            let bytes = table.signed(Method::ALLOCATE, |b| {
                b.attribute(kind, &vec![1; len]).requested_transport(17);
            });
            table.check(&format!("{kind} of {len}"), &bytes, Signed(Code::BAD_REQUEST, vec![]));
        }
    }
    for protocol in (0..=255).filter(|&protocol| protocol != 17) {
        let bytes = table.signed(Method::ALLOCATE, |b| _ = b.requested_transport(protocol));
        let expected = Signed(Code::UNSUPPORTED_TRANSPORT, vec![]);
        table.check(&format!("transport {protocol}"), &bytes, expected);
    }
    for family in (0..=255).filter(|family| !(1..=2).contains(family)) {
        let bytes = table.signed(Method::ALLOCATE, |b| {
            b.requested_transport(17);
            b.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
        });
        let expected = Signed(Code::ADDRESS_FAMILY_NOT_SUPPORTED, vec![]);
        table.check(&format!("family {family}"), &bytes, expected);
    }
    assert!(table.done() > 650);
}

#[test]
fn unknown_attributes_are_listed() {
    let mut table = Table::new();
    for n in 0..128u16 {
        let kinds = [0x7000 + n, 0x0100 + n, 0x0000].map(AttributeType);
        let fill = |b: &mut Builder<'_>| {
            kinds.iter().for_each(|&kind| _ = b.attribute(kind, &[n as u8]));
            b.attribute(AttributeType(0x9000 + n), &[]).lifetime_secs(0);
        };
        let method = OUR_METHODS[1 + usize::from(n) % 6];
        let bytes = table.signed(method, fill);
        table.check("signed", &bytes, Signed(Code::UNKNOWN_ATTRIBUTE, kinds.to_vec()));
        let bytes = table.lab.plain(Class::Request, Method::BINDING, fill);
        table.check("Binding", &bytes, Bare(Code::UNKNOWN_ATTRIBUTE, kinds.to_vec()));
    }
    assert_eq!(table.done(), 256);
}

#[test]
fn broken_credentials() {
    let mut table = Table::new();
    let (key, nonce) = (table.user.key.clone(), table.user.nonce.clone());
    let bad = || Bare(Code::BAD_REQUEST, vec![]);
    let mut case = |name: String, expected: Expected, fill: &dyn Fn(&mut Builder<'_>)| {
        let bytes = table.lab.plain(Class::Request, Method::REFRESH, |b| {
            fill(b);
            b.lifetime_secs(0).integrity(&key, Hash::Sha1);
        });
        table.check(&name, &bytes, expected);
    };
    let long = vec![b'a'; 764];
    for value in [&b"\xff"[..], b"alice\xc3", &long] {
        let name = |kind| format!("{kind} of {} bytes", value.len());
        case(name("USERNAME"), bad(), &|b| {
            b.attribute(AttributeType::USERNAME, value).realm(REALM).nonce(&nonce);
        });
        case(name("REALM"), bad(), &|b| {
            b.username("alice").attribute(AttributeType::REALM, value).nonce(&nonce);
        });
    }
    case("NONCE of 764 bytes".into(), bad(), &|b| {
        b.username("alice").realm(REALM).attribute(AttributeType::NONCE, &long);
    });
    for len in (0..=64).filter(|&len| len != 32) {
        case(format!("USERHASH of {len}"), bad(), &|b| {
            b.attribute(AttributeType::USERHASH, &vec![1; len]).realm(REALM).nonce(&nonce);
        });
    }
    for n in 0..64u8 {
        case(format!("USERHASH {n}"), Challenge(Code::UNAUTHENTICATED), &|b| {
            b.userhash(&[n; 32]).realm(REALM).nonce(&nonce);
        });
        case(format!("user {n}"), Challenge(Code::UNAUTHENTICATED), &|b| {
            b.username(&format!("user{n}")).realm(REALM).nonce(&nonce);
        });
    }
    for at in 0..32 {
        let mut stale = nonce.clone();
        stale[at] ^= 1;
        case(format!("NONCE byte {at}"), Challenge(Code::STALE_NONCE), &|b| {
            b.username("alice").realm(REALM).nonce(&stale);
        });
    }
    // The integrity itself, of every other length.
    for (kind, good) in
        [(AttributeType::MESSAGE_INTEGRITY, 20), (AttributeType::MESSAGE_INTEGRITY_SHA256, 32)]
    {
        for len in (0..=40).filter(|&len| len != good) {
            let bytes = table.lab.plain(Class::Request, Method::REFRESH, |b| {
                b.username("alice").realm(REALM).nonce(&nonce).attribute(kind, &vec![0; len]);
            });
            table.check(&format!("{kind} of {len}"), &bytes, bad());
        }
    }
    assert!(table.done() > 300);
}
