//! The same of what RFC 5780, RFC 6062, RFC 7635 and RFC 8016 add.

use turn::{NatDiscovery, RelayAddress, Transport};

use super::*;
use crate::lab::{ip, over};

#[test]
fn extensions_that_are_off_are_unknown_or_refused() {
    let mut table = Table::new();
    for kind in
        [AttributeType::CHANGE_REQUEST, AttributeType::RESPONSE_PORT, AttributeType::PADDING]
    {
        for len in 0..24usize {
            let bytes = table.lab.plain(Class::Request, Method::BINDING, |b| {
                b.attribute(kind, &vec![0; len]);
            });
            let expected = Bare(Code::UNKNOWN_ATTRIBUTE, vec![kind]);
            table.check(&format!("{kind} of {len}"), &bytes, expected);
        }
        for method in &OUR_METHODS[1..] {
            let bytes = table.signed(*method, |b| _ = b.attribute(kind, &[0; 4]));
            let expected = Signed(Code::UNKNOWN_ATTRIBUTE, vec![kind]);
            table.check(&format!("{method} with {kind}"), &bytes, expected);
        }
    }
    for method in &OUR_METHODS[1..] {
        for len in [0, 1, 14, 64, 700] {
            let kind = AttributeType::ACCESS_TOKEN;
            let bytes = table.signed(*method, |b| _ = b.attribute(kind, &vec![0; len]));
            let expected = Signed(Code::UNKNOWN_ATTRIBUTE, vec![kind]);
            table.check(&format!("{method} with {kind} of {len}"), &bytes, expected);
        }
    }
    for len in 0..100usize {
        let bytes = table.signed(Method::REFRESH, |b| _ = b.mobility_ticket(&vec![1; len]));
        let expected = Signed(Code::MOBILITY_FORBIDDEN, vec![]);
        table.check(&format!("a ticket of {len}"), &bytes, expected);
    }
    for (method, code) in
        [(Method::CONNECT, Code::FORBIDDEN), (Method::CONNECTION_BIND, Code::BAD_REQUEST)]
    {
        let bytes = table.signed(method, |b| {
            b.connection_id(1).xor_peer_address(address("9.9.9.9:1"));
        });
        table.check(&format!("{method} over UDP"), &bytes, Signed(code, vec![]));
    }
    assert!(table.done() > 200);
}

#[test]
fn extensions_that_are_on_take_no_malformed_attribute() {
    let addresses = ["93.184.216.10", "93.184.216.11"].map(|a| RelayAddress::plain(ip(a)));
    let nat = NatDiscovery { addresses, ports: [3478, 3479] };
    let config = Config { mobility: true, tcp_relay: true, nat_discovery: vec![nat], ..config() };
    let mut table = Table::with(config.clone(), client(1));
    for (kind, good) in
        [(AttributeType::CHANGE_REQUEST, &[4][..]), (AttributeType::RESPONSE_PORT, &[2, 4])]
    {
        for len in (0..=40usize).filter(|len| !good.contains(len)) {
            let bytes = table.lab.plain(Class::Request, Method::BINDING, |b| {
                b.attribute(kind, &vec![1; len]);
            });
            let expected = Bare(Code::BAD_REQUEST, vec![]);
            table.check(&format!("{kind} of {len}"), &bytes, expected);
        }
    }
    for len in 0..100usize {
        let bytes = table.signed(Method::REFRESH, |b| _ = b.mobility_ticket(&vec![1; len]));
        table.check(&format!("a ticket of {len}"), &bytes, Signed(Code::BAD_REQUEST, vec![]));
    }
    assert!(table.done() > 170);

    // On a stream with a TCP allocation, and on one that would be a data connection.
    let mut table = Table::with(config, over(Transport::Tcp, client(1)));
    for len in (0..=40usize).filter(|len| ![8, 20].contains(len)) {
        let kind = AttributeType::XOR_PEER_ADDRESS;
        let bytes = table.signed(Method::CONNECT, |b| _ = b.attribute(kind, &vec![1; len]));
        table.check(&format!("{kind} of {len}"), &bytes, Signed(Code::BAD_REQUEST, vec![]));
    }
    table.user = table.user.at(over(Transport::Tcp, client(2)));
    table.user.learn(&mut table.lab);
    for len in 0..=40usize {
        let kind = AttributeType::CONNECTION_ID;
        let bytes = table.signed(Method::CONNECTION_BIND, |b| _ = b.attribute(kind, &vec![1; len]));
        table.check(&format!("{kind} of {len}"), &bytes, Signed(Code::BAD_REQUEST, vec![]));
    }
    for len in 1..100usize {
        let bytes = table.signed(Method::ALLOCATE, |b| {
            b.requested_transport(17).mobility_ticket(&vec![1; len]);
        });
        let name = format!("Allocate with a ticket of {len}");
        table.check(&name, &bytes, Signed(Code::BAD_REQUEST, vec![]));
    }
    assert!(table.done() > 170);
}
