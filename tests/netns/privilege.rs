//! A relay that does not run as root: what it can do with which capabilities, and what it says.

use anyhow::{Result, bail, ensure};
use turnwire_tests::call::Call;
use turnwire_tests::lab::{Family, Lab, Topology, in_lab};
use turnwire_tests::relay::{Launch, RelayUnderTest, Tier};

const CAPABILITIES: [&str; 4] = ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON"];

#[test]
fn four_capabilities_are_enough_for_xdp() {
    in_lab(Topology::TwoArmed, |lab| {
        for tier in [Tier::Native, Tier::Generic] {
            let with = nobody("+bpf,+net_admin,+net_raw,+perfmon");
            serves(lab, &Launch { setpriv: &words(&with), ..Launch::of(tier) })?;
        }
        Ok(())
    });
}

#[test]
fn sockets_need_no_capability() {
    in_lab(Topology::TwoArmed, |lab| {
        let without = nobody("");
        serves(lab, &Launch { setpriv: &words(&without), ..Launch::of(Tier::Sockets) })?;
        Ok(())
    });
}

#[test]
fn without_capabilities_auto_serves_by_sockets_and_names_what_is_missing() {
    in_lab(Topology::TwoArmed, |lab| {
        let without = nobody("");
        let launch =
            Launch { mode: "auto", setpriv: &words(&without), ..Launch::of(Tier::Sockets) };
        let log = serves(lab, &launch)?;
        ensure!(names_a_capability(&log), "the log names no capability:\n{log}");
        Ok(())
    });
}

#[test]
fn without_capabilities_native_does_not_start_and_names_what_is_missing() {
    in_lab(Topology::TwoArmed, |lab| {
        let without = nobody("");
        let launch = Launch { setpriv: &words(&without), ..Launch::of(Tier::Native) };
        match RelayUnderTest::launch(lab, &launch) {
            Ok(_) => bail!("it serves, though it cannot as it was told to"),
            Err(error) if names_a_capability(&format!("{error:#}")) => Ok(()),
            Err(error) => bail!("the error names no capability: {error:#}"),
        }
    });
}

/// setpriv's words for a user who owns nothing and has these capabilities alone.
fn nobody(capabilities: &str) -> Vec<String> {
    let list = ["-all", capabilities].join(",");
    let list = list.trim_end_matches(',');
    let who = ["--reuid", "65534", "--regid", "65534", "--clear-groups"].map(String::from);
    let what = ["inh", "ambient", "bounding"].map(|set| match set {
        "bounding" => format!("--bounding-set={list}"),
        _ => format!("--{set}-caps={list}"),
    });
    ["setpriv".into()].into_iter().chain(who).chain(what).collect()
}

fn words(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// Relays by its tier, both ways; gives its log.
fn serves(lab: &Lab, launch: &Launch) -> Result<String> {
    let relay = RelayUnderTest::launch(lab, launch)?;
    let mut call = Call::set_up(lab, Family::V4, Family::V6)?;
    call.warm_up(&relay)?;
    call.loses_nothing(&relay, 64)?;
    Ok(relay.log())
}

fn names_a_capability(text: &str) -> bool {
    CAPABILITIES.iter().any(|capability| text.contains(capability))
}
