//! coturn's clients for NAT behaviour discovery (RFC 5780), where there is no NAT.

use std::time::Duration;

use anyhow::{Result, ensure};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Launch, RelayUnderTest, Tier};

/// The relay's second address, in the client's subnet, and its second port.
const OTHER: &str = "44.128.1.3:3479";
const LIMIT: Duration = Duration::from_secs(60);

fn relay(lab: &Lab) -> Result<RelayUnderTest<'_>> {
    let device = lab.towards_client();
    lab.run(Host::Relay, &["ip", "address", "add", "44.128.1.3/24", "dev", device])?;
    let options = &["--nat-discovery", OTHER];
    RelayUnderTest::launch(lab, &Launch { options, ..Launch::of(Tier::Sockets) })
}

/// Runs a client of the relay to its end, and gives what it said.
fn said(lab: &Lab, words: &[&str]) -> Result<String> {
    let server = Family::V4.listener().ip().to_string();
    let words = [words, &[&server]].concat();
    let mut process = lab.start(Host::Client, "client", &words)?;
    let status = process.wait(LIMIT)?;
    ensure!(status.success(), "{words:?}: {status}\n{}", process.last_words());
    Ok(process.output())
}

#[test]
fn stunclient_is_answered_from_both_addresses_and_ports() {
    in_lab(Topology::TwoArmed, |lab| {
        let _relay = relay(lab)?;
        let output = said(lab, &["turnutils_stunclient"])?;
        let plain = Family::V4.listener();
        for origin in [plain, OTHER.parse()?] {
            let told = output.lines().any(|line| {
                line.contains("Response origin") && line.ends_with(&origin.to_string())
            });
            ensure!(told, "no answer from {origin}:\n{output}");
        }
        Ok(())
    });
}

#[test]
fn natdiscovery_finds_no_nat_and_no_filter() {
    in_lab(Topology::TwoArmed, |lab| {
        let _relay = relay(lab)?;
        let client = Family::V4.client().to_string();
        let output = said(lab, &["turnutils_natdiscovery", "-m", "-f", "-L", &client])?;
        for found in ["No NAT!", "Endpoint Independent Filtering!"] {
            ensure!(output.contains(found), "{found:?} was not found:\n{output}");
        }
        Ok(())
    });
}
