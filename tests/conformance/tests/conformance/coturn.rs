//! What coturn 4.6.1 is known to do otherwise is found, and a wrong command line is told in words.

use crate::relay::Server;
use crate::tool::{program, run};

/// No SHA-256 and no ICMP attribute; it acts on what follows the integrity; it lets peers be private
/// addresses; its channel numbers are RFC 5766's.
const KNOWN: [&str; 14] = [
    "allocate.both-families",
    "appended.allocate",
    "appended.delete",
    "appended.refresh",
    "channel.range.reserved",
    "nonce.cookie",
    "permission.all-or-nothing",
    "permission.length",
    "policy.channel.plain",
    "policy.permission.plain",
    "relay.icmp",
    "reserve.unknown",
    "sha256.offered",
    "framing.methods",
];

fn differs(transport: &str) {
    let Some(server) = Server::coturn() else {
        return println!("skipped: needs turnserver (apt-get install coturn) and openssl(1)");
    };
    let run = run(&server, transport, &[]);
    let failed = run.with("fail");
    let missed: Vec<&&str> = KNOWN.iter().filter(|id| !failed.contains(**id)).collect();
    assert!(missed.is_empty(), "not found: {missed:?}\n{}", run.failures());
    // It is a TURN server all the same: most of it is as it should be.
    assert!(run.with("pass").len() > 200, "{}", run.failures());
    let basic = [
        "binding.success",
        "auth.allocate",
        "auth.success",
        "allocate.success",
        "refresh.success",
        "permission.one",
        "channel.to-peer",
        "channel.to-client",
        "relay.send",
        "relay.data",
    ];
    for id in basic {
        assert!(run.with("pass").contains(id), "{id}\n{}", run.failures());
    }
    assert_eq!(run.code, Some(1));
}

#[test]
fn the_known_differences_of_coturn_are_found_over_udp() {
    differs("udp");
}

#[test]
fn the_known_differences_of_coturn_are_found_over_tls() {
    differs("tls");
}

#[test]
fn a_server_that_is_not_there_or_refuses_the_user_is_told_in_words() {
    let Some(server) = Server::coturn() else {
        return println!("skipped: needs turnserver (apt-get install coturn) and openssl(1)");
    };
    let address = server.plain.to_string();
    let wrong = ["--server", &address, "--user", "alice", "--password", "wrong"];
    let nobody = ["--server", "127.0.0.1:1", "--user", "a", "--password", "b"];
    let distrust = ["--server", &server.secure.to_string(), "--user", "a", "--password", "b"];
    let distrust = [&distrust[..], &["--transport", "tls"]].concat();
    let pattern = [&nobody[..], &["--only", "no-such-check"]].concat();
    for (arguments, text) in [
        (&wrong[..], "401"),
        (&nobody, "silence"),
        (&distrust, "certificate is not believed"),
        (&pattern, "--list"),
    ] {
        let output = program(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
}

#[test]
fn checks_are_many_and_have_ids_of_their_own() {
    let output = program(&["--list"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let ids: std::collections::BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids.len(), text.lines().count());
    assert!(ids.len() >= 300, "{}", ids.len());
}
