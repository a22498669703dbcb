//! A server on loopback, no NAT: reach, relay, and what goes wrong.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use turnwire_tests::ports;
use turnwire_tests::relay::turnwire_binary;

use crate::server::{Running, turnwire_arguments};

/// Runs `turnwire probe`: exit status, JSON, what it said.
fn probe(arguments: &[&str]) -> (bool, Value, String) {
    let output = Command::new(turnwire_binary().unwrap())
        .args(["probe", "--json"])
        .args(arguments)
        .output()
        .unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.success(), json, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A relay and its port. Someone else may take that port first: then another is tried.
fn relay() -> (Running, u16) {
    for _ in 0..10 {
        let port = free_port();
        let mut command = Command::new(turnwire_binary().unwrap());
        let (listen, other) = (format!("127.0.0.1:{port}"), format!("127.0.0.2:{}", port + 1));
        command.args(turnwire_arguments(&listen, &other, "127.0.0.1"));
        command.args(["--allow-peer=127.0.0.0/8", "--auth-secret=s3cret"]);
        let mut running = Running::start(command);
        if answers(&listen, &mut running) {
            return (running, port);
        }
    }
    panic!("no relay comes up");
}

/// Waits until a relay answers; false if it has ended instead.
fn answers(listen: &str, running: &mut Running) -> bool {
    let request: Vec<u8> = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for _ in 0..150 {
        let _ = socket.send_to(&request, listen);
        if socket.recv(&mut [0; 1500]).is_ok() {
            return true;
        }
        if running.has_ended() {
            return false;
        }
    }
    panic!("nothing answers at {listen}");
}

/// One relay at a time: they share relay ports, and free ports stay free.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A port that nobody has, with the one above it, below the relay ports.
fn free_port() -> u16 {
    loop {
        let port = ports::free(&[Ipv4Addr::LOCALHOST.into()]);
        if UdpSocket::bind(("127.0.0.2", port + 1)).is_ok() {
            return port;
        }
    }
}

#[test]
fn a_server_is_reached_and_relays_by_udp_and_tcp() {
    // given
    let _alone = alone();
    let (_relay, port) = relay();
    let server = format!("127.0.0.1:{port}");
    // when
    let (good, json, said) = probe(&["--server", &server, "--user", "u", "--password", "p"]);
    // then
    assert!(good, "{said}\n{json:#}");
    for at in 0..2 {
        assert!(json["reach"][at]["rtt_ms"].as_f64().unwrap() > 0.0);
        assert_eq!(json["reach"][at]["local"], json["reach"][at]["mapped"]);
        assert_eq!(
            (&json["relay"][at]["sent"], &json["relay"][at]["received"]),
            (&Value::from(20), &Value::from(20))
        );
    }
    assert_eq!(json["nat"]["mapping"], "none");
    assert_eq!(json["nat"]["filtering"], "endpoint-independent");
    assert_eq!(json["nat"]["by_rfc5780"], true);
}

#[test]
fn a_secret_makes_credentials() {
    let _alone = alone();
    let (_relay, port) = relay();
    let server = format!("127.0.0.1:{port}");
    let (good, json, said) =
        probe(&["--server", &server, "--auth-secret", "s3cret", "--transport", "udp"]);
    assert!(good, "{said}\n{json:#}");
    assert_eq!(json["relay"][0]["received"], 20);
}

#[test]
fn what_does_not_work_is_said_with_its_code_and_the_status_is_not_0() {
    let _alone = alone();
    let (_relay, port) = relay();
    let server = format!("127.0.0.1:{port}");
    let wrong = ["--server", &server, "--user", "u", "--password", "wrong", "--transport", "udp"];
    let (good, json, _) = probe(&wrong);
    assert!(!good);
    assert!(json["relay"][0]["error"].as_str().unwrap().contains("401"), "{json:#}");

    let (good, json, _) = probe(&["--server", "127.0.0.1:1", "--transport", "tcp"]);
    assert!(!good);
    assert!(
        json["reach"][0]["error"].as_str().unwrap().contains("nothing listens there"),
        "{json:#}"
    );

    let (good, _, said) = probe(&["--server", "no-such-host.invalid"]);
    assert!(!good);
    assert!(said.contains("no-such-host.invalid"), "{said}");
}
