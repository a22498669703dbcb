//! The peer's side in another process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use super::relay::Relay;
use super::tool::{assert_adds_up, call, command};

struct Sink {
    child: Child,
    address: SocketAddr,
}

impl Sink {
    fn start(more: &[&str]) -> Sink {
        let words = [&["sink", "--listen", "127.0.0.1:0", "-q"], more].concat();
        let mut child = command(&words).stdout(Stdio::piped()).spawn().expect("a sink");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let address = line.trim().rsplit(' ').next().expect("an address");
        Sink { child, address: address.parse().expect("an address") }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_sink_counts_and_sends_and_the_relay_agrees() {
    let relay = Relay::turnwire(&[]);
    let sink = Sink::start(&[]);
    let (server, peer) = (relay.address.to_string(), sink.address.to_string());
    for (mode, direction) in
        [("channel", "both"), ("send", "both"), ("channel", "to-peer"), ("channel", "to-client")]
    {
        let done = call(&[
            "run",
            "--server",
            &server,
            "--user",
            "u",
            "--password",
            "p",
            "--peer",
            &peer,
            "--allocations",
            "3",
            "--rate",
            "3000",
            "--duration",
            "1",
            "--mode",
            mode,
            "--direction",
            direction,
            "--payload",
            "160,1160",
        ]);
        let run = done.run();
        assert_adds_up(run);
        assert_eq!((run.totals.sent, run.totals.lost), (3_000, 0), "{mode} {direction}");
        assert!(run.clock.starts_with("estimated"), "{}", run.clock);
        let latency = run.latency.as_ref().expect("latencies");
        assert!(latency.p50_us < 1e6, "the clocks are the same one: {latency:?}");
    }
}

#[test]
fn a_peer_that_is_no_sink_is_told() {
    let relay = Relay::turnwire(&[]);
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let peer = deaf.local_addr().expect("an address").to_string();
    let done = relay.call("run", &["-q", "--peer", &peer]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("no turnwire-load sink answers"), "{}", done.stderr);
}

#[test]
fn a_sink_does_not_send_more_than_it_may() {
    let relay = Relay::turnwire(&[]);
    let sink = Sink::start(&["--rate-max", "100"]);
    let done = relay.call(
        "run",
        &["-q", "--peer", &sink.address.to_string(), "--direction", "to-client", "--rate", "1000"],
    );
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("--rate-max"), "{}", done.stderr);
}
