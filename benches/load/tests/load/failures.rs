//! What goes wrong is one clear line, an exit status, and a result that keeps what there was.

use std::process::Stdio;
use std::time::Duration;

use super::relay::{Relay, free_port};
use super::tool::{assert_adds_up, call, command, finish, scratch};
use turnwire_load::report::Ended;

fn assert_line(stderr: &str, text: &str) {
    let lines: Vec<&str> =
        stderr.lines().filter(|line| line.starts_with("turnwire-load: ")).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert!(lines[0].contains(text), "{stderr}");
}

#[test]
fn a_wrong_password_is_told_with_its_code() {
    let relay = Relay::turnwire(&[]);
    let done = call(&[
        "run",
        "--server",
        &relay.address.to_string(),
        "--user",
        "u",
        "--password",
        "wrong",
        "-q",
    ]);
    assert_eq!(done.code, Some(1));
    assert_line(&done.stderr, "401 Unauthenticated");
    let failure = done.report().failure.as_ref().expect("a failure");
    assert_eq!(failure.stun_code, Some(401));
    assert_eq!(done.report().ended, Ended::Failed);
    assert!(!done.report().command.contains(&"wrong".to_owned()));
}

#[test]
fn a_server_that_is_not_there_is_told_at_once() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let done = call(&["run", "--server", &nobody, "--user", "u", "--password", "p", "-q"]);
    assert_eq!(done.code, Some(1));
    assert_line(&done.stderr, "nothing listens there");
}

#[test]
fn a_server_that_is_silent_is_told_in_seconds() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = silent.local_addr().expect("an address").to_string();
    let done = call(&["run", "--server", &address, "--user", "u", "--password", "p", "-q"]);
    assert_eq!(done.code, Some(1));
    assert_line(&done.stderr, "does not answer over udp");
}

#[test]
fn a_quota_ends_the_setup_and_says_how_far_it_came() {
    let relay = Relay::turnwire(&["--user-quota", "5"]);
    let done = relay.call("run", &["-q", "--allocations", "8", "--in-flight", "1"]);
    assert_eq!(done.code, Some(1));
    assert_line(&done.stderr, "486 Allocation Quota Reached");
    assert_eq!(done.report().setup.as_ref().expect("a setup").allocations, 5);
    assert_eq!(relay.metric("turnwire_allocations ", &[]), 0, "what was made is deleted");
}

#[test]
fn a_peer_that_the_policy_refuses_is_told_with_its_code() {
    let relay = Relay::turnwire(&["--deny-peer", "127.0.0.9/32"]);
    for mode in ["channel", "send"] {
        let done = relay.call("run", &["-q", "--peer-ip", "127.0.0.9", "--mode", mode]);
        assert_eq!(done.code, Some(1));
        assert_line(&done.stderr, "403 Forbidden");
        assert_eq!(done.report().failure.as_ref().expect("a failure").stun_code, Some(403));
        assert_eq!(done.report().setup.as_ref().expect("a setup").allocations, 1);
        assert_eq!(relay.metric("turnwire_allocations ", &[]), 0, "what was made is deleted");
    }
}

#[test]
fn ctrl_c_ends_a_run_early_with_its_results() {
    // given
    let relay = Relay::turnwire(&[]);
    let path = scratch("interrupted.json");
    let address = relay.address.to_string();
    let mut command = command(&[
        "run",
        "--server",
        &address,
        "--user",
        "u",
        "--password",
        "p",
        "--duration",
        "60",
        "--rate",
        "2000",
        "--output",
        path.to_str().expect("UTF-8"),
    ]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child");
    // when
    while relay.metric("turnwire_forwarded_packets_total", &["to_peer"]) < 1_000 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let done = finish(child.wait_with_output().expect("an end"), path);
    // then
    let run = done.run();
    assert_eq!(done.report().ended, Ended::Interrupted);
    assert!((1_000..100_000).contains(&run.totals.received), "{:?}", run.totals);
    assert_adds_up(run);
    assert_eq!(relay.metric("turnwire_allocations ", &[]), 0, "the allocation is deleted");
}

#[test]
fn a_server_that_dies_leaves_what_was_measured() {
    // given
    let mut relay = Relay::turnwire(&[]);
    let path = scratch("dies.json");
    let address = relay.address.to_string();
    let mut command = command(&[
        "run",
        "--server",
        &address,
        "--user",
        "u",
        "--password",
        "p",
        "--duration",
        "30",
        "--rate",
        "2000",
        "--output",
        path.to_str().expect("UTF-8"),
        "-q",
    ]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child");
    // when
    while relay.metric("turnwire_forwarded_packets_total", &["to_peer"]) < 1_000 {
        std::thread::sleep(Duration::from_millis(20));
    }
    relay.kill();
    let done = finish(child.wait_with_output().expect("an end"), path);
    // then
    assert_eq!(done.code, Some(1));
    assert_line(&done.stderr, "nothing listens there any more");
    let run = done.report().run.as_ref().expect("a run");
    assert!(run.totals.received >= 1_000 && run.totals.lost > 0, "{:?}", run.totals);
    assert_adds_up(run);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    for (words, text) in [
        (&["--allocations", "30000"][..], "open files"),
        (&["--channels-per-allocation", "5000"], "4,096"),
        (&["--relay-to-relay"], "even"),
        (&["--payload", "10"], "between 20 and 9000"),
        (&["--cores", "0,100000"], "may not run there"),
        (&["--local-ip", "::1"], "address family"),
        (&["--auth-secret", "x"], "not both"),
    ] {
        let base = ["run", "--server", "127.0.0.1:9", "--user", "u", "--password", "p", "-q"];
        let done = call(&[&base[..], words].concat());
        assert!(done.code.is_some_and(|code| code > 0), "{words:?}");
        assert!(done.stderr.contains(text), "{words:?}: {}", done.stderr);
    }
}
