//! Starting, ending, and what stands in the way.

use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use turn::client::{Event, Request};

use crate::client::{Client, socket};
use crate::relay::{LOOPBACK, Relay, USER, eventually, program, run, unprivileged};

/// A relay on this port, with the usual user.
fn on_port(port: u16) -> std::process::Command {
    let mut command = program();
    command.args(LOOPBACK).args(["--user=alice:wonderland", "--listen"]);
    command.arg(format!("127.0.0.1:{port}"));
    command
}

#[test]
fn sigterm_and_sigint_end_cleanly_and_sighup_does_not() {
    for signal in ["TERM", "INT"] {
        // given a relay with something open
        let mut relay = Relay::start();
        Client::new(relay.listen, USER).allocate();
        relay.signal("HUP");
        relay.logged("SIGHUP");
        assert_eq!(relay.get("/healthz"), (200, "ok\n".to_owned()));
        // when
        relay.signal(signal);
        // then
        relay.logged("ended");
        let listen = relay.listen;
        assert_eq!(relay.ended().code(), Some(0), "{signal}");
        UdpSocket::bind(listen).expect("the port is free again");
    }
}

#[test]
fn a_killed_relay_starts_again_on_its_port_and_knows_nothing_of_before() {
    // given
    let relay = Relay::start();
    let listen = relay.listen;
    let mut client = Client::new(listen, USER);
    client.allocate();
    relay.signal("KILL");
    assert_eq!(relay.ended().signal(), Some(9));
    // when
    let relay = Relay::start_as(on_port(listen.port()));
    // then
    assert_eq!(relay.listen, listen);
    let refresh = Request::Refresh { lifetime_secs: None, family: None };
    let event = client.ask(refresh);
    assert!(matches!(event, Event::Failed { .. }), "{event:?}");
    Client::new(listen, USER).allocate();
}

#[test]
fn a_port_that_is_in_use_is_named() {
    // by anything else
    let taken = socket();
    let port = taken.local_addr().expect("bound").port();
    let (code, _, error) = run(on_port(port));
    assert_eq!(code, Some(1));
    let expected = |port| {
        format!(
            "turnwire: --listen: cannot listen by UDP on 127.0.0.1:{port}: Address already in use \
             (os error 98); another program listens there: ss -lnptu names it\n"
        )
    };
    assert_eq!(error, expected(port));
    // by another relay
    let relay = Relay::start();
    let port = relay.listen.port();
    let (code, _, error) = run(on_port(port));
    assert_eq!(code, Some(1), "two relays cannot share a port");
    assert_eq!(error, expected(port));
    // and that of the admin server
    let mut command = program();
    command.args(LOOPBACK.iter().filter(|arg| !arg.starts_with("--admin")));
    command.args(["--listen=127.0.0.1:0", "--admin", &relay.admin.to_string()]);
    let (code, _, error) = run(command);
    assert_eq!(code, Some(1));
    let expected =
        format!("turnwire: --admin: the admin server cannot listen on {}: Address", relay.admin);
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn with_nobody_configured_a_user_is_made_up_and_printed_once() {
    // given
    let mut command = program();
    command.args(LOOPBACK).arg("--listen=127.0.0.1:0");
    // when
    let relay = Relay::start_as(command);
    let listen = relay.listen;
    let log = relay.log_text();
    let output = relay.output();
    // then
    let block = &output[output.find("{\n").expect("a block")..];
    let block: Value = serde_json::from_str(block).expect("JSON");
    let server = &block["iceServers"][0];
    assert_eq!(server["urls"][0], format!("turn:{listen}?transport=udp"));
    let password = server["credential"].as_str().expect("a password");
    assert_eq!(password.len(), 24);
    assert_eq!(output.matches(password).count(), 1);
    assert!(!log.contains(password));
    assert!(output.contains("tier       socket: no interface is named with --xdp"), "{output}");
}

#[test]
fn the_user_that_is_made_up_can_relay() {
    // given a relay whose output is a file, as it keeps running
    let path = std::env::temp_dir().join(format!("turnwire-guest-{}", std::process::id()));
    let script = format!("exec \"$0\" \"$@\" >'{}'", path.display());
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_turnwire"));
    shell.args(LOOPBACK).arg("--listen=127.0.0.1:0");
    let relay = Relay::start_as(shell);
    // when all of it is there
    let mut block = Value::Null;
    eventually(|| {
        let output = std::fs::read_to_string(&path).expect("the output");
        let json = output.find("{\n").map(|at| &output[at..]);
        block = json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        block.is_object()
    });
    let server = &block["iceServers"][0];
    let text = |name: &str| server[name].as_str().expect(name).to_owned();
    // then
    Client::new(relay.listen, (&text("username"), &text("credential"))).allocate();
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn without_privilege_sockets_carry_all_and_what_is_missing_is_named() {
    let with_xdp = |mode: &str| {
        let interface = some_interface()?;
        let mut command = on_port(0);
        command.args(["--xdp", &interface, "--xdp-mode", mode]);
        unprivileged(&mut command);
        Some(command)
    };
    let Some(auto) = with_xdp("auto") else {
        println!("skipped: this host has no interface but loopback");
        return;
    };
    // with auto
    let relay = Relay::start_as(auto);
    Client::new(relay.listen, USER).allocate();
    let log = relay.log_text();
    assert!(log.contains("without the fast path that was asked for"), "{log}");
    assert!(log.contains("CAP_BPF") && log.contains("CAP_NET_ADMIN"), "{log}");
    // with native
    let (code, _, error) = run(with_xdp("native").expect("an interface"));
    assert_eq!(code, Some(1));
    assert!(error.contains("CAP_BPF") && error.contains("--xdp"), "{error}");
}

/// An interface that is no loopback, if there is one.
fn some_interface() -> Option<String> {
    let addresses = turnwire::sys::interface_addresses().expect("interfaces");
    addresses.into_iter().find(|address| address.up && !address.loopback).map(|found| found.name)
}

#[test]
fn a_relay_that_was_stopped_for_a_moment_answers_again() {
    // given
    let relay = Relay::start();
    assert_eq!(relay.get("/healthz").0, 200);
    // when
    relay.signal("STOP");
    thread::sleep(Duration::from_millis(50));
    relay.signal("CONT");
    // then
    assert_eq!(relay.get("/healthz").0, 200);
    assert!(relay.metric("process_open_fds") > 5);
    assert!(relay.metric("turnwire_workers_running") >= 1);
}
