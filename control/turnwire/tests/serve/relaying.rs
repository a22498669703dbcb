//! Data both ways through a running relay.

use serde_json::Value;
use turn::ChannelNumber;
use turn::attribute::Code;
use turn::client::{Allocate, Event, Failure, Request};

use crate::client::{Client, receive, socket};
use crate::relay::{LOOPBACK, Relay, USER, eventually, program, run};

const CHANNEL: ChannelNumber = ChannelNumber::MIN;

#[test]
fn data_goes_both_ways_by_indication_and_by_channel() {
    // given a client with an allocation, and a peer with a permission
    let relay = Relay::start();
    let mut client = Client::new(relay.listen, USER);
    let relayed = client.allocate().relayed[0];
    assert_eq!(relayed.ip(), relay.listen.ip());
    let peer = socket();
    let peer_address = peer.local_addr().expect("bound");
    client.permit(peer_address);
    // when both send, then both receive
    client.send(peer_address, b"by indication");
    assert_eq!(receive(&peer), (relayed, b"by indication".to_vec()));
    peer.send_to(b"back", relayed).expect("sent");
    assert_eq!(client.data(), (None, peer_address, b"back".to_vec()));
    // and the same on a channel, which the workers forward
    client.bind(CHANNEL, peer_address);
    for round in 0..10u8 {
        client.send_on(CHANNEL, &[round; 1000]);
        assert_eq!(receive(&peer), (relayed, vec![round; 1000]));
        peer.send_to(&[round; 333], relayed).expect("sent");
        assert_eq!(client.data(), (Some(CHANNEL), peer_address, vec![round; 333]));
    }
    let forwarded = |what: &str, tier: &str, direction: &str| {
        let series =
            format!("turnwire_forwarded_{what}_total{{tier=\"{tier}\",direction=\"{direction}\"}}");
        relay.metric(&series)
    };
    // A worker counts what it has sent, so the last datagram may be here before it is counted.
    eventually(|| forwarded("packets", "socket", "to_client") == 10);
    assert_eq!(forwarded("packets", "socket", "to_peer"), 10);
    assert_eq!(forwarded("bytes", "socket", "to_peer"), 10_000);
    assert_eq!(forwarded("bytes", "socket", "to_client"), 3_330);
    assert_eq!(forwarded("packets", "control", "to_peer"), 1);
    assert_eq!(forwarded("packets", "control", "to_client"), 1);
    assert_eq!(forwarded("packets", "xdp", "to_peer"), 0);
}

#[test]
fn the_allocations_page_lists_who_relays_what() {
    // given
    let relay = Relay::start();
    let mut client = Client::new(relay.listen, USER);
    let relayed = client.allocate().relayed[0];
    let peer = socket();
    let peer_address = peer.local_addr().expect("bound");
    client.bind(CHANNEL, peer_address);
    client.send_on(CHANNEL, b"hello");
    receive(&peer);
    let counted = "turnwire_forwarded_packets_total{tier=\"socket\",direction=\"to_peer\"}";
    eventually(|| relay.metric(counted) == 1);
    // when
    let (status, body) = relay.get("/allocations");
    // then
    assert_eq!(status, 200);
    let page: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((page["total"].as_u64(), page["next_offset"].is_null()), (Some(1), true));
    let allocation = &page["allocations"][0];
    assert_eq!(allocation["client"], client.address().to_string());
    assert_eq!(allocation["listener"], relay.listen.to_string());
    assert_eq!(allocation["user"], USER.0);
    assert_eq!(allocation["relayed"][0]["address"], relayed.to_string());
    assert_eq!(allocation["relayed"][0]["permissions"][0]["peer"], "127.0.0.1");
    let channel = &allocation["relayed"][0]["channels"][0];
    assert_eq!(
        (&channel["number"], &channel["peer"]),
        (&"0x4000".into(), &peer_address.to_string().into())
    );
    assert_eq!(channel["traffic"]["socket"]["to_peer"]["bytes"], 5);
    assert!(channel["expires_in_secs"].as_u64().is_some_and(|secs| (590..=600).contains(&secs)));
    assert_eq!(allocation["traffic"]["socket"]["to_peer"]["packets"], 1);
    // and when it is deleted
    assert_eq!(client.ask(Request::delete()), Event::Deleted);
    assert_eq!(relay.metric("turnwire_allocations"), 0);
    assert_eq!(relay.metric("turnwire_relay_ports_open"), 0);
    assert_eq!(relay.metric("turnwire_routes"), 0);
}

