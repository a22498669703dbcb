//! The same against coturn, unchanged.

use super::relay::Relay;
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
