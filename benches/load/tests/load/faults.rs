//! Loss, reordering, duplication and corruption are reported as such, to the datagram.

use super::proxy::{Done, Faults, Proxy};
use super::relay::Relay;
use super::tool::{assert_adds_up, call};
use turnwire_load::report::RunResult;

fn run_through(faults: Faults, seed: u64) -> (RunResult, Done) {
    let relay = Relay::turnwire(&[]);
    let proxy = Proxy::start(relay.address, faults, seed);
    let done = call(&[
        "run",
        "--server",
        &proxy.address.to_string(),
        "--user",
        "u",
        "--password",
        "p",
        "--local-ip",
        "127.0.0.1",
        "--rate",
        "4000",
        "--duration",
        "2",
        "--payload",
        "64,200",
    ]);
    let run = done.run().clone();
    assert_adds_up(&run);
    assert_eq!(run.totals.sent, 8_000);
    (run, proxy.done())
}

#[test]
fn one_percent_of_loss_is_reported_as_one_percent() {
    let (run, did) = run_through(Faults { lose: 10, ..Faults::default() }, 101);
    assert_eq!(run.totals.lost, did.lost);
    assert!((run.totals.loss_ratio - 0.01).abs() < 0.004, "{}", run.totals.loss_ratio);
    assert_eq!((run.totals.reordered, run.totals.duplicated, run.totals.corrupted), (0, 0, 0));
}

#[test]
fn ten_percent_of_loss_is_reported_as_ten_percent_and_in_its_time() {
    let (run, did) = run_through(Faults { lose: 100, ..Faults::default() }, 102);
    assert_eq!(run.totals.lost, did.lost);
    assert!((run.totals.loss_ratio - 0.1).abs() < 0.02, "{}", run.totals.loss_ratio);
    let lost = run.slots.iter().map(|slot| slot.sent - slot.received).sum::<u64>();
    assert_eq!(lost, did.lost);
}

#[test]
fn reordering_is_not_taken_for_loss() {
    let (run, did) = run_through(Faults { swap: 50, ..Faults::default() }, 103);
    assert!(did.swapped > 200, "{did:?}");
    assert_eq!(run.totals.reordered, did.swapped);
    assert!(run.totals.lost <= 1, "the last one may still be held: {:?}", run.totals);
}

#[test]
fn duplicates_are_not_counted_twice() {
    let (run, did) = run_through(Faults { repeat: 50, ..Faults::default() }, 104);
    assert_eq!(run.totals.duplicated, did.repeated);
    assert_eq!((run.totals.received, run.totals.lost), (8_000, 0));
}

#[test]
fn damaged_datagrams_are_corrupted_and_neither_lost_nor_received() {
    let (run, did) =
        run_through(Faults { damage_filler: 20, damage_stamp: 20, ..Faults::default() }, 105);
    assert_eq!(run.totals.corrupted, did.damaged);
    assert_eq!(run.totals.received, 8_000 - did.damaged);
    assert_eq!(run.totals.lost, 0);
}

#[test]
fn all_faults_at_once_are_told_apart() {
    let faults = Faults { lose: 30, repeat: 30, swap: 0, damage_filler: 30, damage_stamp: 30 };
    let (run, did) = run_through(faults, 106);
    assert_eq!(
        (run.totals.lost, run.totals.duplicated, run.totals.corrupted),
        (did.lost, did.repeated, did.damaged)
    );
}
