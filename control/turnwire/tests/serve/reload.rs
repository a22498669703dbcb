//! Reading the configuration again while clients relay, and draining.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use turn::ChannelNumber;
use turn::client::{Event, Failure, Request};

use crate::certificate;
use crate::client::{Client, receive, socket};
use crate::relay::{LOOPBACK, Relay, SOON, USER, eventually, program};

const BOB: (&str, &str) = ("bob", "builder");

/// A folder of a test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("turnwire-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A relay with this configuration file.
fn relay(config: &str) -> Relay {
    let mut command = program();
    command.args(LOOPBACK).args(["--listen=127.0.0.1:0", "--config", config]);
    Relay::start_as(command)
}

fn reloads(relay: &Relay, result: &str) -> u64 {
    relay.metric(&format!("turnwire_reloads_total{{result=\"{result}\"}}"))
}

fn post(relay: &Relay, path: &str, header: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(relay.admin).expect("the admin server accepts");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream.write_all(format!("POST {path} HTTP/1.1\r\n{header}\r\n").as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), body.to_owned())
}

/// The code that an Allocate is refused with.
fn refused(client: &mut Client) -> u16 {
    match client.ask(Request::Allocate(turn::client::Allocate::default())) {
        Event::Failed { why, .. } => code_of(&why),
        other => panic!("{other:?}"),
    }
}

