//! Directions, modes, peers and mixes, against Turnwire.

use super::relay::Relay;
use super::tool::{assert_adds_up, call};

#[test]
fn every_direction_mode_and_far_side_carries_everything() {
    let relay = Relay::turnwire(&[]);
    let address = relay.address.to_string();
    for mode in ["channel", "send"] {
        for far in [&["--peer-ip", "127.0.0.3"][..], &["--relay-to-relay"]] {
            for direction in ["to-peer", "to-client", "both"] {
                let base = [
                    "run",
                    "--server",
                    &address,
                    "--user",
                    "u",
                    "--password",
                    "p",
                    "--allocations",
                    "4",
                    "--channels-per-allocation",
                    "2",
                    "--rate",
                    "3000",
                    "--duration",
                    "0.4",
                    "--payload",
                    "20,161:2,1160",
                    "--mode",
                    mode,
                    "--direction",
                    direction,
                ];
                let done = call(&[&base[..], far].concat());
                let run = done.run();
                assert_adds_up(run);
                let totals = run.totals;
                let bad = (totals.lost, totals.misrouted, totals.corrupted, totals.duplicated);
                assert_eq!(bad, (0, 0, 0, 0), "{mode} {far:?} {direction}: {totals:?}");
                assert_eq!(totals.offered, 1_200, "{mode} {far:?} {direction}");
                assert_eq!(run.directions.len(), if direction == "both" { 2 } else { 1 });
                assert!(run.flows.iter().all(|flow| flow.counts.received > 0));
            }
        }
    }
}

#[test]
fn a_rest_secret_logs_in() {
    let relay = Relay::turnwire(&[]);
    let done = call(&[
        "run",
        "--server",
        &relay.address.to_string(),
        "--auth-secret",
        "s",
        "--rate",
        "500",
        "--duration",
        "0.3",
    ]);
    assert_eq!(done.run().totals.received, 150);
}

#[test]
fn as_fast_as_it_goes_with_several_threads_and_offload_adds_up() {
    let relay = Relay::turnwire(&[]);
    let address = relay.address.to_string();
    for more in [&["--senders", "2", "--receivers", "2"][..], &["--offload"]] {
        let base = [
            "run",
            "--server",
            &address,
            "--user",
            "u",
            "--password",
            "p",
            "--rate",
            "max",
            "--duration",
            "0.5",
            "--allocations",
            "4",
            "--channels-per-allocation",
            "4",
            "--direction",
            "both",
        ];
        let done = call(&[&base[..], more].concat());
        assert_adds_up(done.run());
        assert!(done.run().totals.received > 1_000);
        assert_eq!(done.run().asked_pps, None);
    }
}

#[test]
fn a_generator_that_cannot_keep_up_says_so() {
    let relay = Relay::turnwire(&[]);
    let done = relay.call("run", &["--rate", "50000000", "--duration", "0.3"]);
    let shortfall = done.run().generator.shortfall.clone().expect("a shortfall");
    assert!(shortfall.starts_with("asked 50,000,000, this machine generated "), "{shortfall}");
    assert!(done.stdout.contains(&shortfall), "{}", done.stdout);
}
