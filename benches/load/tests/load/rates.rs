//! Searching for a rate, and churn.

use super::relay::Relay;

#[test]
fn a_search_finds_a_rate_that_held_and_lists_its_trials() {
    let relay = Relay::turnwire(&[]);
    let done = relay.call(
        "search",
        &[
            "-q",
            "--from",
            "1000",
            "--up-to",
            "4000",
            "--trial",
            "0.3",
            "--loss",
            "0.01",
            "--confirm",
            "2",
        ],
    );
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let search = done.report().search.as_ref().expect("a search");
    let [found] = search.rates.as_slice() else { panic!("{search:?}") };
    assert_eq!((found.loss_max, found.confirmed), (0.01, 2));
    assert!(found.pps.expect("a rate") > 0.0, "{found:?}");
    assert!(search.trials.len() >= 3, "{search:?}");
    assert!(done.report().run.is_some());
}

#[test]
fn churn_counts_whole_lives_and_leaves_nothing_behind() {
    let relay = Relay::turnwire(&[]);
    let done = relay.call(
        "churn",
        &["--rate", "200", "--duration", "1", "--channels-per-allocation", "2", "--refreshes", "2"],
    );
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let churn = done.report().churn.as_ref().expect("churn");
    let of = |kind: &str| {
        churn.requests.iter().find(|request| request.kind == kind).expect(kind).succeeded
    };
    let lives = of("life");
    assert!(lives > 10 && lives <= 200, "{churn:?}");
    assert_eq!((of("allocate"), of("delete")), (lives, lives));
    assert_eq!((of("channel-bind"), of("refresh")), (2 * lives, 2 * lives));
    assert_eq!(relay.metric("turnwire_allocations ", &[]), 0);
}

#[test]
fn churn_beyond_a_quota_says_which() {
    let relay = Relay::turnwire(&["--user-quota", "2"]);
    let done = relay.call("churn", &["--duration", "0.5", "--in-flight", "8"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("486 Allocation Quota Reached"), "{}", done.stderr);
    let churn = done.report().churn.as_ref().expect("churn");
    let allocate = &churn.requests[0];
    assert!(allocate.failed.contains_key("486 Allocation Quota Reached"), "{allocate:?}");
    assert_eq!(relay.metric("turnwire_allocations ", &[]), 0);
}