fn code_of(why: &Failure) -> u16 {
    match why {
        Failure::Error { code, .. } => code.value(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reload_takes_new_users_and_costs_those_who_relay_nothing() {
    // given a client that relays
    let folder = Folder::new("reload-users");
    folder.write("users", "alice:wonderland\n");
    let config = folder.write("turnwire.toml", "user-file = \"users\"\n");
    let mut relay = relay(&config);
    let mut alice = Client::new(relay.listen, USER);
    let allocated = alice.allocate();
    let peer = socket();
    let channel = ChannelNumber::new(0x4001).expect("a channel");
    let peer_address = peer.local_addr().expect("bound");
    alice.bind(channel, peer_address);
    assert_eq!(refused(&mut Client::new(relay.listen, BOB)), 401);
    // when, under traffic, somebody is added and somebody goes
    folder.write("users", "bob:builder\n");
    for round in 0..100_u32 {
        if round == 20 {
            relay.signal("HUP");
        }
        alice.send_on(channel, &round.to_be_bytes());
        assert_eq!(receive(&peer).1, round.to_be_bytes(), "a datagram was lost");
        peer.send_to(&round.to_be_bytes(), allocated.relayed[0]).expect("sent");
        assert_eq!(alice.data().2, round.to_be_bytes());
    }
    relay.logged("reload: the configuration was read again");
    // then
    assert_eq!((reloads(&relay, "ok"), reloads(&relay, "failed")), (1, 0));
    Client::new(relay.listen, BOB).allocate();
    assert_eq!(refused(&mut Client::new(relay.listen, USER)), 401);
}

#[test]
fn a_mistake_keeps_all_that_was_and_is_told_with_its_line() {
    // given
    let folder = Folder::new("reload-mistake");
    let config = folder.write("turnwire.toml", "user = \"alice:wonderland\"\n");
    let mut relay = relay(&config);
    // when one line is good and another is not
    folder.write("turnwire.toml", "user = \"bob:builder\"\ndrain-timeout = \"soon\"\n");
    let (status, text) = post(&relay, "/reload", "");
    // then
    let wrong = "drain-timeout: \"soon\" is not a whole number from 0 to 604800";
    let problem = format!("{config}:2: {wrong}");
    assert_eq!(status, 422);
    assert_eq!(text, format!("what ran before stays in use\n{problem}\n"));
    let line = relay.logged("reload refused");
    assert_eq!(line["message"], format!("reload refused: {problem}"));
    assert_eq!((reloads(&relay, "ok"), reloads(&relay, "failed")), (0, 1));
    Client::new(relay.listen, USER).allocate();
    assert_eq!(refused(&mut Client::new(relay.listen, BOB)), 401);
    // and a file that is gone is no better
    fs::remove_file(&config).expect("removed");
    relay.signal("HUP");
    relay.logged("reload refused");
    Client::new(relay.listen, USER).allocate();
}

#[test]
fn what_takes_a_restart_is_named_and_the_rest_is_carried_out() {
    let folder = Folder::new("reload-restart");
    let config = folder.write("turnwire.toml", "user = \"alice:wonderland\"\n");
    let mut relay = relay(&config);
    // when
    folder.write("turnwire.toml", "user = \"bob:builder\"\nrealm = \"other\"\nmax-channels = 7\n");
    let (status, text) = post(&relay, "/reload", "");
    // then: the flags say max-channels, so the file's is not looked at
    assert_eq!(status, 200);
    assert!(text.ends_with("but for what takes a restart: realm\n"), "{text}");
    assert_eq!(relay.logged("reload: a change of these takes a restart")["keys"], "realm");
    assert_eq!(relay.metric("turnwire_restart_needed_settings"), 1);
    Client::new(relay.listen, BOB).allocate();
}

#[test]
fn a_policy_that_denies_more_ends_routes_at_once() {
    // given
    let folder = Folder::new("reload-policy");
    let config = folder.write("turnwire.toml", "user = \"alice:wonderland\"\n");
    let relay = relay(&config);
    let mut client = Client::new(relay.listen, USER);
    client.allocate();
    let peer = socket();
    let channel = ChannelNumber::new(0x4001).expect("a channel");
    client.bind(channel, peer.local_addr().expect("bound"));
    assert_eq!(relay.metric("turnwire_routes"), 1);
    // when
    folder.write("turnwire.toml", "user = \"alice:wonderland\"\ndeny-peer = \"127.0.0.1\"\n");
    assert_eq!(post(&relay, "/reload", "").0, 200);
    // then
    assert_eq!(relay.metric("turnwire_routes"), 0);
    client.send_on(channel, b"no more");
    peer.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    assert!(peer.recv_from(&mut [0; 16]).is_err());
}

#[test]
fn a_certificate_that_does_not_fit_its_key_keeps_the_old_one_and_names_the_files() {
    // given
    let folder = Folder::new("reload-certificate");
    let (cert, key) = certificate::make(&folder.0, "one");
    let config = folder.write(
        "turnwire.toml",
        "user = \"alice:wonderland\"\ncert = \"one.cert\"\nkey = \"one.key\"\n\
         tls-listen = \"127.0.0.1:0\"\n",
    );
    let mut relay = relay(&config);
    // when the key is another's
    let (_, other) = certificate::make(&folder.0, "two");
    fs::copy(other, &key).expect("copied");
    let (status, text) = post(&relay, "/reload", "");
    // then
    assert_eq!(status, 422, "{text}");
    for name in [&cert, &key] {
        assert!(text.contains(&name.display().to_string()), "{text}");
    }
    relay.logged("reload refused");
    // and when both are new
    certificate::make(&folder.0, "one");
    assert_eq!(post(&relay, "/reload", "").0, 200);
    // and when there is to be none, which needs other listeners
    folder.write("turnwire.toml", "user = \"alice:wonderland\"\n");
    let (status, text) = post(&relay, "/reload", "");
    assert_eq!(status, 200);
    assert!(text.ends_with("restart: cert, key, tls-listen\n"), "{text}");
}

/// A TLS client by openssl(1), which passes on what it is told.
fn tls_client(address: &str) -> Child {
    Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl(1) runs")
}

/// Sends a Binding request, and waits for its success response.
fn binds(client: &mut Child) {
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    client.stdin.as_mut().expect("piped").write_all(&request).expect("written");
    let mut answer = [0; 32];
    client.stdout.as_mut().expect("piped").read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[..4], [1, 1, 0, 12], "Binding success with an IPv4 address");
}

/// The subject of the certificate that a new client is shown.
fn shown(address: &str) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", address])
        .stdin(Stdio::null())
        .output()
        .expect("openssl(1) runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| line.starts_with("subject=")).expect("a subject").to_owned()
}

#[test]
fn a_new_certificate_is_for_new_clients_and_who_is_connected_goes_on() {
    // given a TLS client
    let folder = Folder::new("reload-tls");
    let (cert, key) = certificate::make(&folder.0, "one");
    let config = folder.write(
        "turnwire.toml",
        "user = \"alice:wonderland\"\ncert = \"one.cert\"\nkey = \"one.key\"\n\
         tls-listen = \"127.0.0.1:0\"\n",
    );
    let relay = relay(&config);
    let log = relay.log_text();
    let line = log.lines().find(|line| line.contains("\"transport\":\"tls\"")).expect("a listener");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let address = line["address"].as_str().expect("an address").to_owned();
    let mut old = tls_client(&address);
    binds(&mut old);
    assert!(shown(&address).ends_with("one"));
    // when
    let (other_cert, other_key) = certificate::make(&folder.0, "two");
    fs::copy(other_cert, cert).expect("copied");
    fs::copy(other_key, key).expect("copied");
    assert_eq!(post(&relay, "/reload", "").0, 200);
    // then
    eventually(|| shown(&address).ends_with("two"));
    binds(&mut old);
    old.kill().expect("a child of ours");
    old.wait().expect("ended");
}

#[test]
fn only_this_host_and_no_page_in_a_browser_may_change_anything() {
    let relay = Relay::start();
    assert_eq!(post(&relay, "/reload", "Origin: http://evil.example\r\n").0, 403);
    assert_eq!(post(&relay, "/drain", "origin: null\r\n").0, 403);
    assert_eq!(relay.get("/reload").0, 405);
    assert_eq!(relay.get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(reloads(&relay, "ok"), 0);
}

#[test]
fn a_draining_relay_ends_with_its_last_allocation() {
    // given
    let mut relay = Relay::start();
    let mut client = Client::new(relay.listen, USER);
    client.allocate();
    // when
    relay.signal("USR1");
    relay.logged("draining");
    // then
    assert_eq!(refused(&mut Client::new(relay.listen, USER)), 508);
    assert_eq!(relay.get("/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(relay.get("/healthz").0, 200);
    assert_eq!(relay.metric("turnwire_draining"), 1);
    let refresh = |lifetime_secs| Request::Refresh { lifetime_secs, family: None };
    assert!(matches!(client.ask(refresh(None)), Event::Refreshed { .. }));
    // when the last one goes
    client.ask(refresh(Some(0)));
    relay.logged("drained");
    assert_eq!(relay.ended().code(), Some(0));
}

#[test]
fn draining_ends_after_its_time_or_at_once_when_told_to() {
    let drained = |timeout: &str| {
        let user = format!("{}:{}", USER.0, USER.1);
        let mut command = program();
        command.args(LOOPBACK).args(["--listen=127.0.0.1:0", "--user", &user]);
        command.args(["--drain-timeout", timeout]);
        let relay = Relay::start_as(command);
        Client::new(relay.listen, USER).allocate();
        assert_eq!(post(&relay, "/drain", ""), (200, "draining: 1 allocations left\n".to_owned()));
        relay
    };
    // after its time
    let mut relay = drained("1");
    relay.logged("ending: these did not end in the time");
    assert_eq!(relay.ended().code(), Some(0));
    // told to
    let relay = drained("3600");
    thread::sleep(Duration::from_millis(50));
    relay.signal("TERM");
    assert_eq!(relay.ended().code(), Some(0));
}

#[test]
fn servers_with_one_nonce_key_take_each_others_nonces() {
    // given two servers of a fleet
    let folder = Folder::new("nonce-key");
    let file = folder.write("nonce-key", "0123456789abcdef0123456789abcdef\n");
    let start = |port: &str| {
        let user = format!("{}:{}", USER.0, USER.1);
        let mut command = program();
        command.args(LOOPBACK).args(["--user", &user, "--nonce-key-file", &file, "--listen", port]);
        Relay::start_as(command)
    };
    let relay = start("127.0.0.1:0");
    let listen = relay.listen;
    let mut client = Client::new(listen, USER);
    client.allocate();
    // when the first one is killed and another takes its place
    relay.signal("KILL");
    relay.ended();
    let relay = start(&listen.to_string());
    // then the client's nonce is good there: what is wrong is that there is no allocation
    let refresh = Request::Refresh { lifetime_secs: None, family: None };
    let Event::Failed { why, .. } = client.ask(refresh) else { panic!("refreshed") };
    assert_eq!(code_of(&why), 437);
    let stale = "turnwire_refused_packets_total{tier=\"control\",reason=\"stale_nonce\"}";
    assert_eq!(relay.metric(stale), 0);
    eventually(|| relay.metric("turnwire_allocations") == 0);
}