#[test]
fn two_clients_of_one_relay_reach_each_other() {
    // given two clients, each with a channel to the other's relayed address
    let relay = Relay::start();
    let (mut one, mut two) = (Client::new(relay.listen, USER), Client::new(relay.listen, USER));
    let (first, second) = (one.allocate().relayed[0], two.allocate().relayed[0]);
    one.bind(CHANNEL, second);
    two.bind(CHANNEL, first);
    // when
    one.send_on(CHANNEL, b"inside");
    // then
    assert_eq!(two.data(), (Some(CHANNEL), first, b"inside".to_vec()));
    two.send_on(CHANNEL, b"and back");
    assert_eq!(one.data(), (Some(CHANNEL), second, b"and back".to_vec()));
}

#[test]
fn both_kinds_of_credentials_work_at_once_and_a_wrong_password_does_not() {
    // given a relay with a user from a file and two secrets from the environment
    let folder = std::env::temp_dir().join(format!("turnwire-users-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let users = folder.join("users");
    std::fs::write(&users, "# people\nbob:builder\n").expect("a file");
    let mut command = program();
    command.args(LOOPBACK).arg("--listen=127.0.0.1:0").arg("--user-file").arg(&users);
    command.env("TURNWIRE_AUTH_SECRET", "old secret\nnew secret");
    let relay = Relay::start_as(command);
    let mut made = Vec::new();
    for secret in ["old secret", "new secret"] {
        let mut command = program();
        command.args(["credentials", "--user", "carol"]).env("TURNWIRE_AUTH_SECRET", secret);
        let (code, text, _) = run(command);
        assert_eq!(code, Some(0));
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.to_owned()
        };
        made.push((field("username: "), field("password: ")));
    }
    // when, then
    Client::new(relay.listen, ("bob", "builder")).allocate();
    for (user, password) in &made {
        Client::new(relay.listen, (user, password)).allocate();
    }
    let (user, _) = &made[0];
    for wrong in [("bob", "wrecker"), ("nobody", "builder"), (user.as_str(), "builder")] {
        let mut client = Client::new(relay.listen, wrong);
        let event = client.ask(Request::Allocate(Allocate::default()));
        let Event::Failed { why: Failure::Error { code, .. }, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(code, Code::UNAUTHENTICATED);
    }
    // and no secret can be read in the process list or in the log
    let line = std::fs::read(format!("/proc/{}/cmdline", relay.pid())).expect("a command line");
    let line = String::from_utf8_lossy(&line);
    for secret in ["builder", "old secret", "new secret"] {
        assert!(!line.contains(secret) && !relay.log_text().contains(secret), "{secret}");
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn a_peer_that_the_policy_forbids_is_refused_and_counted() {
    // given a relay with the default policy
    let mut command = program();
    command.args(["serve", "--relay-ip=127.0.0.1", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"]);
    command.args(["--log-format=json", "--user=alice:wonderland"]);
    let relay = Relay::start_as(command);
    let mut client = Client::new(relay.listen, USER);
    client.allocate();
    // when
    let peers = vec!["127.0.0.2:9".parse().expect("an address")];
    let event = client.ask(Request::CreatePermission { peers });
    // then
    let Event::Failed { why: Failure::Error { code, .. }, .. } = event else { panic!("{event:?}") };
    assert_eq!(code, Code::FORBIDDEN);
    let series = "turnwire_refused_packets_total{tier=\"control\",reason=\"peer_forbidden\"}";
    assert_eq!(relay.metric(series), 1);
    assert_eq!(relay.metric("turnwire_error_responses_total{code=\"403\"}"), 1);
}

#[test]
fn more_allocations_than_there_may_be_are_refused_and_those_open_go_on() {
    // given a relay with room for one
    let mut command = program();
    command.args(LOOPBACK).args(["--listen=127.0.0.1:0", "--user=alice:wonderland"]);
    command.arg("--max-allocations=1");
    let (code, _, error) = run(command);
    assert_eq!(code, Some(2), "{error}");
    let mut command = program();
    command.args(LOOPBACK.iter().filter(|arg| !arg.starts_with("--max-allocations")));
    command.args(["--listen=127.0.0.1:0", "--user=alice:wonderland", "--max-allocations=1"]);
    let relay = Relay::start_as(command);
    let (mut one, mut two) = (Client::new(relay.listen, USER), Client::new(relay.listen, USER));
    let relayed = one.allocate().relayed[0];
    // when
    let event = two.ask(Request::Allocate(Allocate::default()));
    // then
    let Event::Failed { why: Failure::Error { code, .. }, .. } = event else { panic!("{event:?}") };
    assert_eq!(code, Code::INSUFFICIENT_CAPACITY);
    let peer = socket();
    one.bind(CHANNEL, peer.local_addr().expect("bound"));
    one.send_on(CHANNEL, b"still here");
    assert_eq!(receive(&peer), (relayed, b"still here".to_vec()));
}
