//! What the generator counts is what the server counts.

use super::relay::Relay;
use super::tool::assert_adds_up;

#[test]
fn the_servers_counters_agree() {
    // given
    let relay = Relay::turnwire(&[]);
    // when
    let done = relay.call(
        "run",
        &[
            "--allocations",
            "8",
            "--channels-per-allocation",
            "4",
            "--direction",
            "both",
            "--rate",
            "8000",
            "--duration",
            "1",
        ],
    );
    // then
    let run = done.run();
    assert_adds_up(run);
    for one in &run.directions {
        let label = one.direction.name().replace('-', "_");
        let forwarded = relay.metric("turnwire_forwarded_packets_total", &[&label]);
        assert_eq!(one.counts.received, forwarded, "{label}");
    }
    let cpu = run.server_cpu.as_ref().expect("the server is here, and found by its port");
    assert_eq!(cpu.pid, relay.pid());
}
