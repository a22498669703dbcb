//! The same against coturn, unchanged.

use super::relay::{Relay, authority};
use super::tool::{assert_adds_up, call};

#[test]
fn coturn_is_measured_as_turnwire_is() {
    let Some(relay) = Relay::coturn() else {
        return println!("skipped: needs turnserver (apt-get install coturn)");
    };
    let address = relay.address.to_string();
    let base = ["run", "--server", &address, "--user", "u", "--duration", "1", "--rate", "2000"];
    for more in [
        &["--password", "p", "--direction", "both", "--allocations", "20"][..],
        &["--password", "p", "--mode", "send", "--channels-per-allocation", "3"],
        &["--password", "p", "--relay-to-relay", "--allocations", "4"],
    ] {
        let done = call(&[&base[..], more].concat());
        let run = done.run();
        assert_adds_up(run);
        assert_eq!((run.totals.sent, run.totals.lost), (2_000, 0), "{more:?}: {:?}", run.totals);
        assert!(run.server_cpu.is_some());
    }
    let done = call(&[&base[..], &["--password", "wrong"]].concat());
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("401"), "{}", done.stderr);
}

#[test]
fn streams_carry_what_datagrams_do() {
    let Some(relay) = Relay::coturn() else {
        return println!("skipped: needs turnserver (apt-get install coturn)");
    };
    let (tcp, tls) = (relay.address.to_string(), format!("turns:{}", relay.tls));
    for server in
        [&["--server", &tcp, "--transport", "tcp"][..], &["--server", &tls, "--tls-insecure"]]
    {
        for more in [
            &["--direction", "both", "--allocations", "8", "--channels-per-allocation", "2"][..],
            &["--mode", "send", "--direction", "both", "--payload", "20,161,1160"],
        ] {
            let base =
                ["run", "--user", "u", "--password", "p", "--duration", "1", "--rate", "2000"];
            let done = call(&[&base[..], server, more].concat());
            let run = done.run();
            assert_adds_up(run);
            // coturn drops what a stream does not take at once, so a busy host loses some.
            let bad = (run.totals.corrupted, run.totals.misrouted, run.totals.duplicated);
            assert_eq!(bad, (0, 0, 0), "{server:?} {more:?}");
            assert!(run.totals.received > 1_000, "{server:?} {more:?}: {:?}", run.totals);
        }
        let base = ["run", "--user", "u", "--password", "p", "--duration", "0.5", "--rate", "max"];
        let done = call(&[&base[..], server, &["--payload", "1160"]].concat());
        assert_adds_up(done.run());
        assert!(done.run().totals.received > 1_000, "{:?}", done.run().totals);
    }
    let churn = ["churn", "--user", "u", "--password", "p", "--duration", "0.5", "--rate", "50"];
    let done = call(&[&churn[..], &["--server", &tcp, "--transport", "tcp"]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn a_stream_that_cannot_be_is_told_in_words() {
    let Some(relay) = Relay::coturn() else {
        return println!("skipped: needs turnserver (apt-get install coturn)");
    };
    // coturn tells TLS from plain TCP by itself, so this is somebody who hangs up.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let plain = format!("turns:{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let tls = format!("turns:{}", relay.tls);
    let (nobody, login) = (format!("turn:127.0.0.1:{}", super::relay::free_port()), "p");
    for (words, text) in [
        (&["--server", &plain, "--tls-insecure"][..], "TLS"),
        (&["--server", &tls], "--tls-ca, or --tls-insecure"),
        (&["--server", &nobody, "--transport", "tcp"], "nothing listens there"),
        (&["--server", &nobody, "--tls-insecure"], "are for --transport tls"),
    ] {
        let base = ["run", "--user", "u", "--password", login, "-q"];
        let done = call(&[&base[..], words].concat());
        assert_eq!(done.code, Some(1), "{words:?}");
        assert!(done.stderr.contains(text), "{words:?}: {}", done.stderr);
    }
}

#[test]
fn an_authority_that_is_given_is_believed_and_no_other() {
    let (Some((ours, certificate)), Some((other, _))) = (authority(), authority()) else {
        return println!("skipped: needs openssl");
    };
    let Some(relay) = Relay::coturn_with(Some(certificate)) else {
        return println!("skipped: needs turnserver (apt-get install coturn)");
    };
    let server = format!("turns:{}", relay.tls);
    let run = |more: &[&str]| {
        let base = ["run", "--server", &server, "--user", "u", "--password", "p", "-q"];
        let load = ["--rate", "500", "--duration", "0.5"];
        call(&[&base[..], &load, more].concat())
    };
    let done = run(&["--tls-ca", ours.to_str().expect("UTF-8")]);
    assert_adds_up(done.run());
    assert!(done.run().totals.received > 200, "{:?}", done.run().totals);
    // a certificate for somebody else, an authority for somebody else, and no authority at all
    let name = format!("turns:localhost:{}", relay.tls.port());
    for (words, text) in [
        (&["--tls-ca", other.to_str().expect("UTF-8")][..], "certificate"),
        (&["--tls-ca", "/nowhere.pem"], "/nowhere.pem"),
        (&["--tls-ca", "/dev/null"], "/dev/null"),
    ] {
        let done = run(words);
        assert_eq!(done.code, Some(1), "{words:?}");
        assert!(done.stderr.contains(text), "{words:?}: {}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
    let base = ["run", "--user", "u", "--password", "p", "-q", "--local-ip", "127.0.0.1"];
    let ca = ["--server", &name, "--tls-ca", ours.to_str().expect("UTF-8")];
    let done = call(&[&base[..], &ca].concat());
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("certificate"), "{}", done.stderr);
}
