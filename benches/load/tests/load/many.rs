//! As many allocations as a process may have sockets.

use super::relay::Relay;
use super::tool::assert_adds_up;

#[test]
fn ten_thousand_allocations_at_once() {
    let limit = turnwire_load::sys::open_files_limit();
    if limit < 11_000 {
        return println!("skipped: needs 11,000 open files (ulimit -Hn), there may be {limit}");
    }
    let relay = Relay::turnwire(&[]);
    let done = relay.call(
        "run",
        &[
            "--allocations",
            "10000",
            "--rate",
            "10000",
            "--duration",
            "2",
            "--local-ip",
            "127.0.0.2",
        ],
    );
    let run = done.run();
    assert_adds_up(run);
    assert_eq!(done.report().setup.as_ref().expect("a setup").allocations, 10_000);
    assert_eq!((run.totals.sent, run.totals.lost), (20_000, 0));
    assert_eq!((run.flows_total, run.flows.len()), (10_000, 100));
    assert_eq!(relay.metric("turnwire_allocations ", &[]), 0, "all are deleted");
}
