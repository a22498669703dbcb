//! Turnwire passes every check over every transport; what is skipped is named here, so that no skip
//! sneaks in.

use std::collections::BTreeSet;

use crate::relay::{Server, free_port};
use crate::tool::run;

/// What needs minutes, another configuration, or a server that has less than this one.
const SKIPPED: [&str; 5] = [
    "allocate.dual.error",
    "allocate.quota",
    "channel.cooling",
    "channel.range.all",
    "userhash.announced",
];
const LOOPBACK: [&str; 4] = ["--allow-peer-range", "127.0.0.0/8", "--allow-peer-range", "::1/128"];

fn passes(transport: &str, server: Option<Server>, skipped: &[&str], least: usize) {
    let Some(server) = server else {
        return println!("skipped: needs openssl(1)");
    };
    let run = run(&server, transport, &LOOPBACK);
    assert!(run.with("fail").is_empty(), "{}\n{}", run.failures(), server.log());
    let expected: BTreeSet<&str> = SKIPPED.iter().chain(skipped).copied().collect();
    assert_eq!(run.with("skip"), expected);
    assert!(run.with("pass").len() >= least, "{} passed", run.with("pass").len());
    assert_eq!(run.code, Some(0));
}

/// Without a second address there is no RFC 5780.
const NO_DISCOVERY: [&str; 7] = [
    "discovery.alternate",
    "discovery.change.both",
    "discovery.change.ip",
    "discovery.change.none",
    "discovery.change.port",
    "discovery.origin",
    "discovery.other",
];

#[test]
fn turnwire_passes_over_udp_and_tells_behaviour_by_a_second_address() {
    let other = format!("--nat-discovery={}", free_port("127.0.0.2"));
    passes("udp", Server::turnwire(&[&other]), &["discovery.off"], 295);
}

#[test]
fn turnwire_without_a_second_address_answers_no_more_than_that() {
    let Some(server) = Server::turnwire(&[]) else {
        return println!("skipped: needs openssl(1)");
    };
    let only = ["discovery", "binding", "amplification"].map(|group| ["--only", group]);
    let run = run(&server, "udp", &[&LOOPBACK[..], only.as_flattened()].concat());
    assert!(run.with("fail").is_empty(), "{}\n{}", run.failures(), server.log());
    assert_eq!(run.with("skip"), BTreeSet::from(NO_DISCOVERY));
}

#[test]
fn turnwire_passes_over_tcp() {
    passes("tcp", Server::turnwire(&[]), &[], 290);
}

#[test]
fn turnwire_passes_over_tls() {
    passes("tls", Server::turnwire(&[]), &[], 290);
}

#[test]
fn turnwire_passes_over_dtls() {
    passes("dtls", Server::turnwire(&[]), &[], 270);
}

#[test]
fn turnwire_keeps_to_a_quota() {
    let Some(server) = Server::turnwire(&["--user-quota=3"]) else {
        return println!("skipped: needs openssl(1)");
    };
    let more = [&LOOPBACK[..], &["--quota", "3", "--only", "allocate.quota"]].concat();
    let run = run(&server, "udp", &more);
    assert!(run.with("fail").is_empty(), "{}", run.failures());
    assert!(run.with("pass").contains("allocate.quota"));
}
